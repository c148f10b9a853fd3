// Program → fewer tasks. Each rule has a name, is counted and can be switched off; every stage takes a list of tasks and
// leaves one in which each task still comes after those that write what it reads.

import type { Program, Task } from "../ir/task.ts";
import { readsOf, writesOf } from "../ir/task.ts";
import type { Value } from "../ir/value.ts";
import type { Caps } from "../util/caps.ts";
import { fuseAttention } from "./attention.ts";
import { foldConstantTasks } from "./constants.ts";
import { roomForPieces, writeSlices } from "./joins.ts";
import { mergeSiblings } from "./siblings.ts";
import { type FuseOptions, type Judge, judge, TaskGraph } from "./task-graph.ts";
import { fuseVertically } from "./vertical.ts";

export type { FuseOptions, TakeRewrite } from "./task-graph.ts";

/** What `disable` takes, and what each rule does. */
export const FUSION_RULES: Readonly<Record<string, string>> = {
  "fold-constant-task": "tasks over nothing but constants run when the engine is built",
  "fuse-epilogue": "a map becomes what a reduction, GEMM or convolution stores",
  "fuse-view": "reshapes, transposes, slices and broadcasts become indices of those who read them",
  "fuse-prologue": "a map is computed where its result is read",
  "fuse-attention": "a product, a softmax and a second product become one kernel",
  "merge-siblings": "convolutions or products of the same operand become one with their weights side by side",
  "fuse-block": "a pointwise, a depthwise and a pointwise convolution may become one kernel",
  "part-block": "a block that is not faster as one kernel is a kernel a convolution again",
  "bundle-kernels": "kernels that do not wait for each other run in one dispatch",
  "write-slices": "the parts of a concatenation are stored into the whole by those who make them",
};

/** Fuses a program's tasks; without `enabled` only those whose results nobody reads are dropped. */
export function fuse(program: Program, caps: Caps, options: FuseOptions): Program {
  const keep = new Set(program.outputs.map(({ value }) => value));
  return { ...program, tasks: fuseList(program.tasks, keep, options.enabled ? judge(caps, options) : undefined) };
}

function fuseList(tasks: readonly Task[], keep: ReadonlySet<Value>, rules: Judge | undefined): Task[] {
  const live = removeDead(tasks, keep);
  if (!rules) return live;
  const nested = live.map((task) => fuseNested(task, rules));
  const stage = (list: readonly Task[], rewrite: (graph: TaskGraph) => void, room?: (task: Task) => number): Task[] => {
    const graph = new TaskGraph(list, keep, rules, room);
    rewrite(graph);
    return graph.list();
  };
  const anchored = stage(nested, (graph) => {
    foldConstantTasks(graph);
    fuseVertically(graph, false);
  });
  const sliced = stage(anchored, writeSlices, roomForPieces(anchored));
  const fused = stage(sliced, (graph) => {
    fuseAttention(graph);
    fuseVertically(graph, true);
  });
  return mergeSiblings(fused, rules);
}

/** Fuses the bodies of loops and branches. */
function fuseNested(task: Task, rules: Judge): Task {
  if (task.kind === "if") {
    const branch = (side: "then" | "else"): Task[] =>
      fuseList(task[side], new Set(task.results.map((result) => result[side])), rules);
    return { ...task, then: branch("then"), else: branch("else") };
  }
  if (task.kind !== "loop") return task;
  const kept = [
    ...task.carried.map(({ output }) => output),
    ...task.outputs,
    ...(task.scans ?? []).map(({ piece }) => piece),
    ...(task.condition ? [task.condition.output] : []),
  ];
  return { ...task, body: fuseList(task.body, new Set(kept), rules) };
}

/** Tasks of which some result is kept or read later. */
export function removeDead(tasks: readonly Task[], keep: ReadonlySet<Value>): Task[] {
  const needed = new Set(keep);
  const live: Task[] = [];
  for (const task of [...tasks].reverse()) {
    if (!writesOf(task).some((value) => needed.has(value))) continue;
    for (const value of readsOf(task)) needed.add(value);
    live.push(task);
  }
  return live.reverse();
}
