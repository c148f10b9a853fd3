// Normalizations in primitives become LayerNormalization, RMSNormalization and GroupNormalization: first the core, with a
// scale of ones, then a scale and a bias that follow it move in.

import { type Dim, isStatic, isStaticShape, sameShape } from "../ir/dims.ts";
import type { GraphNode } from "../ir/graph.ts";
import type { Value } from "../ir/value.ts";
import { attributesOf, filled, hasOneOutput, integers, isFilled, trimmedShape } from "./attributes.ts";
import {
  any,
  type Constant,
  constant,
  either,
  exponent,
  float,
  int,
  number,
  op,
  optional,
  type Replacement,
  rule,
  rulesPass,
  scalar,
  scalarOf,
} from "./rewrite/index.ts";

// --- the parts -------------------------------------------------------------------------------------------------------------

const x = any("x");
const mean = op("ReduceMean", [x, optional(any("meanAxes"))]).as("mean");
const centered = op("Sub", [x, mean]);
const squareOf = <P extends typeof x | typeof centered>(e: P) => either(op("Pow", [e, exponent(2)]), op("Mul", [e, e]));
const variance = op("ReduceMean", [squareOf(centered), optional(any("varianceAxes"))]).as("spread");
const meanSquare = op("ReduceMean", [squareOf(x), optional(any("varianceAxes"))]).as("spread");
const rootOf = <P extends typeof variance | typeof meanSquare>(e: P) => {
  const sum = op("Add", [e, scalar("epsilon")]);
  return either(op("Sqrt", [sum]), op("Pow", [sum, exponent(0.5)]));
};
const inverseRootOf = <P extends typeof variance | typeof meanSquare>(e: P) =>
  either(
    op("Reciprocal", [rootOf(e)]),
    op("Div", [number(1), rootOf(e)]),
    op("Pow", [op("Add", [e, scalar("epsilon")]), exponent(-0.5)]),
  );

/** First of the axes that a ReduceMean combines, when they are the last ones and are kept with size 1. */
function firstAxis(node: GraphNode, rank: number): number | undefined {
  const axes = integers(
    node,
    1,
    "axes",
    Array.from({ length: rank }, (_, axis) => axis),
  )?.map((axis) => (axis < 0 ? axis + rank : axis));
  if (!axes || axes.length === 0 || !attributesOf(node).flag("keepdims", true)) return undefined;
  const first = rank - axes.length;
  return [...axes].sort((a, b) => a - b).every((axis, i) => axis === first + i) ? first : undefined;
}

interface Core {
  readonly x: Value;
  readonly spread: GraphNode;
  readonly epsilon: Constant;
  readonly mean?: GraphNode;
}

/** The operator over the axes that the parts agree on, with a scale of ones unless there is one. */
function normalization(
  g: Replacement,
  name: "LayerNormalization" | "RMSNormalization",
  { x, spread, epsilon, mean }: Core,
  scale?: Value,
  shift?: Value,
): Value | undefined {
  const rank = x.shape.length;
  const axis = firstAxis(spread, rank);
  if (axis === undefined || (mean && firstAxis(mean, rank) !== axis) || x.dtype === "f64") return undefined;
  const shape = x.shape.slice(axis);
  const scaleValue = scale ? fitted(g, scale, shape) : isStaticShape(shape) ? g.constant(filled(x.dtype, shape, 1)) : undefined;
  const shiftValue = shift && fitted(g, shift, shape);
  if (!scaleValue || (shift && !shiftValue)) return undefined;
  const inputs = shiftValue ? [x, scaleValue, shiftValue] : [x, scaleValue];
  return g.node(
    name,
    inputs,
    { axis: int(axis - rank), epsilon: float(scalarOf(epsilon)!) },
    name === "LayerNormalization" ? 17 : 23,
  );
}

/** `value` as a scale or shift over the normalized axes `shape`; leading 1s of a constant go. */
function fitted(g: Replacement, value: Value, shape: readonly Dim[]): Value | undefined {
  if (sameShape(value.shape, shape)) return value;
  if (!value.data || !sameShape(trimmedShape(value.shape, shape.length), shape)) return undefined;
  return g.constant({ ...value.data, shape: shape as readonly number[] });
}

// --- rules -----------------------------------------------------------------------------------------------------------------

/** tf2onnx spells x · i + (shift − mean · i) with i = scale / deviation. */
const inverse = op("Mul", [inverseRootOf(variance), any("scale")]);
const flattened = op("Add", [op("Mul", [x, inverse]), op("Sub", [any("shift"), op("Mul", [mean, inverse])])]);

const NORMS = ["LayerNormalization", "RMSNormalization"];
const hasUnitScale = (node: GraphNode): boolean =>
  hasOneOutput(node) && node.inputs[2] === undefined && isFilled(node.inputs[1]!, 1);

/** The axes that a normalization node combines, as its input's shape. */
function normalizedShape(node: GraphNode): readonly Dim[] {
  const { shape } = node.inputs[0]!;
  const axis = attributesOf(node).int("axis", -1);
  return shape.slice(axis < 0 ? axis + shape.length : axis);
}

const layers = [
  rule({
    name: "recognize-layernorm",
    match: op("Div", [centered, rootOf(variance)]),
    rewrite: (parts, g) => normalization(g, "LayerNormalization", parts),
  }),
  rule({
    name: "recognize-layernorm",
    match: op("Mul", [centered, inverseRootOf(variance)]),
    rewrite: (parts, g) => normalization(g, "LayerNormalization", parts),
  }),
  rule({
    name: "recognize-layernorm",
    match: flattened,
    rewrite: ({ scale, shift, ...parts }, g) => normalization(g, "LayerNormalization", parts, scale, shift),
  }),
  rule({
    name: "recognize-rmsnorm",
    match: op("Div", [x, rootOf(meanSquare)]),
    rewrite: (parts, g) => normalization(g, "RMSNormalization", parts),
  }),
  rule({
    name: "recognize-rmsnorm",
    match: op("Mul", [x, inverseRootOf(meanSquare)]),
    rewrite: (parts, g) => normalization(g, "RMSNormalization", parts),
  }),
  rule({
    name: "fold-norm-scale",
    match: op("Mul", [op(NORMS, [x, constant("ones")], { singleUse: true, where: hasUnitScale }).as("norm"), any("scale")]),
    rewrite: ({ x, norm, scale }, g) => {
      const value = scale.dtype === x.dtype ? fitted(g, scale, normalizedShape(norm)) : undefined;
      return value && g.like(norm, [x, value]);
    },
  }),
  rule({
    name: "fold-norm-shift",
    match: op("Add", [
      op("LayerNormalization", [x, any("scale")], { singleUse: true, where: hasOneOutput }).as("norm"),
      any("shift"),
    ]),
    rewrite: ({ x, norm, scale, shift }, g) => {
      const value = shift.dtype === x.dtype ? fitted(g, shift, normalizedShape(norm)) : undefined;
      return value && g.like(norm, [x, scale, value]);
    },
  }),
];

/** PyTorch's export: [n, c, …] as [n, groups, …], normalized by groups, then scaled and shifted by channels. */
const groups = rule({
  name: "recognize-groupnorm",
  match: op("Add", [
    op("Mul", [
      op("Reshape", [
        op("InstanceNormalization", [op("Reshape", [x, any("inShape")]).as("inner"), constant("ones"), constant("zeros")]).as(
          "norm",
        ),
        any("outShape"),
      ]),
      constant("scale"),
    ]),
    constant("shift"),
  ]),
  rewrite: ({ x, inner, norm, ones, zeros, scale, shift }, g) => {
    const [batch, channels] = x.shape;
    const [innerBatch, count] = inner.outputs[0]!.shape;
    if (
      !isFilled(ones, 1) ||
      !isFilled(zeros, 0) ||
      channels === undefined ||
      !isStatic(channels) ||
      !isStatic(count!) ||
      !sameShape([batch!], [innerBatch!])
    )
      return undefined;
    if (!sameShape(g.root.outputs[0]!.shape, x.shape) || channels % count !== 0) return undefined;
    const column = [channels, ...new Array<number>(x.shape.length - 2).fill(1)];
    const [s, b] = [scale, shift].map((value) =>
      sameShape(trimmedShape(value.shape, column.length), column)
        ? g.constant({ ...value.data, shape: [channels] })
        : undefined,
    );
    const epsilon = attributesOf(norm).float("epsilon", 1e-5);
    return s && b && g.node("GroupNormalization", [x, s, b], { num_groups: int(count), epsilon: float(epsilon) }, 21);
  },
});

export const recognizeNorms = rulesPass(
  "recognize-norms",
  "layer, RMS and group normalization in primitives become one operator",
  [...layers, groups],
);
