// Losses over class scores. ONNX: https://onnx.ai/onnx/operators/onnx__SoftmaxCrossEntropyLoss.html

import * as dims from "../ir/dims.ts";
import type { Expr } from "../ir/expr.ts";
import * as x from "../ir/expr.ts";
import type { Lowering } from "../ir/lower.ts";
import type { Value } from "../ir/value.ts";
import { shapeMismatch } from "../util/errors.ts";
import { type AttributeReader, defineOp, type NodeFacts, need, type Operator } from "./define.ts";
import { softmax } from "./softmax.ts";

interface LossAttributes {
  readonly reduction: "mean" | "sum" | "none";
  readonly ignore: number | undefined;
}

const readLoss = (read: AttributeReader): LossAttributes => ({
  reduction: read.string("reduction", "mean", ["mean", "sum", "none"]),
  ignore: read.int("ignore_index"),
});

/** −weight[t] · logs[n, t, d…] for each target t[n, d…]; an ignored target counts neither in the sum nor in the mean. */
function negativeLogLikelihood(
  b: Lowering,
  node: NodeFacts,
  logs: Value,
  target: Value,
  weight: Value | undefined,
  { reduction, ignore }: LossAttributes,
): Value {
  const classes = logs.shape[1];
  if (classes === undefined || target.shape.length !== logs.shape.length - 1)
    throw shapeMismatch(node, `scores are ${dims.shapeText(logs.shape)}, targets ${dims.shapeText(target.shape)}`);
  const label = (index: readonly Expr[]): Expr =>
    x.minimum(x.maximum(x.load(target, index), x.int(0)), x.int(dims.sub(classes, 1)));
  const counted = (index: readonly Expr[], e: Expr): Expr =>
    ignore === undefined ? e : x.select(x.eq(x.load(target, index), x.int(ignore)), x.float(0), e);
  const share = (index: readonly Expr[]): Expr => counted(index, weight ? x.load(weight, [label(index)]) : x.float(1));
  const loss = (index: readonly Expr[]): Expr => {
    const log = x.unary("neg", x.load(logs, [index[0]!, label(index), ...index.slice(1)]));
    return counted(index, weight ? x.mul(log, x.load(weight, [label(index)])) : log);
  };
  if (reduction === "none") return b.map(logs.dtype, target.shape, loss);
  const sum = (of: (index: readonly Expr[]) => Expr, index: readonly Expr[]) => ({ fn: "sum", body: () => of(index) }) as const;
  if (reduction === "sum") return b.reduce(logs.dtype, [], target.shape, (_, i) => [sum(loss, i)]);
  return b.reduce(
    logs.dtype,
    [],
    target.shape,
    (_, i) => [sum(loss, i), sum(share, i)],
    ([total, shares]) => x.div(total!, shares!),
  );
}

export const losses: readonly Operator[] = [
  defineOp<LossAttributes>({
    name: "NegativeLogLikelihoodLoss",
    since: [12, 13, 22],
    attrs: readLoss,
    lower: (b, inputs, attrs, node) => [
      negativeLogLikelihood(b, node, need(node, inputs, 0), need(node, inputs, 1), inputs[2], attrs),
    ],
  }),
  defineOp<LossAttributes>({
    name: "SoftmaxCrossEntropyLoss",
    since: [12, 13],
    attrs: readLoss,
    lower: (b, inputs, attrs, node) => {
      const scores = need(node, inputs, 0);
      const logs = softmax(
        b,
        scores.dtype,
        scores.shape,
        [1],
        (index) => x.load(scores, index),
        (_, sum, shifted) => x.sub(shifted, x.unary("log", sum)),
      );
      return [negativeLogLikelihood(b, node, logs, need(node, inputs, 1), inputs[2], attrs), logs];
    },
  }),
];
