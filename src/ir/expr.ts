// Scalar expressions: what a kernel computes for one element. Immutable and interned, so equal expressions are one object.
// Integer sums are kept as linear forms Σ coefficient·term + constant, whose coefficients may be symbolic dimensions: that
// is what lets reshapes, slices and transposes melt into the index arithmetic of the kernel that reads them.

import type { Dim } from "./dims.ts";
import * as dims from "./dims.ts";
import { type DType, type Scalar, scalarOf } from "./types.ts";
import type { Value } from "./value.ts";

export type UnaryFn =
  | "neg"
  | "abs"
  | "sign"
  | "exp"
  | "log"
  | "sqrt"
  | "rsqrt"
  | "sin"
  | "cos"
  | "tan"
  | "asin"
  | "acos"
  | "atan"
  | "sinh"
  | "cosh"
  | "tanh"
  | "asinh"
  | "acosh"
  | "atanh"
  | "erf"
  | "floor"
  | "ceil"
  | "round"
  | "trunc"
  | "not"
  | "bitnot"
  | "isnan"
  | "isinf"
  | "bits"
  | "frombits"
  | "popcount";

/** `floordiv` and `floormod` round down; `quot` and `rem` round toward zero as C does. `shr` keeps the sign of i32. */
export type BinaryFn =
  | "add"
  | "sub"
  | "mul"
  | "div"
  | "floordiv"
  | "floormod"
  | "quot"
  | "rem"
  | "pow"
  | "min"
  | "max"
  | "atan2"
  | "lt"
  | "le"
  | "eq"
  | "ne"
  | "and"
  | "or"
  | "xor"
  | "shl"
  | "shr";

export type Combiner = "sum" | "prod" | "max" | "min" | "any" | "all";

export type Expr = Const | DimExpr | Var | Slot | Linear | Load | Unary | Binary | Select | Convert | Reduce;

interface Node<K extends string> {
  readonly kind: K;
  /** Creation order: gives sums a stable order. */
  readonly id: number;
  readonly type: Scalar;
}
/** A literal f32, u32 or bool (integers of type i32 are `dim`). */
export interface Const extends Node<"const"> {
  readonly value: number;
}
/** An i32 known when shapes are: a literal or a symbolic dimension. */
export interface DimExpr extends Node<"dim"> {
  readonly dim: Dim;
}
/** An index variable that runs over [0, extent). */
export interface Var extends Node<"var"> {
  readonly name: string;
  readonly extent: Dim;
}
/** A value that the surrounding kernel supplies: an accumulator or the result of an earlier reduction. */
export interface Slot extends Node<"slot"> {
  readonly name: string;
}
export interface Linear extends Node<"linear"> {
  readonly terms: readonly (readonly [Expr, Dim])[];
  readonly constant: Dim;
}
/** One element of a value; `index` has one i32 a dimension and must be in bounds wherever the load is evaluated. */
export interface Load extends Node<"load"> {
  readonly value: Value;
  readonly index: readonly Expr[];
}
export interface Unary extends Node<"unary"> {
  readonly fn: UnaryFn;
  readonly a: Expr;
}
export interface Binary extends Node<"binary"> {
  readonly fn: BinaryFn;
  readonly a: Expr;
  readonly b: Expr;
}
/** Evaluates only the branch taken, so that a load under a bounds test is safe. */
export interface Select extends Node<"select"> {
  readonly condition: Expr;
  readonly a: Expr;
  readonly b: Expr;
}
/** ONNX Cast to `to`: rounds f16 and bf16, wraps narrow integers, truncates floats toward zero. */
export interface Convert extends Node<"convert"> {
  readonly to: DType;
  readonly a: Expr;
}
/** A loop nest over `vars` that combines `body`. */
export interface Reduce extends Node<"reduce"> {
  readonly fn: Combiner;
  readonly vars: readonly Var[];
  readonly body: Expr;
}

let created = 0;
const tables = new WeakMap<object, Map<string, Expr>>();
type Fields<T extends Expr> = Omit<T, "id">;

/** The one expression with these fields; `owner` is an object that lives at least as long as anyone can ask again. */
function intern<T extends Expr>(owner: object, key: string, fields: Fields<T>): T {
  let table = tables.get(owner);
  if (!table) tables.set(owner, (table = new Map()));
  const found = table.get(key);
  if (found) return found as T;
  const made = { ...fields, id: created++ } as unknown as T;
  table.set(key, made);
  return made;
}
const LITERALS = {};
/** Text that names an operand inside its owner's table. */
const tag = (e: Expr): string =>
  e.kind === "const"
    ? `${e.type}${Object.is(e.value, -0) ? "-0" : e.value}`
    : e.kind === "dim"
      ? `d${dims.dimText(e.dim)}`
      : String(e.id);

export const constant = (type: Scalar, value: number): Expr =>
  type === "i32"
    ? int(Math.trunc(value))
    : intern<Const>(LITERALS, `${type}:${Object.is(value, -0) ? "-0" : value}`, { kind: "const", type, value });
export const float = (value: number): Expr => constant("f32", value);
export const bool = (value: boolean): Expr => constant("bool", value ? 1 : 0);
export const int = (dim: Dim): Expr => intern<DimExpr>(LITERALS, `dim:${dims.dimText(dim)}`, { kind: "dim", type: "i32", dim });
export const variable = (name: string, extent: Dim): Var => ({ kind: "var", id: created++, type: "i32", name, extent });
export const slot = (name: string, type: Scalar): Slot => ({ kind: "slot", id: created++, type, name });

/** Index variables `prefix0`, `prefix1`, ... over a shape. */
export const variables = (prefix: string, shape: readonly Dim[]): Var[] =>
  shape.map((extent, i) => variable(`${prefix}${i}`, extent));

export function load(value: Value, index: readonly Expr[]): Expr {
  if (index.length !== value.shape.length)
    throw new RangeError(`load of ${value.name}: ${index.length} indices for rank ${value.shape.length}`);
  const exact = index.map((e, axis) => (value.shape[axis] === 1 ? int(0) : e));
  return intern<Load>(value, exact.map(tag).join(","), { kind: "load", type: scalarOf(value.dtype), value, index: exact });
}

// --- integers: linear forms --------------------------------------------------------------------------------------------

interface Sum {
  readonly terms: readonly (readonly [Expr, Dim])[];
  readonly constant: Dim;
}

const sumOf = (e: Expr): Sum =>
  e.kind === "linear" ? e : e.kind === "dim" ? { terms: [], constant: e.dim } : { terms: [[e, 1]], constant: 0 };

function linear(terms: readonly (readonly [Expr, Dim])[], constantTerm: Dim): Expr {
  const sums = new Map<Expr, Dim>();
  for (const [term, coefficient] of terms) sums.set(term, dims.add(sums.get(term) ?? 0, coefficient));
  for (const [term, coefficient] of [...sums]) recombine(sums, term, coefficient);
  const kept = [...sums].filter(([, coefficient]) => coefficient !== 0).sort(([a], [b]) => a.id - b.id);
  if (kept.length === 0) return int(constantTerm);
  const [first, coefficient] = kept[0]!;
  if (kept.length === 1 && coefficient === 1 && constantTerm === 0) return first;
  const key = `${kept.map(([term, c]) => `${dims.dimText(c)}*${term.id}`).join("+")}+${dims.dimText(constantTerm)}`;
  return intern<Linear>(first, key, { kind: "linear", type: "i32", terms: kept, constant: constantTerm });
}

/** k·(e % c) + k·c·(e / c) is k·e: what flattening an unflattened offset leaves. */
function recombine(sums: Map<Expr, Dim>, term: Expr, coefficient: Dim): void {
  if (term.kind !== "binary" || term.fn !== "floormod" || term.b.kind !== "dim" || sums.get(term) === undefined) return;
  const quotient = binary("floordiv", term.a, term.b);
  const other = sums.get(quotient);
  if (other === undefined || !dims.sameDim(other, dims.mul(coefficient, term.b.dim))) return;
  sums.delete(term);
  sums.delete(quotient);
  const whole = sumOf(term.a);
  if (whole.terms.length !== 1 || whole.constant !== 0) {
    sums.set(term, coefficient);
    sums.set(quotient, other);
    return;
  }
  const [[inner, scaleBy]] = whole.terms as [readonly [Expr, Dim]];
  const sum = dims.add(sums.get(inner) ?? 0, dims.mul(coefficient, scaleBy));
  sums.set(inner, sum);
  recombine(sums, inner, sum);
}

const scale = (e: Expr, by: Dim): Expr => {
  const { terms, constant: c } = sumOf(e);
  return linear(
    terms.map(([term, coefficient]) => [term, dims.mul(coefficient, by)]),
    dims.mul(c, by),
  );
};

/** How the symbols end that count a loop's turns, from 0. */
export const TURN = "#turn";
/** Other symbols are sizes; where any is 0 nothing is evaluated, so proofs may take them as at least 1. */
export const AT_LEAST_ONE: dims.Ranges = {
  get: (name: string) => [name.endsWith(TURN) ? 0 : 1, Number.POSITIVE_INFINITY],
} as unknown as dims.Ranges;
const nonNegative = (dim: Dim): boolean => dims.interval(dim, AT_LEAST_ONE)[0] >= 0;
/** Where only dimensions meet no index runs, and a size may be 0: `Equal(Shape(x)[0], 0)` is not false. */
const provenOf =
  (gap: Expr) =>
  (dim: Dim): boolean =>
    gap.kind === "dim" ? dims.interval(dim, new Map())[0] >= 0 : nonNegative(dim);

/** Proven inclusive bounds of an i32 expression, as dimensions; undefined where there is no proof. */
export function boundsOf(e: Expr): { readonly low: Dim | undefined; readonly high: Dim | undefined } {
  switch (e.kind) {
    case "dim":
      return { low: e.dim, high: e.dim };
    case "var":
      return { low: 0, high: dims.sub(e.extent, 1) };
    case "linear": {
      let low: Dim | undefined = e.constant;
      let high: Dim | undefined = e.constant;
      for (const [term, coefficient] of e.terms) {
        const bounds = boundsOf(term);
        const up = nonNegative(coefficient);
        if (!up && !nonNegative(dims.mul(coefficient, -1))) return { low: undefined, high: undefined };
        const [lowTerm, highTerm] = up ? [bounds.low, bounds.high] : [bounds.high, bounds.low];
        low = low === undefined || lowTerm === undefined ? undefined : dims.add(low, dims.mul(lowTerm, coefficient));
        high = high === undefined || highTerm === undefined ? undefined : dims.add(high, dims.mul(highTerm, coefficient));
      }
      return { low, high };
    }
    case "binary": {
      const a = boundsOf(e.a);
      const b = boundsOf(e.b);
      if (e.fn === "floormod" && b.low !== undefined && nonNegative(dims.sub(b.low, 1)))
        return { low: 0, high: b.high === undefined ? undefined : dims.sub(b.high, 1) };
      if (e.fn === "floordiv" && e.b.kind === "dim" && nonNegative(e.b.dim)) {
        return {
          low: a.low === undefined ? undefined : dims.floorDiv(a.low, e.b.dim),
          high: a.high === undefined ? undefined : dims.floorDiv(a.high, e.b.dim),
        };
      }
      if (e.fn === "min")
        return { low: a.low !== undefined && b.low !== undefined ? dims.min(a.low, b.low) : undefined, high: b.high ?? a.high };
      if (e.fn === "max")
        return {
          low: b.low ?? a.low,
          high: a.high !== undefined && b.high !== undefined ? dims.max(a.high, b.high) : undefined,
        };
      return { low: undefined, high: undefined };
    }
    case "select": {
      const a = boundsOf(e.a);
      const b = boundsOf(e.b);
      return {
        low: a.low === undefined || b.low === undefined ? undefined : dims.min(a.low, b.low),
        high: a.high === undefined || b.high === undefined ? undefined : dims.max(a.high, b.high),
      };
    }
    default:
      return { low: undefined, high: undefined };
  }
}

/** True when 0 ≤ e < limit is proven. */
export function provablyWithin(e: Expr, limit: Dim): boolean {
  const { low, high } = boundsOf(e);
  return low !== undefined && high !== undefined && nonNegative(low) && nonNegative(dims.sub(limit, dims.add(high, 1)));
}
export const provablyNonNegative = (e: Expr): boolean => {
  const { low } = boundsOf(e);
  return low !== undefined && nonNegative(low);
};

/** Splits a sum into the part that `by` divides exactly (already divided) and the rest. */
function splitBy(e: Expr, by: Dim): { quotient: Expr; rest: Expr } {
  const { terms, constant: c } = sumOf(e);
  const whole: (readonly [Expr, Dim])[] = [];
  const rest: (readonly [Expr, Dim])[] = [];
  for (const [term, coefficient] of terms) {
    if (dims.mod(coefficient, by) === 0) whole.push([term, dims.floorDiv(coefficient, by)]);
    else rest.push([term, coefficient]);
  }
  const wholeConstant =
    dims.isStatic(c) && dims.isStatic(by) ? Math.floor(c / by) : dims.mod(c, by) === 0 ? dims.floorDiv(c, by) : 0;
  return { quotient: linear(whole, wholeConstant), rest: linear(rest, dims.sub(c, dims.mul(wholeConstant, by))) };
}

const gcd = (a: number, b: number): number => (b === 0 ? Math.abs(a) : gcd(b, a % b));

/** Finds g > 1 that divides `by` and all of e but a remainder proven to be in [0, g). */
function commonFactor(e: Expr, by: Dim): { g: number; quotient: Expr; rest: Expr } | undefined {
  if (!dims.isStatic(by)) return undefined;
  for (const [, coefficient] of sumOf(e).terms) {
    const g: number = dims.isStatic(coefficient) ? gcd(coefficient, by) : 1;
    if (g <= 1 || g === by) continue;
    const { quotient, rest } = splitBy(e, g);
    if (provablyWithin(rest, g)) return { g, quotient, rest };
  }
  return undefined;
}

function floorDivide(a: Expr, b: Expr): Expr | undefined {
  if (b.kind !== "dim") return undefined;
  const by = b.dim;
  // Nothing is evaluated over an extent of 0.
  if (by === 0) return int(0);
  if (by === 1) return a;
  if (a.kind === "dim") return int(dims.floorDiv(a.dim, by));
  if (provablyWithin(a, by)) return int(0);
  const { quotient, rest } = splitBy(a, by);
  if (provablyWithin(rest, by)) return quotient;
  if (!(quotient.kind === "dim" && quotient.dim === 0)) return add(quotient, binary("floordiv", rest, b));
  const factor = commonFactor(a, by);
  if (factor) return binary("floordiv", factor.quotient, int((by as number) / factor.g));
  if (a.kind === "binary" && a.fn === "floordiv" && a.b.kind === "dim")
    return binary("floordiv", a.a, int(dims.mul(a.b.dim, by)));
  return undefined;
}

function floorModulo(a: Expr, b: Expr): Expr | undefined {
  if (b.kind !== "dim") return undefined;
  const by = b.dim;
  // Nothing is evaluated over an extent of 0.
  if (by === 0) return int(0);
  if (by === 1) return int(0);
  if (a.kind === "dim") return int(dims.mod(a.dim, by));
  if (provablyWithin(a, by)) return a;
  const { quotient, rest } = splitBy(a, by);
  if (provablyWithin(rest, by)) return rest;
  if (!(quotient.kind === "dim" && quotient.dim === 0)) return binary("floormod", rest, b);
  const factor = commonFactor(a, by);
  if (factor) return add(scale(binary("floormod", factor.quotient, int((by as number) / factor.g)), factor.g), factor.rest);
  return undefined;
}

// --- constructors ------------------------------------------------------------------------------------------------------

const COMPARISONS: ReadonlySet<BinaryFn> = new Set(["lt", "le", "eq", "ne"]);
const isConstant = (e: Expr, value: number): boolean =>
  (e.kind === "const" && e.value === value) || (e.kind === "dim" && e.dim === value);

function simplifyBinary(fn: BinaryFn, a: Expr, b: Expr): Expr | undefined {
  if (a.type === "i32") {
    switch (fn) {
      case "add": {
        const [x, y] = [sumOf(a), sumOf(b)];
        return linear([...x.terms, ...y.terms], dims.add(x.constant, y.constant));
      }
      case "sub":
        return add(a, scale(b, -1));
      case "mul":
        if (a.kind === "dim") return scale(b, a.dim);
        if (b.kind === "dim") return scale(a, b.dim);
        return undefined;
      case "floordiv":
        return floorDivide(a, b);
      case "floormod":
        return floorModulo(a, b);
      case "min":
      case "max": {
        if (a === b) return a;
        if (a.kind === "dim" && b.kind === "dim") return int(fn === "min" ? dims.min(a.dim, b.dim) : dims.max(a.dim, b.dim));
        const [x, y] = [boundsOf(a), boundsOf(b)];
        const aBelow = x.high !== undefined && y.low !== undefined && nonNegative(dims.sub(y.low, x.high));
        const bBelow = y.high !== undefined && x.low !== undefined && nonNegative(dims.sub(x.low, y.high));
        return aBelow ? (fn === "min" ? a : b) : bBelow ? (fn === "min" ? b : a) : undefined;
      }
      case "quot":
      case "rem":
        if (provablyNonNegative(a) && provablyNonNegative(b)) return binary(fn === "quot" ? "floordiv" : "floormod", a, b);
        return undefined;
      case "lt":
      case "le": {
        const difference = add(b, scale(a, -1));
        const [gap, proven] = [boundsOf(difference), provenOf(difference)];
        const least = fn === "lt" ? 1 : 0;
        if (gap.low !== undefined && proven(dims.sub(gap.low, least))) return bool(true);
        if (gap.high !== undefined && proven(dims.sub(least - 1, gap.high))) return bool(false);
        return undefined;
      }
      case "eq":
      case "ne": {
        const difference = add(b, scale(a, -1));
        const [gap, proven] = [boundsOf(difference), provenOf(difference)];
        if (gap.low === 0 && gap.high === 0) return bool(fn === "eq");
        const apart =
          (gap.low !== undefined && proven(dims.sub(gap.low, 1))) || (gap.high !== undefined && proven(dims.sub(-1, gap.high)));
        return apart ? bool(fn === "ne") : undefined;
      }
      default:
        return undefined;
    }
  }
  if (a.type === "bool") {
    if (fn === "and")
      return isConstant(a, 1)
        ? b
        : isConstant(b, 1)
          ? a
          : isConstant(a, 0) || isConstant(b, 0)
            ? bool(false)
            : a === b
              ? a
              : undefined;
    if (fn === "or")
      return isConstant(a, 0)
        ? b
        : isConstant(b, 0)
          ? a
          : isConstant(a, 1) || isConstant(b, 1)
            ? bool(true)
            : a === b
              ? a
              : undefined;
  }
  if (a.type === "f32") {
    // Only rewrites that are exact for every float, NaN and -0 included (x + -0 is x; x + 0 is not for x = -0).
    if (fn === "mul" && isConstant(b, 1)) return a;
    if (fn === "mul" && isConstant(a, 1)) return b;
    if (fn === "div" && isConstant(b, 1)) return a;
    if (fn === "pow" && isConstant(b, 2)) return binary("mul", a, a);
    if (fn === "pow" && isConstant(b, 1)) return a;
    if (fn === "pow" && isConstant(b, 0.5)) return undefined;
  }
  return undefined;
}

export function binary(fn: BinaryFn, a: Expr, b: Expr): Expr {
  if (a.type !== b.type && fn !== "shl" && fn !== "shr") throw new TypeError(`${fn} of ${a.type} and ${b.type}`);
  const simple = simplifyBinary(fn, a, b);
  if (simple) return simple;
  const type: Scalar = COMPARISONS.has(fn) ? "bool" : a.type;
  const [owner, side] = a.kind === "const" || a.kind === "dim" ? [b, "r"] : [a, "l"];
  return intern<Binary>(owner, `${side}${fn}:${tag(a)}:${tag(b)}`, { kind: "binary", type, fn, a, b });
}

const UNARY_BOOL: ReadonlySet<UnaryFn> = new Set(["isnan", "isinf", "not"]);

export function unary(fn: UnaryFn, a: Expr): Expr {
  if (fn === "neg" && a.type === "i32") return scale(a, -1);
  if (fn === "neg" && a.kind === "const" && a.type === "f32") return float(-a.value);
  if (fn === "not" && a.kind === "const") return bool(!a.value);
  if (fn === "not" && a.kind === "unary" && a.fn === "not") return a.a;
  const type: Scalar = UNARY_BOOL.has(fn) ? "bool" : fn === "bits" ? "u32" : fn === "frombits" ? "f32" : a.type;
  return intern<Unary>(a, `${fn}:${tag(a)}`, { kind: "unary", type, fn, a });
}

export function select(condition: Expr, a: Expr, b: Expr): Expr {
  if (a.type !== b.type) throw new TypeError(`select of ${a.type} and ${b.type}`);
  if (condition.kind === "const") return condition.value ? a : b;
  if (a === b) return a;
  return intern<Select>(condition, `?${tag(a)}:${tag(b)}`, { kind: "select", type: a.type, condition, a, b });
}

/** ONNX Cast. Free when the scalar type already holds exactly the values of `to`. */
export function convert(a: Expr, to: DType): Expr {
  const type = scalarOf(to);
  const exact = to === "f32" || to === "f64" || to === "i32" || to === "u32" || to === "bool" || to === "i64" || to === "u64";
  if (a.type === type && exact) return a;
  if (a.kind === "dim" && dims.isStatic(a.dim)) {
    if (type === "f32" && to !== "f16" && to !== "bf16") return float(Math.fround(a.dim));
    if (type === "bool") return bool(a.dim !== 0);
    if (type === "u32" && exact && a.dim >= 0) return constant("u32", a.dim);
  }
  if (a.kind === "const" && a.type === "u32" && type === "i32" && exact) return int(a.value);
  if (a.kind === "const" && a.type === "bool" && exact) return constant(type, a.value);
  if (a.kind === "convert" && a.to === to) return a;
  return intern<Convert>(a, `as${to}:${tag(a)}`, { kind: "convert", type, to, a });
}

export function reduce(fn: Combiner, vars: readonly Var[], body: Expr): Expr {
  if (vars.every((v) => v.extent === 1)) return substitute(body, new Map(vars.map((v) => [v, int(0)])));
  return intern<Reduce>(body, `${fn}:${vars.map((v) => v.id).join(",")}:${tag(body)}`, {
    kind: "reduce",
    type: body.type,
    fn,
    vars,
    body,
  });
}

const chain =
  (fn: BinaryFn) =>
  (first: Expr, ...rest: Expr[]): Expr =>
    rest.reduce((a, b) => binary(fn, a, b), first);
export const add = chain("add");
export const mul = chain("mul");
export const and = chain("and");
export const or = chain("or");
export const sub = (a: Expr, b: Expr): Expr => binary("sub", a, b);
export const div = (a: Expr, b: Expr): Expr => binary("div", a, b);
export const minimum = (a: Expr, b: Expr): Expr => binary("min", a, b);
export const maximum = (a: Expr, b: Expr): Expr => binary("max", a, b);
export const lt = (a: Expr, b: Expr): Expr => binary("lt", a, b);
export const le = (a: Expr, b: Expr): Expr => binary("le", a, b);
export const gt = (a: Expr, b: Expr): Expr => binary("lt", b, a);
export const ge = (a: Expr, b: Expr): Expr => binary("le", b, a);
export const eq = (a: Expr, b: Expr): Expr => binary("eq", a, b);
export const ne = (a: Expr, b: Expr): Expr => binary("ne", a, b);
export const not = (a: Expr): Expr => unary("not", a);
export const floorDiv = (a: Expr, b: Expr): Expr => binary("floordiv", a, b);
export const floorMod = (a: Expr, b: Expr): Expr => binary("floormod", a, b);
/** 0 ≤ e < limit. */
export const within = (e: Expr, limit: Dim): Expr => and(ge(e, int(0)), lt(e, int(limit)));

// --- shapes ------------------------------------------------------------------------------------------------------------

/** Row-major strides in elements. */
export function stridesOf(shape: readonly Dim[]): Dim[] {
  const strides: Dim[] = new Array(shape.length);
  let stride: Dim = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    strides[i] = stride;
    stride = dims.mul(stride, shape[i]!);
  }
  return strides;
}

/** Row-major offset of an index. */
export function flatten(index: readonly Expr[], shape: readonly Dim[]): Expr {
  const strides = stridesOf(shape);
  return index.reduce((sum, e, i) => add(sum, scale(e, strides[i]!)), int(0));
}

/** Offset in GPU memory of an element, in the order of the value's layout. */
export const offsetOf = ({ shape, layout }: Value, index: readonly Expr[]): Expr =>
  layout
    ? flatten(
        layout.map((axis) => index[axis]!),
        layout.map((axis) => shape[axis]!),
      )
    : flatten(index, shape);

/** Variables of a loop nest reordered so that the last one walks `value`'s memory, when `index` is variables, shifted or not. */
export function inMemoryOrder(vars: readonly Var[], value: Value, index: readonly Expr[]): readonly Var[] {
  if (!value.layout) return vars;
  const shifted = (e: Expr): Expr => (e.kind === "linear" && e.terms.length === 1 && e.terms[0]![1] === 1 ? e.terms[0]![0] : e);
  const ordered = value.layout
    .map((axis) => shifted(index[axis]!))
    .filter((e): e is Var => e.kind === "var" && vars.includes(e));
  return [...vars.filter((v) => !ordered.includes(v)), ...ordered];
}

/** The index of a row-major offset. */
export function unflatten(offset: Expr, shape: readonly Dim[]): Expr[] {
  const strides = stridesOf(shape);
  return shape.map((dim, i) => {
    if (dim === 1) return int(0);
    const quotient = floorDiv(offset, int(strides[i]!));
    return i === 0 ? quotient : floorMod(quotient, int(dim));
  });
}

// --- traversal ---------------------------------------------------------------------------------------------------------

/** Direct operands, index expressions included. */
export function operands(e: Expr): readonly Expr[] {
  switch (e.kind) {
    case "const":
    case "dim":
    case "var":
    case "slot":
      return [];
    case "linear":
      return e.terms.map(([term]) => term);
    case "load":
      return e.index;
    case "unary":
    case "convert":
      return [e.a];
    case "binary":
      return [e.a, e.b];
    case "select":
      return [e.condition, e.a, e.b];
    case "reduce":
      return [e.body];
  }
}

/** Visits every distinct expression below the roots once, operands first. */
export function visit(roots: readonly Expr[], see: (e: Expr) => void, seen: Set<Expr> = new Set()): void {
  for (const e of roots) {
    if (seen.has(e)) continue;
    seen.add(e);
    visit(operands(e), see, seen);
    see(e);
  }
}

/** Rebuilds an expression bottom-up: `replace` gets each node after its operands were rebuilt, undefined keeps it. */
export function transform(root: Expr, replace: (e: Expr) => Expr | undefined, memo: Map<Expr, Expr> = new Map()): Expr {
  const go = (e: Expr): Expr => {
    const done = memo.get(e);
    if (done) return done;
    const rebuilt = rebuild(e, go);
    const result = replace(rebuilt) ?? rebuilt;
    memo.set(e, result);
    return result;
  };
  return go(root);
}

function rebuild(e: Expr, go: (e: Expr) => Expr): Expr {
  switch (e.kind) {
    case "const":
    case "dim":
    case "var":
    case "slot":
      return e;
    case "linear":
      return add(int(e.constant), ...e.terms.map(([term, coefficient]) => scale(go(term), coefficient)));
    case "load":
      return load(e.value, e.index.map(go));
    case "unary":
      return unary(e.fn, go(e.a));
    case "convert":
      return convert(go(e.a), e.to);
    case "binary":
      return binary(e.fn, go(e.a), go(e.b));
    case "select":
      return select(go(e.condition), go(e.a), go(e.b));
    case "reduce":
      return reduce(e.fn, e.vars, go(e.body));
  }
}

/** Puts expressions in the place of variables or slots, all at once: what stands there then is not looked at again. */
export function substitute(root: Expr, values: ReadonlyMap<Expr, Expr>): Expr {
  if (values.size === 0) return root;
  return transform(root, () => undefined, new Map(values));
}

/** Distinct loads below the roots, in first-seen order. */
export function loadsOf(roots: readonly Expr[]): Load[] {
  const loads: Load[] = [];
  visit(roots, (e) => {
    if (e.kind === "load") loads.push(e);
  });
  return loads;
}
