// Softmax and LogSoftmax, with the row's maximum subtracted. ONNX: https://onnx.ai/onnx/operators/onnx__Softmax.html

import type { Dim } from "../ir/dims.ts";
import type { Expr } from "../ir/expr.ts";
import * as x from "../ir/expr.ts";
import type { Lowering } from "../ir/lower.ts";
import type { DType } from "../ir/types.ts";
import type { Value } from "../ir/value.ts";
import { axisIn, defineOp, type NodeFacts, need, type Operator } from "./define.ts";

/** Softmax over `axes` of the elements that `read` gives; `finish` gets the exponential, the row's sum and the shifted element. */
export function softmax(
  b: Lowering,
  dtype: DType,
  shape: readonly Dim[],
  axes: readonly number[],
  read: (index: readonly Expr[]) => Expr,
  finish: (exponential: Expr, sum: Expr, shifted: Expr) => Expr = x.div,
): Value {
  const shifted = (index: readonly Expr[], most: Expr): Expr => x.sub(read(index), most);
  return b.rows(
    dtype,
    shape,
    axes,
    (index) => [
      { fn: "max", body: () => read(index) },
      { fn: "sum", body: ([most]) => x.unary("exp", shifted(index, most!)) },
    ],
    ([most, sum], index) => finish(x.unary("exp", shifted(index, most!)), sum!, shifted(index, most!)),
  );
}

/** Before version 13 everything from the axis on was one row. */
function softmaxAxes(node: NodeFacts, axis: number | undefined, rank: number): readonly number[] {
  if (node.opset >= 13) return rank === 0 ? [] : [axisIn(node, axis ?? -1, rank)];
  const first = axisIn(node, axis ?? 1, rank, true);
  return Array.from({ length: rank - first }, (_, i) => first + i);
}

const family = (name: string, finish?: (exponential: Expr, sum: Expr, shifted: Expr) => Expr): Operator =>
  defineOp<number | undefined>({
    name,
    since: [1, 11, 13],
    attrs: (read) => read.int("axis"),
    lower: (b, inputs, axis, node) => {
      const input = need(node, inputs, 0);
      return [
        softmax(
          b,
          input.dtype,
          input.shape,
          softmaxAxes(node, axis, input.shape.length),
          (index) => x.load(input, index),
          finish,
        ),
      ];
    },
  });

export const softmaxes: readonly Operator[] = [
  family("Softmax"),
  family("LogSoftmax", (_, sum, shifted) => x.sub(shifted, x.unary("log", sum))),
];
