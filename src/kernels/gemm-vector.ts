// GEMM and implicit-GEMM convolution in f32 by tiles of vectors: four elements a load from memory, four a load from workgroup
// memory, up to 8 x 8 results an invocation.

import gemmVectorShader from "../../shaders/gemm_vector.wgsl";
import { ceilDiv, type Dim, isStatic, product } from "../ir/dims.ts";
import { type Expr, substitute, unflatten, type Var, variable } from "../ir/expr.ts";
import { type ConvTask, type GemmTask, mapStore } from "../ir/task.ts";
import type { Caps } from "../util/caps.ts";
import { asGemm, isContiguous, storesElements } from "./product.ts";
import { specialize } from "./specialize.ts";
import { type Config, type Kernel, tactic } from "./tactic.ts";
import { returnFour, vectorLoad } from "./vector.ts";
import { Block, Module } from "./writer.ts";

/** [tile m, tile n, tile k, vectors an invocation takes along m, along n]. */
const SHAPES = [
  [128, 128, 16, 2, 2],
  [64, 64, 16, 1, 1],
  [128, 64, 16, 2, 1],
  [64, 128, 16, 1, 2],
  [128, 128, 8, 2, 2],
  [64, 64, 16, 2, 2],
  [32, 64, 16, 1, 1],
  [64, 32, 16, 1, 1],
  [32, 32, 32, 1, 1],
] as const;

const known = (dim: Dim): number => (isStatic(dim) ? dim : 512);

const applicable = (task: GemmTask | ConvTask, caps: Caps): boolean =>
  task.acc.type === "f32" && storesElements(task, caps) && (task.kind === "gemm" || isStatic(task.oc.extent));

function* candidates(task: GemmTask | ConvTask, caps: Caps): Generator<Config> {
  const { m, n, batch } = asGemm(task);
  const batches = known(product(batch.map(({ extent }) => extent)));
  const score = ([tileM, tileN]: readonly number[]): number => {
    const groups = Math.ceil(known(m.extent) / tileM!) * Math.ceil(known(n.extent) / tileN!) * batches;
    const padded = (groups * tileM! * tileN!) / (known(m.extent) * known(n.extent) * batches);
    return padded * Math.max(1, 200 / groups) ** 0.7 * (1 + 32 / tileM! + 32 / tileN!);
  };
  for (const [tileM, tileN, tileK, repeatM, repeatN] of [...SHAPES].sort((a, b) => score(a) - score(b))) {
    const threads = (tileM * tileN) / (16 * repeatM * repeatN);
    const bytes = 4 * tileK * (tileM + tileN + 8);
    if (threads > caps.limits.maxComputeInvocationsPerWorkgroup || bytes > caps.limits.maxComputeWorkgroupStorageSize) continue;
    yield { tileM, tileN, tileK, repeatM, repeatN };
  }
}

const likelihood = (task: GemmTask | ConvTask, caps: Caps): number => {
  const { m, n, k, a, b } = asGemm(task);
  if (known(m.extent) < 16 || known(n.extent) < 16) return 0.05;
  const vectors = [vectorLoad(a, k, caps) ?? vectorLoad(a, m, caps), vectorLoad(b, n, caps) ?? vectorLoad(b, k, caps)];
  return vectors.every((vector) => vector !== undefined) ? (caps.tier === "core" ? 0.45 : 0.82) : 0.3;
};

export const gemmVector = tactic("gemm", { name: "gemm.vector", applicable, likelihood, candidates, emit: emitVector });
export const convVector = tactic("conv", { name: "conv.vector", applicable, likelihood, candidates, emit: emitVector });

function emitVector(task: GemmTask | ConvTask, config: Config, caps: Caps): Kernel {
  const { tileM, tileN, tileK, repeatM, repeatN } = config as Record<
    "tileM" | "tileN" | "tileK" | "repeatM" | "repeatN",
    number
  >;
  const module = new Module(caps);
  const gemm = asGemm(task);
  const { batch, m, n, k, acc } = gemm;
  const batches = product(batch.map(({ extent }) => extent));
  const flatBatch = variable("batch", batches);
  const index = unflatten(
    flatBatch,
    batch.map(({ extent }) => extent),
  );
  const at = new Map<Expr, Expr>(batch.map((v, i) => [v, index[i]!]));
  const hook = (parameters: readonly (readonly [Var | GemmTask["acc"], string])[], write: (block: Block) => void): string => {
    const block = new Block(module);
    for (const [v, name] of [[flatBatch, "batch"] as const, ...parameters]) block.bind(v, name);
    write(block);
    return block.text();
  };
  const operand = (e: Expr, along: Var, other: Var): string =>
    hook(
      [
        [along, along === m ? "m" : along === n ? "n" : "k"],
        [other, other === m ? "m" : other === n ? "n" : "k"],
      ],
      (block) => returnFour(block, substitute(e, at), along, other),
    );
  /** Along which axis four neighbours are one vector; otherwise along which they are close in memory. */
  const along = (e: Expr, v: Var): boolean =>
    vectorLoad(substitute(e, at), v, caps) !== undefined ||
    (vectorLoad(substitute(e, at), k, caps) === undefined && isContiguous([e], v));
  const [alongM, alongN] = [along(gemm.a, m), along(gemm.b, n)];
  const size = (dim: Dim): string => `  return ${module.dim(dim)};`;
  const threads = (tileM * tileN) / (16 * repeatM * repeatN);
  module.add(
    specialize("gemm_vector", gemmVectorShader, {
      specs: {
        TILE_M: tileM,
        TILE_N: tileN,
        TILE_K: tileK,
        REPEAT_M: repeatM,
        REPEAT_N: repeatN,
        A_ALONG_M: alongM,
        B_ALONG_N: alongN,
        FETCHES_A: Math.ceil((tileM * tileK) / 16 / threads),
        FETCHES_B: Math.ceil((tileN * tileK) / 16 / threads),
      },
      hooks: {
        size_m: size(m.extent),
        size_n: size(n.extent),
        size_k: size(k.extent),
        load_a: alongM ? operand(gemm.a, m, k) : operand(gemm.a, k, m),
        load_b: alongN ? operand(gemm.b, n, k) : operand(gemm.b, k, n),
        store: hook(
          [
            [m, "m"],
            [n, "n"],
            [acc, "acc"],
          ],
          (block) => {
            for (const store of gemm.stores) block.store(mapStore(store, (e) => substitute(e, at)));
          },
        ),
      },
    }),
  );
  return { steps: [module.step([ceilDiv(n.extent, tileN), ceilDiv(m.extent, tileM), batches])], scratch: [], packed: [] };
}
