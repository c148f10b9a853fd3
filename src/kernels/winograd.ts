// Convolution by Winograd's minimal filtering in three steps: tiles of the input transformed, a product of channels for each
// point of the transform, results transformed back. Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2016;
// here over any number of spatial axes, along each of which a kernel of r taps is F(m, r) and one of a single tap nothing.

import { type Dim, isStatic, product } from "../ir/dims.ts";
import { add, type Expr, flatten, float, int, load, mul, slot, sub, unary, type Var, variable, variables } from "../ir/expr.ts";
import type { ConvTask, GemmTask, MapTask, ReduceTask, Store } from "../ir/task.ts";
import { makeValue, type Value } from "../ir/value.ts";
import type { Caps } from "../util/caps.ts";
import { emitProduct, fitsBuffers, inTurn, productConfigs, type Variant, variantCost } from "./chain.ts";
import { type Filter, filterOf, MOST_POINTS } from "./cook-toom.ts";
import { mapElement } from "./map.ts";
import { channelTaps, constantWeights, type Packed, packed } from "./packing.ts";
import { storesElements } from "./product.ts";
import { reduceThread } from "./reduce.ts";
import { remembering } from "./remember.ts";
import { type Config, type Kernel, tactic } from "./tactic.ts";
import { inputAt, isHalf, storesAt, tilesOf } from "./tiles.ts";

/** Points of a transform beyond which a tile no longer fits registers. */
const MOST_TILE = 64;
/** Configurations of the product that are tried with each size of the transform. */
const PRODUCTS = 4;
const sizeOr = (dim: Dim): number => (isStatic(dim) ? dim : 64);

/** One transform an axis. */
export function filtersOf({ kernel }: Pick<ConvTask, "kernel">, outputs: number): readonly Filter[] {
  return kernel.map(({ extent }) => filterOf(extent === 1 ? 1 : outputs, extent as number));
}

const outputsOf = ({ a }: Filter): number => a.length;
const pointsOf = ({ b }: Filter): number => b.length;
const sizeOf = (filters: readonly Filter[]): number => filters.reduce((size, filter) => size * pointsOf(filter), 1);

/** Whether F(outputs, r) exists for the task's kernel. */
function fits({ kernel }: ConvTask, outputs: number): boolean {
  const sizes = kernel.map(({ extent }) => (extent === 1 ? 1 : outputs + (extent as number) - 1));
  return sizes.every((size) => size <= MOST_POINTS) && sizes.reduce((a, b) => a * b, 1) <= MOST_TILE;
}

/** True for what Winograd's algorithm can do: steps of 1, kernels of 2 to 5 taps, channels to sum, weights known when the engine is built. */
export const isWinograd = (task: ConvTask, caps: Caps): boolean =>
  task.acc.type === "f32" &&
  storesElements(task, caps) &&
  sizeOr(task.ic.extent) >= 4 &&
  [...task.strides, ...task.dilations].every((step) => step === 1) &&
  task.kernel.every(({ extent }) => isStatic(extent) && extent <= 5) &&
  task.kernel.some(({ extent }) => extent !== 1) &&
  constantWeights(task) !== undefined;

export const convWinograd = tactic("conv", {
  name: "conv.winograd",
  applicable: isWinograd,
  likelihood: (task, caps) => {
    const channels = Math.min(sizeOr(task.ic.extent), sizeOr(task.oc.extent) / task.groups);
    return channels < 16 || task.kernel.length > 2 ? 0.1 : caps.tier === "core" ? 0.5 : 0.85;
  },
  candidates: (task, caps, all) => productConfigs(variantsOf(task, caps), caps, PRODUCTS, all),
  cost: (task, config, caps) => variantCost(variantsOf(task, caps), config, caps),
  emit: emitWinograd,
});

function variantsOf(task: ConvTask, caps: Caps): readonly Variant[] {
  const variants: Variant[] = [];
  for (const outputs of [4, 2, 6]) {
    if (!fits(task, outputs)) continue;
    // Transforms of larger tiles multiply magnitudes by up to a hundred: f16 would overflow where the layer does not.
    for (const half of isHalf(task) && caps.f16 && outputs === 2 ? [true, false] : [false]) {
      const { gemm, weights, between } = stepsOf(task, outputs, half, caps);
      if (fitsBuffers([...between, weights.value], caps))
        variants.push({ gemm, config: { outputs, half }, part: 0.8, beside: transformsNs(between, weights) });
    }
  }
  return variants;
}

/** Nanoseconds of the transforms on a large GPU: tiles and sums go through the cache twice, an invocation takes its points one by one. */
function transformsNs(between: readonly Value[], { value }: Packed): number {
  const elements = ({ shape }: Value): number => sizeOr(product(shape));
  const moved = between.reduce((sum, each) => sum + 8 * elements(each), 0);
  return 10_000 + moved / 6000 + (4 * elements(value)) / 3000 + 60 * sizeOr(value.shape[0]!);
}

function emitWinograd(task: ConvTask, { outputs, half, ...config }: Config, caps: Caps): Kernel {
  const { gemm, transforms, between, weights } = stepsOf(task, outputs as number, half as boolean, caps);
  const [input, output] = transforms();
  return inTurn([input, emitProduct(gemm, config, caps), output], between, [weights]);
}

interface Steps {
  readonly gemm: GemmTask;
  /** The kernels before and after it. */
  readonly transforms: () => readonly [Kernel, Kernel];
  readonly between: readonly Value[];
  readonly weights: Packed;
}

const remembered = remembering<Steps>();
const stepsOf = (task: ConvTask, outputs: number, half: boolean, caps: Caps): Steps =>
  remembered(task, caps, `${outputs} ${half}`, () => takenApart(task, outputs, half, caps));

function takenApart(task: ConvTask, outputs: number, half: boolean, caps: Caps): Steps {
  const filters = filtersOf(task, outputs);
  const points = sizeOf(filters);
  const dtype = half ? "f16" : "f32";
  const { count: tiles } = tilesOf(task, filters.map(outputsOf));
  const [depth, width] = [task.ic.extent as number, task.oc.extent as number];
  const channels = depth * task.groups;
  const perGroup = width / task.groups;
  const transformed = makeValue(`${task.name}.tiles`, dtype, [points, tiles, channels]);
  const sums = makeValue(`${task.name}.sums`, "f32", [points, tiles, width]);
  const weights = winogradWeights(task, filters, dtype);
  const common = { name: task.name, origins: task.origins };

  const [p, g] = [variable("p", points), variable("g", task.groups)];
  const [m, n, k] = [variable("m", tiles), variable("n", perGroup), variable("k", depth)];
  const acc = slot("acc", "f32");
  const inGroup = (e: Var, size: number): Expr => (task.groups === 1 ? e : add(mul(g, int(size)), e));
  const gemm: GemmTask = {
    kind: "gemm",
    ...common,
    batch: task.groups === 1 ? [p] : [p, g],
    m,
    n,
    k,
    a: load(transformed, [p, m, inGroup(k, depth)]),
    b: load(weights.value, [p, k, inGroup(n, perGroup)]),
    acc,
    stores: [{ value: sums, index: [p, m, inGroup(n, perGroup)], expr: acc, mode: "set" }],
  };
  let made: readonly [Kernel, Kernel] | undefined;
  const transforms = (): readonly [Kernel, Kernel] =>
    (made ??= [
      mapElement.emit(inputTransform(task, filters, transformed), { size: 64 }, caps),
      reduceThread.emit(outputTransform(task, filters, sums), { size: 64 }, caps),
    ]);
  return { gemm, transforms, between: [transformed, sums], weights };
}

/** A tile's variables, and its number. */
function tileVars(task: ConvTask, filters: readonly Filter[]): { b: Var; t: readonly Var[]; tile: Expr } {
  const { shape } = tilesOf(task, filters.map(outputsOf));
  const [b, ...t] = variables("t", shape) as [Var, ...Var[]];
  return { b, t, tile: flatten([b, ...t], shape) };
}

/** Tiles of the input at every point: [points, tiles, channels]. */
function inputTransform(task: ConvTask, filters: readonly Filter[], transformed: Value): MapTask {
  const sizes = filters.map(outputsOf);
  const { b, t, tile } = tileVars(task, filters);
  const c = variable("c", transformed.shape[2]!);
  const grid = gridOf(filters.map(pointsOf)).map((at) => inputAt(task, sizes, b, t, c, at.map(int)));
  const points = alongAxes(
    grid,
    filters.map((filter) => filter.b),
    combineExpressions,
  );
  const stores = points.map((expr, point): Store => ({ value: transformed, index: [int(point), tile, c], expr, mode: "set" }));
  return { kind: "map", name: task.name, origins: task.origins, vars: [b, ...t, c], stores };
}

/** Results from the sums at every point, [points, tiles, output channels]; sums over nothing: stages name what all of a tile's stores are made of. */
function outputTransform(task: ConvTask, filters: readonly Filter[], sums: Value): ReduceTask {
  const sizes = filters.map(outputsOf);
  const { b, t, tile } = tileVars(task, filters);
  const oc = variable("oc", sums.shape[2]!);
  const products = gridOf(filters.map(pointsOf)).map((_, point) => load(sums, [int(point), tile, oc]));
  const results = alongAxes(
    products,
    filters.map(({ a }) => a),
    combineExpressions,
  );
  const slots = results.map((_, i) => slot(`y${i}`, "f32"));
  return {
    kind: "reduce",
    name: task.name,
    origins: task.origins,
    vars: [b, ...t, oc],
    inner: [],
    stages: results.map((body, i) => ({ slot: slots[i]!, fn: "sum", body })),
    each: false,
    stores: gridOf(sizes).flatMap((at, i) => storesAt(task, sizes, b, t, oc, at.map(int), slots[i]!)),
  };
}

/** Every index of a grid, row-major. */
export const gridOf = (sizes: readonly number[]): number[][] =>
  sizes.reduce<number[][]>((all, size) => all.flatMap((at) => Array.from({ length: size }, (_, i) => [...at, i])), [[]]);

/** The weights at every point: [points, input channels of a group, output channels]. */
export function winogradWeights(task: ConvTask, filters: readonly Filter[], dtype: "f32" | "f16"): Packed {
  const { value } = constantWeights(task)!;
  const [oc, ic] = [task.oc.extent as number, task.ic.extent as number];
  const points = sizeOf(filters);
  const matrices = filters.map(({ g }) => g);
  const taps = matrices.reduce((count, [row]) => count * row!.length, 1);
  const how = `winograd${filters.map(outputsOf).join("x")}`;
  return packed(value, how, dtype, [points, ic, oc], (read, target) => {
    // What each tap gives each point.
    const factors = new Float64Array(points * taps);
    for (let tap = 0; tap < taps; tap++) {
      const unit = Array.from({ length: taps }, (_, i) => (i === tap ? 1 : 0));
      alongAxes(unit, matrices, combineNumbers).forEach((factor, point) => {
        factors[point * taps + tap] = factor;
      });
    }
    const kernels = new Float64Array(taps * oc);
    const sums = new Float64Array(oc);
    for (let c = 0; c < ic; c++) {
      channelTaps(read, c, { ic, oc, taps }, kernels);
      for (let point = 0; point < points; point++) {
        sums.fill(0);
        for (let tap = 0; tap < taps; tap++) {
          const factor = factors[point * taps + tap]!;
          const from = tap * oc;
          if (factor !== 0) for (let o = 0; o < oc; o++) sums[o]! += factor * kernels[from + o]!;
        }
        const at = (point * ic + c) * oc;
        for (let o = 0; o < oc; o++) target[at + o] = sums[o]!;
      }
    }
  });
}

/** A grid with matrix i applied along axis i. */
export function alongAxes<T>(
  grid: readonly T[],
  matrices: readonly (readonly (readonly number[])[])[],
  combine: (row: readonly number[], terms: readonly T[]) => T,
): readonly T[] {
  let result = grid;
  const sizes = matrices.map(([row]) => row!.length);
  matrices.forEach((matrix, axis) => {
    const length = sizes[axis]!;
    const step = sizes.slice(axis + 1).reduce((a, b) => a * b, 1);
    const next: T[] = [];
    for (let outer = 0; outer < result.length; outer += length * step)
      for (const row of matrix)
        for (let inner = 0; inner < step; inner++)
          next.push(
            combine(
              row,
              row.map((_, i) => result[outer + i * step + inner]!),
            ),
          );
    sizes[axis] = matrix.length;
    result = next;
  });
  return result;
}

const combineNumbers = (row: readonly number[], terms: readonly number[]): number => {
  let sum = 0;
  for (let i = 0; i < row.length; i++) sum += row[i]! * terms[i]!;
  return sum;
};

/** Σ row·terms without what is multiplied by 0; positive terms first, so that most signs are subtractions. */
export function combineExpressions(row: readonly number[], terms: readonly Expr[]): Expr {
  const used = row.flatMap((factor, i) => (factor === 0 ? [] : [{ factor, term: terms[i]! }]));
  const sorted = [...used.filter(({ factor }) => factor > 0), ...used.filter(({ factor }) => factor < 0)];
  const scaled = (factor: number, term: Expr): Expr => (factor === 1 ? term : mul(float(factor), term));
  return sorted.reduce<Expr | undefined>((sum, { factor, term }) => {
    if (!sum) return factor === -1 ? unary("neg", term) : scaled(factor, term);
    return factor < 0 ? sub(sum, scaled(-factor, term)) : add(sum, scaled(factor, term));
  }, undefined)!;
}
