// Weights of the pixels around a position, and sums over them: what Resize, GridSample and DeformConv have in common.
// Cubic: Keys, "Cubic convolution interpolation for digital image processing", 1981.

import type { Expr } from "../ir/expr.ts";
import * as x from "../ir/expr.ts";

/** One pixel along an axis and its weight; pixels that do not count have weight 0. */
export interface Tap {
  readonly index: Expr;
  readonly weight: Expr;
}

/** Weights of floor(p) and floor(p) + 1, for the fraction of p. */
export const linearWeights = (fraction: Expr): readonly Expr[] => [x.sub(x.float(1), fraction), fraction];

/** Cubic kernel at distance |d| ≤ 1. */
const near = (d: Expr, a: number): Expr => x.add(x.mul(x.sub(x.mul(x.float(a + 2), d), x.float(a + 3)), d, d), x.float(1));
/** Cubic kernel at distance 1 ≤ |d| ≤ 2. */
const far = (d: Expr, a: number): Expr =>
  x.sub(x.mul(x.add(x.mul(x.sub(x.mul(x.float(a), d), x.float(5 * a)), d), x.float(8 * a)), d), x.float(4 * a));

/** Weights of floor(p) - 1 to floor(p) + 2, for the fraction of p. */
export function cubicWeights(fraction: Expr, a: number): readonly Expr[] {
  const rest = x.sub(x.float(1), fraction);
  return [far(x.add(fraction, x.float(1)), a), near(fraction, a), near(rest, a), far(x.add(rest, x.float(1)), a)];
}

/** The pixels around a float position, on the input or not. */
export function tapsAt(position: Expr, mode: "linear" | "cubic", a: number): readonly Tap[] {
  const whole = x.unary("floor", position);
  const fraction = x.sub(position, whole);
  const weights = mode === "linear" ? linearWeights(fraction) : cubicWeights(fraction, a);
  return weights.map((weight, tap) => ({
    index: x.add(x.convert(whole, "i32"), x.int(mode === "linear" ? tap : tap - 1)),
    weight,
  }));
}

/** The weight at a signed distance, 0 where the kernel ends. */
export function kernelAt(distance: Expr, mode: "linear" | "cubic", a: number): Expr {
  const d = x.unary("abs", distance);
  if (mode === "linear") return x.maximum(x.sub(x.float(1), d), x.float(0));
  return x.select(x.le(d, x.float(1)), near(d, a), x.select(x.lt(d, x.float(2)), far(d, a), x.float(0)));
}

/** Σ weight·read(index) over every combination of one tap an axis. */
export function sumTaps(
  axes: readonly (readonly Tap[])[],
  read: (index: readonly Expr[]) => Expr,
  index: readonly Expr[] = [],
): Expr {
  const [first, ...rest] = axes;
  if (!first) return read(index);
  return first.map((tap) => x.mul(tap.weight, sumTaps(rest, read, [...index, tap.index]))).reduce((a, b) => x.add(a, b));
}

/** An index moved into [0, size). */
export const clampIndex = (index: Expr, size: Expr): Expr => x.maximum(x.minimum(index, x.sub(size, x.int(1))), x.int(0));
