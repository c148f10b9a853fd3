// Normalizations: each row, channel or group less its mean, over its deviation. ONNX: https://onnx.ai/onnx/operators/

import type { Dim } from "../ir/dims.ts";
import * as dims from "../ir/dims.ts";
import type { Expr } from "../ir/expr.ts";
import * as x from "../ir/expr.ts";
import type { Lowering } from "../ir/lower.ts";
import { type DType, dtypeOfOnnx } from "../ir/types.ts";
import type { Value } from "../ir/value.ts";
import { badAttribute, shapeMismatch } from "../util/errors.ts";
import { BatchNormalization } from "./batch-normalization.ts";
import { axisIn, checkVector, defineOp, type NodeFacts, need, type Operator } from "./define.ts";
import { affine, axesFrom, countOf, layerStatistics, moments, normalize, type Read, rmsNormalize, square } from "./moments.ts";

const stashType = (code: number): DType => dtypeOfOnnx(code) ?? "f32";

interface GroupAttributes {
  readonly epsilon: number;
  readonly groups: number | undefined;
}

/** Groups of consecutive channels of [n, c, spatial…]; version 18 has scale and bias a group, 21 a channel. */
function groupNormalization(
  b: Lowering,
  node: NodeFacts,
  inputs: readonly (Value | undefined)[],
  { epsilon, groups }: GroupAttributes,
): Value {
  const [input, scale, shift] = [need(node, inputs, 0), need(node, inputs, 1), need(node, inputs, 2)];
  const [batch, channels, ...size] = input.shape as [Dim, Dim, ...Dim[]];
  if (groups === undefined || (dims.isStatic(channels) && channels % groups !== 0))
    throw badAttribute(node, "num_groups", String(groups), `a divisor of ${dims.dimText(channels)} channels`);
  for (const value of [scale, shift]) checkVector(node, value, node.opset < 21 ? groups : channels);
  const width = dims.floorDiv(channels, groups);
  const shape = [batch, groups, width, ...size];
  const channelOf = ([, group, member]: readonly Expr[]): Expr => x.flatten([group!, member!], [groups, width]);
  const at = (value: Value, index: readonly Expr[]): Expr => x.load(value, [node.opset < 21 ? index[1]! : channelOf(index)]);
  const read: Read = (index) => x.load(input, [index[0]!, channelOf(index), ...index.slice(3)]);
  const normal = normalize(b, input.dtype, shape, axesFrom(2, shape.length), read, epsilon, (e, index) =>
    x.add(x.mul(e, at(scale, index)), at(shift, index)),
  );
  return b.reshape(normal, input.shape);
}

interface LayerAttributes {
  readonly axis: number;
  readonly epsilon: number;
  readonly stash: DType;
}

export const normalizations: readonly Operator[] = [
  BatchNormalization,
  defineOp<number>({
    name: "InstanceNormalization",
    since: [1, 6, 22],
    attrs: (read) => {
      read.ignore("consumed_inputs");
      return read.float("epsilon", 1e-5);
    },
    lower: (b, inputs, epsilon, node) => {
      const [input, scale, shift] = [need(node, inputs, 0), need(node, inputs, 1), need(node, inputs, 2)];
      const { shape } = input;
      if (shape.length < 2) throw shapeMismatch(node, `input ${dims.shapeText(shape)} has no channel axis`);
      for (const value of [scale, shift]) checkVector(node, value, shape[1]!);
      return [
        normalize(
          b,
          input.dtype,
          shape,
          axesFrom(2, shape.length),
          (i) => x.load(input, i),
          epsilon,
          (e, i) => x.add(x.mul(e, x.load(scale, [i[1]!])), x.load(shift, [i[1]!])),
        ),
      ];
    },
  }),
  defineOp<LayerAttributes>({
    name: "LayerNormalization",
    since: [17],
    attrs: (read) => ({
      axis: read.int("axis", -1),
      epsilon: read.float("epsilon", 1e-5),
      stash: stashType(read.int("stash_type", 1)),
    }),
    lower: (b, inputs, { axis, epsilon, stash }, node) => {
      const [input, scale, shift] = [need(node, inputs, 0), need(node, inputs, 1), inputs[2]];
      const { shape } = input;
      const axes = axesFrom(axisIn(node, axis, shape.length), shape.length);
      const read: Read = (i) => x.load(input, i);
      const out = normalize(b, input.dtype, shape, axes, read, epsilon, affine(node, shape, scale, shift));
      return [
        out,
        ...layerStatistics(
          b,
          shape,
          axes,
          read,
          epsilon,
          { mean: node.outputs[1] ?? false, inverse: node.outputs[2] ?? false },
          stash,
        ),
      ];
    },
  }),
  defineOp<GroupAttributes>({
    name: "GroupNormalization",
    since: [18, 21],
    attrs: (read) => {
      read.ignore("stash_type");
      return { epsilon: read.float("epsilon", 1e-5), groups: read.int("num_groups") };
    },
    lower: (b, inputs, attrs, node) => [groupNormalization(b, node, inputs, attrs)],
  }),
  defineOp<LayerAttributes>({
    name: "RMSNormalization",
    since: [23],
    attrs: (read) => ({
      axis: read.int("axis", -1),
      epsilon: read.float("epsilon", 1e-5),
      stash: stashType(read.int("stash_type", 1)),
    }),
    lower: (b, inputs, { axis, epsilon }, node) => {
      const [input, scale] = [need(node, inputs, 0), need(node, inputs, 1)];
      const { shape } = input;
      return [
        rmsNormalize(
          b,
          input.dtype,
          shape,
          axesFrom(axisIn(node, axis, shape.length), shape.length),
          (i) => x.load(input, i),
          epsilon,
          affine(node, shape, scale, undefined),
        ),
      ];
    },
  }),
  defineOp<{ readonly axis: number; readonly p: number }>({
    name: "LpNormalization",
    since: [1, 22],
    attrs: (read) => ({ axis: read.int("axis", -1), p: read.int("p", 2) }),
    lower: (b, inputs, { axis, p }, node) => {
      const input = need(node, inputs, 0);
      if (p !== 1 && p !== 2) throw badAttribute(node, "p", String(p), "1 or 2");
      const size = (e: Expr): Expr => (p === 1 ? x.unary("abs", e) : square(e));
      return [
        b.rows(
          input.dtype,
          input.shape,
          [axisIn(node, axis, input.shape.length)],
          (i) => [{ fn: "sum", body: () => size(x.load(input, i)) }],
          ([total], i) => {
            const norm = p === 1 ? total! : x.unary("sqrt", total!);
            return x.select(x.eq(norm, x.float(0)), x.float(0), x.div(x.load(input, i), norm));
          },
        ),
      ];
    },
  }),
  defineOp<readonly number[]>({
    name: "MeanVarianceNormalization",
    since: [9, 13],
    attrs: (read) => read.ints("axes") ?? [0, 2, 3],
    lower: (b, inputs, given, node) => {
      const input = need(node, inputs, 0);
      const axes = given.map((axis) => axisIn(node, axis, input.shape.length));
      const count = countOf(input.shape, axes);
      return [
        b.rows(
          input.dtype,
          input.shape,
          axes,
          (i) => moments(x.load(input, i), count),
          ([sum, squares], i) =>
            x.div(x.sub(x.load(input, i), x.div(sum!, count)), x.add(x.unary("sqrt", x.div(squares!, count)), x.float(1e-9))),
        ),
      ];
    },
  }),
  defineOp<{ readonly alpha: number; readonly beta: number; readonly bias: number; readonly size: number }>({
    name: "LRN",
    since: [1, 13],
    attrs: (read) => ({
      alpha: read.float("alpha", 0.0001),
      beta: read.float("beta", 0.75),
      bias: read.float("bias", 1),
      size: read.int("size", 1),
    }),
    lower: (b, inputs, { alpha, beta, bias, size }, node) => {
      const input = need(node, inputs, 0);
      const [, channels] = input.shape;
      if (channels === undefined) throw shapeMismatch(node, `input ${dims.shapeText(input.shape)} has no channel axis`);
      return [
        b.reduce(
          input.dtype,
          input.shape,
          [size],
          ([n, c, ...at], [k]) => {
            const near = x.add(c!, k!, x.int(-Math.floor((size - 1) / 2)));
            return [
              {
                fn: "sum",
                body: () => x.select(x.within(near, channels), square(x.load(input, [n!, near, ...at])), x.float(0)),
              },
            ];
          },
          ([squares], i) =>
            x.div(
              x.load(input, i),
              x.binary("pow", x.add(x.float(bias), x.mul(x.float(alpha / size), squares!)), x.float(beta)),
            ),
        ),
      ];
    },
  }),
];
