// How far a tensor is from its reference.

import { reader, type Tensor } from "../ir/tensor.ts";
import { type DType, isFloat } from "../ir/types.ts";

/**
 * An element agrees when |actual - expected| ≤ rtol·|expected| + max(atol·scale, 1e-7), scale being the largest finite
 * |expected| of the tensor and 1e-7 ONNX's own atol: a reference that computes a sigmoid near 1 cannot do better near 0.
 */
export interface ScaledTolerance {
  readonly rtol: number;
  readonly atol: number;
}

const FLOOR = 2e-7;

export interface Deviation {
  readonly ok: boolean;
  readonly maxAbs: number;
  /** √(Σ(actual - expected)² / Σexpected²). */
  readonly relRms: number;
  /** The largest error in units of what the tolerance allows: above 1 differs. */
  readonly worstRatio: number;
  /** Where the worst element is. */
  readonly worstAt: number;
  /** A type or shape that differs, in words. */
  readonly mismatch?: string;
}

/** rtol 1e-3 and atol 1e-5; more for the 16-bit floats, of which one rounding step is 1e-3 and 8e-3. */
export const toleranceFor = (dtype: DType): ScaledTolerance =>
  dtype === "f16" ? { rtol: 5e-3, atol: 2e-3 } : dtype === "bf16" ? { rtol: 4e-2, atol: 1e-2 } : { rtol: 1e-3, atol: 1e-5 };

/** Bools and integers must be equal (8-bit ones, which are quantized values, up to one step); so must NaN and infinities. */
export function deviationOf(actual: Tensor, expected: Tensor, given: Partial<ScaledTolerance> = {}): Deviation {
  const differs = (mismatch: string): Deviation => ({
    ok: false,
    maxAbs: Number.NaN,
    relRms: Number.NaN,
    worstRatio: Number.POSITIVE_INFINITY,
    worstAt: 0,
    mismatch,
  });
  if (actual.dtype !== expected.dtype) return differs(`type ${actual.dtype}, expected ${expected.dtype}`);
  if (actual.shape.join() !== expected.shape.join())
    return differs(`shape [${actual.shape.join(", ")}], expected [${expected.shape.join(", ")}]`);
  const [a, e] = [reader(actual), reader(expected)];
  const { length } = expected.data;
  const { rtol, atol } = { ...toleranceFor(expected.dtype), ...given };
  const exact = !isFloat(expected.dtype);
  const quantized = expected.dtype === "i8" || expected.dtype === "u8";
  let scale = 0;
  for (let i = 0; i < length; i++) if (Number.isFinite(e(i))) scale = Math.max(scale, Math.abs(e(i)));
  let [maxAbs, squares, total, worstRatio, worstAt] = [0, 0, 0, 0, 0];
  for (let i = 0; i < length; i++) {
    const [x, y] = [a(i), e(i)];
    const same = exact ? actual.data[i] === expected.data[i] : Object.is(x, y) || x === y;
    const error = same ? 0 : Math.abs(x - y);
    const allowed = quantized ? 1 : exact ? 0 : rtol * Math.abs(y) + Math.max(atol * scale, FLOOR);
    const ratio = same ? 0 : Number.isFinite(error) ? error / allowed : Number.POSITIVE_INFINITY;
    if (!same && !(error <= maxAbs)) maxAbs = error;
    if (Number.isFinite(error) && Number.isFinite(y)) [squares, total] = [squares + error * error, total + y * y];
    if (ratio > worstRatio) [worstRatio, worstAt] = [ratio, i];
  }
  return { ok: worstRatio <= 1, maxAbs, relRms: squares === 0 ? 0 : Math.sqrt(squares / total), worstRatio, worstAt };
}
