// How far a kernel's results may be from those of the plainest one: the numerical gate of the tuner. Errors are relative, over
// all elements: the root of the mean square, and the largest against the largest magnitude.

import { isStatic } from "../ir/dims.ts";
import type { Var } from "../ir/expr.ts";
import { type KernelTask, writesOf } from "../ir/task.ts";

export interface Deviation {
  /** Root mean square of the differences over that of the expected elements. */
  readonly rms: number;
  /** Largest difference over the largest magnitude expected. */
  readonly peak: number;
}

/** What the largest single error may be, in units of the budget for the root mean square. */
const PEAK = 5;

/** Numbers that a task combines into one result. */
const depthOf = (task: KernelTask): number => {
  if (task.kind === "block") return task.parts.reduce((total, part) => total + depthOf(part), 0);
  const inner: readonly Var[] =
    task.kind === "map"
      ? []
      : task.kind === "reduce"
        ? task.inner
        : task.kind === "conv"
          ? [task.ic, ...task.kernel]
          : [task.k];
  return inner.reduce((total, { extent }) => total * (isStatic(extent) ? extent : 64), 1);
};

/**
 * The root mean square error that a kernel of this task may have. Sums of f32 in any order differ by about 1e-7 times the root
 * of their length; results that are f16 were rounded by 2^-11 already, and may lose as much again twice; bytes may round the
 * other way.
 */
export function budgetOf(task: KernelTask): number {
  const sums = 1e-5 + 1e-7 * Math.sqrt(depthOf(task));
  const types = writesOf(task).map(({ dtype }) => dtype);
  if (types.some((dtype) => dtype === "i8" || dtype === "u8")) return 5e-3 + sums;
  return types.some((dtype) => dtype === "f16" || dtype === "bf16") ? 1e-3 + sums : sums;
}

/** The worse of the values that a task writes. Elements that were not finite before are left out; those that should be and are not count as infinitely wrong. */
export function deviationOf(actual: readonly (readonly number[])[], expected: readonly (readonly number[])[]): Deviation {
  let [rms, peak] = [0, 0];
  expected.forEach((values, i) => {
    let [error, size, worst, largest] = [0, 0, 0, 0];
    values.forEach((value, j) => {
      if (!Number.isFinite(value)) return;
      const difference = Math.abs(actual[i]![j]! - value);
      error += difference ** 2;
      size += value ** 2;
      // Not Math.max: NaN must count.
      if (!(difference <= worst)) worst = Number.isNaN(difference) ? Number.POSITIVE_INFINITY : difference;
      largest = Math.max(largest, Math.abs(value));
    });
    rms = Math.max(rms, Number.isNaN(error) ? Number.POSITIVE_INFINITY : Math.sqrt(error / (size + values.length * 1e-12)));
    peak = Math.max(peak, worst / (largest + 1e-6));
  });
  return { rms, peak };
}

export const isWithin = ({ rms, peak }: Deviation, budget: number): boolean => rms <= budget && peak <= PEAK * budget;
