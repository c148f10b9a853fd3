// The larger and the smaller of two dimensions, decided where the difference is proven. Symbols count as at least 1: where
// one is 0 there is nothing to compute.

import { type Dim, interval, isStatic, max, min, sub } from "../ir/dims.ts";
import { AT_LEAST_ONE } from "../ir/expr.ts";

/** Inclusive bounds of a dimension whatever its symbols are. */
export const boundsOfDim = (dim: Dim): readonly [number, number] => interval(dim, AT_LEAST_ONE);

export function larger(a: Dim, b: Dim): Dim {
  const [low, high] = boundsOfDim(sub(a, b));
  return low >= 0 ? a : high <= 0 ? b : max(a, b);
}

export function smaller(a: Dim, b: Dim): Dim {
  const [low, high] = boundsOfDim(sub(a, b));
  return low >= 0 ? b : high <= 0 ? a : min(a, b);
}

/** True when two dimensions cannot be equal. */
export function differ(a: Dim, b: Dim): boolean {
  const gap = sub(a, b);
  return isStatic(gap) && gap !== 0;
}
