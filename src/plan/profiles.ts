// Optimization profiles: shapes by input → bounds by symbol. TensorRT's rules: equal ranks, min ≤ opt ≤ max, fixed
// dimensions equal; an input that a profile leaves out keeps what other inputs say of its symbols.

import type { Profile } from "../engine/plan.ts";
import { isStatic, loneSymbol } from "../ir/dims.ts";
import type { Value } from "../ir/value.ts";
import { badProfile } from "../util/errors.ts";

/** Bounds of one input's shape. */
export interface ShapeRange {
  readonly min: readonly number[];
  readonly opt: readonly number[];
  readonly max: readonly number[];
}
/** One profile: a range an input, by name. */
export type ProfileShapes = Readonly<Record<string, ShapeRange>>;

/** Bounds of each symbol that stands alone as a dimension. Error K612 for a profile that breaks a rule. */
export function planProfiles(inputs: readonly Value[], profiles: readonly ProfileShapes[]): Profile[] {
  return profiles.map((shapes, number) => {
    const name = `profile ${number}`;
    const symbols: Record<string, { min: number; opt: number; max: number }> = {};
    for (const [input, { min, opt, max }] of Object.entries(shapes)) {
      const value = inputs.find((candidate) => candidate.name === input);
      if (!value)
        throw badProfile(
          name,
          input,
          "the model has no such input",
          `inputs: ${inputs.map((candidate) => candidate.name).join(", ")}`,
        );
      const rank = value.shape.length;
      if ([min, opt, max].some((shape) => shape.length !== rank))
        throw badProfile(
          name,
          input,
          `its shapes have ${min.length}, ${opt.length} and ${max.length} dimensions, the input ${rank}`,
        );
      value.shape.forEach((dim, axis) => {
        const bounds = { min: min[axis]!, opt: opt[axis]!, max: max[axis]! };
        if (bounds.min > bounds.opt || bounds.opt > bounds.max)
          throw badProfile(
            name,
            input,
            `dimension ${axis}: min ${bounds.min}, opt ${bounds.opt}, max ${bounds.max} are not in order`,
          );
        if (isStatic(dim)) {
          if (bounds.min !== dim || bounds.max !== dim)
            throw badProfile(
              name,
              input,
              `dimension ${axis} is fixed at ${dim}, the profile says ${bounds.min} to ${bounds.max}`,
            );
          return;
        }
        const symbol = loneSymbol(dim);
        if (symbol === undefined) return;
        const before = symbols[symbol];
        if (before && (before.min !== bounds.min || before.max !== bounds.max))
          throw badProfile(
            name,
            input,
            `dimension ${axis} ("${symbol}") is ${bounds.min} to ${bounds.max} here and ${before.min} to ${before.max} in another input`,
          );
        symbols[symbol] = bounds;
      });
    }
    return { name, symbols };
  });
}

/** Each symbol's size to tune at, from the first profile that bounds it. */
export const optimumOf = (profiles: readonly Profile[]): ReadonlyMap<string, number> =>
  new Map(
    [...profiles]
      .reverse()
      .flatMap(({ symbols }) => Object.entries(symbols).map(([symbol, { opt }]): [string, number] => [symbol, opt])),
  );
