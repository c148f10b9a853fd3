// Winograd's F(2×2, 3×3) without scratch memory: transforms and products in one kernel, for layers whose transformed input
// would not stay in the cache.

import winogradFusedShader from "../../shaders/winograd_fused.wgsl";
import { ceilDiv, type Dim, isStatic, product } from "../ir/dims.ts";
import { type Expr, int, load, type Slot, slot, unflatten, type Var, variable } from "../ir/expr.ts";
import type { ConvTask } from "../ir/task.ts";
import type { Caps } from "../util/caps.ts";
import { fitsBuffers } from "./chain.ts";
import { gridOf as groupsOf } from "./grid.ts";
import { besideMatrices } from "./matrix.ts";
import { specialize } from "./specialize.ts";
import { type Config, type Kernel, tactic } from "./tactic.ts";
import { inputAt, storesAt, tilesOf } from "./tiles.ts";
import { alongAxes, combineExpressions, filtersOf, gridOf, isWinograd, winogradWeights } from "./winograd.ts";
import { Block, Module } from "./writer.ts";

const OUTPUTS = 2;
const SIZES = [OUTPUTS, OUTPUTS] as const;
const POINTS = 16;
/** [tiles, output channels, input channels a stage, tiles and output channels of an invocation]. */
const SHAPES = [
  [32, 32, 8, 8, 8],
  [32, 64, 4, 8, 8],
  [32, 32, 8, 4, 8],
  [16, 32, 4, 4, 8],
  [16, 16, 4, 2, 8],
] as const;

const sizeOr = (dim: Dim): number => (isStatic(dim) ? dim : 512);

export const convWinogradFused = tactic("conv", {
  name: "conv.winograd-fused",
  applicable: (task, caps) =>
    isWinograd(task, caps) &&
    task.groups === 1 &&
    task.kernel.length === 2 &&
    task.kernel.every(({ extent }) => extent === 3) &&
    fitsBuffers([winogradWeights(task, filtersOf(task, OUTPUTS), "f32").value], caps),
  likelihood: (task, caps) => {
    const channels = Math.min(sizeOr(task.ic.extent), sizeOr(task.oc.extent));
    return channels < 16 || caps.tier === "core" ? 0.15 : 0.2 * besideMatrices(task, caps);
  },
  *candidates(task, caps) {
    const tiles = sizeOr(tilesOf(task, SIZES).count);
    const waste = ([t, w]: readonly number[]): number =>
      (Math.ceil(tiles / t!) * t! * Math.ceil(sizeOr(task.oc.extent) / w!) * w!) / (tiles * sizeOr(task.oc.extent)) +
      8 / t! +
      8 / w!;
    for (const [t, width, depth, partTiles, partWidth] of [...SHAPES].sort((a, b) => waste(a) - waste(b))) {
      const threads = (POINTS * t * width) / (partTiles * partWidth);
      const bytes = 4 * POINTS * (depth * (t + width) + (t * width) / partWidth);
      if (threads > caps.limits.maxComputeInvocationsPerWorkgroup || bytes > caps.limits.maxComputeWorkgroupStorageSize)
        continue;
      yield { tiles: t, width, depth, partTiles, partWidth };
    }
  },
  emit: emitFused,
});

function emitFused(task: ConvTask, config: Config, caps: Caps): Kernel {
  const { tiles, width, depth, partTiles, partWidth } = config as Record<
    "tiles" | "width" | "depth" | "partTiles" | "partWidth",
    number
  >;
  const module = new Module(caps);
  const filters = filtersOf(task, OUTPUTS);
  const weights = winogradWeights(task, filters, "f32");
  const { shape, count } = tilesOf(task, SIZES);
  const [tile, k, n, point] = [
    variable("tile", count),
    variable("k", task.ic.extent),
    variable("n", task.oc.extent),
    variable("point", POINTS),
  ];
  const [b, ...t] = unflatten(tile, shape) as [Expr, ...Expr[]];
  const grid = gridOf(filters.map((filter) => filter.b.length));
  const hook = (parameters: readonly (readonly [Var, string])[], write: (block: Block) => void): string => {
    const block = new Block(module);
    for (const [v, name] of parameters) block.bind(v, name);
    write(block);
    return block.text();
  };
  const size = (dim: Dim): string => `  return ${module.dim(dim)};`;
  module.add(
    specialize("winograd_fused", winogradFusedShader, {
      specs: { TILES: tiles, WIDTH: width, DEPTH: depth, PART_TILES: partTiles, PART_WIDTH: partWidth },
      hooks: {
        size_tiles: size(count),
        size_n: size(task.oc.extent),
        size_k: size(task.ic.extent),
        put_input: hook(
          [
            [tile, "tile"],
            [k, "k"],
          ],
          (block) => {
            const points = alongAxes(
              grid.map((at) => inputAt(task, SIZES, b, t, k, at.map(int))),
              filters.map((filter) => filter.b),
              combineExpressions,
            );
            points.forEach((e, p) => block.line(`inputs[at + ${p}u * DEPTH * TILES] = ${block.value(e)};`));
          },
        ),
        load_weight: hook(
          [
            [point, "point"],
            [k, "k"],
            [n, "n"],
          ],
          (block) => block.line(`return ${block.value(load(weights.value, [point, k, n]))};`),
        ),
        finish: hook(
          [
            [tile, "tile"],
            [n, "n"],
          ],
          (block) => {
            const sums = grid.map((_, p): Slot => {
              const sum = slot(`sum${p}`, "f32");
              const name = block.fresh();
              block.line(`let ${name} = sums[at + ${p}u * TILES * LANES_W];`);
              block.bind(sum, name);
              return sum;
            });
            const results = alongAxes<Expr>(
              sums,
              filters.map(({ a }) => a),
              combineExpressions,
            ).map((e) => {
              const result = slot("y", "f32");
              block.bind(result, block.value(e));
              return result;
            });
            gridOf(SIZES).forEach((at, i) => {
              for (const store of storesAt(task, SIZES, b, t, n, at.map(int), results[i]!)) block.store(store);
            });
          },
        ),
      },
    }),
  );
  return {
    steps: [module.step(groupsOf(product([ceilDiv(task.oc.extent, width), ceilDiv(count, tiles)])))],
    scratch: [],
    packed: [weights],
  };
}
