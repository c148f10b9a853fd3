// Turns a nest around: where a nest loads every element of a value exactly once, which of its points loads a given element.

import { product, sameDim } from "../ir/dims.ts";
import { type Expr, flatten, int, type Load, unflatten, type Var } from "../ir/expr.ts";

/** Each variable of a nest that loads every element of a value exactly once, in terms of the index at which the value's element lies. */
export function solve(load: Load, vars: readonly Var[], index: readonly Expr[]): Map<Expr, Expr> | undefined {
  const { shape } = load.value;
  const at = new Map<Expr, Expr>();
  load.index.forEach((e, axis) => {
    if (e.kind === "var" && vars.includes(e) && !at.has(e) && sameDim(e.extent, shape[axis]!)) at.set(e, index[axis]!);
  });
  const isPermutation = load.index.every((e, axis) => shape[axis] === 1 || at.get(e) === index[axis]);
  const rest = vars.filter((v) => !at.has(v));
  if (isPermutation && rest.every(({ extent }) => extent === 1)) {
    for (const v of rest) at.set(v, int(0));
    return at;
  }
  // The same row-major order in another shape.
  const extents = vars.map(({ extent }) => extent);
  if (flatten(load.index, shape) !== flatten(vars, extents) || !sameDim(product(shape), product(extents))) return undefined;
  const place = unflatten(flatten(index, shape), extents);
  return new Map(vars.map((v, i) => [v, place[i]!]));
}
