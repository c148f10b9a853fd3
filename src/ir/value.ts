// A value: one tensor that flows through a graph or between tasks. Graph and Task share it: an operator's lowering
// reads and writes the very values that the graph's edges are.

import type { Dim } from "./dims.ts";
import type { Tensor } from "./tensor.ts";
import type { DType } from "./types.ts";

export interface Value {
  /** Unique within its graph; what messages and dumps show. */
  name: string;
  dtype: DType;
  shape: readonly Dim[];
  /** Narrow integers and bools lie one to a 32-bit word, because single elements of it are stored. */
  wide?: boolean;
  /** Order of the axes in GPU memory, outermost first; row-major when absent. Host tensors are always row-major. */
  layout?: readonly number[];
  /** The tensor itself, for a constant. */
  data?: Tensor;
  /** What an input is promised to hold, so that shapes may depend on it; checked when the engine runs. */
  assumed?: Tensor;
  /** Axes of an input that the model leaves free and the profiles do not. */
  pinned?: readonly number[];
  /** Row-major elements of a small integer tensor as dimensions: shape arithmetic with symbols. */
  contents?: readonly Dim[];
}

export const makeValue = (name: string, dtype: DType, shape: readonly Dim[]): Value => ({ name, dtype, shape });
