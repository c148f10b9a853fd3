// GEMM and implicit-GEMM convolution on subgroup matrices, for operands that are f16 in memory.

import gemmMatrixShader from "../../shaders/gemm_matrix.wgsl";
import { isStatic } from "../ir/dims.ts";
import { type Expr, loadsOf } from "../ir/expr.ts";
import type { ConvTask, GemmTask } from "../ir/task.ts";
import type { Caps } from "../util/caps.ts";
import { frameOf, known } from "./frame.ts";
import { addMatrixShader, type MatrixTile, matrixOf, matrixSpecs, matrixTiles } from "./matrix.ts";
import { asGemm } from "./product.ts";
import { specialize } from "./specialize.ts";
import { type Config, type Kernel, tactic } from "./tactic.ts";
import { isAlong, loadFour } from "./vector.ts";

const TILES: readonly MatrixTile[] = [
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
];

const shapeOf = (caps: Caps) => matrixOf(caps, "f16", "f32", 16);

/** True when every float that the operands load is f16, so that nothing is lost by multiplying in f16. */
const isHalf = (e: Expr): boolean => {
  const loads = loadsOf([e]).filter(({ type }) => type === "f32");
  return loads.length > 0 && loads.every(({ value }) => value.dtype === "f16");
};

const applicable = (task: GemmTask | ConvTask, caps: Caps): boolean => {
  if (!shapeOf(caps) || !caps.f16 || task.acc.type !== "f32") return false;
  if (task.kind === "conv")
    return isStatic(task.oc.extent) && task.oc.extent / task.groups >= 8 && isHalf(task.x) && isHalf(task.w);
  return isHalf(task.a) && isHalf(task.b);
};

/** Rows of both tiles are padded by 8 elements. */
const candidates = (task: GemmTask | ConvTask, caps: Caps): Iterable<Config> =>
  matrixTiles(TILES, asGemm(task), caps, {
    bytes: ([tileM, tileN, tileK]) => 2 * (tileM * (tileK + 8) + tileK * (tileN + 8)),
    strips: 1,
    lane: 4,
  });

const likelihood = (task: GemmTask | ConvTask): number => {
  const { m, n, k } = asGemm(task);
  return known(m.extent) >= 16 && known(n.extent) >= 16 && known(k.extent) >= 16 ? 0.9 : 0.1;
};

export const gemmMatrix = tactic("gemm", { name: "gemm.matrix", applicable, likelihood, candidates, emit: emitMatrix });
export const convMatrix = tactic("conv", { name: "conv.matrix", applicable, likelihood, candidates, emit: emitMatrix });

function emitMatrix(task: GemmTask | ConvTask, config: Config, caps: Caps): Kernel {
  const frame = frameOf(task, caps);
  const { m, n, k, a, b } = frame.gemm;
  const [alongM, alongN] = [isAlong(a, m, k, caps), isAlong(b, n, k, caps)];
  const specs = matrixSpecs(config, shapeOf(caps)!, caps);
  const text = specialize("gemm_matrix", gemmMatrixShader, {
    specs: { T: "f16", ACC: "f32", ...specs, A_ALONG_M: alongM, B_ALONG_N: alongN },
    hooks: {
      ...frame.sizes,
      load_a: alongM ? loadFour(frame, a, m, k, "f16") : loadFour(frame, a, k, m, "f16"),
      load_b: alongN ? loadFour(frame, b, n, k, "f16") : loadFour(frame, b, k, n, "f16"),
      store: frame.storeOne(),
    },
  });
  addMatrixShader(frame, text, "f16");
  return frame.tiles(specs.TILE_M, specs.TILE_N);
}
