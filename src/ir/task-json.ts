// A kernel task as JSON and back, so that it can be tuned alone, elsewhere. Expressions and values are numbered in tables;
// large constants of floats are left out, and come back as other numbers.

import { type Dim, dimText, parseDim } from "./dims.ts";
import type { Expr } from "./expr.ts";
import * as x from "./expr.ts";
import type { KernelTask } from "./task.ts";
import { numbersOf, sizeOf, type Tensor, tensor } from "./tensor.ts";
import { isFloat } from "./types.ts";
import type { Value } from "./value.ts";

type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };
type Fields = Readonly<Record<string, unknown>>;

/** Elements of a constant of floats beyond which only its shape is kept. */
const MOST_KEPT = 256;

const EXPRESSIONS: ReadonlySet<unknown> = new Set([
  "const",
  "dim",
  "var",
  "slot",
  "linear",
  "load",
  "unary",
  "binary",
  "select",
  "convert",
  "reduce",
]);
const isExpr = (item: object): item is Expr => "id" in item && "kind" in item && EXPRESSIONS.has(item.kind);
const isValue = (item: object): item is Value => "dtype" in item && "shape" in item && "name" in item;
const isTensor = (item: object): item is Tensor => "dtype" in item && "data" in item && !("name" in item);

/** JSON text of a task. */
export function taskToJson(task: KernelTask): string {
  const expressions: Json[] = [];
  const values: Json[] = [];
  const numbers = new Map<object, number>();
  const number = (item: object, table: Json[], fields: Fields): number => {
    const known = numbers.get(item);
    if (known !== undefined) return known;
    // What it is made of gets the smaller numbers.
    const encoded = record(fields);
    numbers.set(item, table.length);
    return table.push(encoded) - 1;
  };
  const record = (fields: Fields): Json =>
    Object.fromEntries(Object.entries(fields).flatMap(([key, item]) => (item === undefined ? [] : [[key, encode(item)]])));
  const encode = (item: unknown): Json => {
    if (typeof item === "number")
      return Number.isFinite(item) && !Object.is(item, -0) ? item : { number: Object.is(item, -0) ? "-0" : String(item) };
    if (Array.isArray(item)) return item.map(encode);
    if (typeof item !== "object" || item === null) return item as Json;
    if (isExpr(item)) {
      const { id: _, ...fields } = item;
      return { expr: number(item, expressions, fields) };
    }
    if (isValue(item)) return { value: number(item, values, { ...item }) };
    if (isTensor(item)) {
      const kept = !isFloat(item.dtype) || item.data.length <= MOST_KEPT;
      return { tensor: record({ dtype: item.dtype, shape: item.shape, ...(kept ? { elements: numbersOf(item) } : {}) }) };
    }
    if ("terms" in item && "text" in item) return { dim: dimText(item as Dim) };
    return record(item as Fields);
  };
  const encoded = encode(task);
  return `${JSON.stringify({ "kiln-task": 1, task: encoded, values, expressions })}\n`;
}

/** The task that `taskToJson` wrote. Throws what JSON.parse throws, or a TypeError, for other text. */
export function taskFromJson(text: string): KernelTask {
  const parsed = JSON.parse(text) as {
    "kiln-task"?: number;
    task: Json;
    values: readonly Fields[];
    expressions: readonly Fields[];
  };
  if (parsed["kiln-task"] !== 1) throw new TypeError("this is no kernel task, or one of another version");
  const values = new Map<number, Value>();
  const expressions = new Map<number, Expr>();
  const valueAt = (at: number): Value => {
    let value = values.get(at);
    if (!value) values.set(at, (value = decode(parsed.values[at]) as Value));
    return value;
  };
  const exprAt = (at: number): Expr => {
    let e = expressions.get(at);
    if (!e) expressions.set(at, (e = rebuild(record(parsed.expressions[at]!) as unknown as Expr)));
    return e;
  };
  const record = (fields: Fields): Fields =>
    Object.fromEntries(Object.entries(fields).map(([key, item]) => [key, decode(item)]));
  const decode = (item: unknown): unknown => {
    if (Array.isArray(item)) return item.map(decode);
    if (typeof item !== "object" || item === null) return item;
    const fields = item as Fields;
    if (typeof fields.expr === "number") return exprAt(fields.expr);
    if (typeof fields.value === "number") return valueAt(fields.value);
    if (typeof fields.number === "string") return Number(fields.number);
    if (typeof fields.dim === "string") return parseDim(fields.dim);
    if (fields.tensor) {
      const { dtype, shape, elements } = record(fields.tensor as Fields) as unknown as Tensor & {
        elements?: readonly number[];
      };
      return tensor(
        dtype,
        shape,
        elements ?? Float32Array.from({ length: sizeOf(shape) }, (_, i) => ((i * 7919) % 1009) / 1009 - 0.5),
      );
    }
    return record(fields);
  };
  return decode(parsed.task) as KernelTask;
}

/** An expression from its fields, made like any other. */
function rebuild(e: Expr): Expr {
  switch (e.kind) {
    case "const":
      return x.constant(e.type, e.value);
    case "dim":
      return x.int(e.dim);
    case "var":
      return x.variable(e.name, e.extent);
    case "slot":
      return x.slot(e.name, e.type);
    case "linear":
      return e.terms.reduce<Expr>((sum, [term, coefficient]) => x.add(sum, x.mul(term, x.int(coefficient))), x.int(e.constant));
    case "load":
      return x.load(e.value, e.index);
    case "unary":
      return x.unary(e.fn, e.a);
    case "binary":
      return x.binary(e.fn, e.a, e.b);
    case "select":
      return x.select(e.condition, e.a, e.b);
    case "convert":
      return x.convert(e.a, e.to);
    case "reduce":
      return x.reduce(e.fn, e.vars, e.body);
  }
}
