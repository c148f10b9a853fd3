// Reductions of bytes that lie side by side, pools over channels that lie last most of all: an invocation makes four neighbouring
// results, and reads a word where another would read a byte.

import { isStatic } from "../ir/dims.ts";
import { add, type Expr, inMemoryOrder, int, substitute, type Var } from "../ir/expr.ts";
import { runOffset, variesInRun } from "../ir/runs.ts";
import { storageOf } from "../ir/storage.ts";
import { mapExpressions, type ReduceTask, type Stage } from "../ir/task.ts";
import type { Caps } from "../util/caps.ts";
import { ENTRY_PARAMETERS, gridFor } from "./grid.ts";
import { inFours, readRun, storeRun } from "./results.ts";
import { type Config, type Kernel, tactic } from "./tactic.ts";
import { loadsAlways } from "./vector.ts";
import { Block, combine, initialOf, Module } from "./writer.ts";

export const reduceWords = tactic("reduce", {
  name: "reduce.words",
  applicable: (task, caps) => storesRuns(task, caps) && readsWord(task, caps),
  likelihood: () => 0.8,
  *candidates(_task, caps) {
    for (const size of [64, 128, 256]) if (size <= caps.limits.maxComputeInvocationsPerWorkgroup) yield { size };
  },
  emit: emitWords,
});

const orderOf = ({ vars, stores: [lead] }: ReduceTask): readonly Var[] => inMemoryOrder(vars, lead!.value, lead!.index);

/** One stage, whose results are stored in words of four bytes. */
function storesRuns(task: ReduceTask, caps: Caps): boolean {
  const along = orderOf(task).at(-1);
  if (!along || !isStatic(along.extent) || along.extent % 4 !== 0 || task.each || task.stages.length > 1) return false;
  return task.stores.every(
    ({ value, index, when }) => storageOf(value, caps).lanes === 4 && !when && runOffset(value, index, along, 4) !== undefined,
  );
}

function readsWord(task: ReduceTask, caps: Caps): boolean {
  const along = orderOf(task).at(-1)!;
  const { guard, body } = guardedBody(task.stages[0]!);
  return (
    !(guard && variesInRun(guard, along, 4)) &&
    [...loadsAlways([body])].some(({ value, index }) => storageOf(value, caps).lanes === 4 && runOffset(value, index, along, 4))
  );
}

const NEUTRAL: Readonly<Record<string, number>> = {
  sum: 0,
  prod: 1,
  max: Number.NEGATIVE_INFINITY,
  min: Number.POSITIVE_INFINITY,
};

/** What a stage combines, and the condition under which it is not what changes nothing. */
function guardedBody({ body, fn }: Stage): { readonly guard: Expr | undefined; readonly body: Expr } {
  const isGuarded = body.kind === "select" && body.b.kind === "const" && body.b.value === NEUTRAL[fn];
  return isGuarded ? { guard: body.condition, body: body.a } : { guard: undefined, body };
}

function emitWords(task: ReduceTask, config: Config, caps: Caps): Kernel {
  const size = config.size as number;
  const module = new Module(caps);
  const block = new Block(module);
  const { first, at, total } = inFours(block, orderOf(task), size);
  const moved = mapExpressions(task, (e) => substitute(e, at));
  const [{ slot, fn }] = moved.stages as [Stage];
  const { guard, body } = guardedBody(moved.stages[0]!);
  const lane = (e: Expr, i: number): Expr => substitute(e, new Map<Expr, Expr>([[first, add(first, int(i))]]));
  const names = [0, 1, 2, 3].map(() => block.fresh());
  for (const name of names) block.line(`var ${name} = ${initialOf(fn, slot.type, module)};`);
  block.loops(moved.inner, () =>
    block.under(guard, () => {
      for (const load of loadsAlways([body])) readRun(block, load, first, lane, 4);
      names.forEach((name, i) => block.line(`${name} = ${combine(fn, name, block.value(lane(body, i)))};`));
    }),
  );
  storeRun(block, moved.stores, first, slot, names);
  module.add(`@compute @workgroup_size(${size})\nfn main(${ENTRY_PARAMETERS}) {\n${block.text()}\n}`);
  return { steps: [module.step(gridFor(total, size))], scratch: [], packed: [] };
}
