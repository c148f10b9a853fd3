// Convolution of few channels, as in a network's first layer: a copy of the input with its channels filled up to four and its
// border in place, then a product that reads a pixel as one vector and never asks where the border is.

import { add as addDims, type Dim, isStatic, mul as mulDims, product, sub as subDims } from "../ir/dims.ts";
import {
  add,
  and,
  type Expr,
  float,
  int,
  load,
  lt,
  mul,
  select,
  substitute,
  unflatten,
  variable,
  variables,
  within,
} from "../ir/expr.ts";
import { type ConvTask, type GemmTask, type MapTask, mapStore } from "../ir/task.ts";
import { makeValue, type Value } from "../ir/value.ts";
import { emitProduct, fitsBuffers, inTurn, productConfigs } from "./chain.ts";
import { mapElement } from "./map.ts";
import { constantWeights, type Packed, packed } from "./packing.ts";
import { storesElements } from "./product.ts";
import { tactic } from "./tactic.ts";
import { isHalf } from "./tiles.ts";

const LANES = 4;
const PRODUCTS = 5;

export const convFirstLayer = tactic("conv", {
  name: "conv.first-layer",
  applicable: (task, caps) =>
    task.acc.type === "f32" &&
    storesElements(task, caps) &&
    task.groups === 1 &&
    isStatic(task.ic.extent) &&
    task.ic.extent < LANES &&
    constantWeights(task) !== undefined &&
    fitsBuffers([stepsOf(task).pixels], caps),
  likelihood: (task, caps) => ((task.oc.extent as number) < 16 ? 0.2 : caps.tier === "core" ? 0.5 : 0.8),
  candidates: (task, caps) => productConfigs(stepsOf(task).gemm, caps, PRODUCTS),
  emit: (task, config, caps) => {
    const { copy, gemm, pixels, weights } = stepsOf(task);
    return inTurn([mapElement.emit(copy, { size: 64 }, caps), emitProduct(gemm, config, caps)], [pixels], [weights]);
  },
});

function stepsOf(task: ConvTask): { copy: MapTask; gemm: GemmTask; pixels: Value; weights: Packed } {
  const { name, origins, strides, dilations, pads } = task;
  const dtype = isHalf(task) ? "f16" : "f32";
  // Exactly what the windows reach, borders included.
  const extents = task.out.map(
    ({ extent }, axis): Dim =>
      addDims(mulDims(subDims(extent, 1), strides[axis]!), ((task.kernel[axis]!.extent as number) - 1) * dilations[axis]!, 1),
  );
  const pixels = makeValue(`${name}.pixels`, dtype, [task.batch.extent, ...extents, LANES]);
  const vars = variables("p", pixels.shape);
  const [b, c] = [vars[0]!, vars.at(-1)!];
  const position = vars.slice(1, -1).map((v, axis) => add(v, int(mulDims(pads[axis]!, -1))));
  const inside = position.map((e, axis) => within(e, task.size[axis]!)).reduce((a, e) => and(a, e), lt(c, int(task.ic.extent)));
  const at = [b, c, ...position];
  const pixel = substitute(task.x, new Map(task.xVars.map((v, i) => [v, at[i]!])));
  const copy: MapTask = {
    kind: "map",
    name,
    origins,
    vars,
    stores: [{ value: pixels, index: vars, expr: select(inside, pixel, float(0)), mode: "set" }],
  };

  const positions = [task.batch, ...task.out];
  const taps = task.kernel.map(({ extent }) => extent as number);
  const depth = taps.reduce((a, e) => a * e, LANES);
  const [m, n, k] = [
    variable("m", product(positions.map(({ extent }) => extent))),
    variable("n", task.oc.extent),
    variable("k", depth),
  ];
  const place = unflatten(
    m,
    positions.map(({ extent }) => extent),
  );
  const tap = unflatten(k, [...taps, LANES]);
  const window = task.out.map((_, axis) =>
    add(mul(place[axis + 1]!, int(strides[axis]!)), mul(tap[axis]!, int(dilations[axis]!))),
  );
  const moved = new Map<Expr, Expr>([[task.oc, n], ...positions.map((v, i): [Expr, Expr] => [v, place[i]!])]);
  const weights = filledWeights(task, depth, dtype);
  const gemm: GemmTask = {
    kind: "gemm",
    name,
    origins,
    batch: [],
    m,
    n,
    k,
    a: load(pixels, [place[0]!, ...window, tap.at(-1)!]),
    b: load(weights.value, [k, n]),
    acc: task.acc,
    stores: task.stores.map((store) => mapStore(store, (e) => substitute(e, moved))),
  };
  return { copy, gemm, pixels, weights };
}

/** [taps · 4, oc], 0 for channels that are not there. */
function filledWeights(task: ConvTask, depth: number, dtype: "f32" | "f16"): Packed {
  const { value } = constantWeights(task)!;
  const [oc, ic, taps] = [task.oc.extent as number, task.ic.extent as number, depth / LANES];
  return packed(value, "filled", dtype, [depth, oc], (read, target) => {
    for (let o = 0; o < oc; o++)
      for (let c = 0; c < ic; c++)
        for (let tap = 0; tap < taps; tap++) target[(tap * LANES + c) * oc + o] = read((o * ic + c) * taps + tap);
  });
}
