// Layout: activations of convolutions lie channels-last in memory, and so does everything that meets them channel for channel;
// dense weights lie with output channels last, bytes with what is summed last. Indices stay as they are: only offsets change.

import { type Expr, loadsOf } from "../ir/expr.ts";
import {
  expressionsOf,
  type GemmTask,
  isKernelTask,
  type KernelTask,
  type Program,
  plainLoad,
  readsOf,
  type Task,
  writesOf,
} from "../ir/task.ts";
import { isFloat } from "../ir/types.ts";
import type { Value } from "../ir/value.ts";

/** [0, 2, …, 1]: NHWC and its like. */
const channelsLast = (rank: number): number[] => [0, ...Array.from({ length: rank - 2 }, (_, i) => i + 2), 1];
/** [2, …, 1, 0]: taps, input channels, output channels. */
const outputsLast = (rank: number): number[] => [...Array.from({ length: rank - 2 }, (_, i) => i + 2), 1, 0];

/** Sets `layout` on values. Inputs, outputs and what the host or a loop touches stay row-major. */
export function chooseLayouts(program: Program): void {
  const fixed = new Set<Value>([...program.inputs, ...program.outputs.map(({ value }) => value)]);
  const kernels: KernelTask[] = [];
  for (const task of program.tasks) {
    if (isKernelTask(task)) kernels.push(task);
    else fixAll(task, fixed);
  }
  for (const { stores } of kernels)
    for (const { value, init } of stores)
      if (init) {
        fixed.add(value);
        fixed.add(init);
      }
  const chosen = new Set<Value>();
  const choose = (value: Value): boolean => {
    if (value.shape.length < 3 || value.data || fixed.has(value) || chosen.has(value) || !isNumber(value)) return false;
    chosen.add(value);
    return true;
  };
  for (const task of kernels) {
    if (task.kind === "gemm") layBytesAlongK(task, fixed);
    if (task.kind !== "conv") continue;
    for (const { value, index } of loadsOf([task.x]))
      if (index.length === task.xVars.length && channelOf(index) === task.xVars[1]) choose(value);
    for (const { value, index } of task.stores) if (channelOf(index) === task.oc) choose(value);
    const w = plainLoad(task.w, [task.oc, task.ic, ...task.kernel]);
    // Bytes are multiplied in words along the input channels, where a group has more than one.
    if (w?.value.data)
      w.value.layout = (isByte(w.value) && task.ic.extent !== 1 ? channelsLast : outputsLast)(w.value.shape.length);
  }
  for (let grown = true; grown; ) {
    grown = false;
    for (const task of kernels) {
      const accesses = accessesOf(task);
      const channels = new Set(accesses.filter(({ value }) => chosen.has(value)).map(({ index }) => channelOf(index)));
      for (const { value, index } of accesses)
        if (value.shape.length >= 3 && channels.has(channelOf(index)) && choose(value)) grown = true;
    }
  }
  for (const value of chosen) value.layout = channelsLast(value.shape.length);
}

const isByte = ({ dtype }: Value): boolean => dtype === "i8" || dtype === "u8";
const isNumber = (value: Value): boolean => isFloat(value.dtype) || isByte(value);

/** Constant bytes that a product reads lie along the axis of its sum. */
function layBytesAlongK({ a, b, k, acc }: GemmTask, fixed: ReadonlySet<Value>): void {
  if (acc.type !== "i32") return;
  for (const { value, index } of loadsOf([a, b])) {
    const axis = index.indexOf(k);
    if (!value.data || !isByte(value) || fixed.has(value) || axis < 0) continue;
    value.layout = [...value.shape.keys()].filter((other) => other !== axis).concat(axis);
  }
}

/** What walks the channels of an access: its second index, whichever slice of the channels that is in. */
function channelOf(index: readonly Expr[]): Expr | undefined {
  const e = index[1];
  if (e?.kind !== "linear") return e;
  const [term, more] = e.terms;
  return !more && term?.[1] === 1 ? term[0] : e;
}

const accessesOf = (task: KernelTask): { value: Value; index: readonly Expr[] }[] =>
  [...loadsOf(expressionsOf(task)), ...task.stores].map(({ value, index }) => ({ value, index }));

/** Everything that a host layer, a branch or a loop reads or writes, inside too. */
function fixAll(task: Task, fixed: Set<Value>): void {
  for (const value of [...readsOf(task), ...writesOf(task)]) fixed.add(value);
  if (task.kind === "loop") {
    for (const { init, input, output, final } of task.carried)
      for (const value of [init, input, output, final]) fixed.add(value);
    for (const inner of task.body) fixAll(inner, fixed);
  } else if (task.kind === "if") for (const inner of [...task.then, ...task.else]) fixAll(inner, fixed);
}
