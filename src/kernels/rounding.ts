// Numbers rounded to bytes: in one addition what rounding and converting take two slow instructions for.

import { type BinaryFn, type Expr, float, maximum, minimum } from "../ir/expr.ts";

/**
 * 1.5 · 2²³. A number of less than 2²² in magnitude that it is added to stands, rounded half to even, in the low bits of the sum.
 */
export const ROUNDER = 12_582_912;
/** The bits of ROUNDER itself. */
export const ROUNDER_BITS = 0x4b400000;

/** A number that is rounded, shifted by a zero point and saturated: the same saturated first, which is yet to be rounded and shifted. */
export interface Saturated {
  readonly within: Expr;
  readonly zero: number;
  readonly low: number;
  readonly high: number;
}

/** What `requantize` makes of a number, apart from its conversion; undefined for other expressions. */
export function saturated(e: Expr): Saturated | undefined {
  const clamped = operandsOf(e, "min");
  const floored = clamped && operandsOf(clamped[0], "max");
  if (!floored) return undefined;
  const [shifted, zero] = operandsOf(floored[0], "add") ?? [floored[0], 0];
  if (shifted.kind !== "unary" || shifted.fn !== "round") return undefined;
  const [low, high] = [floored[1], clamped[1]];
  if (![low, high, zero].every((bound) => Number.isInteger(bound) && Math.abs(bound) < 2 ** 20)) return undefined;
  const real = withoutBits(shifted.a);
  const least = operandsOf(real, "max")?.[1] ?? Number.NEGATIVE_INFINITY;
  const positive = least >= low - zero ? real : maximum(real, float(low - zero));
  return { within: minimum(positive, float(high - zero)), zero, low, high };
}

/** A number that went through its bits, for hosts that compute in more of them. */
const withoutBits = (e: Expr): Expr =>
  e.kind === "unary" && e.fn === "frombits" && e.a.kind === "unary" && e.a.fn === "bits" ? e.a.a : e;

/** The operands of a binary expression whose second one is a known number. */
function operandsOf(e: Expr, fn: BinaryFn): readonly [Expr, number] | undefined {
  if (e.kind !== "binary" || e.fn !== fn) return undefined;
  const known = e.b.kind === "convert" ? e.b.a : e.b;
  return known.kind === "const" ? [e.a, known.value] : undefined;
}
