// Convolutions: properties against ONNX Runtime, over one to three spatial axes.

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { importModel } from "../../src/importer/import.ts";
import { evaluate } from "../../src/ir/dims.ts";
import { sizeOf, tensor } from "../../src/ir/tensor.ts";
import type { DType } from "../../src/ir/types.ts";
import { list, modelOf, property, size, spanOf } from "../support/agreement.ts";
import { filled } from "../support/random.ts";

interface ConvShape {
  n: number;
  groups: number;
  ic: number;
  oc: number;
  extra: number[];
  kernel: number[];
  strides: number[];
  dilations: number[];
  pads: number[];
  auto: string;
  bias: boolean;
}
const convShape = (spatial: number): { [K in keyof ConvShape]: fc.Arbitrary<ConvShape[K]> } => ({
  n: size(2),
  groups: size(2),
  ic: size(3),
  oc: size(3),
  extra: list(size(4, 0), spatial),
  kernel: list(size(3), spatial),
  strides: list(size(3), spatial),
  dilations: list(size(2), spatial),
  pads: list(size(2, 0), 2 * spatial),
  auto: fc.constantFrom("NOTSET", "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"),
  bias: fc.boolean(),
});
/** auto_pad with ONNX Runtime wants no dilation. */
const windowOf = ({
  kernel,
  strides,
  dilations,
  pads,
  auto,
}: Pick<ConvShape, "kernel" | "strides" | "dilations" | "pads" | "auto">) => ({
  kernel_shape: kernel,
  strides,
  ...(auto === "NOTSET" ? { pads, dilations } : { auto_pad: auto }),
});

describe("convolutions", () => {
  for (const spatial of [1, 2, 3]) {
    property<ConvShape>(
      `Conv ${spatial}D`,
      convShape(spatial),
      (shape, next) => {
        const { n, groups, ic, oc, extra, kernel, dilations, bias } = shape;
        const extent = spanOf(kernel, dilations).map((k, i) => k + extra[i]!);
        return {
          op: "Conv",
          attributes: { group: groups, ...windowOf(shape) },
          inputs: {
            x: filled("f32", [n, groups * ic, ...extent], next),
            w: filled("f32", [groups * oc, ic, ...kernel], next),
            b: bias ? filled("f32", [groups * oc], next) : undefined,
          },
          constants: ["w", "b"],
        };
      },
      undefined,
      1 / spatial,
    );
    property<ConvShape & { more: number[]; asked: boolean }>(
      `ConvTranspose ${spatial}D`,
      { ...convShape(spatial), more: list(size(2, 0), spatial), asked: fc.boolean() },
      (shape, next) => {
        const { n, groups, ic, oc, extra, kernel, dilations, auto, bias, more, asked } = shape;
        // ONNX's SAME gives input · stride; ONNX Runtime less where the kernel does not reach that far.
        const strides = shape.strides.map((stride, i) => (auto.startsWith("SAME") ? Math.min(stride, kernel[i]!) : stride));
        const padding = more.map((m, i) => Math.min(m, strides[i]! - 1));
        const input = extra.map((e) => e + 1);
        const spread = auto === "NOTSET" ? dilations : dilations.map(() => 1);
        const full = spanOf(kernel, spread).map((k, i) => (input[i]! - 1) * strides[i]! + k + padding[i]!);
        // Padding may not leave less than one element.
        const pads = shape.pads.map((p, i) => Math.min(p, Math.floor((full[i % spatial]! - 1) / 2)));
        return {
          op: "ConvTranspose",
          attributes: {
            group: groups,
            output_padding: padding,
            ...windowOf({ ...shape, strides, pads }),
            ...(asked && auto !== "VALID" ? { output_shape: full.map((f, i) => Math.max(1, f - more[i]!)) } : {}),
          },
          inputs: {
            x: filled("f32", [n, groups * ic, ...input], next),
            w: filled("f32", [groups * ic, oc, ...kernel], next),
            b: bias ? filled("f32", [groups * oc], next) : undefined,
          },
          constants: ["w", "b"],
        };
      },
      undefined,
      1 / spatial,
    );
  }
  property<ConvShape & { zeros: number }>("ConvInteger", { ...convShape(2), zeros: size(3, 0) }, (shape, next) => {
    const { n, ic, oc, extra, kernel, dilations, zeros } = shape;
    const extent = spanOf(kernel, dilations).map((k, i) => k + extra[i]!);
    return {
      op: "ConvInteger",
      attributes: windowOf(shape),
      inputs: {
        x: filled("u8", [n, ic, ...extent], next, 0, 255),
        w: filled("u8", [oc, ic, ...kernel], next, 0, 255),
        xz: zeros & 1 ? filled("u8", [], next, 0, 255) : undefined,
        wz: zeros & 2 ? filled("u8", [], next, 0, 255) : undefined,
      },
      constants: ["w", "wz"],
    };
  });
  property<ConvShape & { perChannel: boolean; dtype: DType }>(
    "QLinearConv",
    { ...convShape(2), perChannel: fc.boolean(), dtype: fc.constantFrom<DType>("u8", "i8") },
    (shape, next) => {
      const { n, groups, ic, oc, extra, kernel, dilations, bias, perChannel, dtype } = shape;
      const extent = spanOf(kernel, dilations).map((k, i) => k + extra[i]!);
      // Weights of 7 bits: ONNX Runtime's kernels for processors without VNNI saturate sums of u8 · i8 pairs at 16 bits.
      const [low, high] = dtype === "u8" ? [0, 255] : [-128, 127];
      const channels = perChannel ? [groups * oc] : [];
      return {
        op: "QLinearConv",
        attributes: { group: groups, ...windowOf(shape) },
        inputs: {
          x: filled(dtype, [n, groups * ic, ...extent], next, low, high),
          xs: filled("f32", [], next, 0.01, 0.1),
          xz: filled(dtype, [], next, low, high),
          w: filled("i8", [groups * oc, ic, ...kernel], next, -64, 63),
          ws: filled("f32", channels, next, 0.01, 0.1),
          wz: tensor("i8", channels, new Array<number>(sizeOf(channels)).fill(0)),
          ys: filled("f32", [], next, 0.5, 2),
          yz: filled(dtype, [], next, low, high),
          b: bias ? filled("i32", [groups * oc], next, -500, 500) : undefined,
        },
        constants: ["w", "ws", "wz", "b"],
      };
    },
    { steps: 1 },
  );
  test("a symbolic size keeps its arithmetic", () => {
    const { bytes } = modelOf({
      op: "Conv",
      symbolic: true,
      attributes: { strides: [2, 2], auto_pad: "SAME_UPPER" },
      constants: ["w"],
      inputs: { x: filled("f32", [1, 3, 8, 8], Math.random), w: filled("f32", [4, 3, 3, 3], Math.random) },
    });
    const { shape } = importModel(bytes).outputs[0]!.value;
    for (const height of [1, 2, 7, 8])
      expect(
        shape.map((dim) =>
          evaluate(
            dim,
            new Map([
              ["x.0", 5],
              ["x.2", height],
              ["x.3", 9],
            ]),
          ),
        ),
      ).toEqual([5, 4, Math.ceil(height / 2), 5]);
  });
});
