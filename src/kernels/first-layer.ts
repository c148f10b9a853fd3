// Convolution of few channels, as in a network's first layer: a copy of the input with its channels filled up to four and its
// border in place, then a product that reads pixels as vectors and never asks where the border is. Windows begin where a vector
// begins: where their stride is no multiple of the pixels in one, there are copies for the places between.

import { add as addDims, ceilDiv, type Dim, isStatic, mul as mulDims, product, sub as subDims } from "../ir/dims.ts";
import {
  add,
  and,
  type Expr,
  float,
  floorDiv,
  floorMod,
  int,
  load,
  loadsOf,
  lt,
  mul,
  select,
  substitute,
  unflatten,
  variable,
  variables,
  within,
} from "../ir/expr.ts";
import { type ConvTask, type GemmTask, type MapTask, mapStore, plainLoad } from "../ir/task.ts";
import { dtypeFacts } from "../ir/types.ts";
import { makeValue, type Value } from "../ir/value.ts";
import type { Caps } from "../util/caps.ts";
import { emitProduct, fitsBuffers, inTurn, productConfigs, type Variant, variantCost } from "./chain.ts";
import { known } from "./frame.ts";
import { mapRun } from "./neighbours.ts";
import { constantWeights, type Packed, packed } from "./packing.ts";
import { asGemm, storesElements } from "./product.ts";
import { tactic } from "./tactic.ts";
import { storesWords } from "./words.ts";

const LANES = 4;
const PRODUCTS = 5;

/** Whether input and weights are i8 as they are. */
const isOfBytes = ({ acc, x, xVars, w }: ConvTask): boolean =>
  acc.type === "i32" && plainLoad(x, xVars)?.value.dtype === "i8" && loadsOf([w]).every(({ value }) => value.dtype === "i8");

export const convFirstLayer = tactic("conv", {
  name: "conv.first-layer",
  applicable: (task, caps) =>
    (task.acc.type === "f32"
      ? storesElements(task, caps)
      : isOfBytes(task) && storesWords(asGemm(task), asGemm(task).n, caps)) &&
    task.groups === 1 &&
    isStatic(task.ic.extent) &&
    // Bytes have been filled up to words by whoever made them.
    (task.ic.extent < LANES || (task.acc.type === "i32" && task.ic.extent === LANES)) &&
    constantWeights(task) !== undefined &&
    fitsBuffers([stepsOf(task, caps).pixels], caps),
  likelihood: (task, caps) => ((task.oc.extent as number) < 16 ? 0.2 : caps.tier === "core" ? 0.5 : 0.8),
  candidates: (task, caps, all) => productConfigs([variantOf(task, caps)], caps, PRODUCTS, all),
  cost: (task, config, caps) => variantCost([variantOf(task, caps)], config, caps),
  emit: (task, config, caps) => {
    const { copy, gemm, pixels, weights } = stepsOf(task, caps);
    return inTurn([mapRun.emit(copy, { run: LANES, size: 64 }, caps), emitProduct(gemm, config, caps)], [pixels], [weights]);
  },
});

/** The copy goes through the cache. */
function variantOf(task: ConvTask, caps: Caps): Variant {
  const { gemm, pixels } = stepsOf(task, caps);
  return { gemm, config: {}, beside: 4000 + known(product(pixels.shape)) / 250 };
}

/** Whether results and weights are f16 in memory: then the pixels may be. */
const isHalf = ({ stores, w }: ConvTask, caps: Caps): boolean =>
  caps.f16 && [...stores, ...loadsOf([w])].every(({ value }) => value.dtype === "f16");

const gcd = (a: number, b: number): number => (b === 0 ? a : gcd(b, a % b));

function stepsOf(task: ConvTask, caps: Caps): { copy: MapTask; gemm: GemmTask; pixels: Value; weights: Packed } {
  const { name, origins, strides, dilations, pads } = task;
  const dtype = task.acc.type === "i32" ? "i8" : isHalf(task, caps) ? "f16" : "f32";
  const inner = task.out.length - 1;
  const stride = strides[inner]!;
  // Pixels in sixteen bytes: rows of the window and of the image get a multiple of them.
  const vector = dilations[inner] === 1 ? LANES / dtypeFacts[dtype].bytes : 1;
  const copies = vector / gcd(stride, vector);
  const taps = task.kernel.map(
    ({ extent }, axis) => (axis === inner ? vector : 1) * Math.ceil((extent as number) / (axis === inner ? vector : 1)),
  );
  // Exactly what the windows reach, borders included.
  const extents = task.out.map(({ extent }, axis): Dim => {
    const windows = axis === inner ? mulDims(subDims(ceilDiv(extent, copies), 1), copies) : subDims(extent, 1);
    const reached = addDims(mulDims(windows, strides[axis]!), (taps[axis]! - 1) * dilations[axis]!, 1);
    return axis === inner ? mulDims(ceilDiv(reached, vector), vector) : reached;
  });
  const pixels = makeValue(`${name}.pixels`, dtype, [
    copies,
    task.batch.extent,
    ...extents.slice(0, -1),
    mulDims(extents[inner]!, LANES),
  ]);
  const [s, b, ...around] = variables("p", pixels.shape.slice(0, -1));
  const [x, c] = [variable("x", extents[inner]!), variable("c", LANES)];
  const vars = [s!, b!, ...around, x, c];
  const position = [...around, add(x, mul(s!, int(stride)))].map((e, axis) => add(e, int(mulDims(pads[axis]!, -1))));
  const inside = position.map((e, axis) => within(e, task.size[axis]!)).reduce((a, e) => and(a, e), lt(c, int(task.ic.extent)));
  const at = [b!, c, ...position];
  const pixel = substitute(task.x, new Map(task.xVars.map((v, i) => [v, at[i]!])));
  const nothing = dtype === "i8" ? int(0) : float(0);
  const copy: MapTask = {
    kind: "map",
    name,
    origins,
    vars,
    stores: [
      {
        value: pixels,
        index: [s!, b!, ...around, add(mul(x, int(LANES)), c)],
        expr: select(inside, pixel, nothing),
        mode: "set",
      },
    ],
  };

  const positions = [task.batch, ...task.out];
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
  const row = taps[inner]! * LANES;
  const tap = unflatten(k, [...taps.slice(0, -1), row]);
  const along =
    dilations[inner] === 1
      ? tap[inner]!
      : add(mul(floorDiv(tap[inner]!, int(LANES)), int(dilations[inner]! * LANES)), floorMod(tap[inner]!, int(LANES)));
  const [, ...outer] = place;
  const window = outer.map((e, axis) =>
    axis === inner
      ? add(mul(floorDiv(e, int(copies)), int(copies * stride * LANES)), along)
      : add(mul(e, int(strides[axis]!)), mul(tap[axis]!, int(dilations[axis]!))),
  );
  const moved = new Map<Expr, Expr>([[task.oc, n], ...positions.map((v, i): [Expr, Expr] => [v, place[i]!])]);
  const weights = filledWeights(task, taps, dtype);
  const gemm: GemmTask = {
    kind: "gemm",
    name,
    origins,
    batch: [],
    m,
    n,
    k,
    a: load(pixels, [floorMod(outer[inner]!, int(copies)), place[0]!, ...window]),
    b: load(weights.value, dtype === "i8" ? [n, k] : [k, n]),
    acc: task.acc,
    stores: task.stores.map((store) => mapStore(store, (e) => substitute(e, moved))),
  };
  return { copy, gemm, pixels, weights };
}

/** [taps · 4, oc], of bytes [oc, taps · 4], which are summed along what is innermost; 0 for taps and channels that are not there. */
function filledWeights(task: ConvTask, taps: readonly number[], dtype: "f32" | "f16" | "i8"): Packed {
  const { value } = constantWeights(task)!;
  const own = task.kernel.map(({ extent }) => extent as number);
  const [oc, ic] = [task.oc.extent as number, task.ic.extent as number];
  const [count, width, filled] = [own.reduce((a, e) => a * e, 1), own.at(-1)!, taps.at(-1)!];
  const depth = taps.reduce((a, e) => a * e, LANES);
  const isByte = dtype === "i8";
  return packed(value, "filled", dtype, isByte ? [oc, depth] : [depth, oc], (read, target) => {
    for (let o = 0; o < oc; o++)
      for (let c = 0; c < ic; c++)
        for (let tap = 0; tap < count; tap++) {
          const k = (Math.floor(tap / width) * filled + (tap % width)) * LANES + c;
          target[isByte ? o * depth + k : k * oc + o] = read((o * ic + c) * count + tap);
        }
  });
}
