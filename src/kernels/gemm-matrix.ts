// GEMM and implicit-GEMM convolution on subgroup matrices, for operands that are f16 in memory.

import { isStatic } from "../ir/dims.ts";
import type { Expr } from "../ir/expr.ts";
import type { ConvTask, GemmTask } from "../ir/task.ts";
import type { Caps } from "../util/caps.ts";
import { known } from "./frame.ts";
import { emitMatrix, isHalf, type MatrixOperands, matrixCost, matrixOf, matrixTiles } from "./matrix.ts";
import { asGemm, isContiguous } from "./product.ts";
import { type Config, type Kernel, tactic } from "./tactic.ts";
import { loadEight, vectorLoad } from "./vector.ts";

const shapeOf = (caps: Caps) => matrixOf(caps, "f16", "f32", 16);

const applicable = (task: GemmTask | ConvTask, caps: Caps): boolean => {
  if (!shapeOf(caps) || !caps.f16 || task.acc.type !== "f32") return false;
  if (task.kind === "conv")
    return isStatic(task.oc.extent) && task.oc.extent / task.groups >= 8 && isHalf(task.x) && isHalf(task.w);
  return isHalf(task.a) && isHalf(task.b);
};

/** Whether to read neighbours of an operand along `v` rather than `k`: where they are one vector, or close in memory. */
const isAlong = (e: Expr, v: GemmTask["m"], k: GemmTask["k"], caps: Caps): boolean =>
  [8, 4].map((count) => [v, k].map((axis) => vectorLoad(e, axis, caps, count) !== undefined)).find(([a, b]) => a || b)?.[0] ??
  isContiguous([e], v);

const operandsOf = ({ a, b, m, n, k }: GemmTask, caps: Caps): MatrixOperands => {
  return { bytes: 2, hasZero: false, alongM: isAlong(a, m, k, caps), alongN: isAlong(b, n, k, caps) };
};

function candidates(task: GemmTask | ConvTask, caps: Caps): Iterable<Config> {
  const gemm = asGemm(task);
  return matrixTiles(gemm, operandsOf(gemm, caps), caps);
}

function cost(task: GemmTask | ConvTask, config: Config, caps: Caps): number {
  const gemm = asGemm(task);
  return matrixCost(gemm, config, operandsOf(gemm, caps), caps);
}

const likelihood = (task: GemmTask | ConvTask): number => {
  const { m, n, k } = asGemm(task);
  return known(m.extent) >= 16 && known(n.extent) >= 16 && known(k.extent) >= 16 ? 0.9 : 0.1;
};

const emit = (task: GemmTask | ConvTask, config: Config, caps: Caps): Kernel =>
  emitMatrix(task, config, caps, shapeOf(caps)!, (frame) => {
    const { a, b, m, n, k } = frame.gemm;
    const operands = operandsOf(frame.gemm, caps);
    const { alongM, alongN } = operands;
    const isWhole = isStatic(k.extent) && k.extent % (config.tileK as number) === 0;
    return {
      ...operands,
      hooks: {
        zero_a: "  return f32();",
        missing_a: "  return vec4<u32>();",
        missing_b: "  return vec4<u32>();",
        load_a: loadEight(frame, a, { v: alongM ? m : k, other: alongM ? k : m, summed: k, isWhole }),
        load_b: loadEight(frame, b, { v: alongN ? n : k, other: alongN ? k : n, summed: k, isWhole }),
      },
    };
  });

export const gemmMatrix = tactic("gemm", { name: "gemm.matrix", applicable, likelihood, candidates, cost, emit });
export const convMatrix = tactic("conv", { name: "conv.matrix", applicable, likelihood, candidates, cost, emit });
