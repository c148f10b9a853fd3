// Products of dequantized operands sum integers: Σ (s·a)(t·b) becomes s·t·Σ a·b, whatever the operators that the scales and
// the integers came by, and a bias that is quantized in the sum's unit is added to the sum. Runs before fusion, which then
// puts all that follows, up to the next quantization, into the same kernel.

import { type Expr, type Load, type Slot, type Var, add, convert, int, loadsOf, mul, slot, substitute, transform, visit } from "../ir/expr.ts";
import { type Tensors, interpret } from "../ir/interpret.ts";
import { type ConvTask, type GemmTask, type MapTask, type Program, type Task, isKernelTask, mapExpressions, readsOf } from "../ir/task.ts";
import { reader, sizeOf } from "../ir/tensor.ts";
import { isStaticShape } from "../ir/dims.ts";
import { dtypeFacts } from "../ir/types.ts";
import type { Value } from "../ir/value.ts";
import { dequantizationOf, factorsAgree } from "./scales.ts";

/** The program with integer products wherever both operands are dequantized, tasks inside of loops and branches included. */
export function sumIntegers(program: Program): Program {
  const makers = new Map<Value, MapTask>();
  const tasks = rewrite(program.tasks, makers);
  return { ...program, tasks: foldDequantized(tasks, new Set(program.outputs.map(({ value }) => value))) };
}

function rewrite(tasks: readonly Task[], makers: Map<Value, MapTask>): Task[] {
  return tasks.map((task) => {
    switch (task.kind) {
      case "map":
        if (isElementwise(task)) makers.set(task.stores[0]!.value, task);
        return task;
      case "gemm": case "conv": return integerProduct(task, makers) ?? task;
      case "loop": return { ...task, body: rewrite(task.body, makers) };
      case "if": return { ...task, then: rewrite(task.then, makers), else: rewrite(task.else, makers) };
      default: return task;
    }
  });
}

const isElementwise = ({ vars, stores: [store, more] }: MapTask): boolean =>
  !more && store!.mode === "set" && !store!.init && !store!.when && store!.index.length === vars.length && store!.index.every((e, i) => e === vars[i]);

/** What a load's value is made of, through views; undefined when that is no dequantization. */
function dequantized(e: Expr, makers: ReadonlyMap<Value, MapTask>): { readonly whole: Expr; readonly factor: Expr } | undefined {
  let at = e;
  for (;;) {
    if (at.kind !== "load") return dequantizationOf(at);
    const maker = makers.get(at.value);
    if (!maker) return undefined;
    const { index } = at as Load;
    at = substitute(maker.stores[0]!.expr, new Map<Expr, Expr>(maker.vars.map((v, i) => [v, index[i]!])));
  }
}

function integerProduct<T extends GemmTask | ConvTask>(task: T, makers: ReadonlyMap<Value, MapTask>): T | undefined {
  if (task.acc.type !== "f32") return undefined;
  const [left, right] = (task.kind === "gemm" ? [task.a, task.b] : [task.x, task.w]).map((e) => dequantized(e, makers));
  if (!left || !right || !isNarrow(left.whole) || !isNarrow(right.whole)) return undefined;
  // A scale may differ between results, never between the terms of one.
  const summed: readonly Var[] = task.kind === "gemm" ? [task.k] : [task.ic, ...task.kernel, ...task.xVars];
  const factor = mul(left.factor, right.factor);
  if (dependsOn(factor, summed)) return undefined;
  const acc: Slot = slot("acc", "i32");
  const real = mul(convert(acc, "f32"), factor);
  const finish = (e: Expr): Expr => addBias(transform(e, (node) => (node === task.acc ? real : undefined)), acc, factor, makers);
  const stores = task.stores.map((store) => ({ ...store, expr: finish(store.expr) }));
  const operands = task.kind === "gemm" ? { a: left.whole, b: right.whole } : { x: left.whole, w: right.whole };
  return { ...task, ...operands, acc, stores };
}

/** True when an i32 expression is made of 8-bit integers and constants: its products can be summed in 32 bits. */
function isNarrow(whole: Expr): boolean {
  const loads = loadsOf([whole]).filter(({ value }) => !value.data || dtypeFacts[value.dtype].bytes === 1);
  return loads.length === 1 && dtypeFacts[loads[0]!.value.dtype].bytes === 1 && dtypeFacts[loads[0]!.value.dtype].kind === "int";
}

function dependsOn(e: Expr, vars: readonly Var[]): boolean {
  let found = false;
  visit([e], (node) => { if (node.kind === "var" && vars.includes(node)) found = true; });
  return found;
}

/** factor·acc + (unit·bias), where unit is the factor: factor·(acc + bias). */
function addBias(e: Expr, acc: Slot, factor: Expr, makers: ReadonlyMap<Value, MapTask>): Expr {
  const real = mul(convert(acc, "f32"), factor);
  return transform(e, (node) => {
    if (node.kind !== "binary" || node.fn !== "add" || node.type !== "f32") return undefined;
    const other = node.a === real ? node.b : node.b === real ? node.a : undefined;
    const bias = other && dequantized(other, makers);
    if (!bias || !factorsAgree(factor, bias.factor)) return undefined;
    return mul(convert(add(acc, bias.whole), "f32"), factor);
  });
}

/** Elements up to which weights that stay dequantized are computed when the engine is built. */
const MOST_FOLDED = 1 << 24;

/** Dequantized constants that are still read become constants. */
function foldDequantized(tasks: readonly Task[], keep: ReadonlySet<Value>): Task[] {
  const read = new Set<Value>(keep);
  const see = (list: readonly Task[]): void => { for (const task of list) for (const value of readsOf(task)) read.add(value); };
  see(tasks);
  return tasks.filter((task) => {
    if (task.kind !== "map" || !isElementwise(task)) return true;
    const { value, expr } = task.stores[0]!;
    const constant = readsOf(task).every(({ data }) => data) && isStaticShape(value.shape) && sizeOf(value.shape) <= MOST_FOLDED;
    if (!read.has(value) || keep.has(value) || !constant || !dequantizationOf(expr)) return true;
    const tensors: Tensors = new Map();
    interpret([task], tensors, new Map(), () => []);
    value.data = tensors.get(value)!;
    return false;
  });
}

/** Integer constants whose elements are all equal are literals wherever they are read: zero points, most of all. */
export function literalIntegers(tasks: readonly Task[]): Task[] {
  const known = new Map<Value, number | undefined>();
  const only = (value: Value): number | undefined => {
    if (!known.has(value)) known.set(value, onlyElement(value));
    return known.get(value);
  };
  const change = (e: Expr): Expr => transform(e, (node) => {
    if (node.kind !== "load" || node.type === "f32" || node.type === "bool") return undefined;
    const element = only(node.value);
    return element === undefined ? undefined : convert(int(element), node.type === "i32" ? "i32" : "u32");
  });
  return tasks.map((task) => (isKernelTask(task) ? mapExpressions(task, change) : task));
}

function onlyElement({ data, dtype }: Value): number | undefined {
  if (!data || data.data.length === 0 || dtypeFacts[dtype].bytes === 8) return undefined;
  const read = reader(data);
  const first = read(0);
  for (let i = 1; i < data.data.length; i++) if (read(i) !== first) return undefined;
  return first;
}
