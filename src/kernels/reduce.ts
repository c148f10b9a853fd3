// Reduce tasks: one invocation a row for short rows, one workgroup a row (shared memory tree) for long ones. In between a subgroup
// takes a row: `reduce-subgroup.ts`.

import { ceilDiv, type Dim, isStatic, product } from "../ir/dims.ts";
import { type Expr, inMemoryOrder, int, mul, offsetOf, substitute, unflatten, type Var, variable, visit } from "../ir/expr.ts";
import { storageOf } from "../ir/storage.ts";
import { mapExpressions, type ReduceTask, type Stage, type Store } from "../ir/task.ts";
import type { Caps } from "../util/caps.ts";
import { ENTRY_PARAMETERS, gridFor, gridOf, WORKGROUP_NUMBER } from "./grid.ts";
import { storesElements } from "./product.ts";
import { type Config, type Kernel, tactic } from "./tactic.ts";
import { Block, combine, initialOf, Module } from "./writer.ts";

const extentOf = (vars: readonly { extent: Dim }[]): Dim => product(vars.map(({ extent }) => extent));

/** The task with its parallel variables taken from a flat row number. */
export function atRow(task: ReduceTask, row: Expr): ReduceTask {
  const vars = inMemoryOrder(task.vars, task.stores[0]!.value, task.stores[0]!.index);
  const index = unflatten(
    row,
    vars.map(({ extent }) => extent),
  );
  const values = new Map<Expr, Expr>(vars.map((v, i) => [v, index[i]!]));
  return mapExpressions(task, (e) => substitute(e, values));
}

/** Writes the reductions of stages of which none needs another's result, in one loop within one invocation; returns their names. */
function serialStages(block: Block, stages: readonly Stage[], loops: (inner: () => void) => void): string[] {
  const names = stages.map(({ slot, fn }) => {
    const name = block.fresh();
    block.line(`var ${name} = ${initialOf(fn, slot.type, block.module)};`);
    return name;
  });
  loops(() => stages.forEach(({ fn, body }, i) => block.line(`${names[i]} = ${combine(fn, names[i]!, block.value(body))};`)));
  return names;
}

/** Stages in groups that can share a loop: none of a group needs the result of another of it. */
export function independent(stages: readonly Stage[]): Stage[][] {
  const groups: Stage[][] = [];
  for (const stage of stages) {
    const group = groups.at(-1);
    const own = new Set<Expr>(group?.map(({ slot }) => slot));
    let depends = false;
    visit([stage.body], (e) => {
      depends ||= own.has(e);
    });
    if (group && !depends) group.push(stage);
    else groups.push([stage]);
  }
  return groups;
}

/** One invocation a row, loops inside: always right, best for windows and short rows. */
export const reduceThread = tactic("reduce", {
  name: "reduce.thread",
  applicable: () => true,
  likelihood: () => 0.5,
  *candidates(_task, caps) {
    for (const size of [64, 128, 256]) if (size <= caps.limits.maxComputeInvocationsPerWorkgroup) yield { size };
  },
  emit: emitThread,
});

export function emitThread(task: ReduceTask, config: Config, caps: Caps): Kernel {
  const size = config.size as number;
  const module = new Module(caps);
  const block = new Block(module);
  const rows = extentOf(task.vars);
  const lanes = storesElements(task, caps) ? 1 : 4;
  const row = variable("row", rows);
  const item = variable("item", ceilDiv(rows, lanes));
  block.line(`let item = ${WORKGROUP_NUMBER} * ${size} + i32(lane);`);
  block.line(`if (item >= ${module.dim(item.extent)}) { return; }`);
  block.bind(item, "item");
  if (lanes === 1) {
    block.bind(row, "item");
    const { stores, inner } = reducedRow(block, atRow(task, row));
    const write = (): void => {
      for (const store of stores) block.store(store);
    };
    if (task.each) block.loops(inner, write);
    else write();
  } else packedRows(block, task, row, item, lanes);
  module.add(`@compute @workgroup_size(${size})\nfn main(${ENTRY_PARAMETERS}) {\n${block.text()}\n}`);
  return { steps: [module.step(gridFor(rows, size * lanes))], scratch: [], packed: [] };
}

/** Writes all stages of a row. */
function reducedRow(block: Block, task: ReduceTask): ReduceTask {
  for (const group of independent(task.stages)) {
    const names = serialStages(block, group, (body) => block.loops(task.inner, body));
    group.forEach(({ slot }, i) => block.bind(slot, names[i]!));
  }
  return task;
}

/** `lanes` neighbouring rows, the packed results of which are stored as one word. */
function packedRows(block: Block, task: ReduceTask, row: Var, item: Var, lanes: number): void {
  const { module } = block;
  const isPacked = ({ value }: Store): boolean => storageOf(value, module.caps).lanes > 1;
  const words = task.stores.map(() => block.fresh());
  for (const word of words) block.line(`var ${word} = 0u;`);
  block.nest(`for (var part = 0; part < ${lanes}; part++)`, () => {
    block.line(`let row = item * ${lanes} + part;`);
    block.bind(row, "row");
    reducedRow(block, atRow(task, row)).stores.forEach((store, i) => {
      if (!isPacked(store)) return block.store(store);
      const bits = 32 / lanes;
      const insert = (): void => {
        const text = block.stored(store.value, block.value(store.expr));
        block.line(`${words[i]} = insertBits(${words[i]}, ${text}, u32(part) * ${bits}u, ${bits}u);`);
      };
      block.under(store.when, insert);
    });
  });
  atRow(task, mul(item, int(lanes))).stores.forEach((store, i) => {
    if (!isPacked(store)) return;
    block.under(store.when, () => {
      const offset = block.value(offsetOf(store.value, store.index));
      block.line(`${module.buffer(store.value, "write")}[(${offset}) / ${lanes}] = ${words[i]};`);
    });
  });
}

/** One workgroup a row: every invocation strides over the row, then a tree in workgroup memory. */
export const reduceWorkgroup = tactic("reduce", {
  name: "reduce.workgroup",
  applicable: (task, caps) => {
    const length = extentOf(task.inner);
    return (!isStatic(length) || length >= 64) && storesElements(task, caps);
  },
  likelihood: (task) => {
    const rows = extentOf(task.vars);
    const length = extentOf(task.inner);
    return isStatic(length) && (length < 128 || (isStatic(rows) && rows > 64 * length)) ? 0.4 : 0.6;
  },
  *candidates(task, caps) {
    const length = extentOf(task.inner);
    for (const size of [64, 128, 256, 512]) {
      if (size <= caps.limits.maxComputeInvocationsPerWorkgroup && (size === 64 || !isStatic(length) || length >= size))
        yield { size };
    }
  },
  emit: emitWorkgroup,
});

export function emitWorkgroup(task: ReduceTask, config: Config, caps: Caps): Kernel {
  const size = config.size as number;
  const module = new Module(caps);
  const block = new Block(module);
  const rows = extentOf(task.vars);
  const length = extentOf(task.inner);
  const row = variable("row", rows);
  block.line(`let row = ${WORKGROUP_NUMBER};`);
  block.line(`if (row >= ${module.dim(rows)}) { return; }`);
  block.bind(row, "row");
  const flat = variable("flat", length);
  const index = unflatten(
    flat,
    task.inner.map(({ extent }) => extent),
  );
  const innerAt = new Map<Expr, Expr>(task.inner.map((v, i) => [v, index[i]!]));
  const { stages, stores } = mapExpressions(atRow(task, row), (e) => substitute(e, innerAt));
  const strided = (body: () => void): void => block.loop(flat, body, "i32(lane)", String(size));
  stages.forEach((stage, i) => {
    const { slot, fn } = stage;
    const shared = `shared${i}`;
    // Booleans are not storable in workgroup arrays that barriers order; they go as u32.
    const isBool = slot.type === "bool";
    module.add(`var<workgroup> ${shared}: array<${isBool ? "u32" : slot.type}, ${size}>;`);
    const [partial] = serialStages(block, [stage], strided) as [string];
    block.line(`${shared}[lane] = ${isBool ? `u32(${partial})` : partial};`);
    block.line("workgroupBarrier();");
    const read = (at: string): string => (isBool ? `(${shared}[${at}] != 0u)` : `${shared}[${at}]`);
    block.nest(`for (var half = ${size / 2}u; half > 0u; half = half >> 1u)`, () => {
      const both = combine(fn, read("lane"), read("lane + half"));
      block.line(`if (lane < half) { ${shared}[lane] = ${isBool ? `u32(${both})` : both}; }`);
      block.line("workgroupBarrier();");
    });
    const result = block.fresh();
    block.line(`let ${result} = ${read("0")};`);
    block.bind(slot, result);
  });
  const write = (): void => {
    for (const store of stores) block.store(store);
  };
  if (task.each) strided(write);
  else block.nest("if (lane == 0u)", write, true);
  module.add(`@compute @workgroup_size(${size})\nfn main(${ENTRY_PARAMETERS}) {\n${block.text()}\n}`);
  return { steps: [module.step(gridOf(rows))], scratch: [], packed: [] };
}
