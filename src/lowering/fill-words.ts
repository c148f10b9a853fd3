// Bytes whose channels lack one to fill words of four, as pictures do: whoever makes them adds a channel of zeros, and the
// convolution that reads them a zero to its weights, so that a pixel is a word. Runs after fusion, before layouts are chosen.

import { isStatic } from "../ir/dims.ts";
import { constant, type Expr, int, type Load, load, loadsOf, lt, select, substitute, transform, variable } from "../ir/expr.ts";
import { type ConvTask, type MapTask, mapStore, type Program, plainLoad, readsOf, type Task, writesOf } from "../ir/task.ts";
import { allocate, type Tensor } from "../ir/tensor.ts";
import { makeValue, type Value } from "../ir/value.ts";
import { soleStore } from "./task-graph.ts";

/** The program with such bytes filled up, outside of loops and branches. */
export function fillWords(program: Program): Program {
  const touched = new Map<Value, Task[]>();
  for (const task of program.tasks)
    for (const value of new Set([...readsOf(task), ...writesOf(task)]))
      touched.set(value, [...(touched.get(value) ?? []), task]);
  const fixed = new Set([...program.inputs, ...program.outputs.map(({ value }) => value)]);
  const replaced = new Map<Task, Task>();
  for (const conv of program.tasks) {
    const input = conv.kind === "conv" ? fillable(conv) : undefined;
    if (conv.kind !== "conv" || !input || fixed.has(input.value)) continue;
    const [map, reader, more] = touched.get(input.value)!;
    if (map?.kind !== "map" || reader !== conv || more || replaced.has(map)) continue;
    const store = soleStore(map);
    if (!store?.index.every((e, i) => e === map.vars[i])) continue;
    const { shape, dtype, name } = input.value;
    const filled = makeValue(name, dtype, [shape[0]!, (shape[1] as number) + 1, ...shape.slice(2)]);
    replaced.set(map, filledMap(map, filled));
    replaced.set(conv, filledConv(conv, input, filled));
  }
  return { ...program, tasks: program.tasks.map((task) => replaced.get(task) ?? task) };
}

/** The load of a product's bytes, when a channel more makes words of them and their weights are known. */
function fillable(task: ConvTask): Load | undefined {
  if (task.acc.type !== "i32" || task.groups !== 1 || !isStatic(task.ic.extent) || task.ic.extent % 4 !== 3) return undefined;
  const [input, more] = loadsOf([task.x]).filter(({ value }) => !value.data);
  const weights = plainLoad(task.w, [task.oc, task.ic, ...task.kernel]);
  const isByte = input?.value.dtype === "i8" || input?.value.dtype === "u8";
  return isByte && !more && weights?.value.data && plainLoad(input, task.xVars) ? input : undefined;
}

function filledMap(map: MapTask, value: Value): MapTask {
  const [store] = map.stores;
  const before = map.vars[1]!;
  const channel = variable(before.name, value.shape[1]!);
  const move = (e: Expr): Expr => substitute(e, new Map([[before, channel]]));
  const made = mapStore(store!, move);
  const expr = select(lt(channel, int(before.extent)), made.expr, constant(made.expr.type, 0));
  return { ...map, vars: map.vars.map((v) => (v === before ? channel : v)), stores: [{ ...made, value, expr }] };
}

function filledConv(task: ConvTask, input: Load, value: Value): ConvTask {
  const [before, own] = [task.xVars[1]!, plainLoad(task.w, [task.oc, task.ic, ...task.kernel])!];
  const [channel, ic] = [variable(before.name, value.shape[1]!), variable(task.ic.name, value.shape[1]!)];
  const xVars = task.xVars.map((v) => (v === before ? channel : v));
  const weights: Value = { ...makeValue(own.value.name, own.value.dtype, []), ...filledWeights(own.value.data!) };
  return {
    ...task,
    ic,
    xVars,
    x: transform(task.x, (e) => (e === input ? load(value, xVars) : undefined)),
    w: load(weights, [task.oc, ic, ...task.kernel]),
  };
}

/** Weights [oc, ic, k…] with zeros for one input channel more. */
function filledWeights({ dtype, shape, data }: Tensor): { readonly shape: readonly number[]; readonly data: Tensor } {
  const [oc, ic, ...kernel] = shape as [number, number, ...number[]];
  const row = ic * kernel.reduce((a, b) => a * b, 1);
  const filled = allocate(dtype, (oc * row * (ic + 1)) / ic) as Int8Array;
  for (let o = 0; o < oc; o++) filled.set((data as Int8Array).subarray(o * row, (o + 1) * row), (o * row * (ic + 1)) / ic);
  const wider = [oc, ic + 1, ...kernel];
  return { shape: wider, data: { dtype, shape: wider, data: filled } };
}
