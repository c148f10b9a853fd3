// com.microsoft operators: properties against ONNX Runtime, whose operators they are.

import fc from "fast-check";
import { describe } from "vitest";
import type { Tensor } from "../../src/ir/tensor.ts";
import { microsoftProperty as property, shapeOf, size } from "../support/agreement.ts";
import type { AttributeSpec } from "../support/onnx-model.ts";
import { filled } from "../support/random.ts";

const f32 = (shape: readonly number[], next: () => number, low?: number, high?: number): Tensor =>
  filled("f32", shape, next, low, high);

describe("activations and products", () => {
  property<{ shape: number[]; op: string; bias: boolean }>(
    "Gelu, FastGelu, BiasGelu and QuickGelu",
    { shape: shapeOf(3, 6), op: fc.constantFrom("Gelu", "FastGelu", "BiasGelu", "QuickGelu"), bias: fc.boolean() },
    ({ shape, op, bias }, next) => ({
      op,
      inputs: {
        x: f32(shape, next, -4, 4),
        bias: op === "BiasGelu" || (op === "FastGelu" && bias) ? f32([shape.at(-1)!], next) : undefined,
      },
    }),
  );
  property<{ activation: number; groups: number; residual: boolean }>(
    "FusedConv",
    { activation: size(5, 0), groups: size(2), residual: fc.boolean() },
    ({ activation, groups, residual }, next) => {
      const [name, params] = (
        [["Relu"], ["Tanh"], ["Sigmoid"], ["LeakyRelu", [0.1]], ["Clip", [-0.5, 1.5]], ["HardSigmoid", [0.25, 0.5]]] as const
      )[activation]!;
      const attributes: Record<string, AttributeSpec> = {
        activation: name,
        group: groups,
        pads: [1, 1, 1, 1],
        ...(params ? { activation_params: { floats: params } } : {}),
      };
      return {
        op: "FusedConv",
        attributes,
        inputs: {
          x: f32([1, 4, 5, 5], next),
          w: f32([4, 4 / groups, 3, 3], next),
          b: f32([4], next),
          z: residual ? f32([1, 4, 5, 5], next) : undefined,
        },
        constants: ["w", "b"],
      };
    },
  );
  property<{ batch: number[]; m: number; k: number; n: number; flips: number }>(
    "FusedMatMul",
    { batch: shapeOf(2, 3), m: size(4), k: size(4), n: size(4), flips: size(15, 0) },
    ({ batch, m, k, n, flips }, next) => {
      const laid = (rows: number, columns: number, transpose: boolean, transposeBatch: boolean): number[] => {
        const [r, c] = transpose ? [columns, rows] : [rows, columns];
        return transposeBatch ? [r, ...batch, c] : [...batch, r, c];
      };
      return {
        op: "FusedMatMul",
        attributes: {
          alpha: 0.5,
          transA: flips & 1,
          transB: (flips >> 1) & 1,
          transBatchA: (flips >> 2) & 1,
          transBatchB: flips >> 3,
        },
        inputs: {
          a: f32(laid(m, k, (flips & 1) > 0, (flips & 4) > 0), next),
          b: f32(laid(k, n, (flips & 2) > 0, (flips & 8) > 0), next),
        },
      };
    },
  );
  property<{ m: number; k: number; n: number; flips: number; activation: number; bias: boolean }>(
    "FusedGemm",
    { m: size(4), k: size(5), n: size(4), flips: size(3, 0), activation: size(4, 0), bias: fc.boolean() },
    ({ m, k, n, flips, activation, bias }, next) => {
      const [name, parameters] = (
        [
          ["Relu", {}],
          ["Tanh", {}],
          ["Sigmoid", {}],
          ["LeakyRelu", { activation_alpha: { float: 0.1 } }],
          ["HardSigmoid", { activation_alpha: { float: 0.25 }, activation_beta: { float: 0.5 } }],
        ] as const
      )[activation]!;
      return {
        op: "FusedGemm",
        attributes: { activation: name, ...parameters, alpha: 0.5, transA: flips & 1, transB: flips >> 1 },
        inputs: {
          a: f32(flips & 1 ? [k, m] : [m, k], next),
          b: f32(flips & 2 ? [n, k] : [k, n], next),
          c: bias ? f32([n], next) : undefined,
        },
      };
    },
  );
  property<{ rows: number; k: number; n: number; block: number; bits: number; zero: string; bias: boolean; shuffled: boolean }>(
    "MatMulNBits",
    {
      rows: size(3),
      k: size(70, 3),
      n: size(5),
      block: fc.constantFrom(16, 32),
      bits: fc.constantFrom(4, 8),
      zero: fc.constantFrom("none", "packed", "float"),
      bias: fc.boolean(),
      shuffled: fc.boolean(),
    },
    ({ rows, k, n, block, bits, zero, bias, shuffled }, next) => {
      const blocks = Math.ceil(k / block);
      const zeros =
        zero === "none" || (zero === "float" && bits === 8)
          ? undefined
          : zero === "float"
            ? f32([n * blocks], next, 0, 15)
            : filled("u8", [n * Math.ceil((blocks * bits) / 8)], next, 0, 255);
      return {
        op: "MatMulNBits",
        attributes: { K: k, N: n, bits, block_size: block },
        inputs: {
          a: f32([2, rows, k], next),
          b: filled("u8", [n, blocks, (block * bits) / 8], next, 0, 255),
          scales: f32([n * blocks], next, 0.01, 0.1),
          zeros,
          // With these ONNX Runtime takes no 8 bits, and packed zero points for the middle of their range.
          groups: shuffled && bits === 4 && zero !== "packed" ? filled("i32", [k], next, 0, blocks - 1) : undefined,
          bias: bias ? f32([n], next) : undefined,
        },
        constants: ["b", "scales", "zeros", "groups", "bias"],
      };
    },
    { rtol: 2e-3, atol: 5e-3 },
  );
});

describe("normalizations", () => {
  property<{ b: number; s: number; h: number; optional: number; outputs: string[] }>(
    "SkipLayerNormalization",
    { b: size(2), s: size(4), h: size(9, 2), optional: size(7, 0), outputs: fc.constantFrom(["y"], ["y", "", "", "sum"]) },
    ({ b, s, h, optional, outputs }, next) => ({
      op: "SkipLayerNormalization",
      outputs,
      attributes: { epsilon: 0.001 },
      inputs: {
        x: f32([b, s, h], next),
        skip: f32(optional & 4 ? [1, s, h] : [b, s, h], next),
        gamma: f32([h], next),
        beta: optional & 1 ? f32([h], next) : undefined,
        bias: optional & 2 ? f32([h], next) : undefined,
      },
    }),
  );
  property<{ b: number; s: number; h: number; bias: boolean; outputs: string[] }>(
    "SkipSimplifiedLayerNormalization",
    { b: size(2), s: size(4), h: size(9, 2), bias: fc.boolean(), outputs: fc.constantFrom(["y"], ["y", "", "", "sum"]) },
    ({ b, s, h, bias, outputs }, next) => ({
      op: "SkipSimplifiedLayerNormalization",
      outputs,
      attributes: { epsilon: 0.001 },
      inputs: {
        x: f32([b, s, h], next),
        skip: f32([b, s, h], next),
        gamma: f32([h], next),
        bias: bias ? f32([h], next) : undefined,
      },
    }),
  );
  property<{ shape: number[]; axis: number }>(
    "SimplifiedLayerNormalization",
    { shape: shapeOf(4, 5), axis: size(3, 0) },
    ({ shape, axis }, next) => ({
      op: "SimplifiedLayerNormalization",
      domain: "",
      attributes: { axis: axis % shape.length, epsilon: 0.001 },
      inputs: { x: f32(shape, next), scale: f32(shape.slice(axis % shape.length), next) },
      outputs: ["y", "inverse"],
    }),
  );
  property<{ b: number; s: number; segment: boolean; mask: boolean }>(
    "EmbedLayerNormalization",
    { b: size(2), s: size(4), segment: fc.boolean(), mask: fc.boolean() },
    ({ b, s, segment, mask }, next) => ({
      op: "EmbedLayerNormalization",
      attributes: { epsilon: 0.001 },
      inputs: {
        ids: filled("i32", [b, s], next, 0, 6),
        segments: segment ? filled("i32", [b, s], next, 0, 1) : undefined,
        words: f32([7, 6], next),
        places: f32([5, 6], next),
        segmentTable: segment ? f32([2, 6], next) : undefined,
        gamma: f32([6], next),
        beta: f32([6], next),
        mask: mask ? filled("i32", [b, s], next, 0, 1) : undefined,
      },
      constants: ["words", "places", "segmentTable", "gamma", "beta"],
      outputs: ["y", "mask_index"],
    }),
  );
});
