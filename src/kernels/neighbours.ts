// Map and reduce tasks by runs: an invocation makes four or eight results that are neighbours in memory, and reads and stores
// what lies side by side as vectors.

import { floorDiv, isStatic, product } from "../ir/dims.ts";
import {
  add,
  type Expr,
  inMemoryOrder,
  int,
  type Load,
  mul,
  type Slot,
  slot,
  substitute,
  unflatten,
  type Var,
  variable,
} from "../ir/expr.ts";
import { runOffset, variesInRun } from "../ir/runs.ts";
import { storageOf } from "../ir/storage.ts";
import type { MapTask, ReduceTask } from "../ir/task.ts";
import type { Caps } from "../util/caps.ts";
import { ENTRY_PARAMETERS, gridFor, WORKGROUP_NUMBER } from "./grid.ts";
import { independent } from "./reduce.ts";
import { readRun, storeLanes, type ToLane } from "./results.ts";
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
      return (
        isFloat && mode === "set" && !init && !(when && variesInRun(when, last, count)) && runOffset(value, index, last, count)
      );
    })
  );
}

function* candidates(task: Task, caps: Caps): Generator<Config> {
  for (const run of [4, 8])
    for (const size of [64, 128, 256])
      if (isOfRuns(task, run, caps) && size <= caps.limits.maxComputeInvocationsPerWorkgroup) yield { run, size };
}

export const mapRun = tactic("map", {
  name: "map.run",
  applicable: (task, caps) => isOfRuns(task, 4, caps),
  likelihood: (_task, caps) => (caps.tier === "core" ? 0.4 : 0.6),
  candidates,
  emit: (task, config, caps) =>
    emit(task, config, caps, (block, last, lane) => storeLanes(block, task.stores, last, lane, config.run as number)),
});

export const reduceRun = tactic("reduce", {
  name: "reduce.run",
  applicable: (task, caps) => !task.each && isOfRuns(task, 4, caps),
  likelihood: (_task, caps) => (caps.tier === "core" ? 0.4 : 0.6),
  candidates,
  emit: (task, config, caps) =>
    emit(task, config, caps, (block, last, lane) => reduceLanes(block, task, last, lane, config.run as number)),
});

/** `write` gets the innermost variable, bound to a run's first number, and what gives expressions a neighbour's form. */
function emit(task: Task, config: Config, caps: Caps, write: (block: Block, last: Var, lane: ToLane) => void): Kernel {
  const { run, size } = config as { run: number; size: number };
  const module = new Module(caps);
  const block = new Block(module);
  const order = orderOf(task);
  const last = order.at(-1)!;
  const extents = [...order.slice(0, -1).map(({ extent }) => extent), floorDiv(last.extent, run)];
  const total = product(extents);
  const item = variable("item", total);
  block.line(`let item = ${WORKGROUP_NUMBER} * ${size} + i32(lane);`);
  block.line(`if (item >= ${module.dim(total)}) { return; }`);
  block.bind(item, "item");
  const index = unflatten(item, extents);
  order.forEach((v, i) => block.bind(v, block.value(v === last ? mul(index[i]!, int(run)) : index[i]!)));
  write(block, last, (e, i) => substitute(e, new Map<Expr, Expr>([[last, add(last, int(i))]])));
  module.add(`@compute @workgroup_size(${size})\nfn main(${ENTRY_PARAMETERS}) {\n${block.text()}\n}`);
  return { steps: [module.step(gridFor(total, size))], scratch: [], packed: [] };
}

function reduceLanes(block: Block, task: ReduceTask, last: Var, lane: ToLane, count: number): void {
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
    block.loops(task.inner, () => {
      for (const { body } of group) readGuarded(block, body, last, to, count);
      for (const load of loadsAlways(group.map(({ body }) => body))) readRun(block, load, last, to, count);
      group.forEach(({ fn, body }, stage) => {
        for (const i of lanes) {
          const name = names[stage]![i]!;
          block.line(`${name} = ${combine(fn, name, block.value(to(body, i)))};`);
        }
      });
    });
    group.forEach(({ slot: own }, stage) => {
      results.set(
        own,
        lanes.map((i) => {
          const each = slot(`${own.name}${i}`, own.type);
          block.bind(each, names[stage]![i]!);
          return each;
        }),
      );
    });
  }
  storeLanes(block, task.stores, last, to, count);
}

/** Reads a run under a condition that holds for all of it or none, as windows at an edge have it, without a branch. */
function readGuarded(block: Block, body: Expr, last: Var, to: ToLane, count: number): void {
  if (body.kind !== "select" || body.a.kind !== "load" || body.b.kind !== "const" || variesInRun(body.condition, last, count))
    return;
  const load: Load = body.a;
  const { item, lanes } = storageOf(load.value, block.module.caps);
  const offset = runOffset(load.value, load.index, last, count);
  if (lanes !== 1 || (item !== "f32" && item !== "f16") || !offset) return;
  const condition = block.value(body.condition);
  const first = block.fresh();
  block.line(`let ${first} = select(0, ${block.value(offset)}, ${condition});`);
  const other = block.value(body.b);
  for (let at = 0; at < count; at += 4) {
    const four = block.fresh();
    const vector = `${block.module.vectorBuffer(load.value)}[(${first} >> 2u) + ${at / 4}]`;
    block.line(`let ${four} = select(vec4<f32>(${other}), vec4<f32>(${vector}), ${condition});`);
    for (let i = 0; i < 4; i++) block.bind(to(body, at + i), `${four}[${i}]`);
  }
}
