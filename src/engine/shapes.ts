// Shapes at run time: binds an engine's symbols from the shapes of its inputs and checks them against the profile.

import { type Bindings, type Dim, evaluate, loneSymbol, parseDim } from "../ir/dims.ts";
import {
  inconsistentSizes,
  inconsistentSymbol,
  inputShapeMismatch,
  noSuchProfile,
  outsideProfile,
  unboundSymbol,
  unknownInputs,
} from "../util/errors.ts";
import type { Plan, PlanInput } from "./plan.ts";

/** What binding needs of a plan. */
export interface Shaped {
  readonly inputs: readonly Pick<PlanInput, "name" | "shape" | "pinned">[];
  readonly profiles: Plan["profiles"];
  readonly requirements?: Plan["requirements"];
}

/** Parses each text once. */
export class DimensionTable {
  private readonly parsed = new Map<string, Dim>();

  dim(text: string): Dim {
    const known = this.parsed.get(text);
    if (known !== undefined) return known;
    const dim = parseDim(text);
    this.parsed.set(text, dim);
    return dim;
  }

  /** The value under `bindings`, or undefined when a symbol is not bound yet. */
  tryEvaluate(text: string, bindings: Bindings): number | undefined {
    return evaluate(this.dim(text), bindings);
  }

  /** The value under `bindings`. Error K606 when a symbol is unbound. */
  evaluate(text: string, bindings: Bindings): number {
    const value = this.tryEvaluate(text, bindings);
    if (value === undefined) throw unboundSymbol(text);
    return value;
  }

  shape(shape: readonly string[], bindings: Bindings): number[] {
    return shape.map((text) => this.evaluate(text, bindings));
  }

  /** The symbol's name when the text is one symbol alone. */
  symbolOf(text: string): string | undefined {
    return loneSymbol(this.dim(text));
  }
}

/** What input shapes say. */
export interface Bound {
  readonly bindings: Bindings;
  /** Number of the profile that holds them; of several, the one tuned nearest to them. 0 where there is none. */
  readonly profile: number;
}

/**
 * Binds the plan's symbols from input shapes; `only`: the number of the profile that must hold them.
 * Errors: K604 rank or size differs, K605 outside the profile, K607 two inputs disagree, K618 the network cannot be of these sizes.
 */
export function bindInputs(
  plan: Shaped,
  table: DimensionTable,
  shapes: ReadonlyMap<string, readonly number[]>,
  only?: number,
): Bound {
  const bindings = new Map<string, number>();
  const boundBy = new Map<string, Place>();
  for (const { name, shape } of plan.inputs) {
    const given = shapes.get(name)!;
    if (given.length !== shape.length) throw inputShapeMismatch(name, given, shape);
    shape.forEach((text, axis) => {
      const symbol = table.symbolOf(text);
      if (symbol === undefined) return;
      const before = bindings.get(symbol) ?? given[axis]!;
      if (before !== given[axis]) throw inconsistentSymbol(symbol, boundBy.get(symbol)!.input, before, name, given[axis]!);
      if (!boundBy.has(symbol)) boundBy.set(symbol, { input: name, axis });
      bindings.set(symbol, before);
    });
  }
  for (const { name, shape, pinned } of plan.inputs) {
    const expected = table.shape(shape, bindings);
    const given = shapes.get(name)!;
    const wrong = given.flatMap((size, axis) => (size === expected[axis] ? [] : [axis]));
    const [axis = -1] = wrong;
    if (wrong.some((one) => !pinned?.includes(one))) throw inputShapeMismatch(name, given, shape);
    const size = expected[axis]!;
    if (axis >= 0) throw outsideProfile(name, axis, given[axis]!, size, size, plan.profiles[only ?? 0]!.name);
  }
  const profile = profileFor(plan.profiles, bindings, boundBy, only);
  checkRequirements(plan, table, bindings);
  return { bindings, profile };
}

/** The dimension of an input. */
interface Place {
  readonly input: string;
  readonly axis: number;
}

/** The number of the profile to run; the error names the profile that fails in the fewest dimensions. */
function profileFor(
  profiles: Plan["profiles"],
  bindings: Bindings,
  boundBy: ReadonlyMap<string, Place>,
  only: number | undefined,
): number {
  const judged = profiles.flatMap(({ name, symbols }, number) => {
    if (number !== (only ?? number)) return [];
    let distance = 0;
    const failures = [...boundBy].flatMap(([symbol, { input, axis }]) => {
      const [value, bounds] = [bindings.get(symbol)!, symbols[symbol]];
      if (!bounds) return [];
      distance += Math.abs(Math.log((value + 1) / (bounds.opt + 1)));
      return value < bounds.min || value > bounds.max ? [outsideProfile(input, axis, value, bounds.min, bounds.max, name)] : [];
    });
    return [{ number, failures, distance }];
  });
  const [best] = judged.sort(
    (a, b) => a.failures.length - b.failures.length || (a.failures.length === 0 ? a.distance - b.distance : 0),
  );
  if (best?.failures[0]) throw best.failures[0];
  return best?.number ?? 0;
}

/** Checks those whose sizes are known by now. Error K618. */
export function checkRequirements({ requirements = [] }: Shaped, table: DimensionTable, bindings: Bindings): void {
  for (const { node, verb, shapes, sizes, orOne } of requirements) {
    const [a, b] = sizes.map((text) => table.tryEvaluate(text, bindings));
    if (a === undefined || b === undefined || a === b || (orOne && (a === 1 || b === 1))) continue;
    const known = shapes.map((shape) => shape.map((text) => table.tryEvaluate(text, bindings) ?? -1));
    throw inconsistentSizes(node, verb, known, [a, b]);
  }
}

/** What is known of the shapes that a run would have. */
export interface InferredShapes {
  /** Inputs whose shapes are free and not set. */
  readonly missing: readonly string[];
  /** Of each output; undefined where inputs are missing, or where only the data decide. */
  readonly outputs: Readonly<Record<string, readonly number[] | undefined>>;
}

/** Bound shapes kept for when they come again. */
const KEPT = 256;

/** Shapes of inputs that are given as data or buffers alone, and what shapes mean for a run. */
export class InputShapes {
  private readonly given = new Map<string, readonly number[]>();
  private readonly known = new Map<string, Bound>();
  private only: number | undefined;

  constructor(
    private readonly plan: Plan,
    private readonly table: DimensionTable,
  ) {}

  /** The number of the profile that runs must keep to. Error K612. */
  set profile(profile: number) {
    const { profiles } = this.plan;
    if (!profiles[profile] && profile !== 0) throw noSuchProfile(profile, profiles.length);
    this.only = profile;
    this.known.clear();
  }

  /** As `bindInputs`. */
  bind(shapes: ReadonlyMap<string, readonly number[]>): Bound {
    const key = [...shapes.values()].join(";");
    const known = this.known.get(key) ?? bindInputs(this.plan, this.table, shapes, this.only);
    if (this.known.size === KEPT) this.known.clear();
    this.known.set(key, known);
    return known;
  }

  /** Errors: K603 no such input, K604 the shape does not fit, K605 no profile holds it. */
  set(name: string, shape: readonly number[]): void {
    const input = this.plan.inputs.find((one) => one.name === name);
    if (!input) {
      const known = this.plan.inputs.map((one) => one.name);
      throw unknownInputs([name], known);
    }
    if (!isShape(shape)) throw inputShapeMismatch(name, shape, input.shape);
    bindInputs({ inputs: [input], profiles: this.plan.profiles }, this.table, new Map([[name, shape]]), this.only);
    this.given.set(name, [...shape]);
  }

  /** The shape that was set, or the fixed one. Error K606 where there is neither. */
  of({ name, shape }: Pick<PlanInput, "name" | "shape">): readonly number[] {
    return this.given.get(name) ?? this.table.shape(shape, NONE);
  }

  /** Errors: K605 outside the profile, K607 two inputs disagree, K618 the network cannot be of these sizes. */
  infer(): InferredShapes {
    const { inputs, outputs } = this.plan;
    const isKnown = ({ name, shape }: PlanInput): boolean =>
      this.given.has(name) || shape.every((text) => this.table.tryEvaluate(text, NONE) !== undefined);
    const missing = inputs.filter((input) => !isKnown(input)).map(({ name }) => name);
    const bindings =
      missing.length === 0 ? this.bind(new Map(inputs.map((input) => [input.name, this.of(input)]))).bindings : NONE;
    const shapeOf = (shape: readonly string[]): readonly number[] | undefined => {
      const sizes = shape.map((text) => this.table.tryEvaluate(text, bindings));
      return sizes.every((size) => size !== undefined) ? sizes : undefined;
    };
    return { missing, outputs: Object.fromEntries(outputs.map(({ name, shape }) => [name, shapeOf(shape)])) };
  }
}

const NONE: Bindings = new Map();
/** True for dimensions that a tensor can have. */
export const isShape = (shape: readonly number[]): boolean => shape.every((size) => Number.isSafeInteger(size) && size >= 0);
