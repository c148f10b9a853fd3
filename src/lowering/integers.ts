// Products of dequantized operands sum integers: Σ (s·a)(t·b) becomes s·t·Σ a·b, whatever the operators that the scales and
// the integers came by, and a bias that is quantized in the sum's unit is added to the sum. Runs before fusion, which then
// puts all that follows, up to the next quantization, into the same kernel.

import {
  add,
  constant,
  convert,
  type Expr,
  type Load,
  mul,
  type Slot,
  slot,
  substitute,
  transform,
  type Var,
  visit,
} from "../ir/expr.ts";
import {
  type ConvTask,
  type GemmTask,
  isKernelTask,
  type KernelTask,
  type MapTask,
  mapExpressions,
  type Program,
  type Task,
} from "../ir/task.ts";
import { reader } from "../ir/tensor.ts";
import { dtypeFacts } from "../ir/types.ts";
import type { Value } from "../ir/value.ts";
import { dequantizationOf, factorsAgree } from "./scales.ts";

/** The program with integer products wherever both operands are dequantized, tasks inside of loops and branches included. */
export function sumIntegers(program: Program): Program {
  return { ...program, tasks: rewrite(program.tasks, new Map(), new Map()) };
}

function rewrite(tasks: readonly Task[], makers: Map<Value, MapTask>, zeros: Map<Value, boolean>): Task[] {
  return tasks.map((whole) => {
    const task = isKernelTask(whole) ? withoutZeros(whole, zeros) : whole;
    switch (task.kind) {
      case "map":
        if (isElementwise(task)) makers.set(task.stores[0]!.value, task);
        return task;
      case "gemm":
      case "conv":
        return integerProduct(task, makers) ?? task;
      case "loop":
        return { ...task, body: rewrite(task.body, makers, zeros) };
      case "if":
        return { ...task, then: rewrite(task.then, makers, zeros), else: rewrite(task.else, makers, zeros) };
      default:
        return task;
    }
  });
}

const isElementwise = ({ vars, stores: [store, more] }: MapTask): boolean =>
  !more &&
  store!.mode === "set" &&
  !store!.init &&
  !store!.when &&
  store!.index.length === vars.length &&
  store!.index.every((e, i) => e === vars[i]);

/** What a load's value is made of, through views; undefined when that is no dequantization. */
function dequantized(
  e: Expr,
  makers: ReadonlyMap<Value, MapTask>,
): { readonly whole: Expr; readonly factor: Expr } | undefined {
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
  const finish = (e: Expr): Expr =>
    addBias(
      transform(e, (node) => (node === task.acc ? real : undefined)),
      acc,
      factor,
      makers,
    );
  const stores = task.stores.map((store) => ({ ...store, expr: finish(store.expr) }));
  const operands = task.kind === "gemm" ? { a: left.whole, b: right.whole } : { x: left.whole, w: right.whole };
  return { ...task, ...operands, acc, stores };
}

/** True for an 8-bit integer, less a zero point or not: what is multiplied and summed in 32 bits without overflow. */
function isNarrow(whole: Expr): boolean {
  const terms = whole.kind === "linear" ? whole.terms : [[whole, 1] as const];
  return terms.length <= 2 && terms.every(([term, coefficient]) => Math.abs(Number(coefficient)) === 1 && isByte(term));
}

function isByte(e: Expr): boolean {
  if (e.kind === "convert") return isByte(e.a);
  return e.kind === "load" && dtypeFacts[e.value.dtype].bytes === 1 && dtypeFacts[e.value.dtype].kind === "int";
}

function dependsOn(e: Expr, vars: readonly Var[]): boolean {
  let found = false;
  visit([e], (node) => {
    if (node.kind === "var" && vars.includes(node)) found = true;
  });
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

/** Integer constants that are 0 throughout are literals wherever they are read: zero points, most of all. */
function withoutZeros<T extends KernelTask>(task: T, zeros: Map<Value, boolean>): T {
  const isZero = (value: Value): boolean => {
    let known = zeros.get(value);
    if (known === undefined) zeros.set(value, (known = isFilledWithZeros(value)));
    return known;
  };
  const memo = new Map<Expr, Expr>();
  return mapExpressions(task, (e) =>
    transform(e, (node) => (node.kind === "load" && isZero(node.value) ? constant(node.type, 0) : undefined), memo),
  );
}

function isFilledWithZeros({ data, dtype }: Value): boolean {
  if (!data || dtypeFacts[dtype].kind !== "int") return false;
  const read = reader(data);
  for (let i = 0; i < data.data.length; i++) if (read(i) !== 0) return false;
  return data.data.length > 0;
}
