// Quantization: properties against ONNX Runtime.

import fc from "fast-check";
import { describe } from "vitest";
import { sizeOf } from "../../src/ir/tensor.ts";
import type { DType } from "../../src/ir/types.ts";
import { property, shapeOf, size } from "../support/agreement.ts";
import { filled } from "../support/random.ts";

describe("quantization", () => {
  const types = fc.constantFrom<DType>("u8", "i8", "u16", "i16");
  const range = (dtype: DType): readonly [number, number] =>
    dtype === "u8" ? [0, 255] : dtype === "i8" ? [-128, 127] : dtype === "u16" ? [0, 65535] : [-32768, 32767];
  interface Quantized {
    shape: number[];
    axis: number;
    kind: "one" | "axis" | "block";
    block: number;
    dtype: DType;
    zero: boolean;
  }
  const quantized = {
    shape: shapeOf(4, 5, 1),
    axis: size(3, 0),
    kind: fc.constantFrom<Quantized["kind"]>("one", "axis", "block"),
    block: size(3),
    dtype: types,
    zero: fc.boolean(),
  };
  const factors = ({
    shape,
    axis,
    kind,
    block,
  }: Quantized): { along: number; scales: number[]; attributes: Record<string, number> } => {
    const along = axis % shape.length;
    if (kind === "one") return { along, scales: [], attributes: {} };
    if (kind === "axis") return { along, scales: [shape[along]!], attributes: { axis: along } };
    const scales = shape.map((dim, i) => (i === along ? Math.ceil(dim / block) : dim));
    // ONNX Runtime wants no block_size where one scale serves all.
    return sizeOf(scales) === 1
      ? { along, scales: [], attributes: {} }
      : { along, scales, attributes: { axis: along, block_size: block } };
  };
  property<Quantized>(
    "QuantizeLinear",
    quantized,
    (drawn, next) => {
      const { scales, attributes } = factors(drawn);
      const dtype = drawn.zero ? drawn.dtype : "u8";
      const [low, high] = range(dtype);
      return {
        op: "QuantizeLinear",
        opset: 21,
        attributes,
        inputs: {
          x: filled("f32", drawn.shape, next, -20, 20),
          scale: filled("f32", scales, next, 0.05, 0.3),
          zero: drawn.zero ? filled(dtype, scales, next, low / 4, high / 4) : undefined,
        },
      };
    },
    { steps: 1 },
  );
  property<Quantized>("DequantizeLinear", quantized, (drawn, next) => {
    const { scales, attributes } = factors(drawn);
    const [low, high] = range(drawn.dtype);
    return {
      op: "DequantizeLinear",
      opset: 21,
      attributes,
      inputs: {
        x: filled(drawn.dtype, drawn.shape, next, low, high),
        scale: filled("f32", scales, next, 0.05, 0.3),
        zero: drawn.zero ? filled(drawn.dtype, scales, next, low, high) : undefined,
      },
    };
  });
  property<{ shape: number[]; low: number; high: number }>(
    "DynamicQuantizeLinear",
    { shape: shapeOf(3, 6, 1), low: size(3, -3), high: size(5, 1) },
    ({ shape, low, high }, next) => ({
      op: "DynamicQuantizeLinear",
      inputs: { x: filled("f32", shape, next, low, low + high) },
      outputs: ["y", "scale", "zero"],
    }),
    { steps: 1 },
  );
  property<{ batch: number[]; m: number; k: number; n: number; zeros: number; dtype: DType }>(
    "MatMulInteger",
    {
      batch: shapeOf(2, 3, 0),
      m: size(4),
      k: size(6),
      n: size(4),
      zeros: size(7, 0),
      dtype: fc.constantFrom<DType>("u8", "i8"),
    },
    ({ batch, m, k, n, zeros, dtype }, next) => ({
      op: "MatMulInteger",
      inputs: {
        a: filled("u8", [...batch, m, k], next, 0, 255),
        b: filled(dtype, [k, n], next, dtype === "u8" ? 0 : -64, 63),
        az: zeros & 1 ? filled("u8", [], next, 0, 255) : undefined,
        bz: zeros & 2 ? filled(dtype, zeros & 4 ? [n] : [], next, 0, 100) : undefined,
      },
    }),
  );
  property<{ batch: number[]; m: number; k: number; n: number; columns: boolean; dtype: DType }>(
    "QLinearMatMul",
    {
      batch: shapeOf(2, 3, 0),
      m: size(4),
      k: size(6),
      n: size(4),
      columns: fc.boolean(),
      dtype: fc.constantFrom<DType>("u8", "i8"),
    },
    ({ batch, m, k, n, columns, dtype }, next) => {
      const [low, high] = range(dtype);
      const vector = columns ? [n] : [];
      return {
        op: "QLinearMatMul",
        inputs: {
          a: filled(dtype, [...batch, m, k], next, low, high),
          as: filled("f32", [], next, 0.01, 0.1),
          az: filled(dtype, [], next, low / 2, high / 2),
          b: filled(dtype, [k, n], next, low, high),
          bs: filled("f32", vector, next, 0.01, 0.1),
          bz: filled(dtype, vector, next, low / 2, high / 2),
          ys: filled("f32", [], next, 0.5, 2),
          yz: filled(dtype, [], next, low / 2, high / 2),
        },
        constants: ["b", "bs", "bz"],
      };
    },
    { steps: 1 },
  );
});
