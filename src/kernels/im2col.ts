// Convolution as a matrix of all windows (Chellapilla et al. 2006) and a plain product. The windows take memory, but whatever
// makes them costly to find (divisions, bounds, a fused prologue) is done once.

import { isStatic, product } from "../ir/dims.ts";
import { load } from "../ir/expr.ts";
import type { ConvTask, GemmTask, MapTask } from "../ir/task.ts";
import { makeValue, type Value } from "../ir/value.ts";
import { emitProduct, fitsBuffers, inTurn, productConfigs, type Variant, variantCost } from "./chain.ts";
import { known } from "./frame.ts";
import { mapElement } from "./map.ts";
import { asGemm, storesElements } from "./product.ts";
import { tactic } from "./tactic.ts";
import { isHalf } from "./tiles.ts";

const PRODUCTS = 4;

export const convIm2col = tactic("conv", {
  name: "conv.im2col",
  applicable: (task, caps) =>
    task.acc.type === "f32" &&
    storesElements(task, caps) &&
    isStatic(task.oc.extent) &&
    task.oc.extent >= 4 * task.groups &&
    task.kernel.some(({ extent }) => extent !== 1) &&
    fitsBuffers([stepsOf(task).windows], caps),
  likelihood: (task) => ((task.oc.extent as number) / task.groups < 16 ? 0.05 : 0.35),
  candidates: (task, caps, all) => productConfigs([variantOf(task)], caps, PRODUCTS, all),
  cost: (task, config, caps) => variantCost([variantOf(task)], config, caps),
  emit: (task, config, caps) => {
    const { copy, gemm, windows } = stepsOf(task);
    return inTurn([mapElement.emit(copy, { size: 64 }, caps), emitProduct(gemm, config, caps)], [windows]);
  },
});

/** The windows go through the cache. */
function variantOf(task: ConvTask): Variant {
  const { gemm, windows } = stepsOf(task);
  return { gemm, config: {}, beside: 4000 + known(product(windows.shape)) / 250 };
}

function stepsOf(task: ConvTask): { copy: MapTask; gemm: GemmTask; windows: Value } {
  const whole = asGemm(task);
  const vars = [...whole.batch, whole.m, whole.k];
  const shape = vars.map(({ extent }) => extent);
  const windows = makeValue(`${task.name}.windows`, isHalf(task) ? "f16" : "f32", shape);
  const { name, origins } = task;
  return {
    windows,
    copy: { kind: "map", name, origins, vars, stores: [{ value: windows, index: vars, expr: whole.a, mode: "set" }] },
    gemm: { ...whole, a: load(windows, vars) },
  };
}
