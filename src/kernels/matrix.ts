// What the tactics on subgroup matrices share: which matrices a device multiplies, which tiles of them suit a product.

import type { GemmTask } from "../ir/task.ts";
import type { Caps, MatrixConfig } from "../util/caps.ts";
import { coverOf, type Frame, known, wasteOf } from "./frame.ts";
import type { Config } from "./tactic.ts";

/** [tile m, tile n, tile k, results a subgroup makes along m, along n, slices of the depth]. */
export type MatrixTile = readonly [number, number, number, number, number, number];

/** The device's matrix of 16 x 16 results and depth `k`, in the dialect that the shaders are in. */
export const matrixOf = (caps: Caps, component: MatrixConfig["component"], result: MatrixConfig["result"], depth: number) =>
  caps.matrixDialect !== "template"
    ? undefined
    : caps.matrix.find((each) => {
        const { m, n, k } = each;
        return each.component === component && each.result === result && m === 16 && n === 16 && k === depth;
      });

/**
 * Tiles that fit the device, the one that is likely best first. `bytes`: workgroup memory of a tile without the strips through
 * which results leave; `strips`: how many of those a subgroup has; `lane`: elements that an invocation fetches at a time.
 */
export function* matrixTiles(
  tiles: readonly MatrixTile[],
  gemm: GemmTask,
  caps: Caps,
  { bytes, strips, lane }: { bytes: (tile: MatrixTile) => number; strips: number; lane: number },
): Generator<Config> {
  const depth = known(gemm.k.extent);
  const score = ([tileM, tileN, tileK]: MatrixTile): number => {
    // Stages follow one another: few deep ones hide memory's latency where there is no second workgroup to switch to.
    const stages = Math.ceil(depth / tileK);
    const latency = coverOf(gemm, tileM, tileN).groups < 400 ? 1 + stages / 16 : 1;
    return wasteOf(gemm, tileM, tileN, { idle: 0.7, reread: 64 }) * latency * (tileK > 2 * depth ? 2 : 1);
  };
  for (const tile of [...tiles].sort((a, b) => score(a) - score(b))) {
    const [tileM, tileN, tileK, subM, subN, slices] = tile;
    const subgroups = (tileM / subM) * (tileN / subN) * slices;
    const threads = subgroups * caps.subgroupMaxSize;
    if (threads > caps.limits.maxComputeInvocationsPerWorkgroup) continue;
    if (bytes(tile) + subgroups * 16 * 20 * 4 * strips > caps.limits.maxComputeWorkgroupStorageSize) continue;
    if ((tileM * tileK) % (lane * threads) || (tileN * tileK) % (lane * threads)) continue;
    yield { tileM, tileN, tileK, subM, subN, slices };
  }
}

/** What the shaders are told of a tile. */
export function matrixSpecs(config: Config, matrix: MatrixConfig, caps: Caps) {
  const { tileM, tileN, tileK, subM, subN, slices } = config as Readonly<Record<string, number>>;
  return {
    M: matrix.m,
    N: matrix.n,
    K: matrix.k,
    TILE_M: tileM!,
    TILE_N: tileN!,
    TILE_K: tileK!,
    SUB_M: subM!,
    SUB_N: subN!,
    SLICES: slices!,
    SUBGROUP: caps.subgroupMaxSize,
  };
}

/** Adds a shader on subgroup matrices to the module, which asks for their features itself. */
export function addMatrixShader({ module }: Frame, text: string, ...features: readonly string[]): void {
  for (const feature of ["subgroups", "chromium_experimental_subgroup_matrix", ...features]) module.features.add(feature);
  module.add(text.replace(/^(?:enable|diagnostic).*\n/gm, ""));
}
