// Attention: by rows through workgroup memory, and as the plain reductions that it is made of.

import attentionShader from "../../shaders/attention.wgsl";
import { ceilDiv, type Dim, isStatic, product } from "../ir/dims.ts";
import { type Expr, substitute, unflatten, type Var, variable } from "../ir/expr.ts";
import { type AttentionTask, asReduce, mapExpressions } from "../ir/task.ts";
import type { Caps } from "../util/caps.ts";
import { type Hook, hooksOf } from "./frame.ts";
import { emitThread, reduceThread } from "./reduce.ts";
import { specialize } from "./specialize.ts";
import { type Config, type Kernel, tactic } from "./tactic.ts";
import { Module } from "./writer.ts";

/** One invocation a result, which computes every score of its row again. */
export const attentionDirect = tactic("attention", {
  name: "attention.direct",
  applicable: () => true,
  likelihood: () => 0.01,
  candidates: (task, caps) => reduceThread.candidates(asReduce(task), caps),
  emit: (task, config, caps) => emitThread(asReduce(task), config, caps),
});

/** Queries and keys of a block, invocations of its workgroup. */
const SHAPES = [
  [16, 64, 128],
  [32, 64, 256],
  [8, 64, 128],
  [16, 32, 64],
  [4, 64, 64],
  [2, 64, 64],
  [1, 64, 64],
] as const;
/** Results that an invocation may hold in registers. */
const MOST_RESULTS = 64;

const powerAtLeast = (size: number): number => 2 ** Math.ceil(Math.log2(size));
const sizeOr = (dim: Dim, unknown: number): number => (isStatic(dim) ? dim : unknown);

/** Columns that neighbouring invocations take; the rest of a workgroup takes further rows. */
const columnsOf = (width: number, rows: number, size: number): number =>
  Math.min(size, Math.max(powerAtLeast(width), size / rows));

export const attentionRows = tactic("attention", {
  name: "attention.rows",
  applicable: (task) => isStatic(task.d.extent) && isStatic(task.n.extent) && task.d.extent <= 1024 && task.n.extent <= 1024,
  likelihood: () => 0.7,
  *candidates({ m, d, n }, caps) {
    const [depth, width, queries] = [d.extent as number, n.extent as number, sizeOr(m.extent, 64)];
    const fitting = SHAPES.filter(([rows, keys, size]) => {
      const bytes = 4 * (rows * depth + rows * keys + 2 * size + 3 * rows);
      const columns = columnsOf(width, rows, size);
      const results = (rows / (size / columns)) * Math.ceil(width / columns);
      return (
        bytes <= caps.limits.maxComputeWorkgroupStorageSize &&
        size <= caps.limits.maxComputeInvocationsPerWorkgroup &&
        results <= MOST_RESULTS
      );
    });
    // Rows beyond the last are wasted; few rows a workgroup read the keys too often.
    const waste = (rows: number): number => (Math.ceil(queries / rows) * rows) / queries + 4 / rows;
    for (const [rows, keys, size] of [...fitting].sort(([a], [b]) => waste(a) - waste(b))) yield { rows, keys, size };
  },
  emit: emitRows,
});

function emitRows(task: AttentionTask, config: Config, caps: Caps): Kernel {
  const { rows, keys, size } = config as { rows: number; keys: number; size: number };
  const { module, attention, batches, hook, scores } = attentionFrame(task, caps);
  const { m, k, d, n, q, key, v, peak, sum, acc, stores } = attention;
  const width = n.extent as number;
  const columns = columnsOf(width, rows, size);
  const result = (e: Expr, ...parameters: readonly Var[]): string =>
    hook(parameters, (block) => block.line(`return ${block.value(e)};`));
  const text = specialize("attention", attentionShader, {
    specs: {
      SIZE: size,
      ROWS: rows,
      KEYS: keys,
      DEPTH: d.extent as number,
      COLUMNS: columns,
      REPEATS: Math.ceil(width / columns),
      WIDTH: width,
    },
    hooks: {
      ...scores,
      load_q: result(q, m, d),
      load_key: result(key, k, d),
      load_v: result(v, k, n),
      store: hook([m, n, peak, sum, acc], (block) => {
        for (const store of stores) block.store(store);
      }),
    },
  });
  module.add(text);
  return { steps: [module.step([ceilDiv(m.extent, rows), batches, 1])], scratch: [], packed: [] };
}

interface AttentionFrame {
  readonly module: Module;
  /** The task over one batch variable. */
  readonly attention: AttentionTask;
  readonly batches: Dim;
  /** Parameters are named as the task names them. */
  readonly hook: Hook;
  /** Hooks that all shaders of attention have. */
  readonly scores: Readonly<Record<"size_m" | "size_k" | "score" | "shift", string>>;
}

export function attentionFrame(task: AttentionTask, caps: Caps): AttentionFrame {
  const module = new Module(caps);
  const extents = task.batch.map(({ extent }) => extent);
  const batches = product(extents);
  const flat = variable("batch", batches);
  const index = unflatten(flat, extents);
  const at = new Map<Expr, Expr>(task.batch.map((v, i) => [v, index[i]!]));
  const attention = mapExpressions(task, (e) => substitute(e, at));
  const { m, k, d, n, dot, score, peak, shift, sum, acc } = attention;
  const names: readonly [Expr, string][] = [
    [m, "m"],
    [k, "k"],
    [d, "d"],
    [n, "n"],
    [dot, "dot"],
    [peak, "peak"],
    [sum, "sum"],
    [acc, "acc"],
  ];
  const hook = hooksOf(module, flat, new Map(names));
  const scores = {
    size_m: `  return ${module.dim(m.extent)};`,
    size_k: `  return ${module.dim(k.extent)};`,
    score: hook([m, k, dot], (block) => block.line(`return ${block.value(score)};`)),
    shift: hook([m, peak], (block) => block.line(`return ${block.value(shift)};`)),
  };
  return { module, attention, batches, hook, scores };
}
