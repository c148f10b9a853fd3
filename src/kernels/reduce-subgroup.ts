// Reduce tasks by subgroups: each takes a row, an invocation several neighbours at a time where the row lies in runs; what they have
// each made meets without workgroup memory and barriers. What normalisation and softmax of a transformer are.

import { type Dim, isStatic, product } from "../ir/dims.ts";
import { add, type Expr, int, mul, substitute, type Var, variable } from "../ir/expr.ts";
import { runOffset, variesInRun } from "../ir/runs.ts";
import { storageOf } from "../ir/storage.ts";
import { mapStore, type ReduceTask } from "../ir/task.ts";
import type { Caps } from "../util/caps.ts";
import { ENTRY_PARAMETERS, gridFor, WORKGROUP_NUMBER } from "./grid.ts";
import { storesElements } from "./product.ts";
import { atRow, independent } from "./reduce.ts";
import { readRun, storeLanes, type ToLane } from "./results.ts";
import { type Config, type Kernel, tactic } from "./tactic.ts";
import { loadsAlways } from "./vector.ts";
import { Block, combine, initialOf, Module } from "./writer.ts";

/** How a subgroup combines what its invocations have. */
const SUBGROUP_FUNCTIONS: Readonly<Record<string, string>> = {
  sum: "subgroupAdd",
  prod: "subgroupMul",
  max: "subgroupMax",
  min: "subgroupMin",
};

const lengthOf = ({ inner }: ReduceTask): Dim => product(inner.map(({ extent }) => extent));

/** Neighbours that an invocation can take at a time, all of which leave together where each element leaves. */
function fitsRun({ inner: [along], stores, each }: ReduceTask, count: number, caps: Caps): boolean {
  if (count === 1) return true;
  if (!along || !isStatic(along.extent) || along.extent % count !== 0) return false;
  return (
    !each ||
    stores.every(
      ({ value, index, when }) =>
        ["f32", "f16"].includes(storageOf(value, caps).item) &&
        value.dtype !== "bf16" &&
        !(when && variesInRun(when, along, count)) &&
        runOffset(value, index, along, count) !== undefined,
    )
  );
}

export const reduceSubgroup = tactic("reduce", {
  name: "reduce.subgroup",
  applicable: (task, caps) => {
    const length = lengthOf(task);
    return (
      caps.subgroups &&
      caps.subgroupMinSize === caps.subgroupMaxSize &&
      task.inner.length === 1 &&
      (!isStatic(length) || length >= caps.subgroupMaxSize) &&
      task.stages.every(({ fn, slot }) => fn in SUBGROUP_FUNCTIONS && slot.type !== "bool") &&
      task.stores.every(({ mode }) => mode === "set") &&
      storesElements(task, caps)
    );
  },
  likelihood: (task, caps) => {
    const length = lengthOf(task);
    return caps.tier === "core" || (isStatic(length) && length > 4096) ? 0.3 : 0.7;
  },
  *candidates(task, caps) {
    for (const run of [8, 4, 1])
      for (const size of [128, 256, 64])
        if (fitsRun(task, run, caps) && size >= caps.subgroupMaxSize && size <= caps.limits.maxComputeInvocationsPerWorkgroup)
          yield { run, size };
  },
  emit,
});

function emit(task: ReduceTask, config: Config, caps: Caps): Kernel {
  const { run, size } = config as { run: number; size: number };
  const module = new Module(caps);
  module.features.add("subgroups");
  const block = new Block(module);
  const rows = product(task.vars.map(({ extent }) => extent));
  const [along] = task.inner as [Var];
  const perGroup = size / caps.subgroupMaxSize;
  // A subgroup beyond the last row makes that again, since all have to take part, and stores nothing.
  block.line(`let number = ${WORKGROUP_NUMBER} * ${perGroup} + i32(lane / ${caps.subgroupMaxSize}u);`);
  block.line(`let row = min(number, ${module.dim(rows)} - 1);`);
  const row = variable("row", rows);
  block.bind(row, "row");
  const first = variable("first", along.extent);
  const { stages, stores } = atRow(task, row);
  const lanes = Array.from({ length: run }, (_, i) => i);
  const here = (e: Expr): Expr => substitute(e, new Map<Expr, Expr>([[along, first]]));
  const to: ToLane = (e, i) => substitute(e, new Map<Expr, Expr>([[first, add(first, int(i))]]));
  const part = variable("part", isStatic(along.extent) ? along.extent / run : along.extent);
  const start = `i32(lane % ${caps.subgroupMaxSize}u)`;
  /** Writes a loop over what this invocation takes of the row. */
  const taken = (body: () => void): void =>
    block.loop(
      part,
      () => {
        const name = block.fresh();
        block.line(`let ${name} = ${block.value(mul(part, int(run)))};`);
        block.bind(first, name);
        body();
      },
      start,
      String(caps.subgroupMaxSize),
    );

  for (const group of independent(stages)) {
    const names = group.map(({ slot, fn }) => {
      const name = block.fresh();
      block.line(`var ${name} = ${initialOf(fn, slot.type, module)};`);
      return name;
    });
    taken(() => {
      const bodies = group.map(({ body }) => here(body));
      if (run > 1) for (const load of loadsAlways(bodies)) readRun(block, load, first, to, run);
      group.forEach(({ fn }, number) => {
        for (const i of lanes)
          block.line(`${names[number]} = ${combine(fn, names[number]!, block.value(to(bodies[number]!, i)))};`);
      });
    });
    group.forEach(({ slot, fn }, number) => {
      const name = block.fresh();
      block.line(`let ${name} = ${SUBGROUP_FUNCTIONS[fn]}(${names[number]});`);
      block.bind(slot, name);
    });
  }
  const isInside = `number < ${module.dim(rows)}`;
  if (task.each) {
    const moved = stores.map((store) => mapStore(store, here));
    block.nest(`if (${isInside})`, () =>
      taken(() => {
        if (run > 1) storeLanes(block, moved, first, to, run);
        else for (const store of moved) block.store(store);
      }),
    );
  } else
    block.nest(
      `if (${isInside} && ${start} == 0)`,
      () => {
        for (const store of stores) block.store(store);
      },
      true,
    );
  module.add(`@compute @workgroup_size(${size})\nfn main(${ENTRY_PARAMETERS}) {\n${block.text()}\n}`);
  return { steps: [module.step(gridFor(rows, perGroup))], scratch: [], packed: [] };
}
