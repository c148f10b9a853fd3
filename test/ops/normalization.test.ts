// Normalizations: properties against ONNX Runtime.

import fc from "fast-check";
import { describe } from "vitest";
import { list, property, shapeOf, size } from "../support/agreement.ts";
import { filled } from "../support/random.ts";

describe("normalizations", () => {
  property<{ shape: number[]; axis: number; bias: boolean; outputs: string[] }>(
    "LayerNormalization",
    {
      shape: shapeOf(4, 5, 1),
      axis: size(3, -4),
      bias: fc.boolean(),
      outputs: fc.constantFrom(["y"], ["y", "mean", "inverse"], ["y", "", "inverse"]),
    },
    ({ shape, axis, bias, outputs }, next) => {
      const inRange = ((axis % shape.length) + shape.length) % shape.length;
      const inner = shape.slice(inRange);
      return {
        op: "LayerNormalization",
        outputs,
        attributes: { axis: axis < 0 ? inRange - shape.length : inRange, epsilon: 0.001 },
        inputs: {
          x: filled("f32", shape, next, 5, 9),
          scale: filled("f32", inner, next),
          bias: bias ? filled("f32", inner, next) : undefined,
        },
      };
    },
    { rtol: 1e-3, atol: 1e-4 },
  );
  property<{ shape: number[]; epsilon: number }>(
    "BatchNormalization",
    { shape: shapeOf(5, 4, 2), epsilon: fc.constantFrom(1e-5, 0.01) },
    ({ shape, epsilon }, next) => {
      const vector = [shape[1]!];
      return {
        op: "BatchNormalization",
        opset: 15,
        attributes: { epsilon },
        inputs: {
          x: filled("f32", shape, next),
          scale: filled("f32", vector, next),
          bias: filled("f32", vector, next),
          mean: filled("f32", vector, next),
          variance: filled("f32", vector, next, 0.5, 2),
        },
      };
    },
  );
  property<{ shape: number[] }>(
    "InstanceNormalization",
    { shape: shapeOf(5, 4, 3) },
    ({ shape }, next) => ({
      op: "InstanceNormalization",
      inputs: {
        x: filled("f32", shape, next),
        scale: filled("f32", [shape[1]!], next),
        bias: filled("f32", [shape[1]!], next),
      },
    }),
    { rtol: 1e-3, atol: 1e-3 },
  );
  property<{ n: number; groups: number; width: number; spatial: number[]; opset: number }>(
    "GroupNormalization",
    { n: size(2), groups: size(3), width: size(3), spatial: shapeOf(3, 4, 1), opset: fc.constantFrom(18, 21) },
    ({ n, groups, width, spatial, opset }, next) => {
      const vector = [opset === 18 ? groups : groups * width];
      return {
        op: "GroupNormalization",
        opset,
        attributes: { num_groups: groups },
        inputs: {
          x: filled("f32", [n, groups * width, ...spatial], next),
          scale: filled("f32", vector, next),
          bias: filled("f32", vector, next),
        },
      };
    },
    { rtol: 1e-3, atol: 1e-3 },
  );
  property<{ shape: number[]; axis: number; p: number }>(
    "LpNormalization",
    { shape: shapeOf(4, 4, 1), axis: size(3, 0), p: size(2) },
    ({ shape, axis, p }, next) => ({
      op: "LpNormalization",
      attributes: { axis: axis % shape.length, p },
      inputs: { x: filled("f32", shape, next) },
    }),
  );
  property<{ shape: number[]; half: number }>(
    "LRN",
    { shape: list(size(5), 4), half: size(2, 0) },
    ({ shape, half }, next) => ({
      op: "LRN",
      attributes: { size: 2 * half + 1, alpha: 0.01, beta: 0.6, bias: { float: 2 } },
      inputs: { x: filled("f32", shape, next) },
    }),
  );
  property<{ shape: number[]; axes: number[] }>(
    "MeanVarianceNormalization",
    { shape: list(size(4, 2), 4), axes: fc.subarray([0, 1, 2, 3], { minLength: 1 }) },
    ({ shape, axes }, next) => ({
      op: "MeanVarianceNormalization",
      attributes: { axes },
      inputs: { x: filled("f32", shape, next) },
    }),
    { rtol: 1e-3, atol: 1e-3 },
  );
});
