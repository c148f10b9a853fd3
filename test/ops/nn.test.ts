// Matrix products, reductions, softmax and losses: properties against ONNX Runtime, and what is refused.

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { importModel } from "../../src/importer/import.ts";
import { shapeText } from "../../src/ir/dims.ts";
import { tensor } from "../../src/ir/tensor.ts";
import type { DType } from "../../src/ir/types.ts";
import { list, modelOf, property, shapeOf, size } from "../support/agreement.ts";
import { model } from "../support/onnx-model.ts";
import { filled } from "../support/random.ts";

const ints = (values: readonly number[]) => tensor("i64", [values.length], values);

describe("matrix products", () => {
  const broadcastable = fc.record({ batch: shapeOf(2, 3, 0), skip: size(2, 0), ones: list(fc.boolean(), 2) });
  property<{
    left: { batch: number[]; skip: number; ones: boolean[] };
    rightSkip: number;
    rightOnes: boolean[];
    m: number;
    k: number;
    n: number;
    vectors: number;
    dtype: DType;
  }>(
    "MatMul",
    {
      left: broadcastable,
      rightSkip: size(2, 0),
      rightOnes: list(fc.boolean(), 2),
      m: size(5),
      k: size(6),
      n: size(5),
      vectors: size(3, 0),
      dtype: fc.constantFrom<DType>("f32", "f64", "i32", "i64", "u32"),
    },
    ({ left, rightSkip, rightOnes, m, k, n, vectors, dtype }, next) => {
      const ones = (batch: number[], flags: boolean[]): number[] => batch.map((dim, i) => (flags[i] ? 1 : dim));
      const a = vectors & 1 ? [k] : [...ones(left.batch, left.ones).slice(left.skip), m, k];
      const b = vectors & 2 ? [k] : [...ones(left.batch, rightOnes).slice(rightSkip), k, n];
      const low = dtype === "u32" ? 0 : -3;
      return { op: "MatMul", inputs: { a: filled(dtype, a, next, low, 3), b: filled(dtype, b, next, low, 3) } };
    },
  );
  property<{ m: number; k: number; n: number; bias: number; alpha: number; beta: number; flips: number }>(
    "Gemm",
    {
      m: size(5),
      k: size(5),
      n: size(5),
      bias: size(6, 0),
      alpha: fc.constantFrom(1, 0.5, -2),
      beta: fc.constantFrom(1, 0.25, 0),
      flips: size(3, 0),
    },
    ({ m, k, n, bias, alpha, beta, flips }, next) => ({
      op: "Gemm",
      attributes: { alpha: { float: alpha }, beta: { float: beta }, transA: flips & 1, transB: flips >> 1 },
      inputs: {
        a: filled("f32", flips & 1 ? [k, m] : [m, k], next),
        b: filled("f32", flips & 2 ? [n, k] : [k, n], next),
        c: bias === 6 ? undefined : filled("f32", [[], [n], [1, n], [m, 1], [m, n], [1, 1]][bias]!, next),
      },
    }),
  );
  test.each<[string, Record<string, number[]>, RegExp]>([
    ["MatMul", { a: [2, 3], b: [4, 2] }, /K301.*do not multiply/],
    ["Gemm", { a: [2, 3], b: [3, 2], c: [3] }, /K301.*broadcast/],
    ["Conv", { x: [1, 3, 5, 5], w: [4, 2, 3, 3] }, /K301.*3 channels/],
    ["Conv", { x: [1, 3, 5, 5], w: [4, 3, 3, 3], b: [3] }, /K301.*"b" is \[3\]/],
    ["MaxPool", { x: [1, 3, 5, 5] }, /K205.*kernel_shape/],
    ["InstanceNormalization", { x: [1, 3, 5], scale: [4], b: [3] }, /K301.*"scale"/],
    ["LayerNormalization", { x: [2, 3], scale: [4] }, /K301.*does not broadcast|K301.*do not broadcast/],
  ])("%s of %o is refused", (op, shapes, message) => {
    const inputs = Object.fromEntries(Object.entries(shapes).map(([name, shape]) => [name, filled("f32", shape, Math.random)]));
    expect(() => importModel(modelOf({ op, inputs }).bytes)).toThrow(message);
  });
});

describe("reductions", () => {
  const ops = ["Sum", "Prod", "Max", "Min", "Mean", "SumSquare", "L1", "L2", "LogSum", "LogSumExp"];
  for (const op of ops) {
    property<{ shape: number[]; axes: number[] | undefined; keep: number; noop: number; opset: number; dtype: DType }>(
      `Reduce${op}`,
      {
        shape: shapeOf(4, 4, 1),
        axes: fc.option(fc.array(size(3, -4), { maxLength: 3 }), { nil: undefined }),
        keep: size(1, 0),
        noop: size(1, 0),
        opset: fc.constantFrom(11, 13, 18, 20),
        dtype: fc.constantFrom<DType>("f32", "i32"),
      },
      ({ shape, axes, keep, noop, opset, dtype }, next) => {
        const inRange =
          axes &&
          [...new Set(axes.map((axis) => ((axis % shape.length) + shape.length) % shape.length))].map((axis, i) =>
            i % 2 ? axis - shape.length : axis,
          );
        const asInput = opset >= (op === "Sum" ? 13 : 18);
        const integers = dtype === "i32" && !/^Log|^L2|^Mean/.test(op);
        const x = integers
          ? filled("i32", shape, next, op === "Prod" ? -1 : -5, op === "Prod" ? 1 : 5)
          : filled("f32", shape, next, op === "LogSum" ? 0.5 : -2, 2);
        return {
          op: `Reduce${op}`,
          opset,
          // An empty attribute list is not one that exporters write.
          attributes: {
            keepdims: keep,
            ...(asInput ? { noop_with_empty_axes: noop } : inRange && inRange.length > 0 ? { axes: inRange } : {}),
          },
          inputs: { x, ...(asInput ? { axes: inRange && ints(inRange) } : {}) },
          constants: ["axes"],
        };
      },
    );
  }
});

test("reductions of a shape keep its symbols", () => {
  const bytes = model({
    opset: 17,
    inputs: { x: { dtype: "f32", shape: ["N", 3, "H", "W"] } },
    outputs: ["y"],
    initializers: { first: ints([-1]) },
    nodes: [
      { op: "Shape", inputs: ["x"], outputs: ["spatial"], attributes: { start: 2 } },
      { op: "ReduceProd", inputs: ["spatial"], outputs: ["pixels"] },
      { op: "Concat", inputs: ["first", "pixels"], outputs: ["target"], attributes: { axis: 0 } },
      { op: "Reshape", inputs: ["x", "target"], outputs: ["y"] },
    ],
  });
  expect(shapeText(importModel(bytes).outputs[0]!.value.shape)).toBe("[N*3, H*W]");
});

describe("softmax", () => {
  property<{ shape: number[]; axis: number; opset: number; op: string }>(
    "Softmax and LogSoftmax",
    {
      shape: shapeOf(4, 5, 1),
      axis: size(3, -4),
      opset: fc.constantFrom(9, 11, 13),
      op: fc.constantFrom("Softmax", "LogSoftmax"),
    },
    ({ shape, axis, opset, op }, next) => {
      const inRange = ((axis % shape.length) + shape.length) % shape.length;
      return {
        op,
        opset,
        attributes: { axis: axis < 0 && opset > 9 ? inRange - shape.length : inRange },
        inputs: { x: filled("f32", shape, next, -30, 30) },
      };
    },
  );
});

describe("losses", () => {
  property<{ n: number; classes: number; spatial: number[]; weight: boolean; ignore: boolean; reduction: string; op: string }>(
    "NegativeLogLikelihoodLoss and SoftmaxCrossEntropyLoss",
    {
      n: size(3),
      classes: size(4, 2),
      spatial: shapeOf(2, 3, 0),
      weight: fc.boolean(),
      ignore: fc.boolean(),
      reduction: fc.constantFrom("mean", "sum", "none"),
      op: fc.constantFrom("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"),
    },
    ({ n, classes, spatial, weight, ignore, reduction, op }, next) => ({
      op,
      opset: 13,
      attributes: { reduction, ...(ignore ? { ignore_index: 0 } : {}) },
      inputs: {
        x: filled("f32", [n, classes, ...spatial], next),
        target: filled("i64", [n, ...spatial], next, ignore ? 0 : 1, classes - 1),
        weight: weight ? filled("f32", [classes], next, 0.1, 1) : undefined,
      },
      constants: ["weight"],
    }),
  );
});
