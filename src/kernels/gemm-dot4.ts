// GEMM and implicit-GEMM convolution of bytes, four products at a time: dot4I8Packed, or the same in plain integers where the
// device lacks it.

import gemmDot4Shader from "../../shaders/gemm_dot4.wgsl";
import gemmDot4BlockedShader from "../../shaders/gemm_dot4_blocked.wgsl";
import { ceilDiv, isStatic, mul } from "../ir/dims.ts";
import type { Var } from "../ir/expr.ts";
import type { ConvTask, GemmTask } from "../ir/task.ts";
import type { Caps } from "../util/caps.ts";
import { type Frame, frameOf, known, wasteOf } from "./frame.ts";
import { gridFor } from "./grid.ts";
import { besideMatrices } from "./matrix.ts";
import { asGemm } from "./product.ts";
import { storeResults } from "./results.ts";
import { specialize } from "./specialize.ts";
import { type Config, type Kernel, tactic } from "./tactic.ts";
import { type Bytes, byteOperands, isSymmetric, returnWord, storesWords } from "./words.ts";

/** [tile m, tile n, words along k, results an invocation along m, along n]. */
const SHAPES = [
  [64, 64, 8, 4, 4],
  [32, 32, 8, 2, 4],
  [128, 64, 8, 8, 4],
  [64, 128, 8, 4, 8],
  [128, 128, 8, 8, 8],
  [32, 64, 16, 4, 4],
  [16, 64, 16, 2, 4],
  [16, 16, 16, 1, 4],
  [64, 16, 16, 4, 4],
] as const;

const isOfBytes = (task: GemmTask | ConvTask): boolean =>
  task.acc.type === "i32" && (task.kind === "gemm" || isStatic(task.oc.extent));

export function applicable(task: GemmTask | ConvTask, caps: Caps): boolean {
  if (!isOfBytes(task)) return false;
  const gemm = asGemm(task);
  return byteOperands(gemm.a, gemm.b) !== undefined && storesWords(gemm, gemm.n, caps);
}

function* candidates(task: GemmTask | ConvTask, caps: Caps): Generator<Config> {
  const gemm = asGemm(task);
  const waste = ([tileM, tileN]: readonly number[]): number => wasteOf(gemm, tileM!, tileN!, { idle: 0.6, reread: 16 });
  for (const [tileM, tileN, tileK, threadM, threadN] of [...SHAPES].sort((a, b) => waste(a) - waste(b))) {
    const threads = (tileM / threadM) * (tileN / threadN);
    const bytes = 4 * tileK * (tileM + tileN + 2);
    if (threads > caps.limits.maxComputeInvocationsPerWorkgroup || bytes > caps.limits.maxComputeWorkgroupStorageSize) continue;
    yield { tileM, tileN, tileK, threadM, threadN };
  }
}

/** Words of four pay where there are four terms. */
const isWorthWords = (task: GemmTask | ConvTask): boolean => {
  const { n, k } = asGemm(task);
  return known(k.extent) >= 8 && known(n.extent) >= 4;
};

const tiled = {
  applicable,
  likelihood: (task: GemmTask | ConvTask, caps: Caps): number =>
    !isWorthWords(task)
      ? 0.05
      : (caps.tier === "core" || known(asGemm(task).m.extent) < 8 ? 0.4 : 0.85) * besideMatrices(task, caps),
  candidates,
  emit: emitTiled,
};
const blocked = {
  applicable,
  likelihood: (task: GemmTask | ConvTask, caps: Caps): number => (isWorthWords(task) ? 0.7 : 0.3) * besideMatrices(task, caps),
  *candidates(task: GemmTask | ConvTask, caps: Caps): Generator<Config> {
    const rows = known(asGemm(task).m.extent);
    // A processor that compiles for itself takes its time over long kernels.
    for (const size of [64, 128, 256])
      for (const count of caps.tier === "core" ? [2, 4, 1] : [4, 2, 8, 1])
        if (count <= rows && size <= caps.limits.maxComputeInvocationsPerWorkgroup) yield { rows: count, size };
  },
  emit: emitBlocked,
};
export const gemmDot4 = tactic("gemm", { name: "gemm.dot4", ...tiled });
export const convDot4 = tactic("conv", { name: "conv.dot4", ...tiled });
export const gemmDot4Blocked = tactic("gemm", { name: "gemm.dot4-blocked", ...blocked });
export const convDot4Blocked = tactic("conv", { name: "conv.dot4-blocked", ...blocked });

function emitTiled(task: GemmTask | ConvTask, config: Config, caps: Caps): Kernel {
  const { tileM, tileN, tileK, threadM, threadN } = config as Record<
    "tileM" | "tileN" | "tileK" | "threadM" | "threadN",
    number
  >;
  const specs = { TILE_M: tileM, TILE_N: tileN, TILE_K: tileK, THREAD_M: threadM, THREAD_N: threadN };
  const frame = frameOf(task, caps);
  addSpecialized(frame, "gemm_dot4", gemmDot4Shader, specs, caps, { tile_at: frame.tileAt(tileM, tileN) });
  return frame.tiles(tileM, tileN);
}

function emitBlocked(task: GemmTask | ConvTask, config: Config, caps: Caps): Kernel {
  const { rows, size } = config as { rows: number; size: number };
  const specs = { ROWS: rows, SIZE: size };
  const frame = frameOf(task, caps);
  const { module, gemm, batches } = frame;
  addSpecialized(frame, "gemm_dot4_blocked", gemmDot4BlockedShader, specs, caps);
  const blocks = mul(ceilDiv(gemm.m.extent, rows), ceilDiv(gemm.n.extent, 4));
  const [x, y] = gridFor(blocks, size);
  return { steps: [module.step([x, y, batches])], scratch: [], packed: [] };
}

/** Adds one of the two shaders to a frame's module: they have the same hooks, and `others`. */
function addSpecialized(
  frame: Frame,
  name: string,
  shader: string,
  specs: Readonly<Record<string, number>>,
  caps: Caps,
  others: Readonly<Record<string, string>> = {},
): void {
  const { module, gemm, hook, value } = frame;
  const { m, n, k } = gemm;
  const [left, right] = byteOperands(gemm.a, gemm.b)!;
  const operand = (bytes: Bytes, along: Var, name: string): string =>
    hook([along, k], (block) =>
      returnWord(block, bytes, k, `${name} < ${module.dim(along.extent)} && k < ${module.dim(k.extent)}`),
    );
  const text = specialize(name, shader, {
    specs: { ...specs, SHIFTED_A: !isSymmetric(left), SHIFTED_B: !isSymmetric(right) },
    hooks: {
      ...frame.sizes,
      ...others,
      zero_a: value(left.zero),
      zero_b: value(right.zero),
      load_a: operand(left, m, "m"),
      load_b: operand(right, n, "n"),
      dot_bytes: `  return ${caps.dot4 ? "dot4I8Packed(a, b)" : module.call("dot_words", "a", "b")};`,
      store: storeResults(frame, 4),
    },
  });
  module.add(text);
}
