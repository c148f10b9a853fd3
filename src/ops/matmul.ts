// Matrix products: MatMul over broadcast batches and Gemm. Operands are views (a shape and how to read an element), so
// that transposes and zero points are index swaps and expressions of the one product. ONNX: https://onnx.ai/onnx/operators/

import { type Dim, dimText, isStatic, shapeText } from "../ir/dims.ts";
import type { Expr, Var } from "../ir/expr.ts";
import * as x from "../ir/expr.ts";
import type { Lowering } from "../ir/lower.ts";
import { loadAs } from "../ir/task.ts";
import { type DType, type Scalar, scalarOf } from "../ir/types.ts";
import type { Value } from "../ir/value.ts";
import { shapeMismatch, typeMismatch } from "../util/errors.ts";
import { broadcastIndex, broadcastShapes, readBroadcast } from "./broadcast.ts";
import { type AttributeReader, areSame, defineOp, type NodeFacts, need, type Operator } from "./define.ts";

/** A tensor that is read through an expression: one i32 index a dimension, in bounds. */
export interface Operand {
  readonly shape: readonly Dim[];
  readonly read: (index: readonly Expr[]) => Expr;
}

/** A value as it is, widened to the scalar type `type`. */
export const operand = (value: Value, type: Scalar = scalarOf(value.dtype)): Operand => ({
  shape: value.shape,
  read: (i) => loadAs(value, i, type),
});

/** The operand with its axes permuted: axis i of the result is axis `order[i]` of `source`. */
export const permuted = (source: Operand, order: readonly number[]): Operand => ({
  shape: order.map((axis) => source.shape[axis]!),
  read: (i) => source.read(order.map((_, axis) => i[order.indexOf(axis)]!)),
});

/** The operand with its last two axes swapped when `swap`; vectors stay. */
export const transposed = (source: Operand, swap: boolean): Operand => {
  const rank = source.shape.length;
  if (!swap || rank < 2) return source;
  return permuted(source, [...Array.from({ length: rank - 2 }, (_, axis) => axis), rank - 1, rank - 2]);
};

/**
 * NumPy's matmul: [..., m, k] · [..., k, n] with broadcast batches; a vector on the left is a row, on the right a column,
 * and its axis of size 1 is dropped from the result. `result` turns the sum at [batch..., m, n] into what is stored.
 */
export function matmul(
  b: Lowering,
  node: NodeFacts,
  dtype: DType,
  left: Operand,
  right: Operand,
  result?: (acc: Expr, index: readonly Var[]) => Expr,
): Value {
  if (left.shape.length === 0 || right.shape.length === 0)
    throw shapeMismatch(node, "operands of a matrix product cannot be scalars");
  const rowVector = left.shape.length === 1;
  const columnVector = right.shape.length === 1;
  const [m, k] = rowVector ? [1, left.shape[0]!] : [left.shape.at(-2)!, left.shape.at(-1)!];
  const [inner, n] = columnVector ? [right.shape[0]!, 1] : [right.shape.at(-2)!, right.shape.at(-1)!];
  if (!areSame(node, k, inner, "multiply", [left.shape, right.shape])) {
    throw shapeMismatch(
      node,
      `shapes ${shapeText(left.shape)} and ${shapeText(right.shape)} do not multiply`,
      `${dimText(k)} columns against ${dimText(inner)} rows`,
    );
  }
  const [leftBatch, rightBatch] = [left.shape.slice(0, -2), right.shape.slice(0, -2)];
  const batch = broadcastShapes(node, leftBatch, rightBatch);
  const out = b.gemm(
    dtype,
    { batch, m, n, k: isStatic(k) ? k : inner },
    (at, row, sum) => left.read(rowVector ? [sum] : [...broadcastIndex(leftBatch, at, batch), row, sum]),
    (at, sum, column) => right.read(columnVector ? [sum] : [...broadcastIndex(rightBatch, at, batch), sum, column]),
    result,
  );
  if (!rowVector && !columnVector) return out;
  return b.reshape(out, [...batch, ...(rowVector ? [] : [m]), ...(columnVector ? [] : [n])]);
}

/** `e` times a float factor, in the type of `e` (integers are cut toward zero, as a cast does). */
export function scaled(e: Expr, factor: number): Expr {
  if (factor === 1) return e;
  if (e.type === "f32") return x.mul(e, x.float(factor));
  return x.convert(x.mul(x.convert(e, "f32"), x.float(factor)), e.type === "u32" ? "u32" : "i32");
}

const oneType = (node: NodeFacts, ...values: readonly (Value | undefined)[]): void => {
  const types = values.flatMap((value) => (value ? [value.dtype] : []));
  if (types.some((type) => type !== types[0]))
    throw typeMismatch(node, `inputs are ${types.join(", ")}: all must have one type`);
};

export interface GemmAttributes {
  readonly alpha: number;
  readonly beta: number;
  readonly transA: boolean;
  readonly transB: boolean;
}

export const readGemm = (read: AttributeReader): GemmAttributes => ({
  alpha: read.float("alpha", 1),
  beta: read.float("beta", 1),
  transA: read.flag("transA"),
  transB: read.flag("transB"),
});

/** alpha · A' · B' + beta · C over matrices; `finish` makes of each element what is stored. */
export function gemm(
  b: Lowering,
  node: NodeFacts,
  inputs: readonly (Value | undefined)[],
  { alpha, beta, transA, transB }: GemmAttributes,
  finish: (e: Expr) => Expr = (e) => e,
): Value {
  const [left, right, bias] = [need(node, inputs, 0), need(node, inputs, 1), inputs[2]];
  oneType(node, left, right, bias);
  for (const { shape } of [left, right])
    if (shape.length !== 2) throw shapeMismatch(node, `operand ${shapeText(shape)} is not a matrix`);
  const [leftView, rightView] = [transposed(operand(left), transA), transposed(operand(right), transB)];
  const shape = [leftView.shape[0]!, rightView.shape[1]!];
  const readBias = bias && beta !== 0 ? readBroadcast(node, bias, shape) : undefined;
  return matmul(b, node, left.dtype, leftView, rightView, (acc, index) => {
    const product = scaled(acc, alpha);
    return finish(readBias ? x.add(product, scaled(readBias(index), beta)) : product);
  });
}

export const matrixProducts: readonly Operator[] = [
  defineOp({
    name: "MatMul",
    since: [1, 9, 13],
    lower: (b, inputs, _, node) => {
      const [left, right] = [need(node, inputs, 0), need(node, inputs, 1)];
      oneType(node, left, right);
      return [matmul(b, node, left.dtype, operand(left), operand(right))];
    },
  }),
  defineOp<GemmAttributes>({
    name: "Gemm",
    since: [1, 6, 7, 9, 11, 13],
    attrs: (read) => {
      // Before version 7 the bias broadcast only when told to.
      read.ignore("broadcast");
      return readGemm(read);
    },
    lower: (b, inputs, attrs, node) => [gemm(b, node, inputs, attrs)],
  }),
];
