// What the tactics on subgroup matrices share: which matrices a device multiplies, which tiles of them suit a product, and the
// shader that runs them.

import gemmMatrixShader from "../../shaders/gemm_matrix.wgsl";
import { type Expr, loadsOf } from "../ir/expr.ts";
import type { ConvTask, GemmTask } from "../ir/task.ts";
import type { Caps, MatrixConfig } from "../util/caps.ts";
import { coverOf, type Frame, frameOf, known, wasteOf } from "./frame.ts";
import { resultsOf, storeResults } from "./results.ts";
import { specialize } from "./specialize.ts";
import type { Config, Kernel } from "./tactic.ts";

/** [tile m, tile n, bytes of its depth, results a subgroup makes along m, along n, slices, stages in workgroup memory, ahead of it]. */
type Tile = readonly [number, number, number, number, number, number, number, number];

/** Depths are in bytes, so that one list serves f16 and i8, whose matrices have half and all as many elements. */
const TILES: readonly Tile[] = [
  [256, 128, 64, 64, 64, 1, 1, 1],
  [128, 256, 64, 64, 64, 1, 1, 1],
  [256, 128, 64, 64, 32, 1, 1, 1],
  [128, 256, 64, 64, 32, 1, 1, 1],
  [128, 256, 64, 64, 64, 1, 1, 2],
  [128, 256, 64, 64, 64, 1, 2, 1],
  [128, 128, 128, 64, 64, 1, 1, 1],
  [128, 128, 128, 64, 32, 1, 1, 1],
  [128, 128, 128, 32, 64, 1, 1, 1],
  [128, 128, 128, 32, 32, 1, 1, 1],
  [128, 128, 64, 64, 64, 1, 1, 1],
  [128, 128, 64, 64, 32, 1, 1, 1],
  [128, 128, 64, 64, 32, 1, 1, 2],
  [128, 128, 64, 32, 64, 1, 2, 1],
  [128, 64, 64, 64, 32, 1, 2, 1],
  [128, 64, 128, 32, 64, 1, 1, 1],
  [64, 128, 64, 32, 64, 1, 2, 1],
  [64, 128, 128, 32, 64, 1, 1, 1],
  [64, 64, 128, 32, 32, 1, 1, 1],
  [64, 64, 128, 32, 32, 1, 2, 1],
  [64, 64, 128, 32, 32, 1, 2, 2],
  [64, 64, 256, 32, 32, 2, 1, 1],
  [64, 64, 256, 32, 32, 2, 1, 2],
  [64, 32, 256, 32, 16, 2, 1, 2],
  [64, 32, 128, 32, 16, 1, 2, 2],
  [64, 16, 256, 32, 16, 2, 1, 2],
  [32, 64, 256, 16, 32, 2, 1, 2],
  [32, 64, 128, 16, 32, 1, 2, 2],
  [32, 32, 64, 16, 16, 1, 1, 1],
  [32, 32, 128, 16, 16, 1, 2, 1],
  [32, 32, 128, 16, 16, 1, 2, 3],
  [32, 32, 256, 16, 16, 2, 2, 1],
  [32, 32, 256, 16, 16, 2, 2, 2],
  [32, 32, 512, 16, 16, 4, 1, 2],
  [32, 32, 512, 32, 16, 4, 1, 1],
  [32, 32, 512, 32, 16, 4, 1, 2],
  [16, 64, 512, 16, 32, 4, 1, 2],
  [16, 32, 512, 16, 16, 4, 1, 2],
  [32, 16, 512, 16, 16, 4, 1, 1],
  [32, 16, 512, 16, 16, 4, 1, 2],
  [128, 32, 128, 32, 32, 1, 2, 1],
  [32, 128, 128, 32, 32, 1, 2, 1],
];

/** The device's matrix of 16 x 16 results and depth `k`, in the dialect that the shader is in. */
export const matrixOf = (caps: Caps, component: MatrixConfig["component"], result: MatrixConfig["result"], depth: number) =>
  caps.matrixDialect !== "template"
    ? undefined
    : caps.matrix.find((each) => {
        const { m, n, k } = each;
        return each.component === component && each.result === result && m === 16 && n === 16 && k === depth;
      });

/** True when every float that the operands load is f16, so that nothing is lost by multiplying in f16. */
export const isHalf = (e: Expr): boolean => {
  const loads = loadsOf([e]).filter(({ type }) => type === "f32");
  return loads.length > 0 && loads.every(({ value }) => value.dtype === "f16");
};

interface Shape {
  readonly tileM: number;
  readonly tileN: number;
  readonly tileK: number;
  readonly subM: number;
  readonly subN: number;
  readonly slices: number;
  readonly stages: number;
  readonly ahead: number;
}

/** What an element takes, and whether sums of columns leave beside the results. */
export interface MatrixOperands {
  readonly bytes: 1 | 2;
  readonly hasZero: boolean;
  /** Whether neighbours of an operand in memory lie along m (n) rather than along k. */
  readonly alongM: boolean;
  readonly alongN: boolean;
}

const subgroupsOf = ({ tileM, tileN, subM, subN, slices }: Shape): number => (tileM / subM) * (tileN / subN) * slices;

/** Bytes of workgroup memory without the strips through which results leave. Lines are padded by sixteen bytes. */
function bytesOf({ tileM, tileN, tileK, stages }: Shape, { bytes, alongM, alongN }: MatrixOperands): number {
  const staged = (lines: number, length: number): number => lines * (length * bytes + 16);
  const a = alongM ? staged(tileK, tileM) : staged(tileM, tileK);
  const b = alongN ? staged(tileK, tileN) : staged(tileN, tileK);
  return stages * (a + b);
}

/** Fragments along n that leave at once: as many as there is room for; 0 where there is none. */
function passOf(shape: Shape, operands: MatrixOperands, caps: Caps): number {
  const room = caps.limits.maxComputeWorkgroupStorageSize - bytesOf(shape, operands);
  const bytes = (fragments: number): number => subgroupsOf(shape) * 16 * (16 * fragments + 4) * 4 * (operands.hasZero ? 2 : 1);
  return [4, 2, 1].find((fragments) => (shape.subN / 16) % fragments === 0 && bytes(fragments) <= room) ?? 0;
}

/** Tiles that fit the device, the one that is likely best first. */
export function* matrixTiles(gemm: GemmTask, operands: MatrixOperands, caps: Caps): Generator<Config> {
  const depth = known(gemm.k.extent);
  const shapes = TILES.map(([tileM, tileN, deep, subM, subN, slices, stages, ahead]): Shape => {
    return { tileM, tileN, tileK: deep / operands.bytes, subM, subN, slices, stages, ahead };
  });
  const score = ({ tileM, tileN, tileK, ahead }: Shape): number => {
    // Stages follow one another: few deep ones, or many on their way, hide memory's latency where there is no second workgroup.
    const rounds = Math.ceil(depth / tileK / ahead);
    const latency = coverOf(gemm, tileM, tileN).groups < 400 ? 1 + rounds / 16 : 1;
    return wasteOf(gemm, tileM, tileN, { idle: 0.7, reread: 64 }) * latency * (tileK > 2 * depth ? 2 : 1);
  };
  const span = 16 / operands.bytes;
  const fits = (shape: Shape): boolean => {
    const { tileM, tileN, tileK } = shape;
    const threads = subgroupsOf(shape) * caps.subgroupMaxSize;
    return (
      threads <= caps.limits.maxComputeInvocationsPerWorkgroup &&
      passOf(shape, operands, caps) > 0 &&
      (tileM * tileK) % (span * threads) === 0 &&
      (tileN * tileK) % (span * threads) === 0
    );
  };
  for (const shape of shapes.filter(fits).sort((a, b) => score(a) - score(b))) yield { ...shape };
}

/** The kernel for operands whose hooks the caller writes. */
export function emitMatrix(
  task: GemmTask | ConvTask,
  config: Config,
  caps: Caps,
  matrix: MatrixConfig,
  operandsOf: (frame: Frame) => MatrixOperands & { readonly hooks: Readonly<Record<"zero_a" | "load_a" | "load_b", string>> },
): Kernel {
  const frame = frameOf(task, caps);
  const { module } = frame;
  const { hooks, ...operands } = operandsOf(frame);
  const shape = config as unknown as Shape;
  const { tileM, tileN, tileK, subM, subN, slices, stages, ahead } = shape;
  const span = 16 / operands.bytes;
  const threads = subgroupsOf(shape) * caps.subgroupMaxSize;
  const pass = passOf(shape, operands, caps);
  const run = resultsOf(frame);
  const text = specialize("gemm_matrix", gemmMatrixShader, {
    specs: {
      T: matrix.component,
      ACC: matrix.result,
      M: matrix.m,
      N: matrix.n,
      K: matrix.k,
      TILE_M: tileM,
      TILE_N: tileN,
      TILE_K: tileK,
      SUB_M: subM,
      SUB_N: subN,
      SUBGROUP: caps.subgroupMaxSize,
      SLICES: slices,
      STAGES: stages,
      AHEAD: ahead,
      GROUP: 8,
      SPAN: span,
      RUN: run,
      PASS: pass,
      A_ALONG_M: operands.alongM,
      B_ALONG_N: operands.alongN,
      LINES_A: operands.alongM ? tileK : tileM,
      LINES_B: operands.alongN ? tileK : tileN,
      SPANS_A: (operands.alongM ? tileM : tileK) / span,
      SPANS_B: (operands.alongN ? tileN : tileK) / span,
      FETCHES_A: (tileM * tileK) / span / threads,
      FETCHES_B: (tileN * tileK) / span / threads,
      FRAGMENTS_M: subM / matrix.m,
      FRAGMENTS_N: subN / matrix.n,
      STEPS: tileK / matrix.k / slices,
      PASSES: subN / matrix.n / pass,
      SHIFTED_A: operands.hasZero,
      COLUMN_STRIPS: operands.hasZero ? 1 : 0,
      ONE: matrix.component === "f16" ? "1.0h" : "1i",
    },
    hooks: { ...frame.sizes, ...hooks, store: storeResults(frame, run) },
  });
  for (const feature of ["subgroups", "chromium_experimental_subgroup_matrix"]) module.features.add(feature);
  if (matrix.component === "f16") module.features.add("f16");
  module.add(text.replace(/^(?:enable|diagnostic).*\n/gm, ""));
  return frame.tiles(tileM, tileN);
}
