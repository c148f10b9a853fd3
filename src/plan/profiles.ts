// Optimization profiles: shapes by input → bounds by symbol. TensorRT's rules: equal ranks, min ≤ opt ≤ max, fixed dimensions
// equal, symbols that inputs share in agreement. What is left out is taken from what is there, and said.

import type { Profile } from "../engine/plan.ts";
import { isStatic, loneSymbol } from "../ir/dims.ts";
import type { Value } from "../ir/value.ts";
import { badProfile } from "../util/errors.ts";

/** Bounds of one input's shape, at least one of them: those left out are those given, `opt` rather `max` than `min`. */
export interface ShapeRange {
  readonly min?: readonly number[];
  readonly opt?: readonly number[];
  readonly max?: readonly number[];
}
/** One profile: a range an input, by name. Dimensions of inputs left out take what other inputs say of their symbols. */
export type ProfileShapes = Readonly<Record<string, ShapeRange>>;

type Bounds = Profile["symbols"][string];

/** Bounds of each symbol that stands alone as a dimension, and what was taken for granted. Error K612 for a profile that breaks a rule. */
export function planProfiles(
  inputs: readonly Value[],
  profiles: readonly ProfileShapes[],
): { readonly profiles: readonly Profile[]; readonly notes: readonly string[] } {
  const { profiles: full, notes } = completeProfiles(profiles);
  const planned = full.map((shapes, number): Profile => {
    const name = nameOf(number);
    const symbols = new Map<string, Bounds>();
    for (const [input, { min, opt, max }] of Object.entries(shapes)) {
      const value = inputs.find((candidate) => candidate.name === input);
      const known = inputs.map((candidate) => candidate.name).join(", ");
      if (!value) throw badProfile(name, input, "the model has no such input", `inputs: ${known}`);
      const ranks = [min, opt, max].map((shape) => shape.length);
      if (ranks.some((rank) => rank !== value.shape.length))
        throw badProfile(name, input, `its shapes have ${ranks.join(", ")} dimensions, the input ${value.shape.length}`);
      value.shape.forEach((dim, axis) => {
        const bounds = { min: min[axis]!, opt: opt[axis]!, max: max[axis]! };
        const place = `dimension ${axis}`;
        const said = `min ${bounds.min}, opt ${bounds.opt}, max ${bounds.max}`;
        if (!Object.values(bounds).every((size) => Number.isSafeInteger(size) && size >= 0))
          throw badProfile(name, input, `${place}: ${said} are not all sizes`);
        if (bounds.min > bounds.opt || bounds.opt > bounds.max)
          throw badProfile(name, input, `${place}: ${said} are not in order`);
        if (isStatic(dim)) {
          if (bounds.min !== dim || bounds.max !== dim)
            throw badProfile(name, input, `${place} is fixed at ${dim}, the profile says ${bounds.min} to ${bounds.max}`);
          return;
        }
        const symbol = loneSymbol(dim);
        if (symbol === undefined) return;
        const before = symbols.get(symbol);
        if (before && (before.min !== bounds.min || before.opt !== bounds.opt || before.max !== bounds.max))
          throw badProfile(
            name,
            input,
            `${place} ("${symbol}") is ${said} here, in another input min ${before.min}, opt ${before.opt}, max ${before.max}`,
          );
        symbols.set(symbol, bounds);
      });
    }
    for (const value of inputs)
      for (const [axis, dim] of value.shape.entries()) {
        const symbol = loneSymbol(dim);
        if (symbol !== undefined && !symbols.has(symbol))
          notes.push(`${name} does not bound dimension ${axis} of input "${value.name}": any size is taken, none is tuned for`);
      }
    return { name, symbols: Object.fromEntries(symbols) };
  });
  return { profiles: planned, notes };
}

const nameOf = (number: number): string => `profile ${number}`;

/** Profiles with min, opt and max of each input, and what was left out. Error K612 where there is none of them. */
export function completeProfiles(profiles: readonly ProfileShapes[]): {
  readonly profiles: readonly Readonly<Record<string, Required<ShapeRange>>>[];
  readonly notes: string[];
} {
  const notes: string[] = [];
  const completed = profiles.map((shapes, number) => {
    const complete = ([input, range]: [string, ShapeRange]): [string, Required<ShapeRange>] => {
      const { min, opt, max } = range;
      const optimum = opt ?? max ?? min;
      if (!optimum) throw badProfile(nameOf(number), input, "it has none of min, opt and max");
      const full = { min: min ?? optimum, opt: optimum, max: max ?? optimum };
      const missing = (["min", "opt", "max"] as const).filter((bound) => !range[bound]);
      const taken = missing.map((bound) => `${bound} [${full[bound].join(", ")}]`).join(", ");
      if (missing.length > 0)
        notes.push(`${nameOf(number)} gives input "${input}" no ${missing.join(" and no ")}: it takes ${taken}`);
      return [input, full];
    };
    return Object.fromEntries(Object.entries(shapes).map(complete));
  });
  return { profiles: completed, notes };
}

/** Each symbol's size to tune at. */
export const optimumOf = ({ symbols }: Profile): ReadonlyMap<string, number> =>
  new Map(Object.entries(symbols).map(([symbol, { opt }]) => [symbol, opt]));
