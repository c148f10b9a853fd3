// Constant factors and shifts of channels, folded into the constant weights and bias of the linear operator next to them:
// BatchNormalization, and multiplication, division, addition and subtraction by constants.

import type { GraphNode } from "../ir/graph.ts";
import { numbersOf, reader } from "../ir/tensor.ts";
import type { Value } from "../ir/value.ts";
import { attributesOf, hasOneOutput } from "./attributes.ts";
import { ownPads } from "./fold-pad.ts";
import { biasOf, LINEAR, type Linear, layoutOf, perChannel, withWeights } from "./linear.ts";
import { any, type Constant, constant, op, optional, type Replacement, rule, rulesPass } from "./rewrite/index.ts";

/** What happens to each channel: x · factor + shift. */
interface Channels {
  readonly factor: readonly number[] | undefined;
  readonly shift: readonly number[] | undefined;
}

// --- where the channels come from ------------------------------------------------------------------------------------------

const statistics = [constant("scale"), constant("shift"), constant("mean"), constant("variance")] as const;
type Statistics = Readonly<Record<"scale" | "shift" | "mean" | "variance", Constant>>;

function isInference(node: GraphNode): boolean {
  const read = attributesOf(node);
  if (!read.flag("spatial", true)) return false;
  return node.opset >= 14 ? !read.flag("training_mode") && hasOneOutput(node) : node.outputs.length === 1;
}

function channelsOfNorm(node: GraphNode, { scale, shift, mean, variance }: Statistics): Required<Channels> {
  const epsilon = attributesOf(node).float("epsilon", 1e-5);
  const [scales, shifts, means, variances] = [scale, shift, mean, variance].map(({ data }) => numbersOf(data)) as [
    number[],
    number[],
    number[],
    number[],
  ];
  const factor = scales.map((s, c) => s / Math.sqrt(variances[c]! + epsilon));
  return { factor, shift: shifts.map((s, c) => s - means[c]! * factor[c]!) };
}

/** What `x ∘ c` does to each channel, or `c ∘ x` when the constant comes `first`. */
function channelsOf(operator: string, c: readonly number[], first: boolean): Channels | undefined {
  switch (operator) {
    case "Mul":
      return { factor: c, shift: undefined };
    case "Div":
      return first || c.includes(0) ? undefined : { factor: c.map((value) => 1 / value), shift: undefined };
    case "Add":
      return { factor: undefined, shift: c };
    case "Sub":
      return first ? { factor: c.map(() => -1), shift: c } : { factor: undefined, shift: c.map((value) => -value) };
    default:
      return undefined;
  }
}

// --- after the linear operator ---------------------------------------------------------------------------------------------

/** A linear operator with constant weights that nothing else reads. */
const linear = op(LINEAR, [any("x"), constant("w"), optional(constant("b"))], { singleUse: true }).as("node");

/** The operator with weights and bias such that it gives what it gave, times factor, plus shift. */
function scaleOutput(g: Replacement, linear: Linear, { factor, shift }: Channels): Value | undefined {
  const layout = layoutOf(linear.node, linear.w);
  if (!layout) return undefined;
  const read = reader(linear.w.data);
  const weights = factor && ((i: number): number => read(i) * factor[layout.channelOf(i)]!);
  if (!shift && !linear.b) return withWeights(g, linear, weights, undefined);
  const bias = biasOf(linear, layout.channels)?.map((value, c) => value * (factor?.[c] ?? 1) + (shift?.[c] ?? 0));
  return bias && withWeights(g, linear, weights, bias);
}

const isMatrix = ({ node, x }: Linear): boolean => node.op !== "MatMul" || x.shape.length === 2;

function foldConstant(parts: Linear & { readonly c: Constant }, g: Replacement): Value | undefined {
  const layout = layoutOf(parts.node, parts.w);
  const numbers = layout && perChannel(parts.c, layout.channels, layout.axis, parts.node.outputs[0]!.shape.length);
  const channels = numbers && channelsOf(g.root.op, numbers, g.root.inputs[0] === parts.c);
  return channels && scaleOutput(g, parts, channels);
}

const after = [
  rule({
    name: "fold-batchnorm",
    match: op("BatchNormalization", [linear, ...statistics], { where: isInference }),
    rewrite: (parts, g) => (isMatrix(parts) ? scaleOutput(g, parts, channelsOfNorm(g.root, parts)) : undefined),
  }),
  rule({ name: "fold-scale", match: op(["Mul", "Div"], [linear, constant("c")]), rewrite: foldConstant }),
  rule({ name: "fold-shift", match: op(["Add", "Sub"], [linear, constant("c")]), rewrite: foldConstant }),
  rule({ name: "fold-shift", match: op("Sub", [constant("c"), linear]), rewrite: foldConstant }),
];

// --- before it -------------------------------------------------------------------------------------------------------------

/** The root with weights and bias such that it gives on `x` what it gave on x · factor + shift. */
function scaleInput(g: Replacement, linear: Linear, { factor, shift }: Channels): Value | undefined {
  const { node, w } = linear;
  const layout = layoutOf(node, w);
  if (!layout) return undefined;
  const read = reader(w.data);
  const weights = factor && ((i: number): number => read(i) * factor[layout.inputOf(i)]!);
  if (!shift) return withWeights(g, linear, weights, undefined);
  const alpha = node.op === "Gemm" ? attributesOf(node).float("alpha", 1) : 1;
  const bias = biasOf(linear, layout.channels)?.slice();
  if (!bias || layout.inputAxis !== 1) return undefined;
  for (let i = 0; i < w.data.data.length; i++) bias[layout.channelOf(i)]! += read(i) * shift[layout.inputOf(i)]! * alpha;
  return withWeights(g, linear, weights, bias);
}

const isUnpadded = (node: GraphNode): boolean => node.op !== "Conv" || (ownPads(node, 0)?.every((pad) => pad === 0) ?? false);

/** A constant factor or shift that only a linear operator reads; padding of its own stays 0 under a factor, not under a shift. */
const constantBefore = (name: string, operators: readonly string[], where: (node: GraphNode) => boolean) =>
  rule({
    name,
    match: op(
      ["Conv", "Gemm", "MatMul"],
      [op(operators, [any("x"), constant("c")], { singleUse: true }).as("inner"), constant("w"), optional(any("b"))],
      { where },
    ),
    rewrite: ({ x, c, w, b, inner }, g) => {
      const layout = layoutOf(g.root, w);
      const { shape } = inner.outputs[0]!;
      const numbers =
        layout && x.shape.length === shape.length ? perChannel(c, layout.inputs, layout.inputAxis, shape.length) : undefined;
      const channels = numbers && channelsOf(inner.op, numbers, inner.inputs[0] === c);
      return channels && scaleInput(g, { node: g.root, x, w, b }, channels);
    },
  });

const before = [
  constantBefore("fold-scale-before", ["Mul", "Div"], () => true),
  constantBefore("fold-shift-before", ["Add", "Sub"], isUnpadded),
  rule({
    name: "fold-batchnorm-before",
    match: op(
      ["Conv", "Gemm"],
      [
        op("BatchNormalization", [any("x"), ...statistics], { singleUse: true, where: isInference }).as("norm"),
        constant("w"),
        optional(constant("b")),
      ],
      { where: isUnpadded },
    ),
    rewrite: ({ x, w, b, norm, ...stats }, g) => scaleInput(g, { node: g.root, x, w, b }, channelsOfNorm(norm, stats)),
  }),
];

export const foldChannels = rulesPass(
  "fold-channels",
  "constant factors and shifts of channels go into the weights and bias of the linear operator next to them",
  [...after, ...before],
);
