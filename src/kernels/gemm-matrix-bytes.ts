// GEMM and implicit-GEMM convolution of bytes on subgroup matrices; the right operand's zero is 0.

import gemmMatrixBytesShader from "../../shaders/gemm_matrix_bytes.wgsl";
import { ceilDiv, type Dim, isStatic, product } from "../ir/dims.ts";
import { type Expr, int, substitute, unflatten, type Var, variable } from "../ir/expr.ts";
import { type ConvTask, type GemmTask, mapStore } from "../ir/task.ts";
import type { Caps, MatrixConfig } from "../util/caps.ts";
import { applicable as isOfWords } from "./gemm-dot4.ts";
import { asGemm } from "./product.ts";
import { specialize } from "./specialize.ts";
import { type Config, type Kernel, tactic } from "./tactic.ts";
import { type Bytes, byteOperands, byteRun, isSymmetric, returnWord, signed, storeRun, zeroWord } from "./words.ts";
import { Block, Module } from "./writer.ts";

/** [tile m, tile n, tile k, results a subgroup makes along m, along n, slices of the depth]. */
const SHAPES = [
  [128, 128, 128, 64, 64, 1],
  [128, 128, 64, 64, 64, 1],
  [128, 64, 64, 64, 32, 1],
  [64, 128, 64, 32, 64, 1],
  [64, 64, 64, 32, 32, 1],
  [64, 64, 128, 32, 32, 1],
  [64, 64, 256, 32, 32, 2],
  [64, 32, 256, 32, 16, 2],
  [32, 64, 256, 16, 32, 2],
  [32, 32, 128, 16, 16, 1],
  [32, 32, 256, 16, 16, 2],
  [32, 32, 512, 16, 16, 4],
  [16, 32, 512, 16, 16, 4],
  [32, 16, 512, 16, 16, 4],
  [128, 32, 128, 32, 32, 1],
  [32, 128, 128, 32, 32, 1],
] as const;

const known = (dim: Dim): number => (isStatic(dim) ? dim : 512);

const shapeOf = (caps: Caps): MatrixConfig | undefined =>
  caps.matrixDialect !== "template"
    ? undefined
    : caps.matrix.find(
        ({ component, result, m, n, k }) => component === "i8" && result === "i32" && m === 16 && n === 16 && k === 32,
      );

function applicable(task: GemmTask | ConvTask, caps: Caps): boolean {
  if (!shapeOf(caps) || !isOfWords(task, caps)) return false;
  const { a, b, n } = asGemm(task);
  return known(n.extent) >= 8 && isSymmetric(byteOperands(a, b)![1]);
}

function* candidates(task: GemmTask | ConvTask, caps: Caps): Generator<Config> {
  const { a, b, m, n, k, batch } = asGemm(task);
  const strips = isSymmetric(byteOperands(a, b)![0]) ? 1 : 2;
  const subgroup = caps.subgroupMaxSize;
  const batches = known(product(batch.map(({ extent }) => extent)));
  const score = ([tileM, tileN, tileK]: readonly number[]): number => {
    const groups = Math.ceil(known(m.extent) / tileM!) * Math.ceil(known(n.extent) / tileN!) * batches;
    const padded = (groups * tileM! * tileN!) / (known(m.extent) * known(n.extent) * batches);
    const stages = Math.ceil(known(k.extent) / tileK!);
    return (
      padded *
      Math.max(1, 200 / groups) ** 0.7 *
      (1 + 64 / tileM! + 64 / tileN!) *
      (groups < 400 ? 1 + stages / 16 : 1) *
      (tileK! > 2 * known(k.extent) ? 2 : 1)
    );
  };
  for (const [tileM, tileN, tileK, subM, subN, slices] of [...SHAPES].sort((a, b) => score(a) - score(b))) {
    const threads = (tileM / subM) * (tileN / subN) * slices * subgroup;
    const bytes = (tileM + tileN) * (tileK + 16) + (threads / subgroup) * 16 * 20 * 4 * strips + 16 * 32;
    if (threads > caps.limits.maxComputeInvocationsPerWorkgroup || bytes > caps.limits.maxComputeWorkgroupStorageSize) continue;
    if ((tileM * tileK) % (16 * threads) || (tileN * tileK) % (16 * threads)) continue;
    yield { tileM, tileN, tileK, subM, subN, slices };
  }
}

const likelihood = (task: GemmTask | ConvTask): number => {
  const { m, n, k } = asGemm(task);
  return known(m.extent) >= 16 && known(n.extent) >= 16 && known(k.extent) >= 32 ? 0.95 : 0.1;
};

export const gemmMatrixBytes = tactic("gemm", {
  name: "gemm.matrix-bytes",
  applicable,
  likelihood,
  candidates,
  emit: emitMatrix,
});
export const convMatrixBytes = tactic("conv", {
  name: "conv.matrix-bytes",
  applicable,
  likelihood,
  candidates,
  emit: emitMatrix,
});

function emitMatrix(task: GemmTask | ConvTask, config: Config, caps: Caps): Kernel {
  const module = new Module(caps);
  const gemm = asGemm(task);
  const { batch, m, n, k, acc } = gemm;
  const { tileM, tileN, tileK, subM, subN, slices } = config as Record<
    "tileM" | "tileN" | "tileK" | "subM" | "subN" | "slices",
    number
  >;
  const batches = product(batch.map(({ extent }) => extent));
  const flatBatch = variable("batch", batches);
  const index = unflatten(
    flatBatch,
    batch.map(({ extent }) => extent),
  );
  const atBatch = new Map<Expr, Expr>(batch.map((v, i) => [v, index[i]!]));
  const [left, right] = byteOperands(substitute(gemm.a, atBatch), substitute(gemm.b, atBatch))!;
  const hook = (parameters: readonly (readonly [Var, string])[], write: (block: Block) => void): string => {
    const block = new Block(module);
    for (const [v, name] of [[flatBatch, "batch"] as const, ...parameters]) block.bind(v, name);
    write(block);
    return block.text();
  };
  /** Sixteen bytes along k: one vector where they are one in memory, otherwise four words. */
  const operand = (bytes: Bytes, along: Var, name: "m" | "n"): string => {
    const names = [[along, name] as const, [k, "k"] as const];
    const inside = `${name} < ${module.dim(along.extent)} && k < ${module.dim(k.extent)}`;
    const run = byteRun(bytes, k, 16, caps);
    if (!run) {
      const parameters = name === "m" ? "batch: i32, m: i32, k: i32" : "batch: i32, k: i32, n: i32";
      const text = hook(names, (block) => returnWord(block, bytes, k, inside));
      module.add(`fn word_${name}(${parameters}) -> u32 {\n${text}\n}`);
      const words = [0, 4, 8, 12].map((i) => `word_${name}(batch, ${name === "m" ? `m, k + ${i}` : `k + ${i}, n`})`);
      return `  return vec4<u32>(${words.join(", ")});`;
    }
    return hook(names, (block) => {
      block.nest(
        `if (${inside})`,
        () => {
          const vector = (): void =>
            block.line(
              `return ${signed(run.load, `${module.vectorBuffer(run.load.value)}[${block.value(run.offset)} >> 4u]`, "vec4<u32>")};`,
            );
          if (bytes.guard) block.nest(`if (${block.value(bytes.guard)})`, vector, true);
          else vector();
        },
        true,
      );
      block.line(`return vec4<u32>(${zeroWord(block, bytes)});`);
    });
  };
  const value = (e: Expr): string => hook([], (block) => block.line(`return ${block.value(e)};`));
  const matrix = shapeOf(caps)!;
  const text = specialize("gemm_matrix_bytes", gemmMatrixBytesShader, {
    specs: {
      M: matrix.m,
      N: matrix.n,
      K: matrix.k,
      TILE_M: tileM,
      TILE_N: tileN,
      TILE_K: tileK,
      SUB_M: subM,
      SUB_N: subN,
      SLICES: slices,
      SUBGROUP: caps.subgroupMaxSize,
      SHIFTED_A: !isSymmetric(left),
    },
    hooks: {
      size_m: value(int(m.extent)),
      size_n: value(int(n.extent)),
      size_k: value(int(k.extent)),
      zero_a: value(left.zero),
      load_a: operand(left, m, "m"),
      load_b: operand(right, n, "n"),
      store: hook(
        [
          [m, "m"],
          [n, "n"],
        ],
        (block) => {
          const stores = gemm.stores.map((store) => mapStore(store, (e) => substitute(e, atBatch)));
          storeRun(block, stores, n, acc, ["acc.x", "acc.y", "acc.z", "acc.w"]);
        },
      ),
    },
  });
  for (const feature of ["subgroups", "chromium_experimental_subgroup_matrix"]) module.features.add(feature);
  module.add(text.replace(/^(?:enable|diagnostic).*\n/gm, ""));
  return { steps: [module.step([ceilDiv(n.extent, tileN), ceilDiv(m.extent, tileM), batches])], scratch: [], packed: [] };
}
