// Horizontal fusion: convolutions, or matrix products, that read the same operand and have constant weights become one with
// their weights side by side. Each keeps its stores, under the condition that the result is one of its own.

import { dimText, isStatic } from "../ir/dims.ts";
import {
  and,
  type Expr,
  ge,
  int,
  type Load,
  load,
  loadsOf,
  lt,
  sub,
  substitute,
  transform,
  type Var,
  variable,
  visit,
} from "../ir/expr.ts";
import {
  type ConvTask,
  expressionsOfStore,
  type GemmTask,
  mapStore,
  readsOf,
  type Store,
  type Task,
  writesOf,
} from "../ir/task.ts";
import { allocate, sizeOf, type Tensor } from "../ir/tensor.ts";
import { makeValue, type Value } from "../ir/value.ts";
import { type Judge, mergeOrigins } from "./task-graph.ts";

type Wide = GemmTask | ConvTask;

/** Tasks between two siblings beyond which they are not brought together. */
const FARTHEST = 256;

/** Merges what it can; the list stays in an order in which tasks come after what they read. */
export function mergeSiblings(tasks: readonly Task[], judge: Judge): Task[] {
  const list: (Task | undefined)[] = [...tasks];
  const place = new Map<Task, number>(tasks.map((task, at) => [task, at]));
  for (const group of siblingsOf(tasks)) {
    let [first, ...others] = group as [Wide, ...Wide[]];
    while (others.length > 0) {
      const left: Wide[] = [];
      for (const other of others) {
        const merged = tryMerge(list, place, first, other, judge);
        if (merged) first = merged;
        else left.push(other);
      }
      [first, ...others] = left as [Wide, ...Wide[]];
    }
  }
  return list.filter((task) => task !== undefined);
}

function tryMerge(
  list: (Task | undefined)[],
  place: Map<Task, number>,
  first: Wide,
  other: Wide,
  { may, fits }: Judge,
): Wide | undefined {
  const [from, to] = [place.get(first)!, place.get(other)!];
  if (to - from > FARTHEST) return undefined;
  const between = list.slice(from + 1, to).filter((task) => task !== undefined);
  const tainted = new Set(writesOf(first));
  const after = between.filter((task) => {
    if (!readsOf(task).some((value) => tainted.has(value))) return false;
    for (const value of writesOf(task)) tainted.add(value);
    return true;
  });
  if (readsOf(other).some((value) => tainted.has(value))) return undefined;
  const merged = sideBySide(first, other);
  if (!merged || !fits(merged) || !may("merge-siblings", other)) return undefined;
  const late = new Set(after);
  const order = [...between.filter((task) => !late.has(task)), merged, ...after];
  for (let at = from; at <= to; at++) {
    const task = order[at - from];
    list[at] = task;
    if (task) place.set(task, at);
  }
  return merged;
}

// --- who are siblings --------------------------------------------------------------------------------------------------

/** Groups of at least two, in order, of tasks that differ in weights and stores alone. */
function siblingsOf(tasks: readonly Task[]): Wide[][] {
  const groups = new Map<string, Wide[]>();
  const numbers = new Map<Expr, number>();
  const standing = new Map<string, Var>();
  for (const task of tasks) {
    if ((task.kind !== "gemm" && task.kind !== "conv") || !weightsOf(task)) continue;
    const shared = sharedOf(task);
    if (!shared) continue;
    // Equal but for the names of variables: with the same stand-ins they are one object.
    const at = new Map<Expr, Expr>();
    shared.vars.forEach((v, i) => {
      const key = `${i}:${dimText(v.extent)}`;
      if (!standing.has(key)) standing.set(key, variable(`v${i}`, v.extent));
      at.set(v, standing.get(key)!);
    });
    const operand = substitute(shared.operand, at);
    if (!numbers.has(operand)) numbers.set(operand, numbers.size);
    const key = `${task.kind} ${task.acc.type} ${shared.key} ${shared.vars.map(({ extent }) => dimText(extent)).join()} ${numbers.get(operand)}`;
    const group = groups.get(key);
    if (group) group.push(task);
    else groups.set(key, [task]);
  }
  return [...groups.values()].filter(({ length }) => length > 1);
}

/** What siblings have in common: the operand, the variables that it is over, and the rest as text. */
function sharedOf(task: Wide): { readonly operand: Expr; readonly vars: readonly Var[]; readonly key: string } | undefined {
  if (task.kind === "gemm") return { operand: task.a, vars: [...task.batch, task.m, task.k], key: String(task.batch.length) };
  if (task.groups !== 1) return undefined;
  const { xVars, batch, out, ic, kernel, strides, dilations, pads, size } = task;
  const texts = [...pads, ...size].map(dimText);
  return {
    operand: task.x,
    vars: [...xVars, batch, ...out, ic, ...kernel],
    key: [strides, dilations, texts].map((list) => list.join()).join(" "),
  };
}

const wideVar = (task: Wide): Var => (task.kind === "gemm" ? task.n : task.oc);

/** The constant weights, and the axis along which results differ. */
function weightsOf(task: Wide): { readonly load: Load; readonly data: Tensor; readonly axis: number } | undefined {
  const operand = task.kind === "gemm" ? task.b : task.w;
  if (operand.kind !== "load" || !operand.value.data || !isStatic(wideVar(task).extent)) return undefined;
  const axis = axisOf(operand, wideVar(task));
  return axis === undefined ? undefined : { load: operand, data: operand.value.data, axis };
}

/** The only axis that `v` moves, when it does so one by one and over all of it. */
function axisOf({ value, index }: Load, v: Var): number | undefined {
  const axes = index.flatMap((e, axis) => (dependsOn(e, v) ? [axis] : []));
  const [axis, more] = axes;
  return axis !== undefined && more === undefined && index[axis] === v && value.shape[axis] === v.extent ? axis : undefined;
}

function dependsOn(e: Expr, v: Var): boolean {
  let found = false;
  visit([e], (node) => {
    found ||= node === v;
  });
  return found;
}

// --- side by side --------------------------------------------------------------------------------------------------------

function sideBySide(first: Wide, second: Wide): Wide | undefined {
  const [left, right] = [weightsOf(first)!, weightsOf(second)!];
  if (left.axis !== right.axis || left.data.dtype !== right.data.dtype || left.data.shape.length !== right.data.shape.length)
    return undefined;
  // The second task in the variables of the first.
  const ours = sharedOf(first)!.vars;
  const renamed = new Map<Expr, Expr>([
    ...sharedOf(second)!.vars.map((v, i): [Expr, Expr] => [v, ours[i]!]),
    [second.acc, first.acc],
  ]);
  const [a, b] = [wideVar(first), wideVar(second)];
  const indices = right.load.index.map((e) => substitute(e, renamed));
  if (
    left.load.index.some(
      (e, axis) => axis !== left.axis && (e !== indices[axis] || left.data.shape[axis] !== right.data.shape[axis]),
    )
  )
    return undefined;
  const split = a.extent as number;
  const wide = variable(a.name, split + (b.extent as number));
  const inFirst = lt(wide, int(split));
  const biases = mergedBias(first, second, wide);
  const bias = (e: Expr, from: Load | undefined): Expr =>
    biases ? transform(e, (node) => (node === from ? biases.merged : undefined)) : e;
  const stores = [
    ...first.stores.map((store) =>
      limited(
        mapStore(store, (e) => substitute(bias(e, biases?.first), new Map([[a, wide]]))),
        inFirst,
      ),
    ),
    ...second.stores.map((store) =>
      limited(
        mapStore(store, (e) =>
          substitute(bias(e, biases?.second), new Map<Expr, Expr>([...renamed, [b, sub(wide, int(split))]])),
        ),
        ge(wide, int(split)),
      ),
    ),
  ];
  const value = constantOf(joined([left.data, right.data], left.axis), left.load.value, right.load.value);
  const weights = load(
    value,
    left.load.index.map((e, axis) => (axis === left.axis ? wide : e)),
  );
  const common = { origins: mergeOrigins(first, second), stores };
  return first.kind === "gemm" ? { ...first, ...common, n: wide, b: weights } : { ...first, ...common, oc: wide, w: weights };
}

const limited = (store: Store, when: Expr): Store => ({ ...store, when: store.when ? and(store.when, when) : when });

/** The one bias of each, and the two as one constant read at the wide variable; undefined unless both have just one. */
function mergedBias(
  first: Wide,
  second: Wide,
  wide: Var,
): { readonly first: Load; readonly second: Load; readonly merged: Expr } | undefined {
  const [[a, moreA], [b, moreB]] = [biasesOf(first), biasesOf(second)];
  if (!a || !b || moreA || moreB || a.value.dtype !== b.value.dtype || a.value.shape.length !== b.value.shape.length)
    return undefined;
  const axis = a.index.indexOf(wideVar(first));
  if (b.index.indexOf(wideVar(second)) !== axis) return undefined;
  const value = constantOf(joined([a.value.data!, b.value.data!], axis), a.value, b.value);
  return {
    first: a,
    second: b,
    merged: load(
      value,
      a.index.map((e, i) => (i === axis ? wide : e)),
    ),
  };
}

/** Loads of constants that have an element a result along the wide variable and no other axis. */
const biasesOf = (task: Wide): readonly Load[] =>
  loadsOf(task.stores.flatMap(expressionsOfStore)).filter(
    (e) => e.value.data && sizeOf(e.value.data.shape) === wideVar(task).extent && axisOf(e, wideVar(task)) !== undefined,
  );

const constantOf = (data: Tensor, first: Value, second: Value): Value => ({
  ...makeValue(`${first.name}|${second.name}`, data.dtype, data.shape),
  data,
});

/** Tensors one after the other along an axis. */
function joined(parts: readonly Tensor[], axis: number): Tensor {
  const [{ dtype, shape: like }] = parts as [Tensor];
  const shape = like.map((size, i) => (i === axis ? parts.reduce((sum, part) => sum + part.shape[axis]!, 0) : size));
  const data = allocate(dtype, sizeOf(shape)) as Float32Array;
  const rows = sizeOf(like.slice(0, axis));
  let start = 0;
  for (const part of parts) {
    const run = sizeOf(part.shape.slice(axis));
    const step = sizeOf(shape.slice(axis));
    const source = part.data as Float32Array;
    for (let row = 0; row < rows; row++) data.set(source.subarray(row * run, (row + 1) * run), row * step + start);
    start += run;
  }
  return { dtype, shape, data };
}
