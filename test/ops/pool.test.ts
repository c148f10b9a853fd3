// Pools: properties against ONNX Runtime, over one to three spatial axes.

import fc from "fast-check";
import { describe, test } from "vitest";
import type { DType } from "../../src/ir/types.ts";
import { agrees, type Case, list, modelOf, property, shapeOf, size, spanOf } from "../support/agreement.ts";
import { runInterpreted } from "../support/interpret-model.ts";
import { filled, generator } from "../support/random.ts";

interface PoolShape {
  n: number;
  c: number;
  extra: number[];
  kernel: number[];
  strides: number[];
  dilations: number[];
  pads: number[];
  auto: string;
  ceil: number;
  flag: number;
}
const poolShape = (spatial: number): { [K in keyof PoolShape]: fc.Arbitrary<PoolShape[K]> } => ({
  n: size(2),
  c: size(2),
  extra: list(size(5, 0), spatial),
  kernel: list(size(3), spatial),
  strides: list(size(3), spatial),
  dilations: list(size(2), spatial),
  pads: list(size(2, 0), 2 * spatial),
  auto: fc.constantFrom("NOTSET", "NOTSET", "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"),
  ceil: size(1, 0),
  flag: size(1, 0),
});
function pool(
  op: string,
  shape: PoolShape,
  next: () => number,
  extra: Case["attributes"],
  dtype: DType = "f32",
  dilated = true,
): Omit<Case, "symbolic"> {
  const { n, c, kernel, auto, ceil } = shape;
  // With SAME padding and steps beyond the kernel ONNX Runtime pads by negative amounts, which ONNX does not say.
  const strides = shape.strides.map((stride, i) => (auto.startsWith("SAME") ? Math.min(stride, kernel[i]!) : stride));
  const dilations = dilated && auto === "NOTSET" ? shape.dilations : kernel.map(() => 1);
  // ONNX Runtime wants every padding smaller than the kernel.
  const pads = shape.pads.map((p, i) => Math.min(p, kernel[i % kernel.length]! - 1));
  const extent = spanOf(kernel, dilations).map((k, i) => k + shape.extra[i]!);
  const attributes = {
    kernel_shape: kernel,
    strides,
    ...(auto === "NOTSET" ? { pads, ceil_mode: ceil, ...(dilated ? { dilations } : {}) } : { auto_pad: auto }),
    ...extra,
  };
  return {
    op,
    attributes,
    inputs: {
      x: filled(dtype, [n, c, ...extent], next, dtype === "f32" ? -2 : dtype === "u8" ? 0 : -100, dtype === "f32" ? 2 : 100),
    },
  };
}

describe("pools", () => {
  for (const spatial of [1, 2, 3]) {
    property<PoolShape & { dtype: DType }>(
      `MaxPool ${spatial}D`,
      { ...poolShape(spatial), dtype: fc.constantFrom<DType>("f32", "f32", "i8", "u8") },
      (shape, next) => ({
        ...pool("MaxPool", shape, next, shape.dtype === "f32" ? { storage_order: shape.flag } : {}, shape.dtype),
        // ONNX Runtime has indices for floats only.
        outputs: shape.dtype === "f32" ? ["y", "indices"] : ["y"],
      }),
      undefined,
      1 / spatial,
    );
    property<PoolShape>(
      `AveragePool ${spatial}D`,
      poolShape(spatial),
      (shape, next) => ({ ...pool("AveragePool", shape, next, { count_include_pad: shape.flag }), opset: 19 }),
      undefined,
      1 / spatial,
    );
    property<PoolShape>(
      `LpPool ${spatial}D`,
      poolShape(spatial),
      (shape, next) => ({ ...pool("LpPool", shape, next, { p: shape.flag + 1 }), opset: 18 }),
      undefined,
      1 / spatial,
    );
  }
  property<{ shape: number[]; op: string }>(
    "GlobalMaxPool, GlobalAveragePool and GlobalLpPool",
    { shape: shapeOf(5, 4, 3), op: fc.constantFrom("GlobalMaxPool", "GlobalAveragePool", "GlobalLpPool") },
    ({ shape, op }, next) => ({
      op,
      inputs: { x: filled("f32", shape, next) },
    }),
  );
  test("MaxUnpool puts back what MaxPool took", () => {
    const x = filled("f32", [2, 3, 6, 8], generator(7), 0.1, 1);
    const pooled = runInterpreted(
      modelOf({
        op: "MaxPool",
        attributes: { kernel_shape: [2, 2], strides: [2, 2] },
        inputs: { x },
        outputs: ["y", "indices"],
      }).bytes,
      { x },
    );
    const back = {
      op: "MaxUnpool",
      attributes: { kernel_shape: [2, 2], strides: [2, 2] },
      inputs: { x: pooled.y!, i: pooled.indices! },
    };
    return agrees(back);
  });
});
