// Resize and the older Upsample: attributes, and the scales or sizes of each axis.
// ONNX: https://onnx.ai/onnx/operators/onnx__Resize.html https://onnx.ai/onnx/operators/onnx__Upsample.html

import { type Dim, isStaticShape } from "../ir/dims.ts";
import * as x from "../ir/expr.ts";
import { numbersOf } from "../ir/tensor.ts";
import type { Value } from "../ir/value.ts";
import { badAttribute, shapeMismatch, valueNeeded } from "../util/errors.ts";
import { type AttributeReader, axisIn, defineOp, dimsOf, type NodeFacts, need, type Operator, tensorOf } from "./define.ts";
import { COORDINATES, NEAREST, ratioOf, scaledSize, scaleOf } from "./resample.ts";
import { type ResizedAxis, resize, type Sampling } from "./resize-axes.ts";

/** The values of an input that may be absent or empty. */
const given = (value: Value | undefined): Value | undefined =>
  value && value.shape.length === 1 && value.shape[0] === 0 ? undefined : value;

const POLICIES = ["stretch", "not_larger", "not_smaller"] as const;
type Policy = (typeof POLICIES)[number];

function axesFromScales(node: NodeFacts, value: Value, axes: readonly number[], scales: readonly number[]): ResizedAxis[] {
  if (scales.length !== axes.length) throw shapeMismatch(node, `${scales.length} scales for ${axes.length} axes`);
  return axes.map((axis, k) => {
    const size = value.shape[axis]!;
    if (!(scales[k]! > 0)) throw shapeMismatch(node, `scale ${scales[k]} of axis ${axis} is not positive`);
    const scale = scaleOf(scales[k]!);
    const out = scaledSize(size, scale);
    if (out === undefined) throw valueNeeded(node, value.name, `size of axis ${axis}, which is scaled by ${scales[k]},`);
    return { axis, size, out, scale };
  });
}

function axesFromSizes(
  node: NodeFacts,
  value: Value,
  axes: readonly number[],
  sizes: readonly Dim[],
  policy: Policy,
): ResizedAxis[] {
  if (sizes.length !== axes.length) throw shapeMismatch(node, `${sizes.length} sizes for ${axes.length} axes`);
  const from = axes.map((axis) => value.shape[axis]!);
  if (policy === "stretch")
    return axes.map((axis, k) => ({ axis, size: from[k]!, out: sizes[k]!, scale: ratioOf(sizes[k]!, from[k]!) }));
  if (!isStaticShape(sizes) || !isStaticShape(from))
    throw valueNeeded(node, value.name, `shape, on which "${policy}" decides,`);
  const factors = sizes.map((size, k) => size / from[k]!);
  const decides = factors.indexOf(policy === "not_larger" ? Math.min(...factors) : Math.max(...factors));
  const scale = ratioOf(sizes[decides]!, from[decides]!);
  return axes.map((axis, k) => ({
    axis,
    size: from[k]!,
    out: Math.floor((2 * from[k]! * sizes[decides]! + from[decides]!) / (2 * from[decides]!)),
    scale,
  }));
}

/** Start and end of each axis from the roi input: all starts, then all ends. */
function withRoi(axes: readonly ResizedAxis[], roi: Value | undefined, node: NodeFacts): ResizedAxis[] {
  if (!roi) throw shapeMismatch(node, "tf_crop_and_resize needs the input roi");
  return axes.map((axis, k) => ({ ...axis, roi: [x.load(roi, [x.int(k)]), x.load(roi, [x.int(axes.length + k)])] }));
}

interface ResizeAttributes extends Sampling {
  readonly axes: readonly number[] | undefined;
  readonly policy: Policy;
}

const readResize = (read: AttributeReader): ResizeAttributes => ({
  mode: read.string("mode", "nearest", ["nearest", "linear", "cubic"]),
  coordinates: read.string("coordinate_transformation_mode", "half_pixel", COORDINATES),
  nearest: read.string("nearest_mode", "round_prefer_floor", NEAREST),
  cubic: read.float("cubic_coeff_a", -0.75),
  antialias: read.flag("antialias"),
  excludeOutside: read.flag("exclude_outside"),
  extrapolation: read.float("extrapolation_value", 0),
  axes: read.ints("axes"),
  policy: read.string("keep_aspect_ratio_policy", "stretch", POLICIES),
});

/** What Upsample and Resize of opset 10 do: no attribute but the mode. */
const legacy = (mode: Sampling["mode"]): Sampling => ({
  mode,
  coordinates: "asymmetric",
  nearest: "simple",
  cubic: -0.75,
  antialias: false,
  excludeOutside: false,
  extrapolation: 0,
});
const allAxes = (value: Value): number[] => value.shape.map((_, axis) => axis);

export const resizes: readonly Operator[] = [
  defineOp<ResizeAttributes>({
    name: "Resize",
    since: [10, 11, 13, 18, 19],
    attrs: readResize,
    lower: (b, inputs, attrs, node) => {
      const value = need(node, inputs, 0);
      if (node.opset < 11)
        return [
          resize(
            b,
            value,
            axesFromScales(node, value, allAxes(value), numbersOf(tensorOf(node, need(node, inputs, 1), "scales"))),
            legacy(attrs.mode),
          ),
        ];
      if (attrs.antialias && attrs.mode === "nearest") throw badAttribute(node, "antialias", "1", `0 for the mode "nearest"`);
      const axes = attrs.axes?.map((axis) => axisIn(node, axis, value.shape.length)) ?? allAxes(value);
      const [roi, scales, sizes] = [given(inputs[1]), given(inputs[2]), given(inputs[3])];
      if (!scales && !sizes) throw shapeMismatch(node, "neither scales nor sizes are given");
      const resized = sizes
        ? axesFromSizes(node, value, axes, dimsOf(node, sizes, "sizes"), attrs.policy)
        : axesFromScales(node, value, axes, numbersOf(tensorOf(node, scales!, "scales")));
      return [resize(b, value, attrs.coordinates === "tf_crop_and_resize" ? withRoi(resized, roi, node) : resized, attrs)];
    },
  }),
  defineOp<{ mode: "nearest" | "linear"; scales: readonly number[] | undefined }>({
    name: "Upsample",
    since: [7, 9],
    attrs: (read) => ({ mode: read.string("mode", "nearest", ["nearest", "linear"]), scales: read.floats("scales") }),
    lower: (b, inputs, { mode, scales }, node) => {
      const value = need(node, inputs, 0);
      return [
        resize(
          b,
          value,
          axesFromScales(node, value, allAxes(value), scales ?? numbersOf(tensorOf(node, need(node, inputs, 1), "scales"))),
          legacy(mode),
        ),
      ];
    },
  }),
];
