// What the tactics on subgroup matrices share: which matrices a device multiplies, which tiles of them suit a product, and the
// shader that runs them.

import gemmMatrixShader from "../../shaders/gemm_matrix.wgsl";
import { type Expr, loadsOf } from "../ir/expr.ts";
import type { ConvTask, GemmTask } from "../ir/task.ts";
import type { Caps, MatrixConfig } from "../util/caps.ts";
import { coverOf, type Frame, frameOf, known, PROCESSOR, turnsOf } from "./frame.ts";
import { asGemm } from "./product.ts";
import { areBytes, type Count, resultsOf, storeApart } from "./results.ts";
import { specialize } from "./specialize.ts";
import type { Config, Kernel } from "./tactic.ts";

/**
 * [tile m, tile n, bytes of its depth, results a subgroup makes along m, along n, slices, stages in workgroup memory, ahead of it,
 * whether loads ahead are not tested]. Depths are in bytes, so that one list serves f16 and i8, whose matrices have half and all as
 * many elements. The first sixteen are what was left of some 900, drawn at random, when 27 products of ResNet-50, BERT and ViT had
 * each kept its fastest (bench/H200.md); the others are for what those products are not: fewer results along n, shallow sums.
 */
type Tile = readonly [number, number, number, number, number, number, number, number, boolean];

const TILES: readonly Tile[] = [
  [256, 64, 128, 32, 64, 1, 1, 1, false],
  [192, 128, 128, 48, 64, 1, 1, 1, false],
  [160, 128, 64, 80, 64, 1, 1, 1, true],
  [128, 128, 64, 64, 64, 1, 1, 1, true],
  [128, 64, 128, 64, 32, 2, 1, 1, false],
  [96, 128, 128, 48, 64, 1, 1, 1, false],
  [96, 64, 128, 96, 32, 2, 1, 1, true],
  [96, 64, 256, 48, 64, 4, 1, 1, false],
  [64, 64, 128, 32, 32, 2, 1, 1, false],
  [32, 128, 128, 32, 32, 1, 1, 1, false],
  [32, 64, 128, 32, 32, 2, 1, 1, false],
  [32, 64, 128, 16, 32, 1, 2, 1, false],
  [32, 64, 256, 32, 32, 4, 1, 1, false],
  [32, 32, 256, 16, 32, 2, 1, 1, false],
  [16, 64, 256, 16, 32, 4, 1, 1, false],
  [16, 32, 512, 16, 32, 4, 1, 1, false],
  [128, 256, 64, 64, 64, 1, 1, 1, true],
  [128, 192, 128, 64, 48, 1, 1, 1, false],
  [128, 128, 128, 64, 32, 1, 1, 1, false],
  [128, 64, 64, 64, 32, 1, 1, 1, false],
  [128, 32, 64, 32, 32, 1, 1, 1, false],
  [128, 32, 128, 32, 32, 1, 1, 1, false],
  [128, 16, 64, 32, 16, 1, 1, 1, false],
  [128, 16, 128, 32, 16, 1, 1, 1, false],
  [64, 64, 64, 32, 32, 1, 1, 1, false],
  [64, 32, 64, 32, 16, 1, 1, 1, false],
  [64, 16, 128, 16, 16, 1, 2, 1, false],
  [32, 32, 64, 16, 16, 1, 1, 1, false],
  [32, 32, 128, 16, 32, 2, 1, 1, false],
  [32, 32, 256, 32, 16, 4, 1, 1, false],
  [32, 16, 256, 16, 16, 2, 1, 1, false],
  [16, 32, 256, 16, 32, 4, 1, 1, false],
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

/** What is left of the likelihood of a kernel without tensor cores where the product has the types and the size for them. */
export function besideMatrices(task: GemmTask | ConvTask, caps: Caps): number {
  const { a, b, m, n, k, acc } = asGemm(task);
  if ([m, n, k].some(({ extent }) => known(extent) < 16)) return 1;
  const suits =
    acc.type === "i32"
      ? matrixOf(caps, "i8", "i32", 32)
      : isHalf(a) && isHalf(b)
        ? matrixOf(caps, "f16", "f32", 16)
        : undefined;
  return suits ? 0.3 : 1;
}

interface Shape {
  readonly tileM: number;
  readonly tileN: number;
  readonly tileK: number;
  readonly subM: number;
  readonly subN: number;
  readonly slices: number;
  readonly stages: number;
  readonly ahead: number;
  readonly straight: boolean;
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

/** Bytes of workgroup memory in which operands are staged. Lines are padded by sixteen bytes. */
function stagedBytes({ tileM, tileN, tileK, stages }: Shape, { bytes, alongM, alongN }: MatrixOperands): number {
  const staged = (lines: number, length: number): number => lines * (length * bytes + 16);
  const a = alongM ? staged(tileK, tileM) : staged(tileM, tileK);
  const b = alongN ? staged(tileK, tileN) : staged(tileN, tileK);
  return stages * (a + b);
}

/** Fragments along n that leave at once, through the memory that operands were staged in: as many as there is room for, or 0. */
function passOf(shape: Shape, operands: MatrixOperands, caps: Caps): number {
  const room = caps.limits.maxComputeWorkgroupStorageSize;
  if (stagedBytes(shape, operands) > room) return 0;
  return [4, 2, 1].find((pass) => (shape.subN / 16) % pass === 0 && stripBytes(shape, operands, pass) <= room) ?? 0;
}

/** Bytes of the strips, one a subgroup, and of those of sums of columns where the left operand has a zero. */
const stripBytes = (shape: Shape, { hasZero }: MatrixOperands, pass: number): number =>
  subgroupsOf(shape) * 16 * (16 * pass + 8) * 4 * (hasZero ? 2 : 1);

/** Bytes of workgroup memory that a processor has for kernels of this kind. */
const WORKGROUP_BYTES = 50_000;

/**
 * Cycles that a product is expected to take. Per stage: its multiplications and what passes through a processor's first-level memory
 * (the tile's lines once, fragments once a subgroup), of all workgroups there, but no less than memory's latency; then barriers.
 * Fitted to 2,535 measurements, of which it names one within 1.1 % of the fastest (geometric mean over 27 products).
 */
function expectedCycles(gemm: GemmTask, shape: Shape, operands: MatrixOperands, caps: Caps): number {
  const { tileM, tileN, tileK, subM, subN, stages } = shape;
  const { groups } = coverOf(gemm, tileM, tileN);
  const bytes = tileK * operands.bytes;
  const staged = stages * (tileM + tileN) * (bytes + 16);
  const registers = Math.min(255, (subM * subN) / caps.subgroupMaxSize + 90);
  const threads = subgroupsOf(shape) * caps.subgroupMaxSize;
  const room = Math.min(WORKGROUP_BYTES / (staged + 1024), PROCESSOR.registers / (threads * registers));
  const { together, waves } = turnsOf(groups, room);
  const multiplied = (tileM * tileN * bytes) / 2560;
  const moved = ((tileM + tileN) * bytes) / 64 + (tileM * tileN * bytes * (1 / subM + 1 / subN)) / 128;
  const stage = Math.max(300, together * (1.2 * multiplied + 1.1 * moved)) + 100;
  return waves * (1500 + Math.ceil(known(gemm.k.extent) / tileK) * stage + (together * tileM * tileN) / 256);
}

/** Tiles that fit the device, the one that is expected to be fastest first. */
export function* matrixTiles(gemm: GemmTask, operands: MatrixOperands, caps: Caps): Generator<Config> {
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
  const shapes = TILES.map(([tileM, tileN, deep, subM, subN, slices, stages, ahead, straight]): Shape => {
    return { tileM, tileN, tileK: deep / operands.bytes, subM, subN, slices, stages, ahead, straight };
  });
  // Large tiles store bytes sixteen at a time or four, whichever is faster: more in an instruction or more invocations at work.
  const runs = (shape: Shape): Config[] =>
    operands.bytes === 1 && shape.slices === 1 && areBytes(gemm, caps) ? [{ ...shape }, { ...shape, run: 16 }] : [{ ...shape }];
  const byCycles = shapes.filter(fits).map((shape) => ({ shape, cycles: expectedCycles(gemm, shape, operands, caps) }));
  for (const { shape } of byCycles.sort((a, b) => a.cycles - b.cycles)) yield* runs(shape);
}

/** `Tactic.cost` of a configuration. */
export const matrixCost = (gemm: GemmTask, config: Config, operands: MatrixOperands, caps: Caps): number =>
  expectedCycles(gemm, config as unknown as Shape, operands, caps) / PROCESSOR.gigahertz;

/** Registers for what results need beside their sums: enough loads on their way to use all of memory's speed. */
const BESIDE_REGISTERS = 24;

/** The kernel for operands whose hooks the caller writes. */
export function emitMatrix(
  task: GemmTask | ConvTask,
  config: Config,
  caps: Caps,
  matrix: MatrixConfig,
  operandsOf: (frame: Frame) => MatrixOperands & {
    readonly hooks: Readonly<Record<"zero_a" | "missing_a" | "missing_b" | "load_a" | "load_b", string>>;
  },
): Kernel {
  const frame = frameOf(task, caps);
  const { module } = frame;
  const { hooks, ...operands } = operandsOf(frame);
  const shape = config as unknown as Shape;
  const { tileM, tileN, tileK, subM, subN, slices, stages, ahead, straight } = shape;
  const span = 16 / operands.bytes;
  const threads = subgroupsOf(shape) * caps.subgroupMaxSize;
  const pass = passOf(shape, operands, caps);
  const run = (config.run as Count | undefined) ?? resultsOf(frame);
  const { Along, Beside, words, ...stores } = storeApart(frame, run);
  const rounds = Math.max(1, (matrix.m * pass * matrix.n) / run / (slices * caps.subgroupMaxSize));
  const strips = (subM / matrix.m) * (subN / matrix.n / pass);
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
      STRAIGHT: straight,
      SPAN: span,
      RUN: run,
      RUN_VECTORS: run / 4,
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
      ROUNDS: rounds,
      Along,
      Beside,
      DEEP: words === 0 ? 1 : Math.min(strips, Math.max(1, Math.floor(BESIDE_REGISTERS / (rounds * words)))),
      BESIDES: words > 0,
      SHIFTED_A: operands.hasZero,
      VECTORS: Math.max(stagedBytes(shape, operands), stripBytes(shape, operands, pass)) / 16,
      ONE: matrix.component === "f16" ? "1.0h" : "1i",
    },
    hooks: { ...frame.sizes, tile_at: frame.tileAt(tileM, tileN, 8), ...hooks, ...stores },
  });
  for (const feature of ["subgroups", "chromium_experimental_subgroup_matrix"]) module.features.add(feature);
  if (matrix.component === "f16") module.features.add("f16");
  module.add(text.replace(/^(?:enable|diagnostic).*\n/gm, ""));
  return frame.tiles(tileM, tileN);
}
