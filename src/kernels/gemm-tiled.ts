// GEMM by tiles through workgroup memory, for every operand expression; convolution as the implicit GEMM of positions by
// output channels over input channels and taps.

import gemmTiledShader from "../../shaders/gemm_tiled.wgsl";
import { ceilDiv, type Dim, isStatic, product } from "../ir/dims.ts";
import { type Expr, substitute, unflatten, type Var, variable } from "../ir/expr.ts";
import { type GemmTask, mapStore } from "../ir/task.ts";
import type { Caps } from "../util/caps.ts";
import { asGemm, isContiguous, storesAlongM, storesElements } from "./product.ts";
import { specialize } from "./specialize.ts";
import { type Config, type Kernel, tactic } from "./tactic.ts";
import { Block, Module } from "./writer.ts";

/** Tile shapes: [tile m, tile n, tile k, results an invocation along m, along n]. */
const SHAPES = [
  [64, 64, 16, 4, 4],
  [32, 32, 16, 2, 2],
  [128, 64, 16, 8, 4],
  [64, 128, 16, 4, 8],
  [128, 128, 8, 8, 8],
  [16, 64, 16, 1, 4],
  [64, 16, 16, 4, 1],
] as const;

const sizeOr = (dim: Dim, unknown: number): number => (isStatic(dim) ? dim : unknown);

function* tiles(m: Dim, n: Dim, caps: Caps): Generator<Config> {
  const fitting = SHAPES.filter(([tileM, tileN, tileK, threadM, threadN]) => {
    const threads = (tileM / threadM) * (tileN / threadN);
    const bytes = tileK * (tileM + tileN + 2) * 4;
    return threads <= caps.limits.maxComputeInvocationsPerWorkgroup && bytes <= caps.limits.maxComputeWorkgroupStorageSize;
  });
  // Little waste at the edges, enough workgroups for a GPU of a hundred processors, then the larger tile.
  const waste = ([tileM, tileN]: readonly number[]): number => {
    const [rows, columns] = [sizeOr(m, 512), sizeOr(n, 512)];
    const groups = Math.ceil(rows / tileM!) * Math.ceil(columns / tileN!);
    const padded = (groups * tileM! * tileN!) / (rows * columns);
    return padded * Math.max(1, 200 / groups) ** 0.6 * (1 + 16 / tileM! + 16 / tileN!);
  };
  for (const [tileM, tileN, tileK, threadM, threadN] of [...fitting].sort((a, b) => waste(a) - waste(b)))
    yield { tileM, tileN, tileK, threadM, threadN };
}

/** Tiles pay where there is a row of them, enough rows of them, and where workgroup memory is faster than a cache. */
const likelihood = (m: number, n: number, caps: Caps): number =>
  m < 8 || n < 8 ? 0.05 : caps.tier === "core" || m * n < 400_000 ? 0.3 : 0.8;

export const gemmTiled = tactic("gemm", {
  name: "gemm.tiled",
  applicable: (task, caps) => task.acc.type !== "bool" && storesElements(task, caps),
  likelihood: (task, caps) => likelihood(sizeOr(task.m.extent, 512), sizeOr(task.n.extent, 512), caps),
  candidates: (task, caps) => tiles(task.m.extent, task.n.extent, caps),
  emit: emitTiled,
});

export const convImplicitGemm = tactic("conv", {
  name: "conv.implicit-gemm",
  applicable: (task, caps) => isStatic(task.oc.extent) && task.acc.type !== "bool" && storesElements(task, caps),
  likelihood: (task, caps) => {
    const { m, n } = asGemm(task);
    return likelihood(sizeOr(m.extent, 512), sizeOr(n.extent, 512), caps);
  },
  candidates: (task, caps) => {
    const { m, n } = asGemm(task);
    return tiles(m.extent, n.extent, caps);
  },
  emit: (task, config, caps) => emitTiled(asGemm(task), config, caps),
});

function emitTiled(task: GemmTask, config: Config, caps: Caps): Kernel {
  const module = new Module(caps);
  const { batch, m, n, k } = task;
  const { tileM, tileN } = config as { tileM: number; tileN: number };
  const batches = product(batch.map(({ extent }) => extent));
  const flatBatch = variable("batch", batches);
  const batchIndex = unflatten(
    flatBatch,
    batch.map(({ extent }) => extent),
  );
  const atBatch = new Map<Expr, Expr>(batch.map((v, i) => [v, batchIndex[i]!]));
  const hook = (parameters: readonly (readonly [Var | GemmTask["acc"], string])[], write: (block: Block) => void): string => {
    const block = new Block(module);
    for (const [v, name] of parameters) block.bind(v, name);
    write(block);
    return block.text();
  };
  const operand = (e: Expr, vars: readonly (readonly [Var, string])[]): string =>
    hook([[flatBatch, "batch"], ...vars], (block) => block.line(`return ${block.value(substitute(e, atBatch))};`));
  const size = (dim: Dim): string => `  return ${module.dim(dim)};`;
  const text = specialize("gemm_tiled", gemmTiledShader, {
    specs: {
      T: task.acc.type,
      TILE_M: tileM,
      TILE_N: tileN,
      TILE_K: config.tileK!,
      THREAD_M: config.threadM!,
      THREAD_N: config.threadN!,
      A_ALONG_M: isContiguous([task.a], m) && !isContiguous([task.a], k),
      B_ALONG_N: !isContiguous([task.b], k),
      RESULTS_ALONG_M: storesAlongM(task),
    },
    hooks: {
      size_m: size(m.extent),
      size_n: size(n.extent),
      size_k: size(k.extent),
      load_a: operand(task.a, [
        [m, "m"],
        [k, "k"],
      ]),
      load_b: operand(task.b, [
        [k, "k"],
        [n, "n"],
      ]),
      store: hook(
        [
          [flatBatch, "batch"],
          [m, "m"],
          [n, "n"],
          [task.acc, "acc"],
        ],
        (block) => {
          for (const store of task.stores) block.store(mapStore(store, (e) => substitute(e, atBatch)));
        },
      ),
    },
  });
  module.add(text);
  return { steps: [module.step([ceilDiv(n.extent, tileN), ceilDiv(m.extent, tileM), batches])], scratch: [], packed: [] };
}
