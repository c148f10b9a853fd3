// Convolutions: Conv, ConvInteger, QLinearConv and ConvTranspose. ONNX: https://onnx.ai/onnx/operators/

import type { Dim } from "../ir/dims.ts";
import * as dims from "../ir/dims.ts";
import type { Expr } from "../ir/expr.ts";
import * as x from "../ir/expr.ts";
import type { ConvGeometry, Lowering } from "../ir/lower.ts";
import type { Value } from "../ir/value.ts";
import { badAttribute, shapeMismatch, typeMismatch } from "../util/errors.ts";
import { type AttributeReader, checkVector, defineOp, type NodeFacts, need, type Operator } from "./define.ts";
import { centered, perChannel, requantize } from "./quantized.ts";
import { padsOf, perAxis, placeWindows, readWindow, span, type Window, type WindowAttributes } from "./window.ts";

export interface ConvAttributes extends WindowAttributes {
  readonly groups: number;
}

export const readConv = (read: AttributeReader): ConvAttributes => ({ ...readWindow(read), groups: read.int("group", 1) });

/** Checks channels and kernel shape of channels-first `input` against `weights` [oc, ic / groups, k…] and places the kernel. */
export function convGeometry(node: NodeFacts, input: Value, weights: Value, attrs: ConvAttributes): ConvGeometry {
  checkRanks(node, input, weights);
  const [oc, ic, ...kernel] = weights.shape;
  const channels = dims.mul(ic!, attrs.groups);
  if (dims.isStatic(channels) && dims.isStatic(input.shape[1]!) && channels !== input.shape[1]) {
    throw shapeMismatch(
      node,
      `the input has ${input.shape[1]} channels`,
      `weights ${dims.shapeText(weights.shape)} in ${attrs.groups} group${attrs.groups === 1 ? "" : "s"} read ${channels}`,
    );
  }
  if (dims.isStatic(oc!) && oc % attrs.groups !== 0)
    throw badAttribute(node, "group", String(attrs.groups), `a divisor of ${oc} output channels`);
  checkKernel(node, attrs, kernel);
  const window: Window = placeWindows(node, input.shape.slice(2), kernel, attrs);
  return { groups: attrs.groups, strides: window.strides, dilations: window.dilations, pads: window.before, out: window.out };
}

function checkTypes(node: NodeFacts, input: Value, weights: Value, bias: Value | undefined, channels: Dim): void {
  if (weights.dtype !== input.dtype || (bias && bias.dtype !== input.dtype))
    throw typeMismatch(node, `input is ${input.dtype}, weights ${weights.dtype}${bias ? `, bias ${bias.dtype}` : ""}`);
  if (bias) checkVector(node, bias, channels);
}

function checkRanks(node: NodeFacts, input: Value, weights: Value): void {
  if (input.shape.length < 3 || input.shape.length !== weights.shape.length) {
    throw shapeMismatch(
      node,
      `input ${dims.shapeText(input.shape)} and weights ${dims.shapeText(weights.shape)} must have the same rank, 3 or more`,
    );
  }
}

function checkKernel(node: NodeFacts, attrs: WindowAttributes, kernel: readonly Dim[]): void {
  const given = attrs.kernel;
  if (
    given &&
    given.length > 0 &&
    (given.length !== kernel.length || given.some((k, i) => dims.isStatic(kernel[i]!) && kernel[i] !== k))
  ) {
    throw badAttribute(node, "kernel_shape", `[${given.join(", ")}]`, `that of the weights, ${dims.shapeText(kernel)}`);
  }
}

/** Floating-point convolution; `result` gets the sum with its bias and the index [n, oc, o…]. */
export function conv(
  b: Lowering,
  node: NodeFacts,
  inputs: readonly (Value | undefined)[],
  attrs: ConvAttributes,
  result: (sum: Expr, index: readonly Expr[]) => Expr = (sum) => sum,
): Value {
  const [input, weights, bias] = [need(node, inputs, 0), need(node, inputs, 1), inputs[2]];
  const geometry = convGeometry(node, input, weights, attrs);
  checkTypes(node, input, weights, bias, weights.shape[0]!);
  return b.conv(input.dtype, input, weights, geometry, undefined, (acc, index) =>
    result(bias ? x.add(acc, x.load(bias, [index[1]!])) : acc, index),
  );
}

interface TransposeAttributes extends ConvAttributes {
  readonly outputPadding: readonly number[] | undefined;
  readonly outputShape: readonly number[] | undefined;
}

/** Output size and padding before, on each axis of a transposed convolution. */
function transposeGeometry(
  node: NodeFacts,
  size: readonly Dim[],
  kernel: readonly Dim[],
  attrs: TransposeAttributes,
): { strides: readonly number[]; dilations: readonly number[]; before: readonly Dim[]; out: readonly Dim[] } {
  const rank = size.length;
  const strides = perAxis(node, "strides", attrs.strides, rank);
  const dilations = perAxis(node, "dilations", attrs.dilations, rank);
  const extra = attrs.outputPadding?.length ? attrs.outputPadding : new Array<number>(rank).fill(0);
  const full = size.map((extent, axis) =>
    dims.add(dims.mul(dims.sub(extent, 1), strides[axis]!), span(kernel[axis]!, dilations[axis]!), extra[axis]!),
  );
  const same = attrs.autoPad === "SAME_UPPER" || attrs.autoPad === "SAME_LOWER";
  // output_shape may list the spatial axes only, or all of them.
  const asked = attrs.outputShape?.length
    ? attrs.outputShape.slice(-rank)
    : same
      ? size.map((extent, axis) => dims.mul(extent, strides[axis]!))
      : undefined;
  if (!asked) {
    const { before, after } = padsOf(node, attrs.autoPad === "NOTSET" ? attrs.pads : undefined, rank);
    return { strides, dilations, before, out: full.map((extent, axis) => dims.sub(extent, before[axis]! + after[axis]!)) };
  }
  const total = full.map((extent, axis) => dims.max(0, dims.sub(extent, asked[axis]!)));
  return {
    strides,
    dilations,
    before: total.map((pad) => (attrs.autoPad === "SAME_UPPER" ? dims.floorDiv(pad, 2) : dims.ceilDiv(pad, 2))),
    out: asked,
  };
}

/**
 * Transposed convolution as a convolution of stride 1 for each of the Π stride phases of the output, side by side as output
 * channels, and a shuffle of the phases into place (Shi et al. 2016, "Is the deconvolution layer the same as a
 * convolutional layer?"). Nothing is multiplied by inserted zeros; with constant weights their rearrangement folds.
 */
function convTranspose(
  b: Lowering,
  node: NodeFacts,
  inputs: readonly (Value | undefined)[],
  attrs: TransposeAttributes,
): Value {
  const [input, weights, bias] = [need(node, inputs, 0), need(node, inputs, 1), inputs[2]];
  checkRanks(node, input, weights);
  const [channels, perGroup, ...kernel] = weights.shape as [Dim, Dim, ...Dim[]];
  checkKernel(node, attrs, kernel);
  if (dims.isStatic(channels) && dims.isStatic(input.shape[1]!) && channels !== input.shape[1])
    throw shapeMismatch(node, `the input has ${input.shape[1]} channels, the weights ${channels}`);
  if (dims.isStatic(channels) && channels % attrs.groups !== 0)
    throw badAttribute(node, "group", String(attrs.groups), `a divisor of ${channels} channels`);
  const { strides, dilations, before, out } = transposeGeometry(node, input.shape.slice(2), kernel, attrs);
  const phases = dims.product(strides);
  const oc = dims.mul(perGroup, attrs.groups);
  checkTypes(node, input, weights, bias, oc);
  const taps = kernel.map((k, axis) => dims.ceilDiv(span(k, dilations[axis]!), strides[axis]!));
  const first = before.map((pad, axis) => dims.floorDiv(pad, strides[axis]!));
  const count = out.map((extent, axis) =>
    dims.max(0, dims.sub(dims.add(dims.floorDiv(dims.add(extent, before[axis]!, -1), strides[axis]!), 1), first[axis]!)),
  );

  const ic = dims.floorDiv(channels, attrs.groups);
  const rearranged = b.map(weights.dtype, [dims.mul(oc, phases), ic, ...taps], ([row, c, ...tap]) => {
    const channel = x.floorDiv(row!, x.int(phases));
    const phase = x.unflatten(x.floorMod(row!, x.int(phases)), strides);
    const offset = tap.map((j, axis) =>
      x.add(phase[axis]!, x.mul(x.sub(x.int(dims.sub(taps[axis]!, 1)), j), x.int(strides[axis]!))),
    );
    const hit = offset.reduce(
      (all, at, axis) =>
        x.and(
          all,
          x.lt(at, x.int(span(kernel[axis]!, dilations[axis]!))),
          x.eq(x.floorMod(at, x.int(dilations[axis]!)), x.int(0)),
        ),
      x.bool(true),
    );
    const at = offset.map((e, axis) => x.floorDiv(e, x.int(dilations[axis]!)));
    const source = x.add(x.mul(x.floorDiv(channel, x.int(perGroup)), x.int(ic)), c!);
    return x.select(hit, x.load(weights, [source, x.floorMod(channel, x.int(perGroup)), ...at]), x.float(0));
  });
  const withBias = (sum: Expr, channel: Expr): Expr => (bias ? x.add(sum, x.load(bias, [channel])) : sum);
  const ones = strides.map(() => 1);
  const geometry: ConvGeometry = {
    groups: attrs.groups,
    strides: ones,
    dilations: ones,
    pads: taps.map((tap, axis) => dims.sub(dims.sub(tap, 1), first[axis]!)),
    out: count,
  };
  if (phases === 1)
    return b.conv(input.dtype, input, rearranged, geometry, undefined, (acc, [, channel]) => withBias(acc, channel!));
  const apart = b.conv(input.dtype, input, rearranged, geometry);
  return b.map(input.dtype, [input.shape[0]!, oc, ...out], ([n, channel, ...o]) => {
    const full = o.map((at, axis) => x.add(at, x.int(before[axis]!)));
    const phase = x.flatten(
      full.map((at, axis) => x.floorMod(at, x.int(strides[axis]!))),
      strides,
    );
    const turn = full.map((at, axis) => x.add(x.floorDiv(at, x.int(strides[axis]!)), x.int(dims.mul(first[axis]!, -1))));
    return withBias(x.load(apart, [n!, x.add(x.mul(channel!, x.int(phases)), phase), ...turn]), channel!);
  });
}

export const convolutions: readonly Operator[] = [
  defineOp<ConvAttributes>({
    name: "Conv",
    since: [1, 11, 22],
    attrs: readConv,
    lower: (b, inputs, attrs, node) => [conv(b, node, inputs, attrs)],
  }),
  defineOp<TransposeAttributes>({
    name: "ConvTranspose",
    since: [1, 11, 22],
    attrs: (read) => ({
      ...readConv(read),
      outputPadding: read.ints("output_padding"),
      outputShape: read.ints("output_shape"),
    }),
    lower: (b, inputs, attrs, node) => [convTranspose(b, node, inputs, attrs)],
  }),
  defineOp<ConvAttributes>({
    name: "ConvInteger",
    since: [10],
    attrs: readConv,
    lower: (b, inputs, attrs, node) => {
      const [input, weights] = [need(node, inputs, 0), need(node, inputs, 1)];
      const read = { x: centered(input, inputs[2], 1), w: centered(weights, inputs[3], 0) };
      return [b.conv("i32", input, weights, convGeometry(node, input, weights, attrs), read)];
    },
  }),
  defineOp<ConvAttributes>({
    name: "QLinearConv",
    since: [10],
    attrs: readConv,
    lower: (b, inputs, attrs, node) => {
      const [input, xScale, xZero, weights, wScale, wZero, yScale, yZero] = [0, 1, 2, 3, 4, 5, 6, 7].map((i) =>
        need(node, inputs, i),
      ) as [Value, Value, Value, Value, Value, Value, Value, Value];
      const bias = inputs[8];
      const read = { x: centered(input, xZero, 1), w: centered(weights, wZero, 0) };
      return [
        b.conv(yZero.dtype, input, weights, convGeometry(node, input, weights, attrs), read, (acc, index) => {
          const channel = index[1]!;
          const scale = x.div(x.mul(perChannel(xScale, channel), perChannel(wScale, channel)), perChannel(yScale, channel));
          const sum = bias ? x.add(acc, x.load(bias, [channel])) : acc;
          return requantize(x.mul(x.convert(sum, "f32"), scale), perChannel(yZero, channel), yZero.dtype);
        }),
      ];
    },
  }),
];
