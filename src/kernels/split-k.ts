// Products whose depth is shared out over the grid: each slice of it makes partial sums of all results, which a second kernel
// adds. For few results of long sums, which leave most of a GPU idle otherwise.

import { type Dim, floorDiv, isStatic, product } from "../ir/dims.ts";
import { add, type Expr, int, load, mul, slot, substitute, type Var, variable } from "../ir/expr.ts";
import type { ConvTask, GemmTask, ReduceTask } from "../ir/task.ts";
import { makeValue, type Value } from "../ir/value.ts";
import type { Caps } from "../util/caps.ts";
import { emitProduct, fitsBuffers, inTurn, productConfigs, type Variant, variantCost } from "./chain.ts";
import { asGemm, storesElements } from "./product.ts";
import { reduceThread } from "./reduce.ts";
import { type Config, type Kernel, tactic } from "./tactic.ts";

const SLICES = [4, 8, 2, 16, 32] as const;
/** Terms of a slice at the least. */
const LEAST = 64;
const PRODUCTS = 2;
/** Results that keep a large GPU busy without. */
const ENOUGH = 500_000;

const sizeOr = (dim: Dim): number => (isStatic(dim) ? dim : 64);
const slicesOf = (depth: Dim): number[] =>
  SLICES.filter((slices) => isStatic(depth) && depth % slices === 0 && depth / slices >= LEAST);
const depthOf = (task: GemmTask | ConvTask): Dim =>
  task.kind === "gemm" ? task.k.extent : product([task.ic, ...task.kernel].map(({ extent }) => extent));

const applicable = (task: GemmTask | ConvTask, caps: Caps): boolean =>
  task.acc.type === "f32" &&
  storesElements(task, caps) &&
  slicesOf(depthOf(task)).length > 0 &&
  (task.kind === "gemm" || isStatic(task.oc.extent));

const likelihood = (task: GemmTask | ConvTask, caps: Caps): number => {
  const { batch, m, n, k } = asGemm(task);
  const results = sizeOr(product([...batch, m, n].map(({ extent }) => extent)));
  return caps.tier === "core" || results > ENOUGH || sizeOr(k.extent) < 512 ? 0.05 : results < ENOUGH / 8 ? 0.75 : 0.4;
};

/** By the number of slices; partial sums are added up by another kernel. */
function variantsOf(task: GemmTask | ConvTask, caps: Caps): readonly Variant[] {
  const whole = asGemm(task);
  return slicesOf(whole.k.extent).flatMap((slices): Variant[] => {
    const { gemm, partial } = stepsOf(whole, slices);
    const beside = 13_200 + 0.0005 * sizeOr(product(partial.shape));
    return fitsBuffers([partial], caps) ? [{ gemm, config: { parts: slices }, beside }] : [];
  });
}

const candidates = (task: GemmTask | ConvTask, caps: Caps, all?: boolean): Iterable<Config> =>
  productConfigs(variantsOf(task, caps), caps, PRODUCTS, all);

const cost = (task: GemmTask | ConvTask, config: Config, caps: Caps): number | undefined =>
  variantCost(variantsOf(task, caps), config, caps);

function emit(task: GemmTask | ConvTask, { parts, ...config }: Config, caps: Caps): Kernel {
  const { gemm, sum, partial } = stepsOf(asGemm(task), parts as number);
  return inTurn([emitProduct(gemm, config, caps), reduceThread.emit(sum, { size: 64 }, caps)], [partial]);
}

function stepsOf(whole: GemmTask, slices: number): { gemm: GemmTask; sum: ReduceTask; partial: Value } {
  const { batch, m, n, acc, stores, name, origins } = whole;
  const depth = floorDiv(whole.k.extent, slices);
  const [s, k] = [variable("s", slices), variable("k", depth)];
  const within = (e: Expr): Expr => substitute(e, new Map<Expr, Expr>([[whole.k, add(mul(s, int(depth)), k)]]));
  const results = [...batch, m, n];
  const { partial, sum } = partialSums({ name, origins, acc, stores }, results, slices);
  const own = slot("acc", "f32");
  return {
    partial,
    sum,
    gemm: {
      ...whole,
      batch: [s, ...batch],
      k,
      a: within(whole.a),
      b: within(whole.b),
      acc: own,
      stores: [{ value: partial, index: [s, ...results], expr: own, mode: "set" }],
    },
  };
}

/** Partial sums of all results, [slices, results…], and the task that adds them and stores what the whole would have. */
export function partialSums(
  { name, origins, acc, stores }: Pick<GemmTask, "name" | "origins" | "acc" | "stores">,
  results: readonly Var[],
  slices: number,
): { readonly partial: Value; readonly sum: ReduceTask } {
  const s = variable("s", slices);
  const partial = makeValue(`${name}.partial`, "f32", [slices, ...results.map(({ extent }) => extent)]);
  const stages = [{ slot: acc, fn: "sum", body: load(partial, [s, ...results]) }] as const;
  return { partial, sum: { kind: "reduce", name, origins, vars: results, inner: [s], stages, each: false, stores } };
}

export const gemmSplitK = tactic("gemm", { name: "gemm.split-k", applicable, likelihood, candidates, cost, emit });
export const convSplitK = tactic("conv", { name: "conv.split-k", applicable, likelihood, candidates, cost, emit });
