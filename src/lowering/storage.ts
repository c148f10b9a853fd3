// Decides which narrow integers and bools lie one to a word: those of which single elements are stored, and whatever is
// copied from or to them whole.

import { isKernelTask, type Task } from "../ir/task.ts";
import { dtypeFacts } from "../ir/types.ts";
import type { Value } from "../ir/value.ts";

/** Sets `wide` on values. */
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
      for (const { value, index, mode, init, when } of task.stores) {
        const whole =
          task.kind === "map" &&
          mode === "set" &&
          !init &&
          !when &&
          index.length === task.vars.length &&
          index.every((e, i) => e === task.vars[i]);
        if (!whole) wide.add(value);
        if (init) tied.push([value, init]);
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
  for (const value of wide)
    if (dtypeFacts[value.dtype].bytes < 4 && dtypeFacts[value.dtype].kind !== "float") value.wide = true;
}
