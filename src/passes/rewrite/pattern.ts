// Patterns: what a rewrite looks for, as data. A pattern describes a value by the operator that makes it, down to leaves
// that stand for any value or a constant; names in it are what the rewrite gets. A name that occurs twice is one value.

import type { GraphNode } from "../../ir/graph.ts";
import { reader, type Tensor } from "../../ir/tensor.ts";
import { isFloat } from "../../ir/types.ts";
import type { Value } from "../../ir/value.ts";

export type Constant = Value & { readonly data: Tensor };

/** `C` is what a match of the pattern gives, by name. */
export interface Pattern<C = unknown> {
  readonly form: Form;
  /** Never there: carries the type of the captures. */
  readonly captures?: C;
}

export type Form =
  | { readonly kind: "any"; readonly name: string; readonly test: (value: Value) => boolean }
  | { readonly kind: "constant"; readonly name: string | undefined; readonly test: (value: Constant) => boolean }
  | { readonly kind: "optional"; readonly pattern: Pattern }
  | { readonly kind: "either"; readonly patterns: readonly Pattern[] }
  | OpForm;

export interface OpForm {
  readonly kind: "op";
  readonly names: readonly string[];
  readonly inputs: readonly Pattern[];
  readonly capture: string | undefined;
  readonly options: OpOptions;
}

export interface OpOptions {
  /** Only when nothing else uses the value, so that the node goes when it is replaced. */
  readonly singleUse?: boolean;
  /** Operator domain; ONNX's own when absent. */
  readonly domain?: string;
  readonly where?: (node: GraphNode) => boolean;
}

type Merge<U> = (U extends unknown ? (all: U) => void : never) extends (all: infer I) => void ? I : never;
type CapturesOf<P> = P extends Pattern<infer C> ? C : never;
type Either<U> = { [K in keyof U]: U[K] } & Partial<Merge<U>>;
type Named<N extends string, T> = { readonly [K in N]: T };

const anything = (): boolean => true;

/** Any value that `test` accepts. */
export const any = <const N extends string>(name: N, test: (value: Value) => boolean = anything): Pattern<Named<N, Value>> => ({
  form: { kind: "any", name, test },
});

/** A constant that `test` accepts. */
export const constant = <const N extends string>(
  name: N,
  test: (value: Constant) => boolean = anything,
): Pattern<Named<N, Constant>> => ({ form: { kind: "constant", name, test } });

/** A float constant with one element, which is `value` to the precision of its type or of the decimals that exporters write. */
export const number = (value: number): Pattern<object> => ({
  form: { kind: "constant", name: undefined, test: (constant) => isClose(constant, value) },
});

/** A constant with one element of any numeric type, which is `value`: an exponent of Pow. */
export const exponent = (value: number): Pattern<object> => ({
  form: {
    kind: "constant",
    name: undefined,
    test: ({ dtype, data }) => dtype !== "bool" && data.data.length === 1 && reader(data)(0) === value,
  },
});

/** A float constant with one element. */
export const scalar = <const N extends string>(name: N): Pattern<Named<N, Constant>> =>
  constant(name, (value) => scalarOf(value) !== undefined);

/** An input that may be absent. */
export const optional = <C>(pattern: Pattern<C>): Pattern<Partial<C>> => ({ form: { kind: "optional", pattern } });

/** The first of several that matches. */
export const either = <const P extends readonly Pattern[]>(...patterns: P): Pattern<Either<CapturesOf<P[number]>>> => ({
  form: { kind: "either", patterns },
});

/** A value made by a node as its first output. Add, Mul, Min and Max of two match in both orders; inputs not listed must be absent. */
export class OpPattern<C = unknown> implements Pattern<C> {
  declare readonly captures?: C;
  constructor(readonly form: OpForm) {}
  /** Captures the node. */
  as<const N extends string>(name: N): OpPattern<C & Named<N, GraphNode>> {
    return new OpPattern({ ...this.form, capture: name });
  }
}

export const op = <const P extends readonly Pattern[]>(
  names: string | readonly string[],
  inputs: P,
  options: OpOptions = {},
): OpPattern<Merge<CapturesOf<P[number]>>> =>
  new OpPattern({ kind: "op", names: typeof names === "string" ? [names] : names, inputs, capture: undefined, options });

/** The only element of a float constant; undefined for all else. */
export function scalarOf({ dtype, data }: Value): number | undefined {
  return data && isFloat(dtype) && data.data.length === 1 ? reader(data)(0) : undefined;
}

const PRECISION: Readonly<Record<string, number>> = { f16: 2 ** -11, bf16: 2 ** -8 };
function isClose(constant: Constant, wanted: number): boolean {
  const found = scalarOf(constant);
  return found !== undefined && Math.abs(found - wanted) <= (PRECISION[constant.dtype] ?? 2e-5) * Math.abs(wanted);
}

/** Levels of operators in a pattern. */
export function depthOf({ form }: Pattern): number {
  switch (form.kind) {
    case "any":
    case "constant":
      return 0;
    case "optional":
      return depthOf(form.pattern);
    case "either":
      return Math.max(0, ...form.patterns.map(depthOf));
    case "op":
      return 1 + Math.max(0, ...form.inputs.map(depthOf));
  }
}
