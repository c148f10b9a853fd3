// Depthwise convolution: an invocation makes a block of neighbouring results of one channel, so that the inputs their windows
// share are loaded once, into registers. Small kernels are written out; of large ones a row at a time.

import { isStatic } from "../ir/dims.ts";
import { add, type Expr, int, mul, slot, substitute, type Var, variable, variables } from "../ir/expr.ts";
import type { ConvTask, ReduceTask } from "../ir/task.ts";
import { storesElements } from "./product.ts";
import { reduceThread } from "./reduce.ts";
import { tactic } from "./tactic.ts";
import { inputAt, storesAt, tilesOf } from "./tiles.ts";
import { gridOf } from "./winograd.ts";

/** Results of an invocation along the last two axes. */
const BLOCKS = [
  [2, 4],
  [1, 4],
  [4, 4],
  [1, 8],
  [2, 2],
  [4, 1],
] as const;
/** Multiplications that are written out at most. */
const MOST = 800;

const tapsOf = (kernel: readonly Var[]): number => kernel.reduce((count, { extent }) => count * (extent as number), 1);

/** Kernels beyond this many taps are looped over, a row at a time. */
const MOST_TAPS = 49;
const isLooped = ({ kernel }: ConvTask): boolean => kernel.length > 1 && tapsOf(kernel) > MOST_TAPS;
const written = (task: ConvTask): number => tapsOf(isLooped(task) ? task.kernel.slice(1) : task.kernel);

export const convDepthwiseWindow = tactic("conv", {
  name: "conv.depthwise-window",
  applicable: (task, caps) =>
    task.acc.type === "f32" &&
    storesElements(task, caps) &&
    task.groups > 1 &&
    task.ic.extent === 1 &&
    task.oc.extent === task.groups &&
    task.kernel.length <= 2 &&
    task.kernel.every(({ extent }) => isStatic(extent)),
  likelihood: (_task, caps) => (caps.tier === "core" ? 0.55 : 0.85),
  *candidates(task, caps) {
    // Rows of results share nothing where rows of the kernel are looped over.
    const blocks = BLOCKS.filter(
      ([rows, columns]) => rows * columns * written(task) <= MOST && (rows === 1 || (task.out.length > 1 && !isLooped(task))),
    );
    for (const size of [128, 256, 64])
      if (size <= caps.limits.maxComputeInvocationsPerWorkgroup)
        for (const [rows, columns] of blocks) yield { rows, columns, size };
  },
  emit: (task, { rows, columns, size }, caps) =>
    reduceThread.emit(blocksOf(task, rows as number, columns as number), { size: size! }, caps),
});

/** The task as one whose points are blocks: a sum, over nothing or over rows of the kernel, for each result of a block. */
function blocksOf(task: ConvTask, rows: number, columns: number): ReduceTask {
  const sizes = task.out.length === 1 ? [columns] : [rows, columns];
  const [b, ...t] = variables("t", tilesOf(task, sizes).shape) as [Var, ...Var[]];
  const c = variable("c", task.oc.extent);
  const inner = isLooped(task) ? [variable("row", task.kernel[0]!.extent)] : [];
  const taps = gridOf((inner.length > 0 ? task.kernel.slice(1) : task.kernel).map(({ extent }) => extent as number)).map(
    (tap): Expr[] => [...inner, ...tap.map(int)],
  );
  const results = gridOf(sizes);
  const slots = results.map((_, i) => slot(`y${i}`, "f32"));
  const weight = (tap: readonly Expr[]): Expr =>
    substitute(
      task.w,
      new Map<Expr, Expr>([[task.oc, c], [task.ic, int(0)], ...task.kernel.map((v, axis): [Expr, Expr] => [v, tap[axis]!])]),
    );
  const term = (at: readonly number[], tap: readonly Expr[]): Expr => {
    const from = at.map((o, axis) => add(int(o * task.strides[axis]!), mul(tap[axis]!, int(task.dilations[axis]!))));
    return mul(inputAt(task, sizes, b, t, c, from), weight(tap));
  };
  return {
    kind: "reduce",
    name: task.name,
    origins: task.origins,
    vars: [b, ...t, c],
    inner,
    stages: results.map((at, i) => ({
      slot: slots[i]!,
      fn: "sum",
      body: taps.map((tap) => term(at, tap)).reduce((sum, e) => add(sum, e)),
    })),
    each: false,
    stores: results.flatMap((at, i) => storesAt(task, sizes, b, t, c, at.map(int), slots[i]!)),
  };
}
