// RoiAlign and MaxRoiPool: every region of interest of an image becomes a grid of bins of one size.
// ONNX: https://onnx.ai/onnx/operators/onnx__RoiAlign.html https://onnx.ai/onnx/operators/onnx__MaxRoiPool.html

import { add, type Dim, mul, shapeText } from "../ir/dims.ts";
import type { Expr } from "../ir/expr.ts";
import * as x from "../ir/expr.ts";
import type { Lowering } from "../ir/lower.ts";
import type { Value } from "../ir/value.ts";
import { badAttribute, shapeMismatch } from "../util/errors.ts";
import { differ } from "./bounds.ts";
import { defineOp, type NodeFacts, need, type Operator } from "./define.ts";
import { clampIndex, kernelAt } from "./interpolation.ts";

interface AlignAttributes {
  readonly mode: "avg" | "max";
  readonly out: readonly [number, number];
  /** Samples along an axis of a bin; 0 takes as many as it has pixels. */
  readonly samples: number;
  readonly scale: number;
  readonly halfPixel: boolean;
}

/** How the samples of one bin lie along an axis: `first` + (i + 0.5)·`step` for i in [0, count). */
interface Samples {
  readonly first: Expr;
  readonly step: Expr;
  readonly count: Expr;
}

const [zero, half, one] = [0, 0.5, 1].map(x.float) as [Expr, Expr, Expr];
const asFloat = (e: Expr): Expr => x.convert(e, "f32");
const asInt = (e: Expr): Expr => x.convert(e, "i32");
const LOWEST = x.float(Number.NEGATIVE_INFINITY);
/** Samples of an adaptive grid lie more than half a pixel apart, so no more than this many meet one pixel's weight. */
const PER_PIXEL = 6;

/** `axis` 0 is height; a region is x1, y1, x2, y2. */
function samplesOf(
  rois: Value,
  roi: Expr,
  bin: Expr,
  axis: number,
  { out, samples, scale, halfPixel }: AlignAttributes,
): Samples {
  const bins = x.float(out[axis]!);
  const end = (at: number): Expr => x.sub(x.mul(x.load(rois, [roi, x.int(at)]), x.float(scale)), x.float(halfPixel ? 0.5 : 0));
  const start = end(1 - axis);
  const extent = x.sub(end(3 - axis), start);
  const size = x.div(halfPixel ? extent : x.maximum(extent, one), bins);
  const count = samples > 0 ? x.float(samples) : x.maximum(x.unary("ceil", size), zero);
  return { first: x.add(start, x.mul(asFloat(bin), size)), step: x.div(size, x.maximum(count, one)), count };
}

const sampleAt = ({ first, step }: Samples, i: Expr): Expr => x.add(first, x.mul(x.add(asFloat(i), half), step));
/** Samples off the image by no more than a pixel count as on its edge, others as 0. */
const touches = (position: Expr, size: Dim): Expr => x.and(x.le(x.float(-1), position), x.le(position, asFloat(x.int(size))));
const onImage = (position: Expr, size: Dim): Expr => x.minimum(x.maximum(position, zero), asFloat(x.int(add(size, -1))));
/** The first sample whose position is `low` or more. */
const firstFrom = ({ first, step }: Samples, low: Expr): Expr =>
  x.maximum(asInt(x.unary("ceil", x.sub(x.div(x.sub(low, first), step), half))), x.int(0));

/** Bilinear samples, one by one: the mean, or the largest weighted pixel that any sample meets (as ONNX Runtime defines it). */
function alignSamples(b: Lowering, image: Value, rois: Value, batchOf: (roi: Expr) => Expr, attrs: AlignAttributes): Value {
  const [, channels, ...sizes] = image.shape as [Dim, Dim, Dim, Dim];
  const adaptive = attrs.samples === 0;
  // Of an adaptive grid only samples that may touch the image are visited.
  const inner = sizes.map((size): Dim => (adaptive ? add(mul(size, 2), 3) : attrs.samples));
  const grids = (roi: Expr, bins: readonly Expr[]): Samples[] =>
    bins.map((bin, axis) => samplesOf(rois, roi, bin, axis, attrs));
  const starts = (all: readonly Samples[]): Expr[] =>
    all.map((samples) => (adaptive ? firstFrom(samples, x.float(-1)) : x.int(0)));
  return b.reduce(
    image.dtype,
    [rois.shape[0]!, channels, ...attrs.out],
    inner,
    ([roi, c, ...bins], steps) => {
      const all = grids(roi!, bins);
      const first = starts(all);
      const index = steps.map((step, axis) => x.add(first[axis]!, step));
      const positions = all.map((samples, axis) => sampleAt(samples, index[axis]!));
      const counted = all.map(({ count }, axis) => x.lt(asFloat(index[axis]!), count)).reduce((p, q) => x.and(p, q));
      const touching = positions.map((position, axis) => touches(position, sizes[axis]!)).reduce((p, q) => x.and(p, q));
      const taps = positions.map((position, axis) => {
        const at = onImage(position, sizes[axis]!);
        const low = asInt(at);
        const fraction = x.sub(at, asFloat(low));
        return [
          { index: low, weight: x.sub(one, fraction) },
          { index: clampIndex(x.add(low, x.int(1)), x.int(sizes[axis]!)), weight: fraction },
        ];
      });
      const pixels = taps[0]!.flatMap((row) =>
        taps[1]!.map((column) => {
          const at = [row, column].map((tap, axis) => clampIndex(tap.index, x.int(sizes[axis]!)));
          return x.mul(row.weight, column.weight, x.load(image, [batchOf(roi!), c!, ...at]));
        }),
      );
      const sample = pixels.reduce((p, q) => (attrs.mode === "avg" ? x.add(p, q) : x.maximum(p, q)));
      const value = x.select(touching, sample, zero);
      return [
        {
          fn: attrs.mode === "avg" ? "sum" : "max",
          body: () => x.select(counted, value, attrs.mode === "avg" ? zero : LOWEST),
        },
      ];
    },
    ([found], [roi, , ...bins]) => {
      const all = grids(roi!, bins);
      const count = all.map((samples) => samples.count).reduce((p, q) => x.mul(p, q));
      if (attrs.mode === "avg") return x.div(found!, x.maximum(count, one));
      if (!adaptive) return found!;
      const first = starts(all);
      const skipped = all
        .map((samples, axis) =>
          x.or(x.lt(x.int(0), first[axis]!), x.lt(asFloat(x.add(first[axis]!, x.int(inner[axis]!))), samples.count)),
        )
        .reduce((p, q) => x.or(p, q));
      return x.select(x.eq(count, zero), zero, x.select(skipped, x.maximum(found!, zero), found!));
    },
  );
}

/**
 * The mean over adaptive grids. Bilinear weights of rows and columns are independent, so each axis is a matrix product with
 * the weights that its samples give every pixel: the work does not depend on how large a region is.
 */
function alignMeans(b: Lowering, image: Value, rois: Value, batchOf: (roi: Expr) => Expr, attrs: AlignAttributes): Value {
  const [, channels, height, width] = image.shape as [Dim, Dim, Dim, Dim];
  const regions = rois.shape[0]!;
  const weights = [height, width].map((size, axis) =>
    b.map("f32", [regions, attrs.out[axis]!, size], ([roi, bin, pixel]) => {
      const samples = samplesOf(rois, roi!, bin!, axis, attrs);
      const first = firstFrom(samples, x.sub(asFloat(pixel!), one));
      const step = x.variable("s", PER_PIXEL);
      const i = x.add(first, step);
      const position = sampleAt(samples, i);
      const weight = kernelAt(x.sub(asFloat(pixel!), onImage(position, size)), "linear", 0);
      const counts = x.and(x.lt(asFloat(i), samples.count), touches(position, size));
      return x.div(x.reduce("sum", [step], x.select(counts, weight, zero)), x.maximum(samples.count, one));
    }),
  );
  const [rows, columns] = weights as [Value, Value];
  const tall = b.gemm(
    "f32",
    { batch: [regions], m: attrs.out[0], n: mul(channels, width), k: height },
    ([roi], m, k) => x.load(rows, [roi!, m, k]),
    ([roi], k, n) => x.load(image, [batchOf(roi!), x.floorDiv(n, x.int(width)), k, x.floorMod(n, x.int(width))]),
  );
  const bins = b.gemm(
    image.dtype,
    { batch: [regions], m: mul(channels, attrs.out[0]), n: attrs.out[1], k: width },
    ([roi], m, k) =>
      x.load(tall, [
        roi!,
        x.floorMod(m, x.int(attrs.out[0])),
        x.add(x.mul(x.floorDiv(m, x.int(attrs.out[0])), x.int(width)), k),
      ]),
    ([roi], k, n) => x.load(columns, [roi!, n, k]),
  );
  return b.reshape(bins, [regions, channels, ...attrs.out]);
}

/** Max over the whole pixels of each bin: along the columns, then along the rows. Empty bins are 0. */
function maxRoiPool(b: Lowering, image: Value, rois: Value, out: readonly [number, number], scale: number): Value {
  const [batch, channels, height, width] = image.shape as [Dim, Dim, Dim, Dim];
  const sizes = [height, width];
  const rounded = (e: Expr): Expr => asInt(x.mul(x.unary("sign", e), x.unary("floor", x.add(x.unary("abs", e), half))));
  /** First pixel of a bin, and the one after its last; a region is batch, x1, y1, x2, y2. */
  const range = (roi: Expr, bin: Expr, axis: number): [Expr, Expr] => {
    const corner = (at: number): Expr => rounded(x.mul(x.load(rois, [roi, x.int(at)]), x.float(scale)));
    const [start, end] = [corner(2 - axis), corner(4 - axis)];
    const extent = x.maximum(x.add(x.sub(end, start), x.int(1)), x.int(1));
    const bins = x.int(out[axis]!);
    const clamped = (at: Expr): Expr => x.minimum(x.maximum(x.add(start, at), x.int(0)), x.int(sizes[axis]!));
    return [
      clamped(x.floorDiv(x.mul(bin, extent), bins)),
      clamped(x.floorDiv(x.add(x.mul(x.add(bin, x.int(1)), extent), x.sub(bins, x.int(1))), bins)),
    ];
  };
  const covers = ([from, to]: readonly [Expr, Expr], pixel: Expr): Expr => x.and(x.le(from, pixel), x.lt(pixel, to));
  const across = b.reduce("f32", [rois.shape[0]!, channels, height, out[1]], [width], ([roi, c, row, bin], [pixel]) => {
    const item = clampIndex(asInt(x.load(rois, [roi!, x.int(0)])), x.int(batch));
    return [
      {
        fn: "max",
        body: () => x.select(covers(range(roi!, bin!, 1), pixel!), x.load(image, [item, c!, row!, pixel!]), LOWEST),
      },
    ];
  });
  return b.reduce(
    image.dtype,
    [rois.shape[0]!, channels, ...out],
    [height],
    ([roi, c, bin, column], [pixel]) => [
      {
        fn: "max",
        body: () => x.select(covers(range(roi!, bin!, 0), pixel!), x.load(across, [roi!, c!, pixel!, column!]), LOWEST),
      },
    ],
    ([found], [roi, , ...bins]) => {
      const empty = bins
        .map((bin, axis) => range(roi!, bin, axis))
        .map(([from, to]) => x.le(to, from))
        .reduce((p, q) => x.or(p, q));
      return x.select(empty, zero, found!);
    },
  );
}

function checkShapes(node: NodeFacts, image: Value, rois: Value, columns: number): void {
  if (image.shape.length !== 4 || rois.shape.length !== 2 || differ(rois.shape[1]!, columns))
    throw shapeMismatch(
      node,
      `an input of shape ${shapeText(image.shape)} and regions of shape ${shapeText(rois.shape)}`,
      `expected [N, C, H, W] and [regions, ${columns}]`,
    );
}

export const regionOps: readonly Operator[] = [
  defineOp<Omit<AlignAttributes, "halfPixel"> & { readonly coordinates: "half_pixel" | "output_half_pixel" }>({
    name: "RoiAlign",
    since: [10, 16, 22],
    attrs: (read) => ({
      mode: read.string("mode", "avg", ["avg", "max"]),
      out: [read.int("output_height", 1), read.int("output_width", 1)],
      samples: read.int("sampling_ratio", 0),
      scale: read.float("spatial_scale", 1),
      coordinates: read.string("coordinate_transformation_mode", "half_pixel", ["half_pixel", "output_half_pixel"]),
    }),
    lower: (b, inputs, { coordinates, ...rest }, node) => {
      const [image, rois, batches] = [need(node, inputs, 0), need(node, inputs, 1), need(node, inputs, 2)];
      checkShapes(node, image, rois, 4);
      const attrs: AlignAttributes = { ...rest, halfPixel: node.opset >= 16 && coordinates === "half_pixel" };
      const batchOf = (roi: Expr): Expr => clampIndex(x.load(batches, [roi]), x.int(image.shape[0]!));
      const align = attrs.samples <= 0 && attrs.mode === "avg" ? alignMeans : alignSamples;
      return [align(b, image, rois, batchOf, attrs)];
    },
  }),
  defineOp<{ out: readonly number[] | undefined; scale: number }>({
    name: "MaxRoiPool",
    since: [1, 22],
    attrs: (read) => ({ out: read.ints("pooled_shape"), scale: read.float("spatial_scale", 1) }),
    lower: (b, inputs, { out, scale }, node) => {
      const [image, rois] = [need(node, inputs, 0), need(node, inputs, 1)];
      checkShapes(node, image, rois, 5);
      if (out?.length !== 2)
        throw badAttribute(node, "pooled_shape", out ? `[${out.join(", ")}]` : "missing", "height and width");
      return [maxRoiPool(b, image, rois, [out[0]!, out[1]!], scale)];
    },
  }),
];
