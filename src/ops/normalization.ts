// Normalizations: each row (or channel, or group) less its mean, over its deviation. The variance is a second pass over
// (x − mean)², which keeps its digits where E[x²] − E[x]² would lose them. ONNX: https://onnx.ai/onnx/operators/

import * as dims from "../ir/dims.ts";
import type { Dim } from "../ir/dims.ts";
import * as x from "../ir/expr.ts";
import type { Expr } from "../ir/expr.ts";
import type { Lowering, ReduceStage } from "../ir/lower.ts";
import type { DType } from "../ir/types.ts";
import { dtypeOfOnnx } from "../ir/types.ts";
import type { Value } from "../ir/value.ts";
import { badAttribute, shapeMismatch } from "../util/errors.ts";
import { readBroadcast } from "./broadcast.ts";
import { type NodeFacts, type Operator, axisIn, checkVector, defineOp, need } from "./define.ts";
import { type Reduction, reductionOver } from "./reduce.ts";

type Read = (index: readonly Expr[]) => Expr;

const square = (e: Expr): Expr => x.mul(e, e);
const f32Of = (dim: Dim): Expr => x.convert(x.int(dim), "f32");
const countOf = (shape: readonly Dim[], axes: readonly number[]): Expr => f32Of(dims.product(axes.map((axis) => shape[axis]!)));
const axesFrom = (first: number, rank: number): readonly number[] => Array.from({ length: rank - first }, (_, i) => first + i);

/** Stages whose results are the sum and the sum of squared distances from the mean. */
const moments = (element: Expr, count: Expr): readonly ReduceStage[] => [
  { fn: "sum", body: () => element },
  { fn: "sum", body: ([sum]) => square(x.sub(element, x.div(sum!, count))) },
];

/** 1 / √(variance + epsilon). */
const inverseDeviation = (squares: Expr, count: Expr, epsilon: number): Expr => x.div(x.float(1), x.unary("sqrt", x.add(x.div(squares, count), x.float(epsilon))));

/** (x − mean) / √(variance + epsilon) over `axes`; `finish` scales and shifts. */
export function normalize(b: Lowering, dtype: DType, shape: readonly Dim[], axes: readonly number[], read: Read, epsilon: number, finish: (normal: Expr, index: readonly Expr[]) => Expr): Value {
  const count = countOf(shape, axes);
  return b.rows(dtype, shape, axes, (index) => moments(read(index), count), ([sum, squares], index) =>
    finish(x.mul(x.sub(read(index), x.div(sum!, count)), inverseDeviation(squares!, count, epsilon)), index));
}

/** x / √(mean(x²) + epsilon) over `axes`. */
export function rmsNormalize(b: Lowering, dtype: DType, shape: readonly Dim[], axes: readonly number[], read: Read, epsilon: number, finish: (normal: Expr, index: readonly Expr[]) => Expr): Value {
  const count = countOf(shape, axes);
  return b.rows(dtype, shape, axes, (index) => [{ fn: "sum", body: () => square(read(index)) }], ([squares], index) =>
    finish(x.mul(read(index), inverseDeviation(squares!, count, epsilon)), index));
}

/** The mean over `over`, one element an outer index. */
export const meanOver = (b: Lowering, dtype: DType, over: Reduction, read: Read): Value =>
  b.reduce(dtype, over.outer, over.inner, (o, i) => [{ fn: "sum", body: () => read(over.index(o, i)) }], ([sum]) => x.div(sum!, over.count));

/** The mean squared distance from the mean over `over`, through `finish`. */
export const varianceOver = (b: Lowering, dtype: DType, over: Reduction, read: Read, finish: (squares: Expr) => Expr = (squares) => x.div(squares, over.count)): Value =>
  b.reduce(dtype, over.outer, over.inner, (o, i) => moments(read(over.index(o, i)), over.count), ([, squares]) => finish(squares!));

/** Outputs 1 and 2 of the layer normalizations: mean and 1 / deviation, where wanted. */
export function layerStatistics(b: Lowering, shape: readonly Dim[], axes: readonly number[], read: Read, epsilon: number, wanted: { readonly mean: boolean; readonly inverse: boolean }, dtype: DType): readonly [Value | undefined, Value | undefined] {
  const over = reductionOver(shape, axes, true);
  return [
    wanted.mean ? meanOver(b, dtype, over, read) : undefined,
    wanted.inverse ? varianceOver(b, dtype, over, read, (squares) => inverseDeviation(squares, over.count, epsilon)) : undefined,
  ];
}

/** Scale and shift by values that broadcast to `shape`. */
export function affine(node: NodeFacts, shape: readonly Dim[], scale: Value | undefined, shift: Value | undefined): (e: Expr, index: readonly Expr[]) => Expr {
  const [readScale, readShift] = [scale && readBroadcast(node, scale, shape), shift && readBroadcast(node, shift, shape)];
  return (e, index) => {
    const grown = readScale ? x.mul(e, readScale(index)) : e;
    return readShift ? x.add(grown, readShift(index)) : grown;
  };
}

const stashType = (code: number): DType => dtypeOfOnnx(code) ?? "f32";

interface BatchAttributes {
  readonly epsilon: number;
  readonly momentum: number;
  readonly training: boolean;
  readonly spatial: boolean;
}

function batchNormalization(b: Lowering, node: NodeFacts, inputs: readonly (Value | undefined)[], attrs: BatchAttributes): (Value | undefined)[] {
  const [input, scale, shift, mean, variance] = [0, 1, 2, 3, 4].map((i) => need(node, inputs, i)) as [Value, Value, Value, Value, Value];
  // Without a channel axis there is one channel; the old `spatial = 0` has statistics for every element of a sample.
  const perElement = !attrs.spatial && input.shape.length > 1;
  const at = (value: Value, index: readonly Expr[]): Expr => x.load(value, perElement ? index.slice(1) : [index[1] ?? x.int(0)]);
  const channels = input.shape[1] ?? 1;
  if (!perElement) for (const value of [scale, shift, mean, variance]) checkVector(node, value, channels);
  const apply = (center: Value, spread: Value): Value => {
    const factor = b.map("f32", scale.shape, (i) => x.div(x.load(scale, i), x.unary("sqrt", x.add(x.load(spread, i), x.float(attrs.epsilon)))));
    return b.map(input.dtype, input.shape, (i) => x.add(x.mul(x.sub(x.load(input, i), at(center, i)), at(factor, i)), at(shift, i)));
  };
  const training = node.opset >= 14 ? attrs.training : node.outputs.length > 1;
  if (!training) return [apply(mean, variance)];
  const over = reductionOver(input.shape, input.shape.map((_, axis) => axis).filter((axis) => (perElement ? axis === 0 : axis !== 1)), false);
  const read: Read = (index) => x.load(input, index);
  const sameShape = (value: Value): Value => (value.shape.length === scale.shape.length ? value : b.reshape(value, scale.shape));
  const [batchMean, batchVariance] = [sameShape(meanOver(b, "f32", over, read)), sameShape(varianceOver(b, "f32", over, read))];
  const running = (old: Value, now: Value): Value =>
    b.map(old.dtype, old.shape, (i) => x.add(x.mul(x.load(old, i), x.float(attrs.momentum)), x.mul(x.load(now, i), x.float(1 - attrs.momentum))));
  const saved = node.opset < 14 ? [b.map(mean.dtype, mean.shape, (i) => x.load(batchMean, i)), b.map(variance.dtype, variance.shape, (i) => x.load(batchVariance, i))] : [];
  return [apply(batchMean, batchVariance), running(mean, batchMean), running(variance, batchVariance), ...saved];
}

interface GroupAttributes {
  readonly epsilon: number;
  readonly groups: number | undefined;
}

/** Groups of consecutive channels of [n, c, spatial…]; version 18 has scale and bias a group, 21 a channel. */
function groupNormalization(b: Lowering, node: NodeFacts, inputs: readonly (Value | undefined)[], { epsilon, groups }: GroupAttributes): Value {
  const [input, scale, shift] = [need(node, inputs, 0), need(node, inputs, 1), need(node, inputs, 2)];
  const [batch, channels, ...size] = input.shape as [Dim, Dim, ...Dim[]];
  if (groups === undefined || (dims.isStatic(channels) && channels % groups !== 0)) throw badAttribute(node, "num_groups", String(groups), `a divisor of ${dims.dimText(channels)} channels`);
  for (const value of [scale, shift]) checkVector(node, value, node.opset < 21 ? groups : channels);
  const width = dims.floorDiv(channels, groups);
  const shape = [batch, groups, width, ...size];
  const channelOf = ([, group, member]: readonly Expr[]): Expr => x.flatten([group!, member!], [groups, width]);
  const at = (value: Value, index: readonly Expr[]): Expr => x.load(value, [node.opset < 21 ? index[1]! : channelOf(index)]);
  const read: Read = (index) => x.load(input, [index[0]!, channelOf(index), ...index.slice(3)]);
  const normal = normalize(b, input.dtype, shape, axesFrom(2, shape.length), read, epsilon, (e, index) => x.add(x.mul(e, at(scale, index)), at(shift, index)));
  return b.reshape(normal, input.shape);
}

interface LayerAttributes {
  readonly axis: number;
  readonly epsilon: number;
  readonly stash: DType;
}

export const normalizations: readonly Operator[] = [
  defineOp<BatchAttributes>({
    name: "BatchNormalization",
    since: [1, 6, 7, 9, 14, 15],
    attrs: (read) => {
      // Before version 7; the number of outputs says the same as is_test.
      read.ignore("consumed_inputs", "is_test");
      return { epsilon: read.float("epsilon", 1e-5), momentum: read.float("momentum", 0.9), training: read.flag("training_mode"), spatial: read.flag("spatial", true) };
    },
    lower: (b, inputs, attrs, node) => batchNormalization(b, node, inputs, attrs),
  }),
  defineOp<number>({
    name: "InstanceNormalization",
    since: [1, 6, 22],
    attrs: (read) => { read.ignore("consumed_inputs"); return read.float("epsilon", 1e-5); },
    lower: (b, inputs, epsilon, node) => {
      const [input, scale, shift] = [need(node, inputs, 0), need(node, inputs, 1), need(node, inputs, 2)];
      const { shape } = input;
      if (shape.length < 2) throw shapeMismatch(node, `input ${dims.shapeText(shape)} has no channel axis`);
      for (const value of [scale, shift]) checkVector(node, value, shape[1]!);
      return [normalize(b, input.dtype, shape, axesFrom(2, shape.length), (i) => x.load(input, i), epsilon, (e, i) => x.add(x.mul(e, x.load(scale, [i[1]!])), x.load(shift, [i[1]!])))];
    },
  }),
  defineOp<LayerAttributes>({
    name: "LayerNormalization",
    since: [17],
    attrs: (read) => ({ axis: read.int("axis", -1), epsilon: read.float("epsilon", 1e-5), stash: stashType(read.int("stash_type", 1)) }),
    lower: (b, inputs, { axis, epsilon, stash }, node) => {
      const [input, scale, shift] = [need(node, inputs, 0), need(node, inputs, 1), inputs[2]];
      const { shape } = input;
      const axes = axesFrom(axisIn(node, axis, shape.length), shape.length);
      const read: Read = (i) => x.load(input, i);
      const out = normalize(b, input.dtype, shape, axes, read, epsilon, affine(node, shape, scale, shift));
      return [out, ...layerStatistics(b, shape, axes, read, epsilon, { mean: node.outputs[1] ?? false, inverse: node.outputs[2] ?? false }, stash)];
    },
  }),
  defineOp<GroupAttributes>({
    name: "GroupNormalization",
    since: [18, 21],
    attrs: (read) => { read.ignore("stash_type"); return { epsilon: read.float("epsilon", 1e-5), groups: read.int("num_groups") }; },
    lower: (b, inputs, attrs, node) => [groupNormalization(b, node, inputs, attrs)],
  }),
  defineOp<LayerAttributes>({
    name: "RMSNormalization",
    since: [23],
    attrs: (read) => ({ axis: read.int("axis", -1), epsilon: read.float("epsilon", 1e-5), stash: stashType(read.int("stash_type", 1)) }),
    lower: (b, inputs, { axis, epsilon }, node) => {
      const [input, scale] = [need(node, inputs, 0), need(node, inputs, 1)];
      const { shape } = input;
      return [rmsNormalize(b, input.dtype, shape, axesFrom(axisIn(node, axis, shape.length), shape.length), (i) => x.load(input, i), epsilon, affine(node, shape, scale, undefined))];
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
      return [b.rows(input.dtype, input.shape, [axisIn(node, axis, input.shape.length)], (i) => [{ fn: "sum", body: () => size(x.load(input, i)) }], ([total], i) => {
        const norm = p === 1 ? total! : x.unary("sqrt", total!);
        return x.select(x.eq(norm, x.float(0)), x.float(0), x.div(x.load(input, i), norm));
      })];
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
      return [b.rows(input.dtype, input.shape, axes, (i) => moments(x.load(input, i), count), ([sum, squares], i) =>
        x.div(x.sub(x.load(input, i), x.div(sum!, count)), x.add(x.unary("sqrt", x.div(squares!, count)), x.float(1e-9))))];
    },
  }),
  defineOp<{ readonly alpha: number; readonly beta: number; readonly bias: number; readonly size: number }>({
    name: "LRN",
    since: [1, 13],
    attrs: (read) => ({ alpha: read.float("alpha", 0.0001), beta: read.float("beta", 0.75), bias: read.float("bias", 1), size: read.int("size", 1) }),
    lower: (b, inputs, { alpha, beta, bias, size }, node) => {
      const input = need(node, inputs, 0);
      const [, channels] = input.shape;
      if (channels === undefined) throw shapeMismatch(node, `input ${dims.shapeText(input.shape)} has no channel axis`);
      return [b.reduce(
        input.dtype,
        input.shape,
        [size],
        ([n, c, ...at], [k]) => {
          const near = x.add(c!, k!, x.int(-Math.floor((size - 1) / 2)));
          return [{ fn: "sum", body: () => x.select(x.within(near, channels), square(x.load(input, [n!, near, ...at])), x.float(0)) }];
        },
        ([squares], i) => x.div(x.load(input, i), x.binary("pow", x.add(x.float(bias), x.mul(x.float(alpha / size), squares!)), x.float(beta))),
      )];
    },
  }),
];
