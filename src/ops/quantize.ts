// Quantization: QuantizeLinear and its kin, and matrix products of quantized operands.
// ONNX: https://onnx.ai/onnx/operators/onnx__QuantizeLinear.html

import type { Dim } from "../ir/dims.ts";
import * as dims from "../ir/dims.ts";
import type { Expr } from "../ir/expr.ts";
import * as x from "../ir/expr.ts";
import type { Lowering } from "../ir/lower.ts";
import { loadAs } from "../ir/task.ts";
import { numbersOf } from "../ir/tensor.ts";
import { type DType, dtypeOfOnnx, isFloat, ONNX_TYPE_NAMES } from "../ir/types.ts";
import type { Value } from "../ir/value.ts";
import { badAttribute, badScale, shapeMismatch, unsupportedType } from "../util/errors.ts";
import { broadcastIndex } from "./broadcast.ts";
import { type AttributeReader, axisIn, defineOp, type NodeFacts, need, type Operator } from "./define.ts";
import { matmul, type Operand } from "./matmul.ts";
import { perChannel, requantize } from "./quantized.ts";

interface QuantizeAttributes {
  readonly axis: number;
  readonly block: number;
  readonly outputType: number;
  /** TensorProto's number of the type in which to divide; 0 for the scale's own. */
  readonly precision: number;
}

const readQuantize = (read: AttributeReader): QuantizeAttributes => {
  // Saturation is a matter of 8-bit floats.
  read.ignore("saturate");
  return {
    axis: read.int("axis", 1),
    block: read.int("block_size", 0),
    outputType: read.int("output_dtype", 0),
    precision: read.int("precision", 0),
  };
};

const isSingle = (value: Value): boolean => value.shape.every((dim) => dim === 1);

/** Where in `scale` (or a zero point of its shape) the factor of an element of `shape` is: one for all, one an axis index, or one a block along the axis. */
function factorIndex(
  node: NodeFacts,
  scale: Value,
  shape: readonly Dim[],
  { axis, block }: QuantizeAttributes,
): (index: readonly Expr[]) => Expr[] {
  if (isSingle(scale)) return () => scale.shape.map(() => x.int(0));
  const along = axisIn(node, axis, shape.length);
  if (scale.shape.length === 1 && block === 0) {
    const [count] = scale.shape;
    if (dims.isStatic(count!) && dims.isStatic(shape[along]!) && count !== shape[along])
      throw shapeMismatch(node, `${count} scales for axis ${along} of ${dims.shapeText(shape)}`);
    return (index) => [index[along]!];
  }
  if (scale.shape.length !== shape.length || block <= 0)
    throw shapeMismatch(
      node,
      `scale is ${dims.shapeText(scale.shape)}, the tensor ${dims.shapeText(shape)}`,
      `block_size is ${block}`,
    );
  return (index) => index.map((at, i) => (i === along ? x.floorDiv(at, x.int(block)) : at));
}

/** Refuses a constant scale that no value can be divided by (`divides`) or multiplied with. */
function checkScale(node: NodeFacts, { name, data }: Value, divides: boolean): void {
  if (!data) return;
  const bad = numbersOf(data).findIndex((scale) => !Number.isFinite(scale) || (divides && scale === 0));
  if (bad >= 0) throw badScale(node, name, bad, numbersOf(data)[bad]!);
}

/** The element type of a TensorProto number; undefined for 0. */
function namedType(node: NodeFacts, code: number): DType | undefined {
  if (code === 0) return undefined;
  const dtype = dtypeOfOnnx(code);
  if (!dtype) throw unsupportedType(`${node.op} "${node.name}"`, ONNX_TYPE_NAMES[code] ?? `number ${code}`);
  return dtype;
}

/** The largest and the negated smallest element of a tensor, 0 included. */
export const extremes = (b: Lowering, input: Value): Value =>
  b.reduce(
    "f32",
    [2],
    input.shape,
    ([side], i) => [
      { fn: "max", body: () => x.select(x.eq(side!, x.int(0)), x.load(input, i), x.unary("neg", x.load(input, i))) },
    ],
    ([most]) => x.maximum(most!, x.float(0)),
  );

/** Scale and zero point by which a tensor's own range is spread over u8. */
export function dynamicRange(b: Lowering, input: Value): { readonly scale: Value; readonly zeroPoint: Value } {
  const range = extremes(b, input);
  const scale = b.map("f32", [], () => {
    const width = x.add(x.load(range, [x.int(0)]), x.load(range, [x.int(1)]));
    return x.select(x.eq(width, x.float(0)), x.float(1), x.div(width, x.float(255)));
  });
  const zeroPoint = b.map("u8", [], () => requantize(x.div(x.load(range, [x.int(1)]), x.load(scale, [])), undefined, "u8"));
  return { scale, zeroPoint };
}

/** Element of a scale or zero point for [.., m, n]: one for all, a vector along axis `axis` (counted from the end), or broadcast. */
function factorAt(value: Value, index: readonly Expr[], axis: number, target: readonly Dim[]): Expr {
  if (value.shape.length <= 1) return perChannel(value, index.at(axis)!);
  return x.load(value, broadcastIndex(value.shape, index, target));
}

/** A quantized operand less its zero point, as i32; `axis` is that along which a vector of zero points lies. */
export const centeredOperand = (value: Value, zeroPoint: Value | undefined, axis: number): Operand => ({
  shape: value.shape,
  read: (index) =>
    zeroPoint
      ? x.sub(loadAs(value, index, "i32"), x.convert(factorAt(zeroPoint, index, axis, value.shape), "i32"))
      : loadAs(value, index, "i32"),
});

/** The two in ONNX's own domain, or in com.microsoft's, which had 16-bit integers first. */
const linear = (under: string, since: readonly number[]): readonly Operator[] => [
  defineOp<QuantizeAttributes>({
    name: "QuantizeLinear",
    domain: under,
    since,
    attrs: readQuantize,
    lower: (b, inputs, attrs, node) => {
      const [input, scale, zeroPoint] = [need(node, inputs, 0), need(node, inputs, 1), inputs[2]];
      const dtype = zeroPoint?.dtype ?? namedType(node, attrs.outputType) ?? "u8";
      if (dtype !== "i8" && dtype !== "u8" && dtype !== "i16" && dtype !== "u16")
        throw badAttribute(node, "output_dtype", dtype, "an integer type of 8 or 16 bits");
      checkScale(node, scale, true);
      const at = factorIndex(node, scale, input.shape, attrs);
      const precision = namedType(node, attrs.precision) ?? scale.dtype;
      return [
        b.map(dtype, input.shape, (i) => {
          const zero = zeroPoint && x.load(zeroPoint, isSingle(zeroPoint) ? zeroPoint.shape.map(() => x.int(0)) : at(i));
          return requantize(x.convert(x.div(x.convert(x.load(input, i), "f32"), x.load(scale, at(i))), precision), zero, dtype);
        }),
      ];
    },
  }),
  defineOp<QuantizeAttributes>({
    name: "DequantizeLinear",
    domain: under,
    since,
    attrs: readQuantize,
    lower: (b, inputs, attrs, node) => {
      const [input, scale, zeroPoint] = [need(node, inputs, 0), need(node, inputs, 1), inputs[2]];
      const dtype = namedType(node, attrs.outputType) ?? scale.dtype;
      if (!isFloat(dtype)) throw badAttribute(node, "output_dtype", dtype, "a floating-point type");
      checkScale(node, scale, false);
      const at = factorIndex(node, scale, input.shape, attrs);
      return [
        b.map(dtype, input.shape, (i) => {
          const element = loadAs(input, i, "i32");
          const centered = zeroPoint
            ? x.sub(element, loadAs(zeroPoint, isSingle(zeroPoint) ? zeroPoint.shape.map(() => x.int(0)) : at(i), "i32"))
            : element;
          return x.mul(x.convert(centered, "f32"), x.load(scale, at(i)));
        }),
      ];
    },
  }),
];

export const quantizations: readonly Operator[] = [
  ...linear("", [10, 13, 19, 21, 23, 24, 25]),
  ...linear("com.microsoft", [1]),
  defineOp({
    name: "DynamicQuantizeLinear",
    since: [11],
    lower: (b, inputs, _, node) => {
      const input = need(node, inputs, 0);
      const { scale, zeroPoint } = dynamicRange(b, input);
      return [
        b.map("u8", input.shape, (i) => requantize(x.div(x.load(input, i), x.load(scale, [])), x.load(zeroPoint, []), "u8")),
        scale,
        zeroPoint,
      ];
    },
  }),
  defineOp({
    name: "MatMulInteger",
    since: [10],
    lower: (b, inputs, _, node) => [
      matmul(
        b,
        node,
        "i32",
        centeredOperand(need(node, inputs, 0), inputs[2], -2),
        centeredOperand(need(node, inputs, 1), inputs[3], -1),
      ),
    ],
  }),
  defineOp({
    name: "QLinearMatMul",
    since: [10, 21],
    lower: (b, inputs, _, node) => {
      const [left, leftScale, leftZero, right, rightScale, rightZero, scale, zero] = [0, 1, 2, 3, 4, 5, 6, 7].map((i) =>
        need(node, inputs, i),
      ) as [Value, Value, Value, Value, Value, Value, Value, Value];
      return [
        matmul(
          b,
          node,
          zero.dtype,
          centeredOperand(left, leftZero, -2),
          centeredOperand(right, rightZero, -1),
          (acc, index) => {
            const target = index.map(({ extent }) => extent);
            const factor = x.div(
              x.mul(factorAt(leftScale, index, -2, target), factorAt(rightScale, index, -1, target)),
              factorAt(scale, index, -2, target),
            );
            return requantize(x.mul(x.convert(acc, "f32"), factor), factorAt(zero, index, -2, target), zero.dtype);
          },
        ),
      ];
    },
  }),
];
