// Map and reduce tasks by runs: an invocation makes four to sixteen results that are neighbours in memory, and reads and stores
// what lies side by side as vectors.

import { isStatic } from "../ir/dims.ts";
import { add, type Expr, inMemoryOrder, int, type Slot, slot, substitute, type Var } from "../ir/expr.ts";
import { runOffset, variesInRun } from "../ir/runs.ts";
import { storageOf } from "../ir/storage.ts";
import { type MapTask, mapExpressions, type ReduceTask, type Stage } from "../ir/task.ts";
import { dtypeFacts } from "../ir/types.ts";
import type { Caps } from "../util/caps.ts";
import { ENTRY_PARAMETERS, gridFor } from "./grid.ts";
import { independent } from "./reduce.ts";
import { areBytes, inRuns, readRun, storeLanes, type ToLane } from "./results.ts";
import { type Config, type Kernel, tactic } from "./tactic.ts";
import { loadsAlways } from "./vector.ts";
import { Block, combine, initialOf, Module } from "./writer.ts";

type Task = MapTask | ReduceTask;

const orderOf = (task: Task): readonly Var[] => inMemoryOrder(task.vars, task.stores[0]!.value, task.stores[0]!.index);

/** Whether all results lie in runs of `count` along the axis that is innermost in memory. */
function isOfRuns(task: Task, count: number, caps: Caps): boolean {
  const last = orderOf(task).at(-1);
  return (
    last !== undefined &&
    isStatic(last.extent) &&
    last.extent % count === 0 &&
    task.stores.every(({ value, index, mode, when, init }) => {
      const { item, lanes } = storageOf(value, caps);
      const isFloat = lanes === 1 && (item === "f32" || item === "f16") && value.dtype !== "bf16";
      const isByte = lanes === 4 && dtypeFacts[value.dtype].kind === "int";
      return (
        (isFloat || isByte) &&
        mode === "set" &&
        !init &&
        !(when && variesInRun(when, last, count)) &&
        runOffset(value, index, last, count)
      );
    })
  );
}

function* candidates(task: Task, caps: Caps): Generator<Config> {
  const last = orderOf(task).at(-1)!;
  const runs = task.kind === "map" && areBytes({ n: last, stores: task.stores }, caps) ? [16, 4, 8] : [4, 8];
  for (const run of runs)
    for (const size of [64, 128, 256])
      if (isOfRuns(task, run, caps) && size <= caps.limits.maxComputeInvocationsPerWorkgroup) yield { run, size };
}

export const mapRun = tactic("map", {
  name: "map.run",
  applicable: (task, caps) => isOfRuns(task, 4, caps),
  likelihood: (_task, caps) => (caps.tier === "core" ? 0.4 : 0.6),
  candidates,
  emit: (task, config, caps) =>
    emit(task, config, caps, (block, { stores }, first, to, count) => storeLanes(block, stores, first, to, count)),
});

export const reduceRun = tactic("reduce", {
  name: "reduce.run",
  applicable: (task, caps) => !task.each && isOfRuns(task, 4, caps),
  // Of bytes, a word is read where another would be read four times.
  likelihood: ({ stores }, caps) =>
    stores.some(({ value }) => storageOf(value, caps).lanes > 1) ? 0.8 : caps.tier === "core" ? 0.4 : 0.6,
  candidates,
  emit: (task, config, caps) => emit(task, config, caps, reduceLanes),
});

/** `write` gets the task at an invocation's first result, that number, and what gives an expression its neighbours' form. */
function emit<T extends Task>(
  task: T,
  config: Config,
  caps: Caps,
  write: (block: Block, task: T, first: Var, to: ToLane, count: number) => void,
): Kernel {
  const { run, size } = config as { run: number; size: number };
  const module = new Module(caps);
  const block = new Block(module);
  const { first, at, total } = inRuns(block, orderOf(task), size, run);
  const moved = mapExpressions(task, (e) => substitute(e, at)) as T;
  write(block, moved, first, (e, i) => substitute(e, new Map<Expr, Expr>([[first, add(first, int(i))]])), run);
  module.add(`@compute @workgroup_size(${size})\nfn main(${ENTRY_PARAMETERS}) {\n${block.text()}\n}`);
  return { steps: [module.step(gridFor(total, size))], scratch: [], packed: [] };
}

function reduceLanes(block: Block, task: ReduceTask, first: Var, lane: ToLane, count: number): void {
  const lanes = Array.from({ length: count }, (_, i) => i);
  const results = new Map<Slot, readonly Slot[]>();
  const to: ToLane = (e, i) => substitute(lane(e, i), new Map<Expr, Expr>([...results].map(([own, each]) => [own, each[i]!])));
  for (const group of independent(task.stages)) {
    const names = group.map(({ slot: own, fn }) =>
      lanes.map(() => {
        const name = block.fresh();
        block.line(`var ${name} = ${initialOf(fn, own.type, block.module)};`);
        return name;
      }),
    );
    block.loops(task.inner, () =>
      group.forEach((stage, number) => {
        const { guard, body } = guardedBody(stage, first, count);
        block.under(guard, () => {
          for (const load of loadsAlways([body])) readRun(block, load, first, to, count);
          for (const i of lanes) {
            const name = names[number]![i]!;
            block.line(`${name} = ${combine(stage.fn, name, block.value(to(body, i)))};`);
          }
        });
      }),
    );
    group.forEach(({ slot: own }, number) => {
      const each = names[number]!.map((name, i) => {
        const result = slot(`${own.name}${i}`, own.type);
        block.bind(result, name);
        return result;
      });
      results.set(own, each);
    });
  }
  storeLanes(block, task.stores, first, to, count);
}

const NEUTRAL: Readonly<Record<string, number>> = {
  sum: 0,
  prod: 1,
  max: Number.NEGATIVE_INFINITY,
  min: Number.POSITIVE_INFINITY,
};

/** What a stage combines, and the condition, the same for all of a run, under which it is not what changes nothing. */
function guardedBody(
  { body, fn }: Stage,
  first: Var,
  count: number,
): { readonly guard: Expr | undefined; readonly body: Expr } {
  const isGuarded =
    body.kind === "select" &&
    body.b.kind === "const" &&
    body.b.value === NEUTRAL[fn] &&
    !variesInRun(body.condition, first, count);
  return isGuarded ? { guard: body.condition, body: body.a } : { guard: undefined, body };
}
