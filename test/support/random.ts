// Numbers and tensors from a seed.

import { sizeOf, type Tensor, tensor } from "../../src/ir/tensor.ts";
import { type DType, isFloat } from "../../src/ir/types.ts";

/** A linear congruential generator in [0, 1) (Numerical Recipes). */
export function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

/** Floats in [low, high) or whole numbers in [low, high]. */
export function filled(dtype: DType, shape: readonly number[], next: () => number, low = -2, high = 2): Tensor {
  const draw = isFloat(dtype) ? () => low + (high - low) * next() : () => Math.floor(low + (high - low + 1) * next());
  return tensor(dtype, shape, Array.from({ length: sizeOf(shape) }, draw));
}
