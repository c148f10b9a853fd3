// GEMM by tiles through workgroup memory, for every operand expression; convolution as the implicit GEMM of positions by
// output channels over input channels and taps.

import gemmTiledShader from "../../shaders/gemm_tiled.wgsl";
import { isStatic } from "../ir/dims.ts";
import type { Expr, Var } from "../ir/expr.ts";
import type { ConvTask, GemmTask } from "../ir/task.ts";
import type { Caps } from "../util/caps.ts";
import { frameOf, known, wasteOf } from "./frame.ts";
import { besideMatrices } from "./matrix.ts";
import { asGemm, isContiguous, storesAlongM, storesElements } from "./product.ts";
import { specialize } from "./specialize.ts";
import { type Config, type Kernel, tactic } from "./tactic.ts";

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

/** Little waste at the edges, enough workgroups, then the larger tile. */
function* candidates(task: GemmTask | ConvTask, caps: Caps): Generator<Config> {
  const gemm = asGemm(task);
  const waste = ([tileM, tileN]: readonly number[]): number => wasteOf(gemm, tileM!, tileN!, { idle: 0.6, reread: 16 });
  for (const [tileM, tileN, tileK, threadM, threadN] of [...SHAPES].sort((a, b) => waste(a) - waste(b))) {
    const threads = (tileM / threadM) * (tileN / threadN);
    const bytes = tileK * (tileM + tileN + 2) * 4;
    if (threads > caps.limits.maxComputeInvocationsPerWorkgroup || bytes > caps.limits.maxComputeWorkgroupStorageSize) continue;
    yield { tileM, tileN, tileK, threadM, threadN };
  }
}

/** Tiles pay where there is a row of them, enough rows of them, and where workgroup memory is faster than a cache; in f32 tiles of vectors pay more. */
const likelihood = (task: GemmTask | ConvTask, caps: Caps): number => {
  const { m, n, acc } = asGemm(task);
  const [rows, columns] = [known(m.extent), known(n.extent)];
  if (rows < 8 || columns < 8) return 0.05;
  return (
    (caps.tier === "core" ? 0.3 : acc.type === "f32" ? 0.15 : rows * columns < 400_000 ? 0.3 : 0.8) * besideMatrices(task, caps)
  );
};

const applicable = (task: GemmTask | ConvTask, caps: Caps): boolean =>
  task.acc.type !== "bool" && storesElements(task, caps) && (task.kind === "gemm" || isStatic(task.oc.extent));

const definition = { applicable, likelihood, candidates, emit: emitTiled };
export const gemmTiled = tactic("gemm", { name: "gemm.tiled", ...definition });
export const convImplicitGemm = tactic("conv", { name: "conv.implicit-gemm", ...definition });

function emitTiled(task: GemmTask | ConvTask, config: Config, caps: Caps): Kernel {
  const { tileM, tileN } = config as { tileM: number; tileN: number };
  const { module, gemm, hook, sizes, tileAt, storeOne, tiles } = frameOf(task, caps);
  const { m, n, k } = gemm;
  const operand = (e: Expr, ...vars: readonly Var[]): string => hook(vars, (block) => block.line(`return ${block.value(e)};`));
  const { a, b } = asGemm(task);
  const text = specialize("gemm_tiled", gemmTiledShader, {
    specs: {
      T: gemm.acc.type,
      TILE_M: tileM,
      TILE_N: tileN,
      TILE_K: config.tileK!,
      THREAD_M: config.threadM!,
      THREAD_N: config.threadN!,
      A_ALONG_M: isContiguous([a], m) && !isContiguous([a], k),
      B_ALONG_N: !isContiguous([b], k),
      RESULTS_ALONG_M: storesAlongM(asGemm(task)),
    },
    hooks: {
      ...sizes,
      tile_at: tileAt(tileM, tileN),
      load_a: operand(gemm.a, m, k),
      load_b: operand(gemm.b, k, n),
      store: storeOne(),
    },
  });
  module.add(text);
  return tiles(tileM, tileN);
}
