// GEMM and implicit-GEMM convolution in f32 by tiles of vectors: four elements a load from memory, four a load from workgroup
// memory, up to 8 x 8 results an invocation.

import gemmVectorShader from "../../shaders/gemm_vector.wgsl";
import { isStatic } from "../ir/dims.ts";
import type { ConvTask, GemmTask } from "../ir/task.ts";
import type { Caps } from "../util/caps.ts";
import { coverOf, frameOf, known, PROCESSOR, turnsOf, wasteOf } from "./frame.ts";
import { besideMatrices } from "./matrix.ts";
import { asGemm, storesElements } from "./product.ts";
import { storeResults } from "./results.ts";
import { specialize } from "./specialize.ts";
import { type Config, type Kernel, tactic } from "./tactic.ts";
import { isAlong, loadFour, vectorLoad } from "./vector.ts";

/** [tile m, tile n, tile k, vectors an invocation takes along m, along n, slices of the depth]. */
const SHAPES = [
  [128, 128, 16, 2, 2, 1],
  [64, 64, 16, 1, 1, 1],
  [128, 64, 16, 2, 1, 1],
  [64, 128, 16, 1, 2, 1],
  [128, 128, 8, 2, 2, 1],
  [64, 64, 16, 2, 2, 1],
  [32, 64, 16, 1, 1, 1],
  [64, 32, 16, 1, 1, 1],
  [32, 32, 32, 1, 1, 1],
  [64, 64, 32, 2, 2, 4],
  [128, 64, 32, 2, 2, 2],
  [64, 32, 32, 2, 2, 4],
  [32, 64, 32, 2, 2, 4],
  [32, 32, 32, 2, 2, 8],
  [32, 32, 32, 1, 1, 4],
  [16, 64, 32, 1, 2, 4],
] as const;

const applicable = (task: GemmTask | ConvTask, caps: Caps): boolean =>
  task.acc.type === "f32" && storesElements(task, caps) && (task.kind === "gemm" || isStatic(task.oc.extent));

function* candidates(task: GemmTask | ConvTask, caps: Caps): Generator<Config> {
  const gemm = asGemm(task);
  const waste = ([tileM, tileN]: readonly number[]): number => wasteOf(gemm, tileM!, tileN!, { idle: 0.7, reread: 32 });
  const worst = caps.tier === "core" ? waste : (shape: readonly number[]): number => expectedCycles(gemm, shape);
  for (const shape of [...SHAPES].sort((a, b) => worst(a) - worst(b))) {
    if (
      threadsOf(shape) > caps.limits.maxComputeInvocationsPerWorkgroup ||
      16 * vectorsOf(shape) > caps.limits.maxComputeWorkgroupStorageSize
    )
      continue;
    const [tileM, tileN, tileK, repeatM, repeatN, slices] = shape;
    yield { tileM, tileN, tileK, repeatM, repeatN, slices };
  }
}

/**
 * Cycles that a product is expected to take. Per stage: its multiplications, what it reads from workgroup memory and what it fetches,
 * of all workgroups of a processor, more where few subgroups keep it busy, but no less than memory's latency; then barriers. Fitted to
 * 912 measurements of 32 convolutions on an H100 (`bench/regret`): what it names first is within 1.1 % of the fastest shape, among
 * different numbers of slices over the grid (`split-k.ts`) the first three hold one within 1.3 % (geometric means).
 */
function expectedCycles(gemm: GemmTask, shape: readonly number[]): number {
  const [tileM, tileN, tileK, repeatM, repeatN, slices] = shape as [number, number, number, number, number, number];
  const threads = threadsOf(shape);
  const room = Math.min(
    55_800 / (16 * vectorsOf(shape) + 1024),
    PROCESSOR.registers / (threads * (73 + 3 * repeatM * repeatN)),
    PROCESSOR.invocations / threads,
  );
  const { together, waves } = turnsOf(coverOf(gemm, tileM, tileN).groups, room);
  const multiplied = (tileM * tileN * tileK) / 128;
  const read = (threads * (tileK / slices) * (repeatM + repeatN)) / 8;
  const fetched = ((tileM + tileN) * tileK) / 78;
  const busy = Math.min(1, (together * Math.ceil(threads / 32)) / 8.8) ** 0.58;
  const work = (together * (1.88 * multiplied + 0.21 * read + fetched)) / busy;
  const stage = Math.max(964, work) + (slices > 1 ? 236 : 53);
  const end = 4812 + together * tileM * tileN * 0.0284 * (1 + 2.33 * (slices - 1));
  return waves * (Math.ceil(known(gemm.k.extent) / tileK) * stage + end);
}

const cost = (task: GemmTask | ConvTask, { tileM, tileN, tileK, repeatM, repeatN, slices }: Config): number =>
  expectedCycles(asGemm(task), [tileM, tileN, tileK, repeatM, repeatN, slices] as number[]) / PROCESSOR.gigahertz;

const threadsOf = ([tileM, tileN, , repeatM, repeatN, slices]: readonly number[]): number =>
  (tileM! * tileN! * slices!) / (16 * repeatM! * repeatN!);

/** Vectors in workgroup memory: the staged operands, their rows padded by one, or the slices' sums in their place. */
const vectorsOf = (shape: readonly number[]): number => {
  const [tileM, tileN, tileK, , , slices] = shape as [number, number, number, number, number, number];
  return Math.max(tileK * (tileM / 4 + tileN / 4 + 2), slices > 1 ? slices * threadsOf(shape) : 0);
};

const likelihood = (task: GemmTask | ConvTask, caps: Caps): number => {
  const { m, n, k, a, b } = asGemm(task);
  if (known(m.extent) < 16 || known(n.extent) < 16) return 0.05;
  const vectors = [vectorLoad(a, k, caps) ?? vectorLoad(a, m, caps), vectorLoad(b, n, caps) ?? vectorLoad(b, k, caps)];
  const isOfVectors = vectors.every((vector) => vector !== undefined);
  const likelihood = caps.tier === "core" ? (isOfVectors ? 0.45 : 0.3) : isOfVectors ? 0.82 : 0.7;
  return likelihood * besideMatrices(task, caps);
};

export const gemmVector = tactic("gemm", { name: "gemm.vector", applicable, likelihood, candidates, cost, emit: emitVector });
export const convVector = tactic("conv", { name: "conv.vector", applicable, likelihood, candidates, cost, emit: emitVector });

function emitVector(task: GemmTask | ConvTask, config: Config, caps: Caps): Kernel {
  const { tileM, tileN, tileK, repeatM, repeatN, slices } = config as Record<
    "tileM" | "tileN" | "tileK" | "repeatM" | "repeatN" | "slices",
    number
  >;
  const shape = [tileM, tileN, tileK, repeatM, repeatN, slices];
  const frame = frameOf(task, caps);
  const { m, n, k, a, b } = frame.gemm;
  const [alongM, alongN] = [isAlong(a, m, k, caps), isAlong(b, n, k, caps)];
  const threads = threadsOf(shape);
  const isWhole = isStatic(k.extent) && k.extent % tileK === 0;
  const text = specialize("gemm_vector", gemmVectorShader, {
    specs: {
      TILE_M: tileM,
      TILE_N: tileN,
      TILE_K: tileK,
      REPEAT_M: repeatM,
      REPEAT_N: repeatN,
      SLICES: slices,
      SLICED: slices > 1,
      ROUNDS: (4 * repeatM * repeatN) / slices,
      VECTORS: vectorsOf(shape),
      FOURS: 4 * repeatM * repeatN,
      A_ALONG_M: alongM,
      B_ALONG_N: alongN,
      FETCHES_A: Math.ceil((tileM * tileK) / 4 / threads),
      FETCHES_B: Math.ceil((tileN * tileK) / 4 / threads),
    },
    hooks: {
      ...frame.sizes,
      tile_at: frame.tileAt(tileM, tileN),
      load_a: loadFour(frame, a, { v: alongM ? m : k, other: alongM ? k : m, summed: k, isWhole }),
      load_b: loadFour(frame, b, { v: alongN ? n : k, other: alongN ? k : n, summed: k, isWhole }),
      store: storeResults(frame, 4),
    },
  });
  frame.module.add(text);
  return frame.tiles(tileM, tileN);
}
