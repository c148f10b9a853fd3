// com.microsoft operators on quantized tensors. https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md

import * as dims from "../ir/dims.ts";
import type { Expr } from "../ir/expr.ts";
import * as x from "../ir/expr.ts";
import type { Lowering } from "../ir/lower.ts";
import type { DType } from "../ir/types.ts";
import type { Value } from "../ir/value.ts";
import { shapeMismatch } from "../util/errors.ts";
import { broadcastShapes, loadBroadcast, readBroadcast } from "./broadcast.ts";
import { axisIn, defineOp, type NodeFacts, need, type Operator } from "./define.ts";
import { sigmoid } from "./elementwise.ts";
import { matmul, transposed } from "./matmul.ts";
import { averagePool, globalPool, readPool } from "./pool.ts";
import { centeredOperand, dynamicRange } from "./quantize.ts";
import { perChannel, requantize } from "./quantized.ts";

const domain = "com.microsoft";

/** The one element of a scale or zero point. */
const single = (value: Value): Expr =>
  x.load(
    value,
    value.shape.map(() => x.int(0)),
  );

/** What a quantized element stands for: (q − zero point) · scale. */
function dequantized(element: Expr, scale: Value, zeroPoint: Value | undefined): Expr {
  const centered = zeroPoint
    ? x.sub(x.convert(element, "i32"), x.convert(single(zeroPoint), "i32"))
    : x.convert(element, "i32");
  return x.mul(x.convert(centered, "f32"), single(scale));
}

const quantized = (real: Expr, scale: Value, zeroPoint: Value | undefined, dtype: DType): Expr =>
  requantize(x.div(real, single(scale)), zeroPoint && single(zeroPoint), dtype);

/** (a, scale, zero point, b, scale, zero point, result's scale, zero point): `compute` on real numbers, broadcast. */
const quantizedBinary = (name: string, compute: (a: Expr, b: Expr) => Expr): Operator =>
  defineOp({
    name,
    domain,
    since: [1],
    lower: (b, inputs, _, node) => {
      const [left, leftScale, right, rightScale, scale] = [0, 1, 3, 4, 6].map((i) => need(node, inputs, i)) as [
        Value,
        Value,
        Value,
        Value,
        Value,
      ];
      const shape = broadcastShapes(node, left.shape, right.shape);
      return [
        b.map(left.dtype, shape, (i) =>
          quantized(
            compute(
              dequantized(loadBroadcast(left, i, shape), leftScale, inputs[2]),
              dequantized(loadBroadcast(right, i, shape), rightScale, inputs[5]),
            ),
            scale,
            inputs[7],
            left.dtype,
          ),
        ),
      ];
    },
  });

/** (x, scale, zero point, result's scale, zero point): `compute` on real numbers. */
const quantizedUnary = <A>(
  name: string,
  attrs: (read: { float: (name: string, fallback: number) => number }) => A,
  compute: (e: Expr, attrs: A) => Expr,
): Operator =>
  defineOp<A>({
    name,
    domain,
    since: [1],
    attrs,
    lower: (b, inputs, values, node) => {
      const [input, scale, outScale] = [need(node, inputs, 0), need(node, inputs, 1), need(node, inputs, 3)];
      return [
        b.map(input.dtype, input.shape, (i) =>
          quantized(compute(dequantized(x.load(input, i), scale, inputs[2]), values), outScale, inputs[4], input.dtype),
        ),
      ];
    },
  });

/** Channels first, pooled, and back when the input has its channels last. */
function channelsFirst(b: Lowering, input: Value, last: boolean, pool: (input: Value) => Value): Value {
  if (!last) return pool(input);
  const [n, ...rest] = input.shape;
  const first = b.map(input.dtype, [n!, rest.at(-1)!, ...rest.slice(0, -1)], ([i, c, ...at]) => x.load(input, [i!, ...at, c!]));
  const pooled = pool(first);
  const [batch, channels, ...size] = pooled.shape;
  return b.map(pooled.dtype, [batch!, ...size, channels!], (i) => x.load(pooled, [i[0]!, i.at(-1)!, ...i.slice(1, -1)]));
}

/** Inputs of the quantized pools: (x, scale, zero point, result's scale, zero point). */
function poolParts(
  node: NodeFacts,
  inputs: readonly (Value | undefined)[],
): { readonly input: Value; readonly real: (e: Expr) => Expr; readonly finish: (mean: Expr) => Expr } {
  const [input, scale, outScale] = [need(node, inputs, 0), need(node, inputs, 1), need(node, inputs, 3)];
  return {
    input,
    real: (e) => dequantized(e, scale, inputs[2]),
    finish: (mean) => quantized(mean, outScale, inputs[4], input.dtype),
  };
}

/** Tensors with their own scales, requantized to one and joined along an axis. */
function concatenate(b: Lowering, node: NodeFacts, inputs: readonly (Value | undefined)[], axis: number): Value {
  const [scale, zero] = [need(node, inputs, 0), need(node, inputs, 1)];
  const parts = Array.from({ length: Math.floor((inputs.length - 2) / 3) }, (_, i) => ({
    value: need(node, inputs, 2 + 3 * i),
    scale: need(node, inputs, 3 + 3 * i),
    zero: inputs[4 + 3 * i],
  }));
  const [first] = parts;
  if (!first) throw shapeMismatch(node, "there is nothing to join");
  const along = axisIn(node, axis, first.value.shape.length);
  const ends = parts.map((_, i) => dims.add(...parts.slice(0, i + 1).map(({ value }) => value.shape[along]!)));
  const shape = first.value.shape.map((dim, i) => (i === along ? ends.at(-1)! : dim));
  return b.map(
    zero.dtype,
    shape,
    (index) =>
      parts.reduceRight<Expr | undefined>((rest, part, i) => {
        const start = i === 0 ? 0 : ends[i - 1]!;
        const element = x.load(
          part.value,
          index.map((at, j) => (j === along ? x.sub(at, x.int(start)) : at)),
        );
        const here = quantized(dequantized(element, part.scale, part.zero), scale, zero, zero.dtype);
        return rest ? x.select(x.lt(index[along]!, x.int(ends[i]!)), here, rest) : here;
      }, undefined)!,
  );
}

/** A[m, k] (u8 or i8) · B[k, n] of integers, scaled to floats: acc · a's scale · b's scale + bias. */
function integerProduct(
  b: Lowering,
  node: NodeFacts,
  left: { value: Value; scale: Value; zero: Value | undefined },
  right: { value: Value; scale: Value; zero: Value | undefined },
  bias: Value | undefined,
): Value {
  return matmul(
    b,
    node,
    "f32",
    centeredOperand(left.value, left.zero, -2),
    centeredOperand(right.value, right.zero, -1),
    (acc, index) => {
      const real = x.mul(
        x.convert(acc, "f32"),
        x.mul(perChannel(left.scale, index.at(-2)!), perChannel(right.scale, index.at(-1)!)),
      );
      return bias ? x.add(real, perChannel(bias, index.at(-1)!)) : real;
    },
  );
}

interface QGemmAttributes {
  readonly alpha: number;
  readonly transA: boolean;
  readonly transB: boolean;
}

function quantizedGemm(
  b: Lowering,
  node: NodeFacts,
  inputs: readonly (Value | undefined)[],
  { alpha, transA, transB }: QGemmAttributes,
): Value {
  const [left, leftScale, leftZero, right, rightScale, rightZero] = [0, 1, 2, 3, 4, 5].map((i) => need(node, inputs, i)) as [
    Value,
    Value,
    Value,
    Value,
    Value,
    Value,
  ];
  const [bias, scale, zero] = [inputs[6], inputs[7], inputs[8]];
  // Zero points lie along the result's axes, whichever way the operands lie.
  const [leftView, rightView] = [
    transposed(centeredOperand(left, leftZero, transA ? -1 : -2), transA),
    transposed(centeredOperand(right, rightZero, transB ? -2 : -1), transB),
  ];
  const readBias = bias && readBroadcast(node, bias, [leftView.shape[0]!, rightView.shape[1]!]);
  const dtype = scale ? (zero?.dtype ?? left.dtype) : "f32";
  return matmul(b, node, dtype, leftView, rightView, (acc, index) => {
    const sum = readBias ? x.add(acc, readBias(index)) : acc;
    const real = x.mul(
      x.convert(sum, "f32"),
      x.mul(x.float(alpha), x.mul(single(leftScale), perChannel(rightScale, index[1]!))),
    );
    return scale ? quantized(real, scale, zero, dtype) : real;
  });
}

const noAttributes = (): undefined => undefined;

export const microsoftQuantized: readonly Operator[] = [
  quantizedBinary("QLinearAdd", x.add),
  quantizedBinary("QLinearMul", x.mul),
  quantizedUnary("QLinearSigmoid", noAttributes, sigmoid),
  quantizedUnary(
    "QLinearLeakyRelu",
    (read) => read.float("alpha", 0.01),
    (e, alpha) => x.select(x.lt(e, x.float(0)), x.mul(x.float(alpha), e), e),
  ),
  defineOp<number>({
    name: "QLinearConcat",
    domain,
    since: [1],
    attrs: (read) => read.int("axis", 0),
    lower: (b, inputs, axis, node) => [concatenate(b, node, inputs, axis)],
  }),
  defineOp<boolean>({
    name: "QLinearGlobalAveragePool",
    domain,
    since: [1],
    attrs: (read) => read.flag("channels_last"),
    lower: (b, inputs, last, node) => {
      const { input, real, finish } = poolParts(node, inputs);
      return [
        channelsFirst(b, input, last, (value) =>
          globalPool(b, node, value, input.dtype, "sum", real, (sum, count) => finish(x.div(sum, count))),
        ),
      ];
    },
  }),
  defineOp<Parameters<typeof averagePool>[3] & { readonly last: boolean }>({
    name: "QLinearAveragePool",
    domain,
    since: [1],
    attrs: (read) => ({ ...readPool(read), countPadding: read.flag("count_include_pad"), last: read.flag("channels_last") }),
    lower: (b, inputs, attrs, node) => {
      const { input, real, finish } = poolParts(node, inputs);
      return [channelsFirst(b, input, attrs.last, (value) => averagePool(b, node, value, attrs, input.dtype, real, finish))];
    },
  }),
  defineOp({
    name: "DynamicQuantizeMatMul",
    domain,
    since: [1],
    lower: (b, inputs, _, node) => {
      const [left, right, rightScale] = [need(node, inputs, 0), need(node, inputs, 1), need(node, inputs, 2)];
      const { scale, zeroPoint } = dynamicRange(b, left);
      const bytes = b.map("u8", left.shape, (i) =>
        requantize(x.div(x.load(left, i), x.load(scale, [])), x.load(zeroPoint, []), "u8"),
      );
      return [
        integerProduct(
          b,
          node,
          { value: bytes, scale, zero: zeroPoint },
          { value: right, scale: rightScale, zero: inputs[3] },
          inputs[4],
        ),
      ];
    },
  }),
  defineOp({
    name: "MatMulIntegerToFloat",
    domain,
    since: [1],
    lower: (b, inputs, _, node) => {
      const [left, right, leftScale, rightScale] = [
        need(node, inputs, 0),
        need(node, inputs, 1),
        need(node, inputs, 2),
        need(node, inputs, 3),
      ];
      return [
        integerProduct(
          b,
          node,
          { value: left, scale: leftScale, zero: inputs[4] },
          { value: right, scale: rightScale, zero: inputs[5] },
          inputs[6],
        ),
      ];
    },
  }),
  defineOp<QGemmAttributes>({
    name: "QGemm",
    domain,
    since: [1],
    attrs: (read) => ({ alpha: read.float("alpha", 1), transA: read.flag("transA"), transB: read.flag("transB") }),
    lower: (b, inputs, attrs, node) => [quantizedGemm(b, node, inputs, attrs)],
  }),
];
