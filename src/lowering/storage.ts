// Decides which narrow integers and bools lie one to a word: those of which single elements are stored, and whatever is
// copied from or to them whole.

import { isStatic, product } from "../ir/dims.ts";
import { inMemoryOrder } from "../ir/expr.ts";
import { runOffset, variesInRun } from "../ir/runs.ts";
import { isKernelTask, type KernelTask, parallelVars, type Store, type Task } from "../ir/task.ts";
import { dtypeFacts } from "../ir/types.ts";
import type { Value } from "../ir/value.ts";

const isNarrow = ({ dtype }: Value): boolean => dtypeFacts[dtype].bytes < 4 && dtypeFacts[dtype].kind !== "float";

/** Sets `wide` on values; layouts are known. */
export function decideStorage(tasks: readonly Task[]): void {
  const tied: Value[][] = [];
  const wide = new Set<Value>();
  const look = (task: Task): void => {
    if (task.kind === "loop") {
      task.body.forEach(look);
      for (const { init, input, output, final } of task.carried) tied.push([init, input, output, final]);
      for (const value of task.outputs) wide.add(value);
      for (const { piece, out } of task.scans ?? []) tied.push([piece, out]);
    } else if (task.kind === "if") {
      task.then.forEach(look);
      task.else.forEach(look);
      for (const result of task.results) tied.push([result.then, result.else, result.out]);
    } else if (isKernelTask(task)) {
      for (const store of task.stores) {
        if (isNarrow(store.value) && !storesWords(task, store)) wide.add(store.value);
        if (store.init) tied.push([store.value, store.init]);
      }
    }
  };
  tasks.forEach(look);
  for (let changed = true; changed; ) {
    changed = false;
    for (const group of tied) {
      if (!group.some((value) => wide.has(value))) continue;
      for (const value of group) {
        if (wide.has(value)) continue;
        wide.add(value);
        changed = true;
      }
    }
  }
  for (const value of wide) if (isNarrow(value)) value.wide = true;
}

/** Rows longer than this are reduced by a workgroup each, and their results stored one at a time. */
const LONGEST = 64;

/** True when kernels of the task make neighbours of a narrow value in memory at a time, and can store them as one word. */
function storesWords(task: KernelTask, { value, index, mode, init, when }: Store): boolean {
  if (!isNarrow(value)) return true;
  if (mode !== "set" || init) return false;
  if (task.kind === "map") {
    if (when) return false;
    const lead = task.stores.find((store) => isNarrow(store.value))!.value;
    const isAll = index.length === task.vars.length && index.every((e, i) => e === task.vars[i]);
    return isAll && String(value.layout) === String(lead.layout);
  }
  if (makesSingles(task) || dtypeFacts[value.dtype].bytes !== 1) return false;
  const [lead] = task.stores;
  const last = inMemoryOrder(parallelVars(task), lead!.value, lead!.index).at(-1);
  return last !== undefined && !(when && variesInRun(when, last, 4)) && runOffset(value, index, last, 4) !== undefined;
}

/** True for tasks whose kernels make results one at a time: narrow ones lie one to a word then. */
export function makesSingles(task: KernelTask): boolean {
  switch (task.kind) {
    case "map":
      return false;
    case "reduce": {
      const length = product(task.inner.map(({ extent }) => extent));
      return task.each || !isStatic(length) || length >= LONGEST;
    }
    case "attention":
    case "block":
      return true;
    default:
      return task.acc.type !== "i32";
  }
}
