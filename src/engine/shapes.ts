// Shapes at run time: binds an engine's symbols from the shapes of its inputs and checks them against the profile.

import { type Bindings, type Dim, evaluate, loneSymbol, parseDim } from "../ir/dims.ts";
import { inconsistentSymbol, inputShapeMismatch, outsideProfile, unboundSymbol, unknownInputs } from "../util/errors.ts";
import type { Plan, PlanInput } from "./plan.ts";

/** What binding needs of a plan. */
export interface Shaped {
  readonly inputs: readonly Pick<PlanInput, "name" | "shape">[];
  readonly profiles: Plan["profiles"];
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

/** Binds the plan's symbols from input shapes. Errors: K604 rank or size differs, K605 outside the profile, K607 two inputs disagree. */
export function bindInputs(
  plan: Shaped,
  table: DimensionTable,
  shapes: ReadonlyMap<string, readonly number[]>,
): Map<string, number> {
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
  for (const { name, shape } of plan.inputs) {
    const expected = table.shape(shape, bindings);
    if (shapes.get(name)!.some((dim, axis) => dim !== expected[axis])) throw inputShapeMismatch(name, shapes.get(name)!, shape);
  }
  checkProfiles(plan, bindings, boundBy);
  return bindings;
}

/** The dimension of an input. */
interface Place {
  readonly input: string;
  readonly axis: number;
}

/** One profile must hold all that was bound; the error names the profile that fails in the fewest dimensions. */
function checkProfiles(plan: Shaped, bindings: Bindings, boundBy: ReadonlyMap<string, Place>): void {
  const failures = plan.profiles.map(({ name, symbols }) =>
    [...boundBy].flatMap(([symbol, { input, axis }]) => {
      const [value, bounds] = [bindings.get(symbol)!, symbols[symbol]];
      return bounds && (value < bounds.min || value > bounds.max)
        ? [outsideProfile(input, axis, value, bounds.min, bounds.max, name)]
        : [];
    }),
  );
  const [fewest] = failures.sort((a, b) => a.length - b.length);
  if (fewest?.[0]) throw fewest[0];
}

/** What is known of the shapes that a run would have. */
export interface InferredShapes {
  /** Inputs whose shapes are free and not set. */
  readonly missing: readonly string[];
  /** Of each output; undefined where inputs are missing, or where only the data decide. */
  readonly outputs: Readonly<Record<string, readonly number[] | undefined>>;
}

/** Shapes of inputs that are given as data or buffers alone. */
export class InputShapes {
  private readonly given = new Map<string, readonly number[]>();

  constructor(
    private readonly plan: Plan,
    private readonly table: DimensionTable,
  ) {}

  /** Errors: K603 no such input, K604 the shape does not fit. */
  set(name: string, shape: readonly number[]): void {
    const input = this.plan.inputs.find((one) => one.name === name);
    if (!input) {
      const known = this.plan.inputs.map((one) => one.name);
      throw unknownInputs([name], known);
    }
    const fits = input.shape.every((text, axis) => (this.table.tryEvaluate(text, NONE) ?? shape[axis]) === shape[axis]);
    if (shape.length !== input.shape.length || !fits || !isShape(shape)) throw inputShapeMismatch(name, shape, input.shape);
    this.given.set(name, [...shape]);
  }

  /** The shape that was set, or the fixed one. Error K606 where there is neither. */
  of({ name, shape }: Pick<PlanInput, "name" | "shape">): readonly number[] {
    return this.given.get(name) ?? this.table.shape(shape, NONE);
  }

  /** Errors: K605 outside the profile, K607 two inputs disagree. */
  infer(): InferredShapes {
    const { inputs, outputs } = this.plan;
    const isKnown = ({ name, shape }: PlanInput): boolean =>
      this.given.has(name) || shape.every((text) => this.table.tryEvaluate(text, NONE) !== undefined);
    const missing = inputs.filter((input) => !isKnown(input)).map(({ name }) => name);
    const bindings =
      missing.length === 0
        ? bindInputs(this.plan, this.table, new Map(inputs.map((input) => [input.name, this.of(input)])))
        : NONE;
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
