// Runs: elements side by side in memory, which a kernel reads or writes as one vector or word.

import { type Dim, isStatic, mod } from "./dims.ts";
import { type Expr, offsetOf, type Var } from "./expr.ts";
import type { Value } from "./value.ts";

/**
 * The offset of an access, when `length` neighbours along `v` from a multiple of `length` on are as many neighbours in memory,
 * from a multiple of `length` on; undefined when they are not.
 */
export function runOffset(value: Value, index: readonly Expr[], v: Var, length: number): Expr | undefined {
  if (!isStatic(v.extent) || v.extent % length !== 0) return undefined;
  const offset = offsetOf(value, index);
  const terms: readonly (readonly [Expr, Dim])[] = offset.kind === "linear" ? offset.terms : [[offset, 1]];
  const constant = offset.kind === "linear" ? offset.constant : 0;
  if (mod(constant, length) !== 0) return undefined;
  let along = false;
  for (const [term, coefficient] of terms) {
    // v itself, or v modulo a multiple of the length: a run never wraps.
    const isV =
      term === v ||
      (term.kind === "binary" &&
        term.fn === "floormod" &&
        term.a === v &&
        term.b.kind === "dim" &&
        mod(term.b.dim, length) === 0);
    if (isV && coefficient === 1 && !along) along = true;
    else if (mod(coefficient, length) !== 0 || variesInRun(term, v, length)) return undefined;
  }
  return along ? offset : undefined;
}

/** False when `e` is the same throughout a run: `v` occurs only as v / c, (v / c) % d, v < c or c ≤ v, c a multiple of the length. */
export function variesInRun(e: Expr, v: Var, length: number): boolean {
  const varies = (operand: Expr): boolean => variesInRun(operand, v, length);
  const isWhole = (bound: Expr): boolean => bound.kind === "dim" && mod(bound.dim, length) === 0;
  if (e === v) return true;
  if (e.kind === "binary" && e.fn === "lt" && e.a === v && isWhole(e.b)) return false;
  if (e.kind === "binary" && e.fn === "le" && e.b === v && isWhole(e.a)) return false;
  if (e.kind === "binary" && e.fn === "floordiv" && e.a === v && e.b.kind === "dim") return !isWhole(e.b);
  switch (e.kind) {
    case "linear":
      return e.terms.some(([term]) => varies(term));
    case "binary":
      return varies(e.a) || varies(e.b);
    case "unary":
    case "convert":
      return varies(e.a);
    case "select":
      return varies(e.condition) || varies(e.a) || varies(e.b);
    case "load":
      return e.index.some(varies);
    case "reduce":
      return true;
    default:
      return false;
  }
}
