// Shapes at run time: binds an engine's symbols from the shapes of its inputs and checks them against the profile.

import { type Bindings, type Dim, evaluate, parseDim } from "../ir/dims.ts";
import { inconsistentSymbol, inputShapeMismatch, outsideProfile, unboundSymbol } from "../util/errors.ts";
import type { Plan } from "./plan.ts";

/** Parses each text once. */
export class DimensionTable {
  private readonly parsed = new Map<string, Dim>();

  dim(text: string): Dim {
    let dim = this.parsed.get(text);
    if (dim === undefined) this.parsed.set(text, (dim = parseDim(text)));
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
    const dim = this.dim(text);
    if (typeof dim === "number" || dim.terms.length !== 1) return undefined;
    const [{ coefficient, atoms }] = dim.terms as [(typeof dim.terms)[number]];
    const [atom] = atoms;
    return coefficient === 1 && atoms.length === 1 && atom!.kind === "symbol" ? atom!.name : undefined;
  }
}

/** Binds the plan's symbols from input shapes. Errors: K604 rank or size differs, K605 outside the profile, K607 two inputs disagree. */
export function bindInputs(plan: Plan, table: DimensionTable, shapes: ReadonlyMap<string, readonly number[]>): Map<string, number> {
  const bindings = new Map<string, number>();
  const boundBy = new Map<string, string>();
  for (const { name, shape } of plan.inputs) {
    const given = shapes.get(name)!;
    if (given.length !== shape.length) throw inputShapeMismatch(name, given, shape);
    shape.forEach((text, axis) => {
      const symbol = table.symbolOf(text);
      if (symbol === undefined || !bindings.has(symbol)) {
        if (symbol !== undefined) {
          bindings.set(symbol, given[axis]!);
          boundBy.set(symbol, name);
          checkProfile(plan, name, axis, symbol, given[axis]!);
        }
      } else if (bindings.get(symbol) !== given[axis]) throw inconsistentSymbol(symbol, boundBy.get(symbol)!, bindings.get(symbol)!, name, given[axis]!);
    });
  }
  for (const { name, shape } of plan.inputs) {
    const expected = table.shape(shape, bindings);
    if (shapes.get(name)!.some((dim, axis) => dim !== expected[axis])) throw inputShapeMismatch(name, shapes.get(name)!, shape);
  }
  return bindings;
}

function checkProfile(plan: Plan, input: string, axis: number, symbol: string, value: number): void {
  const bounds = plan.profiles.map((profile) => ({ profile: profile.name, ...profile.symbols[symbol] })).filter((bound) => bound.min !== undefined);
  if (bounds.length === 0 || bounds.some(({ min, max }) => min! <= value && value <= max!)) return;
  const [{ profile, min, max }] = bounds as unknown as [{ profile: string; min: number; max: number }];
  throw outsideProfile(input, axis, value, min, max, profile);
}
