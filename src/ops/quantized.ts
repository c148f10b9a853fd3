// Scalar expressions of quantized arithmetic, shared by the operators that hold it.
// ONNX: https://onnx.ai/onnx/operators/onnx__QuantizeLinear.html

import type { Dim } from "../ir/dims.ts";
import * as dims from "../ir/dims.ts";
import type { Expr } from "../ir/expr.ts";
import * as x from "../ir/expr.ts";
import { loadAs } from "../ir/task.ts";
import { type DType, dtypeFacts } from "../ir/types.ts";
import type { Value } from "../ir/value.ts";

/** Smallest and largest value of an integer type. */
export function integerRange(dtype: DType): readonly [number, number] {
  const { bytes, signed } = dtypeFacts[dtype];
  return signed ? [-(2 ** (8 * bytes - 1)), 2 ** (8 * bytes - 1) - 1] : [0, 2 ** (8 * bytes) - 1];
}

/** saturate(round half to even(`real`) + zero point) as `dtype`, an integer type of at most 16 bits. */
export function requantize(real: Expr, zeroPoint: Expr | undefined, dtype: DType): Expr {
  const [low, high] = integerRange(dtype);
  // Through its bits, so that a host that computes in double rounds to f32 first: ties turn on it.
  const rounded = x.unary("round", x.unary("frombits", x.unary("bits", real)));
  const shifted = zeroPoint ? x.add(rounded, x.convert(zeroPoint, "f32")) : rounded;
  return x.convert(x.minimum(x.maximum(shifted, x.float(low)), x.float(high)), dtype);
}

/** `at`, or 0 along an axis of size 1, whether that is known now or when the engine runs. */
const within = (dim: Dim, at: Expr): Expr =>
  dims.isStatic(dim) ? (dim === 1 ? x.int(0) : at) : x.minimum(at, x.int(dims.sub(dim, 1)));

/** An element of a scale or zero point that holds one number, or one a channel. */
export const perChannel = (value: Value, channel: Expr): Expr =>
  x.load(
    value,
    value.shape.map((dim) => within(dim, channel)),
  );

/** An element less its zero point, as i32. `axis` is that of a zero point with one element a channel. */
export const centered =
  (value: Value, zeroPoint: Value | undefined, axis: number) =>
  (index: readonly Expr[]): Expr => {
    const element = loadAs(value, index, "i32");
    if (!zeroPoint) return element;
    return x.sub(element, x.convert(perChannel(zeroPoint, index[axis]!), "i32"));
  };
