// Convolutions that one kernel may run together: a pointwise one after a depthwise one, and the pointwise one before it, where
// nobody else reads what lies between. Whether one kernel does is settled when they have been measured; runs last.

import { type BlockTask, type ConvTask, plainLoad, readsOf, type Task, writesOf } from "../ir/task.ts";
import type { Value } from "../ir/value.ts";
import { mergeOrigins, soleStore } from "./task-graph.ts";

/** The list with blocks in the place of their last part. `keep`: values that are read after it; `may` is asked of each block. */
export function formBlocks(tasks: readonly Task[], keep: ReadonlySet<Value>, may: (block: BlockTask) => boolean): Task[] {
  const readers = new Map<Value, Task[]>();
  const makers = new Map<Value, Task[]>();
  const list = (table: Map<Value, Task[]>, value: Value, task: Task): void => {
    const known = table.get(value);
    if (known) known.push(task);
    else table.set(value, [task]);
  };
  for (const task of tasks) {
    for (const value of readsOf(task)) list(readers, value, task);
    for (const value of writesOf(task)) list(makers, value, task);
  }
  /** What alone reads a convolution's result, when that is a convolution and reads it as it is. */
  const next = (task: ConvTask): ConvTask | undefined => {
    const store = soleStore(task);
    const isWhole = store?.index.every((e, i) => e === [task.batch, task.oc, ...task.out][i] || store.value.shape[i] === 1);
    if (!store || !isWhole || keep.has(store.value) || makers.get(store.value)!.length > 1) return undefined;
    const [reader, more] = readers.get(store.value) ?? [];
    return !more && reader?.kind === "conv" && plainLoad(reader.x, reader.xVars)?.value === store.value ? reader : undefined;
  };
  const before = ({ x, xVars }: ConvTask): ConvTask | undefined => {
    const value = plainLoad(x, xVars)?.value;
    const [maker] = (value && makers.get(value)) ?? [];
    return maker?.kind === "conv" ? maker : undefined;
  };
  const taken = new Set<Task>();
  const blocks = new Map<Task, BlockTask>();
  for (const task of tasks) {
    if (task.kind !== "conv" || !isDepthwise(task)) continue;
    const [expand, project] = [before(task), next(task)];
    if (!project || !isPointwise(project)) continue;
    const parts =
      expand && isPointwise(expand) && !taken.has(expand) && next(expand) === task ? [expand, task, project] : [task, project];
    const { name, stores } = project;
    const block: BlockTask = { kind: "block", name, origins: mergeOrigins(...parts), parts, stores };
    if (!may(block)) continue;
    for (const part of parts) taken.add(part);
    blocks.set(project, block);
  }
  return tasks.flatMap((task) => blocks.get(task) ?? (taken.has(task) ? [] : [task]));
}

const isPointwise = ({ groups, kernel, strides, pads, out }: ConvTask): boolean =>
  out.length === 2 &&
  groups === 1 &&
  kernel.every(({ extent }) => extent === 1) &&
  strides.every((stride) => stride === 1) &&
  pads.every((pad) => pad === 0);

const isDepthwise = ({ groups, ic, oc, out }: ConvTask): boolean =>
  out.length === 2 && groups > 1 && ic.extent === 1 && oc.extent === groups;
