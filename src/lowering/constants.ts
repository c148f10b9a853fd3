// Tasks over nothing but constants are run once, when the engine is built.

import { isStaticShape } from "../ir/dims.ts";
import { load } from "../ir/expr.ts";
import { interpret, type Tensors } from "../ir/interpret.ts";
import { isKernelTask, type KernelTask, parallelVars } from "../ir/task.ts";
import type { Value } from "../ir/value.ts";
import { elementsOf } from "./cost.ts";
import { replaceLoads, type TaskGraph } from "./task-graph.ts";

/** Points beyond which a task is left to the GPU. */
const MAX_POINTS = 1 << 16;

export function foldConstantTasks(graph: TaskGraph): void {
  for (let at = 0; at < graph.length; at++) {
    const task = graph.at(at);
    if (!task || !isKernelTask(task) || !isSmall(task) || graph.readsAt(at).some(({ data }) => !data)) continue;
    const values = [...new Set(task.stores.map(({ value }) => value))];
    const readers = values.map((value) =>
      graph.keep.has(value) || !isStaticShape(value.shape) || graph.writersOf(value).size > 1
        ? undefined
        : graph.kernelReaders(value),
    );
    if (!readers.every((list) => list !== undefined) || !graph.may("fold-constant-task", task)) continue;
    const tensors: Tensors = new Map();
    interpret([task], tensors, new Map(), () => []);
    graph.remove(at);
    values.forEach((value, i) => {
      const constant: Value = { ...value, data: tensors.get(value)! };
      for (const [position] of readers[i]!) graph.replace(position, reading(graph.at(position) as KernelTask, value, constant));
    });
  }
}

const reading = (task: KernelTask, value: Value, constant: Value): KernelTask =>
  replaceLoads(task, (e) => (e.value === value ? load(constant, e.index) : undefined));

function isSmall(task: KernelTask): boolean {
  const inner =
    task.kind === "reduce"
      ? task.inner
      : task.kind === "gemm"
        ? [task.k]
        : task.kind === "conv"
          ? [task.ic, ...task.kernel]
          : [];
  const vars = [...parallelVars(task), ...inner];
  return vars.every(({ extent }) => typeof extent === "number") && elementsOf(vars.map(({ extent }) => extent)) <= MAX_POINTS;
}
