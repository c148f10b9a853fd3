// GEMM and implicit-GEMM convolution on subgroup matrices, for operands that are f16 in memory.

import gemmMatrixShader from "../../shaders/gemm_matrix.wgsl";
import { ceilDiv, type Dim, isStatic, product } from "../ir/dims.ts";
import {
  add,
  type Expr,
  float,
  int,
  type Load,
  loadsOf,
  lt,
  select,
  substitute,
  unflatten,
  type Var,
  variable,
} from "../ir/expr.ts";
import { runOffset, variesInRun } from "../ir/runs.ts";
import { type ConvTask, type GemmTask, mapStore } from "../ir/task.ts";
import type { Caps, MatrixConfig } from "../util/caps.ts";
import { asGemm, isContiguous } from "./product.ts";
import { specialize } from "./specialize.ts";
import { type Config, type Kernel, tactic } from "./tactic.ts";
import { Block, Module } from "./writer.ts";

/** [tile m, tile n, tile k, results a subgroup makes along m, along n, slices of the depth]. */
const SHAPES = [
  [128, 128, 32, 64, 64, 1],
  [128, 64, 32, 64, 32, 1],
  [64, 128, 32, 32, 64, 1],
  [64, 64, 32, 32, 32, 1],
  [64, 64, 64, 32, 32, 1],
  [64, 64, 128, 32, 32, 2],
  [64, 32, 128, 32, 16, 2],
  [32, 64, 128, 16, 32, 2],
  [32, 32, 64, 16, 16, 1],
  [32, 32, 128, 16, 16, 2],
  [32, 32, 256, 16, 16, 4],
  [32, 32, 256, 32, 16, 4],
  [16, 32, 256, 16, 16, 4],
  [32, 16, 256, 16, 16, 4],
  [128, 32, 64, 32, 32, 1],
  [32, 128, 64, 32, 32, 1],
] as const;

const known = (dim: Dim): number => (isStatic(dim) ? dim : 512);

/** The matrix shape used: f16 operands, f32 sums, square where the device has it. */
const shapeOf = (caps: Caps): MatrixConfig | undefined =>
  caps.matrixDialect !== "template"
    ? undefined
    : caps.matrix.find(
        ({ component, result, m, n, k }) => component === "f16" && result === "f32" && m === 16 && n === 16 && k === 16,
      );

/** True when every float that the operands load is f16, so that nothing is lost by multiplying in f16. */
const isHalf = (e: Expr): boolean => {
  const loads = loadsOf([e]).filter(({ type }) => type === "f32");
  return loads.length > 0 && loads.every(({ value }) => value.dtype === "f16");
};

const applicable = (task: GemmTask | ConvTask, caps: Caps): boolean => {
  if (!shapeOf(caps) || !caps.f16 || task.acc.type !== "f32") return false;
  if (task.kind === "conv")
    return isStatic(task.oc.extent) && known(task.oc.extent) / task.groups >= 8 && isHalf(task.x) && isHalf(task.w);
  return isHalf(task.a) && isHalf(task.b);
};

function* candidates(task: GemmTask | ConvTask, caps: Caps): Generator<Config> {
  const { m, n, k, batch } = asGemm(task);
  const subgroup = caps.subgroupMaxSize;
  const batches = known(product(batch.map(({ extent }) => extent)));
  const score = ([tileM, tileN, tileK]: readonly number[]): number => {
    const groups = Math.ceil(known(m.extent) / tileM!) * Math.ceil(known(n.extent) / tileN!) * batches;
    const padded = (groups * tileM! * tileN!) / (known(m.extent) * known(n.extent) * batches);
    // A GPU of a hundred processors starves below some hundred workgroups; large tiles reread less.
    // Stages follow one another: few deep ones hide memory's latency where there is no second workgroup to switch to.
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
    const bytes = 2 * (tileM * (tileK + 8) + tileK * (tileN + 8)) + (threads / subgroup) * 16 * 20 * 4;
    if (threads > caps.limits.maxComputeInvocationsPerWorkgroup || bytes > caps.limits.maxComputeWorkgroupStorageSize) continue;
    if ((tileM * tileK) % (4 * threads) || (tileN * tileK) % (4 * threads)) continue;
    yield { tileM, tileN, tileK, subM, subN, slices };
  }
}

const likelihood = (task: GemmTask | ConvTask): number => {
  const { m, n, k } = asGemm(task);
  return known(m.extent) >= 16 && known(n.extent) >= 16 && known(k.extent) >= 16 ? 0.9 : 0.1;
};

export const gemmMatrix = tactic("gemm", { name: "gemm.matrix", applicable, likelihood, candidates, emit: emitMatrix });
export const convMatrix = tactic("conv", { name: "conv.matrix", applicable, likelihood, candidates, emit: emitMatrix });

/** The operand's load when four neighbours along `v` are one aligned vector in memory, under a guard that holds for all or none. */
function vectorLoad(e: Expr, v: Var): { load: Load; guard: Expr | undefined; offset: Expr } | undefined {
  const plain =
    e.kind === "load"
      ? { load: e, guard: undefined }
      : e.kind === "select" && e.a.kind === "load" && e.b.kind === "const" && e.b.value === 0
        ? { load: e.a, guard: e.condition }
        : undefined;
  if (plain?.load.value.dtype !== "f16" || (plain.guard && variesInRun(plain.guard, v, 4))) return undefined;
  const offset = runOffset(plain.load.value, plain.load.index, v, 4);
  return offset && { ...plain, offset };
}

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
  const batchIndex = unflatten(
    flatBatch,
    batch.map(({ extent }) => extent),
  );
  const atBatch = new Map<Expr, Expr>(batch.map((v, i) => [v, batchIndex[i]!]));
  const a = substitute(gemm.a, atBatch);
  const b = substitute(gemm.b, atBatch);
  const hook = (parameters: readonly (readonly [Var | GemmTask["acc"], string])[], write: (block: Block) => void): string => {
    const block = new Block(module);
    for (const [v, name] of parameters) block.bind(v, name);
    write(block);
    return block.text();
  };
  /** Four neighbours along `v` of the operand at (v, other), zero outside. */
  const operand = (e: Expr, v: Var, other: Var): string => {
    const names: readonly (readonly [Var, string])[] = [
      [flatBatch, "batch"],
      [v, v.name],
      [other, other.name],
    ];
    const vector = vectorLoad(e, v);
    return hook(names, (block) => {
      const inside = `${v.name} < ${module.dim(v.extent)} && ${other.name} < ${module.dim(other.extent)}`;
      if (vector) {
        const { load, guard, offset } = vector;
        block.nest(
          `if (${inside})`,
          () => {
            const read = (): void => block.line(`return ${module.vectorBuffer(load.value)}[${block.value(offset)} >> 2u];`);
            if (guard) block.nest(`if (${block.value(guard)})`, read, true);
            else read();
          },
          true,
        );
        block.line("return vec4<f16>();");
        return;
      }
      block.line("var four = vec4<f16>();");
      block.nest(
        `if (${inside})`,
        () => {
          for (let i = 0; i < 4; i++) {
            const at = substitute(e, new Map<Expr, Expr>([[v, add(v, int(i))]]));
            const whole = isStatic(v.extent) && v.extent % 4 === 0;
            block.line(
              `four[${i}] = f16(${block.value(i === 0 || whole ? at : select(lt(add(v, int(i)), int(v.extent)), at, float(0)))});`,
            );
          }
        },
        true,
      );
      block.line("return four;");
    });
  };
  const size = (dim: Dim): string => `  return ${module.dim(dim)};`;
  // Along which axis four neighbours can be one vector; otherwise along which they are close in memory.
  const alongM = vectorLoad(a, m) !== undefined || (vectorLoad(a, k) === undefined && isContiguous([a], m));
  const alongN = vectorLoad(b, n) !== undefined || (vectorLoad(b, k) === undefined && isContiguous([b], n));
  const matrix = shapeOf(caps)!;
  const text = specialize("gemm_matrix", gemmMatrixShader, {
    specs: {
      T: "f16",
      ACC: "f32",
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
      A_ALONG_M: alongM,
      B_ALONG_N: alongN,
    },
    hooks: {
      size_m: size(m.extent),
      size_n: size(n.extent),
      size_k: size(k.extent),
      load_a: alongM ? operand(a, m, k) : operand(a, k, m),
      load_b: alongN ? operand(b, n, k) : operand(b, k, n),
      store: hook(
        [
          [flatBatch, "batch"],
          [m, "m"],
          [n, "n"],
          [acc, "acc"],
        ],
        (block) => {
          for (const store of gemm.stores) block.store(mapStore(store, (e) => substitute(e, atBatch)));
        },
      ),
    },
  });
  for (const feature of ["f16", "subgroups", "chromium_experimental_subgroup_matrix"]) module.features.add(feature);
  module.add(text.replace(/^(?:enable|diagnostic).*\n/gm, ""));
  return { steps: [module.step([ceilDiv(n.extent, tileN), ceilDiv(m.extent, tileM), batches])], scratch: [], packed: [] };
}
