// Scales of quantized values as they meet in a kernel's expressions: what belongs together is multiplied when the engine is
// built, so that a sum of integers is multiplied once before it is rounded. Runs after fusion.

import { isStatic } from "../ir/dims.ts";
import { add, binary, type Convert, convert, type Expr, float, int, type Load, load, mul, transform } from "../ir/expr.ts";
import { isKernelTask, type KernelTask, mapExpressions, type Program, type Task } from "../ir/task.ts";
import { reader, type Tensor, tensor } from "../ir/tensor.ts";
import { makeValue, type Value } from "../ir/value.ts";
import { integerRange } from "../ops/quantized.ts";

/** The program with factors of integers combined, tasks inside of loops and branches included. */
export function foldScales(program: Program): Program {
  return { ...program, tasks: foldTasks(program.tasks) };
}

const foldTasks = (tasks: readonly Task[]): Task[] =>
  tasks.map((task) => {
    if (task.kind === "loop") return { ...task, body: foldTasks(task.body) };
    if (task.kind === "if") return { ...task, then: foldTasks(task.then), else: foldTasks(task.else) };
    return isKernelTask(task) ? foldFactors(task) : task;
  });

/** The task with factors of integers combined. */
export function foldFactors<T extends KernelTask>(task: T): T {
  const memo = new Map<Expr, Expr>();
  return mapExpressions(task, (e) => transform(e, simplify, memo));
}

/** An integer times a factor: what dequantization makes. */
export interface Scaled {
  /** Of type i32. */
  readonly whole: Expr;
  readonly factor: Expr;
}

const asWhole = (e: Expr): Expr | undefined => (e.kind === "convert" && e.to === "f32" && e.a.type === "i32" ? e.a : undefined);

/** The parts of factor·f32(whole); undefined for all else. */
export function dequantizationOf(e: Expr): Scaled | undefined {
  if (e.kind !== "binary" || e.fn !== "mul" || e.type !== "f32") return undefined;
  const [a, b] = [asWhole(e.a), asWhole(e.b)];
  return a ? { whole: a, factor: e.b } : b ? { whole: b, factor: e.a } : undefined;
}

const scaled = ({ whole, factor }: Scaled): Expr => mul(convert(whole, "f32"), factor);

function simplify(e: Expr): Expr | undefined {
  if (e.kind === "convert") return sameByte(e);
  if (e.kind !== "binary" || e.type !== "f32") return undefined;
  const constant = foldBinary(e.fn, e.a, e.b);
  if (constant) return constant;
  switch (e.fn) {
    case "div":
      return divided(e.a, e.b);
    case "mul": {
      const inner = dequantizationOf(e.a) ?? dequantizationOf(e.b);
      const factor = inner && foldBinary("mul", inner.factor, dequantizationOf(e.a) ? e.b : e.a);
      return factor && scaled({ whole: inner.whole, factor });
    }
    case "add": {
      const [a, b] = [dequantizationOf(e.a), dequantizationOf(e.b)];
      if ((a && isZero(e.b)) || (b && isZero(e.a))) return a ? e.a : e.b;
      return a && b && factorsAgree(a.factor, b.factor)
        ? scaled({ whole: add(a.whole, b.whole), factor: a.factor })
        : undefined;
    }
    default:
      return undefined;
  }
}

/**
 * e / by as whole numbers times one factor each, under whatever choices are made of them or of the sum of two; undefined where that
 * cannot be.
 */
function divided(e: Expr, by: Expr): Expr | undefined {
  const constant = foldBinary("div", e, by);
  if (constant) return constant;
  const product = dequantizationOf(e);
  if (product) {
    const factor = foldBinary("div", product.factor, by);
    return factor && scaled({ whole: product.whole, factor });
  }
  if (e.kind !== "binary") return undefined;
  const isSum = e.fn === "add" && dequantizationOf(e.a) !== undefined && dequantizationOf(e.b) !== undefined;
  if (!isSum && !((e.fn === "max" || e.fn === "min") && isPositive(by))) return undefined;
  const [a, b] = [divided(e.a, by), divided(e.b, by)];
  return a && b && binary(e.fn, a, b);
}

/** The byte that is quantized again by the scale and zero point by which it was dequantized. */
function sameByte({ to, a: clamped }: Convert): Expr | undefined {
  if (to !== "i8" && to !== "u8") return undefined;
  const [low, high] = integerRange(to);
  if (clamped.kind !== "binary" || clamped.fn !== "min" || clamped.b !== float(high)) return undefined;
  const raised = clamped.a;
  if (raised.kind !== "binary" || raised.fn !== "max" || raised.b !== float(low)) return undefined;
  const whole = wholeOf(raised.a);
  const byte = whole?.kind === "convert" && whole.to === "i32" ? whole.a : whole;
  const isSame = byte?.kind === "load" ? byte.value.dtype === to : byte?.kind === "convert" && byte.to === to;
  return isSame ? byte : undefined;
}

/** A whole number in f32 as i32, where it is made of such: exact for all that f32 holds exactly. */
function wholeOf(e: Expr): Expr | undefined {
  switch (e.kind) {
    case "const":
      return Number.isInteger(e.value) ? int(e.value) : undefined;
    case "convert":
      return e.to === "f32" && (e.a.type === "i32" || e.a.type === "u32") ? convert(e.a, "i32") : undefined;
    case "unary":
      if (e.fn === "round") return wholeOf(e.a);
      return e.fn === "frombits" && e.a.kind === "unary" && e.a.fn === "bits" ? wholeOf(e.a.a) : undefined;
    case "binary": {
      const [a, b] = [wholeOf(e.a), wholeOf(e.b)];
      return e.fn === "add" && a && b ? add(a, b) : undefined;
    }
    default:
      return undefined;
  }
}

// --- tables --------------------------------------------------------------------------------------------------------------

/** A constant, or a vector of constants of which `at` chooses. */
interface Table {
  readonly numbers: readonly number[];
  readonly at: Expr | undefined;
}

/** Constants longer than this are no scales. */
const LONGEST = 65536;

function tableOf(e: Expr): Table | undefined {
  if (e.kind === "const") return { numbers: [e.value], at: undefined };
  if (e.kind !== "load" || !e.value.data || e.value.data.data.length > LONGEST) return undefined;
  return vectorOf(e, e.value.data);
}

function vectorOf({ index, value }: Load, data: Tensor): Table | undefined {
  const axes = [...index.keys()].filter((axis) => index[axis]!.kind !== "dim");
  const [axis, more] = axes;
  if (more !== undefined || !index.every((e) => e.kind !== "dim" || isStatic(e.dim))) return undefined;
  const read = reader(data);
  const offset = (along: number): number =>
    index.reduce((sum, e, i) => sum * data.shape[i]! + (e.kind === "dim" ? (e.dim as number) : along), 0);
  if (axis === undefined) return { numbers: [read(offset(0))], at: undefined };
  return {
    numbers: Array.from({ length: data.shape[axis]! }, (_, i) => read(offset(i))),
    at: value.shape[axis] === 1 ? undefined : index[axis],
  };
}

const OPERATIONS: Readonly<Record<string, (a: number, b: number) => number>> = {
  add: (a, b) => a + b,
  sub: (a, b) => a - b,
  mul: (a, b) => a * b,
  div: (a, b) => a / b,
  max: Math.max,
  min: Math.min,
};

/** The operation on constants, rounded to f32 as a kernel would. */
function foldBinary(fn: string, a: Expr, b: Expr): Expr | undefined {
  const operation = OPERATIONS[fn];
  const [left, right] = [tableOf(a), tableOf(b)];
  if (!operation || !left || !right || (left.at && right.at && left.at !== right.at)) return undefined;
  const length = Math.max(left.numbers.length, right.numbers.length);
  const at = left.at ?? right.at;
  const pick = (numbers: readonly number[], i: number): number => numbers[numbers.length === 1 ? 0 : i]!;
  const numbers = Array.from({ length }, (_, i) => Math.fround(operation(pick(left.numbers, i), pick(right.numbers, i))));
  const [first] = numbers;
  if (a.kind === "const" && b.kind === "const") return float(first!);
  if ((first === 0 || first === 1) && numbers.every((number) => Object.is(number, first))) return float(first);
  return load(constantValue(a, b, fn, numbers, at !== undefined), at ? [at] : []);
}

/** Tables already made, by what they were made of: equal expressions stay equal. */
const made = new WeakMap<Value, Map<string, Value>>();
const nameOf = (e: Expr): string => (e.kind === "load" ? e.value.name : e.kind === "const" ? String(e.value) : "");

function constantValue(a: Expr, b: Expr, fn: string, numbers: readonly number[], isVector: boolean): Value {
  const owner = (a.kind === "load" ? a : (b as Load)).value;
  let table = made.get(owner);
  if (!table) made.set(owner, (table = new Map()));
  const key = `${a.id} ${fn} ${b.id}`;
  let value = table.get(key);
  if (!value) {
    const data = tensor("f32", isVector ? [numbers.length] : [], numbers);
    value = { ...makeValue(`${nameOf(a)} ${fn} ${nameOf(b)}`, "f32", data.shape), data };
    table.set(key, value);
  }
  return value;
}

const isZero = (e: Expr): boolean => e.kind === "const" && e.value === 0;
const isPositive = (e: Expr): boolean => tableOf(e)?.numbers.every((number) => number > 0) ?? false;

/** How far two scales may be apart and still be one: exporters compute a bias's scale in their own way. */
const SAME = 1e-5;

/** True when two factors are constants that differ by rounding only. */
export function factorsAgree(a: Expr, b: Expr): boolean {
  if (a === b) return true;
  const [left, right] = [factorTable(a), factorTable(b)];
  if (!left || !right || left.at !== right.at || left.numbers.length !== right.numbers.length) return false;
  return left.numbers.every((number, i) => Math.abs(number - right.numbers[i]!) <= SAME * Math.abs(number));
}

/** The table of a factor that may still be a product. */
function factorTable(e: Expr): Table | undefined {
  return tableOf(transform(e, simplify));
}
