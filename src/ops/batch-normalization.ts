// BatchNormalization by given statistics, or in training mode by the batch's own.
// ONNX: https://onnx.ai/onnx/operators/onnx__BatchNormalization.html

import type { Expr } from "../ir/expr.ts";
import * as x from "../ir/expr.ts";
import type { Lowering } from "../ir/lower.ts";
import { numbersOf, type Tensor, tensor } from "../ir/tensor.ts";
import type { Value } from "../ir/value.ts";
import { checkVector, defineOp, type NodeFacts, need, type Operator } from "./define.ts";
import { meanOver, type Read, varianceOver } from "./moments.ts";
import { reductionOver } from "./reduce.ts";

interface BatchAttributes {
  readonly epsilon: number;
  readonly momentum: number;
  readonly training: boolean;
  readonly spatial: boolean;
}

function batchNormalization(
  b: Lowering,
  node: NodeFacts,
  inputs: readonly (Value | undefined)[],
  attrs: BatchAttributes,
): (Value | undefined)[] {
  const [input, scale, shift, mean, variance] = [0, 1, 2, 3, 4].map((i) => need(node, inputs, i)) as [
    Value,
    Value,
    Value,
    Value,
    Value,
  ];
  // Without a channel axis there is one channel; the old `spatial = 0` has statistics for every element of a sample.
  const perElement = !attrs.spatial && input.shape.length > 1;
  const at = (value: Value, index: readonly Expr[]): Expr =>
    x.load(value, perElement ? index.slice(1) : [index[1] ?? x.int(0)]);
  const channels = input.shape[1] ?? 1;
  if (!perElement) for (const value of [scale, shift, mean, variance]) checkVector(node, value, channels);
  const apply = (center: Value, spread: Value): Value => {
    const constants = perElement ? undefined : affineOf([scale, shift, center, spread], attrs.epsilon);
    if (constants && input.dtype === "f32") {
      const [factors, shifts] = constants.map((data) => b.constant(data)) as [Value, Value];
      return b.map(input.dtype, input.shape, (i) => x.add(x.mul(x.load(input, i), at(factors, i)), at(shifts, i)));
    }
    const factor = b.map("f32", scale.shape, (i) =>
      x.div(x.load(scale, i), x.unary("sqrt", x.add(x.load(spread, i), x.float(attrs.epsilon)))),
    );
    return b.map(input.dtype, input.shape, (i) =>
      x.add(x.mul(x.sub(x.load(input, i), at(center, i)), at(factor, i)), at(shift, i)),
    );
  };
  const training = node.opset >= 14 ? attrs.training : node.outputs.length > 1;
  if (!training) return [apply(mean, variance)];
  const over = reductionOver(
    input.shape,
    input.shape.map((_, axis) => axis).filter((axis) => (perElement ? axis === 0 : axis !== 1)),
    false,
  );
  const read: Read = (index) => x.load(input, index);
  const sameShape = (value: Value): Value =>
    value.shape.length === scale.shape.length ? value : b.reshape(value, scale.shape);
  const [batchMean, batchVariance] = [sameShape(meanOver(b, "f32", over, read)), sameShape(varianceOver(b, "f32", over, read))];
  const running = (old: Value, now: Value): Value =>
    b.map(old.dtype, old.shape, (i) =>
      x.add(x.mul(x.load(old, i), x.float(attrs.momentum)), x.mul(x.load(now, i), x.float(1 - attrs.momentum))),
    );
  const saved =
    node.opset < 14
      ? [
          b.map(mean.dtype, mean.shape, (i) => x.load(batchMean, i)),
          b.map(variance.dtype, variance.shape, (i) => x.load(batchVariance, i)),
        ]
      : [];
  return [apply(batchMean, batchVariance), running(mean, batchMean), running(variance, batchVariance), ...saved];
}

/** What inference with constant statistics makes of a channel: x · factor + shift. */
function affineOf(values: readonly [Value, Value, Value, Value], epsilon: number): readonly [Tensor, Tensor] | undefined {
  if (values.some(({ data }) => !data)) return undefined;
  const [scales, shifts, means, variances] = values.map(({ data }) => numbersOf(data!)) as [
    number[],
    number[],
    number[],
    number[],
  ];
  const factors = scales.map((scale, c) => scale / Math.sqrt(variances[c]! + epsilon));
  const moved = shifts.map((shift, c) => shift - means[c]! * factors[c]!);
  return [tensor("f32", [factors.length], factors), tensor("f32", [moved.length], moved)];
}

export const BatchNormalization: Operator = defineOp<BatchAttributes>({
  name: "BatchNormalization",
  since: [1, 6, 7, 9, 14, 15],
  attrs: (read) => {
    // Before version 7; the number of outputs says the same as is_test.
    read.ignore("consumed_inputs", "is_test");
    return {
      epsilon: read.float("epsilon", 1e-5),
      momentum: read.float("momentum", 0.9),
      training: read.flag("training_mode"),
      spatial: read.flag("spatial", true),
    };
  },
  lower: (b, inputs, attrs, node) => batchNormalization(b, node, inputs, attrs),
});
