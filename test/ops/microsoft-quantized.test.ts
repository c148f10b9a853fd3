// com.microsoft operators on quantized tensors: properties against ONNX Runtime, whose operators they are.

import fc from "fast-check";
import { describe } from "vitest";
import type { Tensor } from "../../src/ir/tensor.ts";
import type { DType } from "../../src/ir/types.ts";
import { microsoftProperty as property, type Slack, shapeOf, size } from "../support/agreement.ts";
import { filled } from "../support/random.ts";

const f32 = (shape: readonly number[], next: () => number, low?: number, high?: number): Tensor =>
  filled("f32", shape, next, low, high);

describe("quantized", () => {
  const types = fc.constantFrom<DType>("u8", "i8");
  const range = (dtype: DType): readonly [number, number] => (dtype === "u8" ? [0, 255] : [-128, 127]);
  const bytes = (dtype: DType, shape: readonly number[], next: () => number): Tensor =>
    filled(dtype, shape, next, ...range(dtype));
  const off: Slack = { steps: 1 };
  property<{ shape: number[]; axis: number; along: boolean; dtype: DType; op: string }>(
    "QuantizeLinear and DequantizeLinear",
    {
      shape: shapeOf(3, 5),
      axis: size(2, 0),
      along: fc.boolean(),
      dtype: fc.constantFrom<DType>("u8", "i8", "u16", "i16"),
      op: fc.constantFrom("QuantizeLinear", "DequantizeLinear"),
    },
    ({ shape, axis, along, dtype, op }, next) => {
      const factors = along ? [shape[axis % shape.length]!] : [];
      return {
        op,
        attributes: along ? { axis: axis % shape.length } : {},
        inputs: {
          x: op === "QuantizeLinear" ? f32(shape, next, -20, 20) : filled(dtype, shape, next, 0, 100),
          scale: f32(factors, next, 0.05, 0.3),
          zero: filled(dtype, factors, next, 0, 50),
        },
      };
    },
    off,
  );
  property<{ shape: number[]; ones: boolean[]; op: string; dtype: DType }>(
    "QLinearAdd and QLinearMul",
    {
      shape: shapeOf(3, 5),
      ones: fc.array(fc.boolean(), { minLength: 3, maxLength: 3 }),
      op: fc.constantFrom("QLinearAdd", "QLinearMul"),
      dtype: types,
    },
    ({ shape, ones, op, dtype }, next) => ({
      op,
      inputs: {
        a: bytes(dtype, shape, next),
        as: f32([], next, 0.01, 0.1),
        az: bytes(dtype, [], next),
        b: bytes(
          dtype,
          shape.map((dim, i) => (ones[i] ? 1 : dim)),
          next,
        ),
        bs: f32([], next, 0.01, 0.1),
        bz: bytes(dtype, [], next),
        ys: f32([], next, 0.05, 0.3),
        yz: bytes(dtype, [], next),
      },
    }),
    off,
  );
  property<{ shape: number[]; op: string; dtype: DType }>(
    "QLinearSigmoid and QLinearLeakyRelu",
    { shape: shapeOf(3, 5), op: fc.constantFrom("QLinearSigmoid", "QLinearLeakyRelu"), dtype: types },
    ({ shape, op, dtype }, next) => ({
      op,
      attributes: op === "QLinearLeakyRelu" ? { alpha: 0.1 } : {},
      inputs: {
        x: bytes(dtype, shape, next),
        xs: f32([], next, 0.01, 0.05),
        xz: bytes(dtype, [], next),
        ys: f32([], next, 0.005, 0.05),
        yz: bytes(dtype, [], next),
      },
      constants: ["xs", "xz", "ys", "yz"],
    }),
    off,
  );
  property<{ shape: number[]; axis: number; parts: number[]; dtype: DType }>(
    "QLinearConcat",
    { shape: shapeOf(3, 3), axis: size(2, 0), parts: shapeOf(3, 3), dtype: types },
    ({ shape, axis, parts, dtype }, next) => {
      const along = axis % shape.length;
      const part = (count: number, i: number): Record<string, Tensor> => ({
        [`x${i}`]: bytes(
          dtype,
          shape.map((dim, j) => (j === along ? count : dim)),
          next,
        ),
        [`s${i}`]: f32([], next, 0.01, 0.1),
        [`z${i}`]: bytes(dtype, [], next),
      });
      return {
        op: "QLinearConcat",
        attributes: { axis: along },
        inputs: {
          ys: f32([], next, 0.05, 0.1),
          yz: bytes(dtype, [], next),
          ...(Object.assign({}, ...parts.map(part)) as Record<string, Tensor>),
        },
      };
    },
    off,
  );
  property<{ last: number; c: number; dtype: DType; pad: number }>(
    "QLinearGlobalAveragePool and QLinearAveragePool",
    { last: size(1, 0), c: size(3), dtype: types, pad: size(2, 0) },
    ({ last, c, dtype, pad }, next) => ({
      op: pad === 0 ? "QLinearGlobalAveragePool" : "QLinearAveragePool",
      attributes: {
        channels_last: last,
        ...(pad === 0 ? {} : { kernel_shape: [3, 2], strides: [2, 1], pads: [1, 0, 1, 1], count_include_pad: pad - 1 }),
      },
      inputs: {
        x: bytes(dtype, last ? [2, 5, 4, c] : [2, c, 5, 4], next),
        xs: f32([], next, 0.01, 0.1),
        xz: bytes(dtype, [], next),
        ys: f32([], next, 0.01, 0.1),
        yz: bytes(dtype, [], next),
      },
      constants: ["xs", "xz", "ys", "yz"],
    }),
    off,
  );
  property<{ m: number; k: number; n: number; columns: boolean; zero: boolean; bias: boolean; dynamic: boolean }>(
    "DynamicQuantizeMatMul and MatMulIntegerToFloat",
    {
      m: size(4),
      k: size(6),
      n: size(4),
      columns: fc.boolean(),
      zero: fc.boolean(),
      bias: fc.boolean(),
      dynamic: fc.boolean(),
    },
    ({ m, k, n, columns, zero, bias, dynamic }, next) => {
      const vector = columns ? [n] : [1];
      const right = { b: filled("u8", [k, n], next, 0, 255) };
      const [scale, zeros] = [f32(vector, next, 0.01, 0.1), zero ? filled("u8", vector, next, 0, 255) : undefined];
      const extra = bias ? f32([n], next) : undefined;
      return dynamic
        ? {
            op: "DynamicQuantizeMatMul",
            inputs: { a: f32([2, m, k], next), ...right, bs: scale, bz: zeros, bias: extra },
            constants: ["b", "bs", "bz", "bias"],
          }
        : {
            op: "MatMulIntegerToFloat",
            inputs: {
              a: filled("u8", [2, m, k], next, 0, 255),
              ...right,
              as: f32([1], next, 0.01, 0.1),
              bs: scale,
              az: zero ? filled("u8", [1], next, 0, 255) : undefined,
              bz: zeros,
              bias: extra,
            },
            constants: ["b", "bs", "bz", "bias"],
          };
    },
    // A quantized element on a rounding tie moves the sum by one step of the weights.
    { rtol: 1e-2, atol: 0.3 },
  );
  property<{ m: number; k: number; n: number; flips: number; bias: boolean; real: boolean; columns: boolean }>(
    "QGemm",
    { m: size(4), k: size(5), n: size(4), flips: size(3, 0), bias: fc.boolean(), real: fc.boolean(), columns: fc.boolean() },
    ({ m, k, n, flips, bias, real, columns }, next) => ({
      op: "QGemm",
      attributes: { transA: flips & 1, transB: flips >> 1, alpha: 0.5 },
      inputs: {
        a: bytes("u8", flips & 1 ? [k, m] : [m, k], next),
        as: f32([], next, 0.01, 0.1),
        az: bytes("u8", [], next),
        b: bytes("u8", flips & 2 ? [n, k] : [k, n], next),
        bs: f32(columns ? [n] : [], next, 0.01, 0.1),
        bz: bytes("u8", columns ? [n] : [], next),
        c: bias ? filled("i32", [n], next, -500, 500) : undefined,
        ys: real ? undefined : f32([], next, 0.5, 2),
        yz: real ? undefined : bytes("u8", [], next),
      },
      constants: ["b", "bs", "bz", "c"],
    }),
    { steps: 1, rtol: 1e-4, atol: 1e-3 },
  );
});
