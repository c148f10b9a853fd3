// A factor and a shift for each output channel, folded into the constant weights and bias of the operator before it:
// BatchNormalization, and multiplication, division, addition and subtraction by constants.

import type { GraphNode } from "../ir/graph.ts";
import { type Tensor, allocate, numbersOf, reader, writer } from "../ir/tensor.ts";
import type { DType } from "../ir/types.ts";
import type { Value } from "../ir/value.ts";
import { attributesOf, hasOneOutput } from "./attributes.ts";
import { type Constant, type Replacement, type Rule, any, constant, float, op, optional, rule, rulesPass } from "./rewrite/index.ts";

const LINEAR = ["Conv", "ConvTranspose", "Gemm", "MatMul"];

/** How the weights and bias of a linear operator lie. */
interface Layout {
  readonly channels: number;
  /** The output axis that channels are on. */
  readonly axis: number;
  /** Output channel that element i of the weights belongs to. */
  readonly channelOf: (i: number) => number;
}

function layoutOf(node: GraphNode, w: Constant): Layout | undefined {
  const rank = node.outputs[0]!.shape.length;
  const shape = w.data.shape;
  switch (node.op) {
    case "Conv": {
      const size = w.data.data.length / shape[0]!;
      return { channels: shape[0]!, axis: 1, channelOf: (i) => Math.floor(i / size) };
    }
    case "ConvTranspose": {
      const [inputs, perGroup] = shape as [number, number];
      const groups = attributesOf(node).int("group", 1);
      const size = w.data.data.length / (inputs * perGroup);
      const inputsOfGroup = inputs / groups;
      return {
        channels: perGroup * groups, axis: 1,
        channelOf: (i) => Math.floor(i / (size * perGroup * inputsOfGroup)) * perGroup + (Math.floor(i / size) % perGroup),
      };
    }
    case "Gemm": case "MatMul": {
      if (shape.length !== 2) return undefined;
      const transposed = node.op === "Gemm" && attributesOf(node).flag("transB");
      const [rows, columns] = shape as [number, number];
      return transposed ? { channels: rows, axis: rank - 1, channelOf: (i) => Math.floor(i / columns) } : { channels: columns, axis: rank - 1, channelOf: (i) => i % columns };
    }
    default: return undefined;
  }
}

/** One number a channel from a constant that broadcasts over all other axes of an output of `rank` axes. */
function perChannel({ data }: Constant, { channels, axis }: Layout, rank: number): readonly number[] | undefined {
  const { shape } = data;
  if (shape.length > rank) return undefined;
  const at = axis - (rank - shape.length);
  if (shape.some((size, i) => size !== 1 && (i !== at || size !== channels))) return undefined;
  const numbers = numbersOf(data);
  return numbers.length === channels ? numbers : new Array<number>(channels).fill(numbers[0]!);
}

/** Numbers as a tensor; undefined when the type makes 0 or infinity of one that is neither. */
function representable(dtype: DType, shape: readonly number[], count: number, element: (i: number) => number): Tensor | undefined {
  const made: Tensor = { dtype, shape, data: allocate(dtype, count) };
  const [read, write] = [reader(made), writer(made)];
  for (let i = 0; i < count; i++) {
    const exact = element(i);
    write(i, exact);
    const stored = read(i);
    if ((stored === 0 && Math.abs(exact) > 1e-30) || (!Number.isFinite(stored) && Number.isFinite(exact))) return undefined;
  }
  return made;
}

interface Linear {
  readonly node: GraphNode;
  readonly x: Value;
  readonly w: Constant;
  readonly b: Constant | undefined;
}
interface Channels {
  readonly factor: readonly number[] | undefined;
  readonly shift: readonly number[] | undefined;
}

/** The operator with weights and bias such that it gives factor · (what it gave) + shift; undefined where it cannot be said. */
function withChannels(g: Replacement, { node, x, w, b }: Linear, { factor, shift }: Channels): Value | undefined {
  const layout = layoutOf(node, w);
  const { dtype } = w;
  if (!layout || x.dtype !== dtype || g.root.outputs[0]!.dtype !== dtype) return undefined;
  const { channels, channelOf } = layout;
  const read = reader(w.data);
  const weights = factor ? representable(dtype, w.data.shape, w.data.data.length, (i) => read(i) * factor[channelOf(i)]!) : w.data;
  if (!weights) return undefined;
  const scaled = factor ? g.constant(weights) : w;
  if (node.op === "MatMul" && !shift) return g.like(node, [x, scaled]);
  if (node.op === "MatMul" && x.shape.length !== 2) return undefined;
  const beta = node.op === "Gemm" ? attributesOf(node).float("beta", 1) : 1;
  const old = b && perChannel(b, { ...layout, axis: node.op === "Gemm" ? 1 : 0 }, node.op === "Gemm" ? 2 : 1);
  if (b && !old) return undefined;
  if (!b && !shift) return g.like(node, [x, scaled]);
  const bias = representable(dtype, [channels], channels, (c) => (old?.[c] ?? 0) * beta * (factor?.[c] ?? 1) + (shift?.[c] ?? 0));
  if (!bias) return undefined;
  if (node.op === "MatMul") return g.node("Gemm", [x, scaled, g.constant(bias)]);
  return g.like(node, [x, scaled, g.constant(bias)], node.op === "Gemm" ? { beta: float(1) } : {});
}

/** A linear operator with constant weights that nothing else reads. */
const linear = op(LINEAR, [any("x"), constant("w"), optional(constant("b"))], { singleUse: true }).as("node");

const foldBatchNorm = rule({
  name: "fold-batchnorm",
  match: op("BatchNormalization", [linear, constant("scale"), constant("shift"), constant("mean"), constant("variance")], { where: isInference }),
  rewrite: ({ node, x, w, b, scale, shift, mean, variance }, g) => {
    if (node.op === "MatMul" && x.shape.length !== 2) return undefined;
    const epsilon = attributesOf(g.root).float("epsilon", 1e-5);
    const [scales, shifts, means, variances] = [scale, shift, mean, variance].map(({ data }) => numbersOf(data)) as [number[], number[], number[], number[]];
    const factor = scales.map((s, c) => s / Math.sqrt(variances[c]! + epsilon));
    return withChannels(g, { node, x, w, b }, { factor, shift: shifts.map((s, c) => s - means[c]! * factor[c]!) });
  },
});

function isInference(node: GraphNode): boolean {
  const read = attributesOf(node);
  if (!read.flag("spatial", true)) return false;
  return node.opset >= 14 ? !read.flag("training_mode") && hasOneOutput(node) : node.outputs.length === 1;
}

/** What `node ∘ c` does to each channel: the constant is the second operand, or the first when `first`. */
function channelsOf(operator: string, c: readonly number[], first: boolean): Channels | undefined {
  switch (operator) {
    case "Mul": return { factor: c, shift: undefined };
    case "Div": return first || c.includes(0) ? undefined : { factor: c.map((value) => 1 / value), shift: undefined };
    case "Add": return { factor: undefined, shift: c };
    case "Sub": return first ? { factor: c.map(() => -1), shift: c } : { factor: undefined, shift: c.map((value) => -value) };
    default: return undefined;
  }
}

interface Parts { readonly node: GraphNode; readonly x: Value; readonly w: Constant; readonly b?: Constant; readonly c: Constant }

function foldConstant({ node, x, w, b, c }: Parts, g: Replacement): Value | undefined {
  const layout = layoutOf(node, w);
  const rank = node.outputs[0]!.shape.length;
  const numbers = layout && perChannel(c, layout, rank);
  const channels = numbers && channelsOf(g.root.op, numbers, g.root.inputs[0] === c);
  return channels && withChannels(g, { node, x, w, b }, channels);
}

const foldAffine: readonly Rule[] = [
  rule({ name: "fold-scale", match: op(["Mul", "Div"], [linear, constant("c")]), rewrite: foldConstant }),
  rule({ name: "fold-shift", match: op(["Add", "Sub"], [linear, constant("c")]), rewrite: foldConstant }),
  rule({ name: "fold-shift", match: op("Sub", [constant("c"), linear]), rewrite: foldConstant }),
];

/** Conv(x · c) with a factor for each input channel: padding stays 0 under a factor. */
const foldScaleBefore = rule({
  name: "fold-scale-before",
  match: op("Conv", [op(["Mul", "Div"], [any("x"), constant("c")], { singleUse: true }).as("scaling"), constant("w"), optional(any("b"))]),
  rewrite: ({ x, c, w, b, scaling }, g) => {
    const [oc, perGroup] = w.data.shape as [number, number];
    const groups = attributesOf(g.root).int("group", 1);
    const rank = g.root.outputs[0]!.shape.length;
    if (x.shape.length !== rank || x.dtype !== w.dtype) return undefined;
    const numbers = perChannel(c, { channels: perGroup * groups, axis: 1, channelOf: () => 0 }, rank);
    const factor = numbers && channelsOf(scaling.op, numbers, false)?.factor;
    if (!factor) return undefined;
    const size = w.data.data.length / (oc * perGroup);
    const read = reader(w.data);
    const channelOf = (i: number): number => Math.floor(i / (size * perGroup * (oc / groups))) * perGroup + (Math.floor(i / size) % perGroup);
    const weights = representable(w.dtype, w.data.shape, w.data.data.length, (i) => read(i) * factor[channelOf(i)]!);
    return weights && g.like(g.root, [x, g.constant(weights), b]);
  },
});

export const foldChannels = rulesPass("fold-channels", "factors and shifts by constants go into the weights and bias of the convolution or matrix product next to them", [foldBatchNorm, ...foldAffine, foldScaleBefore]);
