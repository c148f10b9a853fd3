// Products, convolutions, pools, reductions, normalizations, softmax and quantization: properties against ONNX Runtime,
// with numbers and with symbols for the sizes of inputs.

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { importModel } from "../../src/importer/import.ts";
import { evaluate, shapeText } from "../../src/ir/dims.ts";
import { sizeOf, tensor } from "../../src/ir/tensor.ts";
import type { DType } from "../../src/ir/types.ts";
import { type Case, type Slack, agrees, filled, generator, modelOf } from "../support/agreement.ts";
import { runInterpreted } from "../support/interpret-model.ts";
import { model } from "../support/onnx-model.ts";

const RUNS = { numRuns: Number(process.env.RUNS ?? 200) };

/** Draws cases from a record of arbitraries, a seed for the tensors and a flag for symbolic sizes. */
function property<T extends object>(name: string, shapes: { [K in keyof T]: fc.Arbitrary<T[K]> }, build: (drawn: T, next: () => number) => Omit<Case, "symbolic">, slack?: Slack, runs = RUNS): void {
  test(name, async () => {
    const drawn = fc.record({ drawn: fc.record(shapes), seed: fc.nat(), symbolic: fc.boolean() });
    await fc.assert(fc.asyncProperty(drawn, ({ drawn: values, seed, symbolic }) => agrees({ ...build(values as T, generator(seed)), symbolic }, slack)), runs);
  });
}

const size = (max: number, min = 1): fc.Arbitrary<number> => fc.integer({ min, max });
const list = <T>(item: fc.Arbitrary<T>, length: number): fc.Arbitrary<T[]> => fc.array(item, { minLength: length, maxLength: length });
const shapeOf = (maxRank: number, max = 4, minRank = 0): fc.Arbitrary<number[]> => fc.array(size(max), { minLength: minRank, maxLength: maxRank });
const ints = (values: readonly number[]) => tensor("i64", [values.length], values);

describe("matrix products", () => {
  const broadcastable = fc.record({ batch: shapeOf(2, 3), skip: size(2, 0), ones: list(fc.boolean(), 2) });
  property<{ left: { batch: number[]; skip: number; ones: boolean[] }; rightSkip: number; rightOnes: boolean[]; m: number; k: number; n: number; vectors: number; dtype: DType }>(
    "MatMul",
    { left: broadcastable, rightSkip: size(2, 0), rightOnes: list(fc.boolean(), 2), m: size(5), k: size(6), n: size(5), vectors: size(3, 0), dtype: fc.constantFrom<DType>("f32", "f64", "i32", "i64", "u32") },
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
    { m: size(5), k: size(5), n: size(5), bias: size(6, 0), alpha: fc.constantFrom(1, 0.5, -2), beta: fc.constantFrom(1, 0.25, 0), flips: size(3, 0) },
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

interface ConvShape { n: number; groups: number; ic: number; oc: number; extra: number[]; kernel: number[]; strides: number[]; dilations: number[]; pads: number[]; auto: string; bias: boolean }
const convShape = (spatial: number): { [K in keyof ConvShape]: fc.Arbitrary<ConvShape[K]> } => ({
  n: size(2), groups: size(2), ic: size(3), oc: size(3), extra: list(size(4, 0), spatial), kernel: list(size(3), spatial), strides: list(size(3), spatial), dilations: list(size(2), spatial),
  pads: list(size(2, 0), 2 * spatial), auto: fc.constantFrom("NOTSET", "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"), bias: fc.boolean(),
});
const spanOf = (kernel: number[], dilations: number[]): number[] => kernel.map((k, i) => (k - 1) * dilations[i]! + 1);
/** auto_pad with ONNX Runtime wants no dilation. */
const windowOf = ({ kernel, strides, dilations, pads, auto }: Pick<ConvShape, "kernel" | "strides" | "dilations" | "pads" | "auto">) => ({
  kernel_shape: kernel, strides, ...(auto === "NOTSET" ? { pads, dilations } : { auto_pad: auto }),
});

describe("convolutions", () => {
  for (const spatial of [1, 2, 3]) {
    const runs = { numRuns: Math.ceil(RUNS.numRuns / spatial) };
    property<ConvShape>(`Conv ${spatial}D`, convShape(spatial), (shape, next) => {
      const { n, groups, ic, oc, extra, kernel, dilations, bias } = shape;
      const extent = spanOf(kernel, dilations).map((k, i) => k + extra[i]!);
      return {
        op: "Conv",
        attributes: { group: groups, ...windowOf(shape) },
        inputs: { x: filled("f32", [n, groups * ic, ...extent], next), w: filled("f32", [groups * oc, ic, ...kernel], next), b: bias ? filled("f32", [groups * oc], next) : undefined },
        constants: ["w", "b"],
      };
    }, undefined, runs);
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
          attributes: { group: groups, output_padding: padding, ...windowOf({ ...shape, strides, pads }), ...(asked && auto !== "VALID" ? { output_shape: full.map((f, i) => Math.max(1, f - more[i]!)) } : {}) },
          inputs: { x: filled("f32", [n, groups * ic, ...input], next), w: filled("f32", [groups * ic, oc, ...kernel], next), b: bias ? filled("f32", [groups * oc], next) : undefined },
          constants: ["w", "b"],
        };
      },
      undefined,
      runs,
    );
  }
  property<ConvShape & { zeros: number }>("ConvInteger", { ...convShape(2), zeros: size(3, 0) }, (shape, next) => {
    const { n, ic, oc, extra, kernel, dilations, zeros } = shape;
    const extent = spanOf(kernel, dilations).map((k, i) => k + extra[i]!);
    return {
      op: "ConvInteger",
      attributes: windowOf(shape),
      inputs: {
        x: filled("u8", [n, ic, ...extent], next, 0, 255), w: filled("u8", [oc, ic, ...kernel], next, 0, 255),
        xz: zeros & 1 ? filled("u8", [], next, 0, 255) : undefined, wz: zeros & 2 ? filled("u8", [], next, 0, 255) : undefined,
      },
      constants: ["w", "wz"],
    };
  });
  property<ConvShape & { perChannel: boolean; dtype: DType }>("QLinearConv", { ...convShape(2), perChannel: fc.boolean(), dtype: fc.constantFrom<DType>("u8", "i8") }, (shape, next) => {
    const { n, groups, ic, oc, extra, kernel, dilations, bias, perChannel, dtype } = shape;
    const extent = spanOf(kernel, dilations).map((k, i) => k + extra[i]!);
    // Weights of 7 bits: ONNX Runtime's kernels for processors without VNNI saturate sums of u8 · i8 pairs at 16 bits.
    const [low, high] = dtype === "u8" ? [0, 255] : [-128, 127];
    const channels = perChannel ? [groups * oc] : [];
    return {
      op: "QLinearConv",
      attributes: { group: groups, ...windowOf(shape) },
      inputs: {
        x: filled(dtype, [n, groups * ic, ...extent], next, low, high), xs: filled("f32", [], next, 0.01, 0.1), xz: filled(dtype, [], next, low, high),
        w: filled("i8", [groups * oc, ic, ...kernel], next, -64, 63), ws: filled("f32", channels, next, 0.01, 0.1), wz: tensor("i8", channels, new Array<number>(sizeOf(channels)).fill(0)),
        ys: filled("f32", [], next, 0.5, 2), yz: filled(dtype, [], next, low, high), b: bias ? filled("i32", [groups * oc], next, -500, 500) : undefined,
      },
      constants: ["w", "ws", "wz", "b"],
    };
  }, { steps: 1 });
  test("a symbolic size keeps its arithmetic", () => {
    const { bytes } = modelOf({
      op: "Conv", symbolic: true, attributes: { strides: [2, 2], auto_pad: "SAME_UPPER" }, constants: ["w"],
      inputs: { x: filled("f32", [1, 3, 8, 8], Math.random), w: filled("f32", [4, 3, 3, 3], Math.random) },
    });
    const { shape } = importModel(bytes).outputs[0]!.value;
    for (const height of [1, 2, 7, 8]) expect(shape.map((dim) => evaluate(dim, new Map([["x.0", 5], ["x.2", height], ["x.3", 9]])))).toEqual([5, 4, Math.ceil(height / 2), 5]);
  });
});

interface PoolShape { n: number; c: number; extra: number[]; kernel: number[]; strides: number[]; dilations: number[]; pads: number[]; auto: string; ceil: number; flag: number }
const poolShape = (spatial: number): { [K in keyof PoolShape]: fc.Arbitrary<PoolShape[K]> } => ({
  n: size(2), c: size(2), extra: list(size(5, 0), spatial), kernel: list(size(3), spatial), strides: list(size(3), spatial), dilations: list(size(2), spatial), pads: list(size(2, 0), 2 * spatial),
  auto: fc.constantFrom("NOTSET", "NOTSET", "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"), ceil: size(1, 0), flag: size(1, 0),
});
function pool(op: string, shape: PoolShape, next: () => number, extra: Case["attributes"], dtype: DType = "f32", dilated = true): Omit<Case, "symbolic"> {
  const { n, c, kernel, auto, ceil } = shape;
  // With SAME padding and steps beyond the kernel ONNX Runtime pads by negative amounts, which ONNX does not say.
  const strides = shape.strides.map((stride, i) => (auto.startsWith("SAME") ? Math.min(stride, kernel[i]!) : stride));
  const dilations = dilated && auto === "NOTSET" ? shape.dilations : kernel.map(() => 1);
  // ONNX Runtime wants every padding smaller than the kernel.
  const pads = shape.pads.map((p, i) => Math.min(p, kernel[i % kernel.length]! - 1));
  const extent = spanOf(kernel, dilations).map((k, i) => k + shape.extra[i]!);
  const attributes = { kernel_shape: kernel, strides, ...(auto === "NOTSET" ? { pads, ceil_mode: ceil, ...(dilated ? { dilations } : {}) } : { auto_pad: auto }), ...extra };
  return { op, attributes, inputs: { x: filled(dtype, [n, c, ...extent], next, dtype === "f32" ? -2 : dtype === "u8" ? 0 : -100, dtype === "f32" ? 2 : 100) } };
}

describe("pools", () => {
  for (const spatial of [1, 2, 3]) {
    const runs = { numRuns: Math.ceil(RUNS.numRuns / spatial) };
    property<PoolShape & { dtype: DType }>(`MaxPool ${spatial}D`, { ...poolShape(spatial), dtype: fc.constantFrom<DType>("f32", "f32", "i8", "u8") }, (shape, next) => ({
      ...pool("MaxPool", shape, next, shape.dtype === "f32" ? { storage_order: shape.flag } : {}, shape.dtype),
      // ONNX Runtime has indices for floats only.
      outputs: shape.dtype === "f32" ? ["y", "indices"] : ["y"],
    }), undefined, runs);
    property<PoolShape>(`AveragePool ${spatial}D`, poolShape(spatial), (shape, next) => ({ ...pool("AveragePool", shape, next, { count_include_pad: shape.flag }), opset: 19 }), undefined, runs);
    property<PoolShape>(`LpPool ${spatial}D`, poolShape(spatial), (shape, next) => ({ ...pool("LpPool", shape, next, { p: shape.flag + 1 }), opset: 18 }), undefined, runs);
  }
  property<{ shape: number[]; op: string }>("GlobalMaxPool, GlobalAveragePool and GlobalLpPool", { shape: shapeOf(5, 4, 3), op: fc.constantFrom("GlobalMaxPool", "GlobalAveragePool", "GlobalLpPool") }, ({ shape, op }, next) => ({
    op, inputs: { x: filled("f32", shape, next) },
  }));
  test("MaxUnpool puts back what MaxPool took", () => {
    const x = filled("f32", [2, 3, 6, 8], generator(7), 0.1, 1);
    const pooled = runInterpreted(modelOf({ op: "MaxPool", attributes: { kernel_shape: [2, 2], strides: [2, 2] }, inputs: { x }, outputs: ["y", "indices"] }).bytes, { x });
    const back = { op: "MaxUnpool", attributes: { kernel_shape: [2, 2], strides: [2, 2] }, inputs: { x: pooled.y!, i: pooled.indices! } };
    return agrees(back);
  });
});

describe("reductions", () => {
  const ops = ["Sum", "Prod", "Max", "Min", "Mean", "SumSquare", "L1", "L2", "LogSum", "LogSumExp"];
  for (const op of ops) {
    property<{ shape: number[]; axes: number[] | undefined; keep: number; noop: number; opset: number; dtype: DType }>(
      `Reduce${op}`,
      { shape: shapeOf(4, 4, 1), axes: fc.option(fc.array(size(3, -4), { maxLength: 3 }), { nil: undefined }), keep: size(1, 0), noop: size(1, 0), opset: fc.constantFrom(11, 13, 18, 20), dtype: fc.constantFrom<DType>("f32", "i32") },
      ({ shape, axes, keep, noop, opset, dtype }, next) => {
        const inRange = axes && [...new Set(axes.map((axis) => (((axis % shape.length) + shape.length) % shape.length)))].map((axis, i) => (i % 2 ? axis - shape.length : axis));
        const asInput = opset >= (op === "Sum" ? 13 : 18);
        const integers = dtype === "i32" && !/^Log|^L2|^Mean/.test(op);
        const x = integers ? filled("i32", shape, next, -5, 5) : filled("f32", shape, next, op === "LogSum" ? 0.5 : -2, 2);
        return {
          op: `Reduce${op}`,
          opset,
          // An empty attribute list is not one that exporters write.
          attributes: { keepdims: keep, ...(asInput ? { noop_with_empty_axes: noop } : inRange && inRange.length > 0 ? { axes: inRange } : {}) },
          inputs: { x, ...(asInput ? { axes: inRange && ints(inRange) } : {}) },
          constants: ["axes"],
        };
      },
    );
  }
});

test("reductions of a shape keep its symbols", () => {
  const bytes = model({
    opset: 17, inputs: { x: { dtype: "f32", shape: ["N", 3, "H", "W"] } }, outputs: ["y"], initializers: { first: ints([-1]) },
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
  property<{ shape: number[]; axis: number; opset: number; op: string }>("Softmax and LogSoftmax", { shape: shapeOf(4, 5, 1), axis: size(3, -4), opset: fc.constantFrom(9, 11, 13), op: fc.constantFrom("Softmax", "LogSoftmax") }, ({ shape, axis, opset, op }, next) => {
    const inRange = ((axis % shape.length) + shape.length) % shape.length;
    return { op, opset, attributes: { axis: axis < 0 && opset > 9 ? inRange - shape.length : inRange }, inputs: { x: filled("f32", shape, next, -30, 30) } };
  });
});

describe("normalizations", () => {
  property<{ shape: number[]; axis: number; bias: boolean; outputs: string[] }>(
    "LayerNormalization",
    { shape: shapeOf(4, 5, 1), axis: size(3, -4), bias: fc.boolean(), outputs: fc.constantFrom(["y"], ["y", "mean", "inverse"], ["y", "", "inverse"]) },
    ({ shape, axis, bias, outputs }, next) => {
      const inRange = ((axis % shape.length) + shape.length) % shape.length;
      const inner = shape.slice(inRange);
      return {
        op: "LayerNormalization", outputs, attributes: { axis: axis < 0 ? inRange - shape.length : inRange, epsilon: 0.001 },
        inputs: { x: filled("f32", shape, next, 5, 9), scale: filled("f32", inner, next), bias: bias ? filled("f32", inner, next) : undefined },
      };
    },
    { rtol: 1e-3, atol: 1e-4 },
  );
  property<{ shape: number[]; epsilon: number }>("BatchNormalization", { shape: shapeOf(5, 4, 2), epsilon: fc.constantFrom(1e-5, 0.01) }, ({ shape, epsilon }, next) => {
    const vector = [shape[1]!];
    return {
      op: "BatchNormalization", opset: 15, attributes: { epsilon },
      inputs: { x: filled("f32", shape, next), scale: filled("f32", vector, next), bias: filled("f32", vector, next), mean: filled("f32", vector, next), variance: filled("f32", vector, next, 0.5, 2) },
    };
  });
  property<{ shape: number[] }>("InstanceNormalization", { shape: shapeOf(5, 4, 3) }, ({ shape }, next) => ({
    op: "InstanceNormalization", inputs: { x: filled("f32", shape, next), scale: filled("f32", [shape[1]!], next), bias: filled("f32", [shape[1]!], next) },
  }), { rtol: 1e-3, atol: 1e-3 });
  property<{ n: number; groups: number; width: number; spatial: number[]; opset: number }>("GroupNormalization", { n: size(2), groups: size(3), width: size(3), spatial: shapeOf(3, 4, 1), opset: fc.constantFrom(18, 21) }, ({ n, groups, width, spatial, opset }, next) => {
    const vector = [opset === 18 ? groups : groups * width];
    return { op: "GroupNormalization", opset, attributes: { num_groups: groups }, inputs: { x: filled("f32", [n, groups * width, ...spatial], next), scale: filled("f32", vector, next), bias: filled("f32", vector, next) } };
  }, { rtol: 1e-3, atol: 1e-3 });
  property<{ shape: number[]; axis: number; p: number }>("LpNormalization", { shape: shapeOf(4, 4, 1), axis: size(3, 0), p: size(2) }, ({ shape, axis, p }, next) => ({
    op: "LpNormalization", attributes: { axis: axis % shape.length, p }, inputs: { x: filled("f32", shape, next) },
  }));
  property<{ shape: number[]; half: number }>("LRN", { shape: list(size(5), 4), half: size(2, 0) }, ({ shape, half }, next) => ({
    op: "LRN", attributes: { size: 2 * half + 1, alpha: 0.01, beta: 0.6, bias: { float: 2 } }, inputs: { x: filled("f32", shape, next) },
  }));
  property<{ shape: number[]; axes: number[] }>("MeanVarianceNormalization", { shape: list(size(4, 2), 4), axes: fc.subarray([0, 1, 2, 3], { minLength: 1 }) }, ({ shape, axes }, next) => ({
    op: "MeanVarianceNormalization", attributes: { axes }, inputs: { x: filled("f32", shape, next) },
  }), { rtol: 1e-3, atol: 1e-3 });
});

describe("quantization", () => {
  const types = fc.constantFrom<DType>("u8", "i8", "u16", "i16");
  const range = (dtype: DType): readonly [number, number] => (dtype === "u8" ? [0, 255] : dtype === "i8" ? [-128, 127] : dtype === "u16" ? [0, 65535] : [-32768, 32767]);
  interface Quantized { shape: number[]; axis: number; kind: "one" | "axis" | "block"; block: number; dtype: DType; zero: boolean }
  const quantized = { shape: shapeOf(4, 5, 1), axis: size(3, 0), kind: fc.constantFrom<Quantized["kind"]>("one", "axis", "block"), block: size(3), dtype: types, zero: fc.boolean() };
  const factors = ({ shape, axis, kind, block }: Quantized): { along: number; scales: number[]; attributes: Record<string, number> } => {
    const along = axis % shape.length;
    if (kind === "one") return { along, scales: [], attributes: {} };
    if (kind === "axis") return { along, scales: [shape[along]!], attributes: { axis: along } };
    const scales = shape.map((dim, i) => (i === along ? Math.ceil(dim / block) : dim));
    // ONNX Runtime wants no block_size where one scale serves all.
    return sizeOf(scales) === 1 ? { along, scales: [], attributes: {} } : { along, scales, attributes: { axis: along, block_size: block } };
  };
  property<Quantized>("QuantizeLinear", quantized, (drawn, next) => {
    const { scales, attributes } = factors(drawn);
    const dtype = drawn.zero ? drawn.dtype : "u8";
    const [low, high] = range(dtype);
    return {
      op: "QuantizeLinear", opset: 21, attributes,
      inputs: { x: filled("f32", drawn.shape, next, -20, 20), scale: filled("f32", scales, next, 0.05, 0.3), zero: drawn.zero ? filled(dtype, scales, next, low / 4, high / 4) : undefined },
    };
  }, { steps: 1 });
  property<Quantized>("DequantizeLinear", quantized, (drawn, next) => {
    const { scales, attributes } = factors(drawn);
    const [low, high] = range(drawn.dtype);
    return {
      op: "DequantizeLinear", opset: 21, attributes,
      inputs: { x: filled(drawn.dtype, drawn.shape, next, low, high), scale: filled("f32", scales, next, 0.05, 0.3), zero: drawn.zero ? filled(drawn.dtype, scales, next, low, high) : undefined },
    };
  });
  property<{ shape: number[]; low: number; high: number }>("DynamicQuantizeLinear", { shape: shapeOf(3, 6, 1), low: size(3, -3), high: size(5, 1) }, ({ shape, low, high }, next) => ({
    op: "DynamicQuantizeLinear", inputs: { x: filled("f32", shape, next, low, low + high) }, outputs: ["y", "scale", "zero"],
  }), { steps: 1 });
  property<{ batch: number[]; m: number; k: number; n: number; zeros: number; dtype: DType }>(
    "MatMulInteger",
    { batch: shapeOf(2, 3), m: size(4), k: size(6), n: size(4), zeros: size(7, 0), dtype: fc.constantFrom<DType>("u8", "i8") },
    ({ batch, m, k, n, zeros, dtype }, next) => ({
      op: "MatMulInteger",
      inputs: {
        a: filled("u8", [...batch, m, k], next, 0, 255), b: filled(dtype, [k, n], next, dtype === "u8" ? 0 : -64, 63),
        az: zeros & 1 ? filled("u8", [], next, 0, 255) : undefined, bz: zeros & 2 ? filled(dtype, zeros & 4 ? [n] : [], next, 0, 100) : undefined,
      },
    }),
  );
  property<{ batch: number[]; m: number; k: number; n: number; columns: boolean; dtype: DType }>(
    "QLinearMatMul",
    { batch: shapeOf(2, 3), m: size(4), k: size(6), n: size(4), columns: fc.boolean(), dtype: fc.constantFrom<DType>("u8", "i8") },
    ({ batch, m, k, n, columns, dtype }, next) => {
      const [low, high] = range(dtype);
      const vector = columns ? [n] : [];
      return {
        op: "QLinearMatMul",
        inputs: {
          a: filled(dtype, [...batch, m, k], next, low, high), as: filled("f32", [], next, 0.01, 0.1), az: filled(dtype, [], next, low / 2, high / 2),
          b: filled(dtype, [k, n], next, low, high), bs: filled("f32", vector, next, 0.01, 0.1), bz: filled(dtype, vector, next, low / 2, high / 2),
          ys: filled("f32", [], next, 0.5, 2), yz: filled(dtype, [], next, low / 2, high / 2),
        },
        constants: ["b", "bs", "bz"],
      };
    },
    { steps: 1 },
  );
});

describe("attention", () => {
  property<{ b: number; s: number; l: number; kv: number; groups: number; d: number; dv: number; past: number; mask: number; causal: number; softcap: boolean; rank: number; mode: number }>(
    "Attention",
    {
      b: size(2), s: size(4), l: size(4), kv: size(2), groups: size(2), d: size(3), dv: size(3), past: size(2, 0), mask: size(4, 0), causal: size(1, 0), softcap: fc.boolean(), rank: size(4, 3), mode: size(4, -1),
    },
    ({ b, s, l, kv, groups, d, dv, past, mask, causal, softcap, rank, mode }, next) => {
      const heads = kv * groups;
      // ONNX's causal mask starts after the past; ONNX Runtime's counts from the last key, which is the same for as many keys as queries.
      const fresh = causal ? s : l;
      const keys = past + fresh;
      const laid = (count: number, length: number, width: number): number[] => (rank === 4 ? [b, count, length, width] : [b, length, count * width]);
      const masks = [undefined, () => filled("f32", [s, keys], next), () => filled("f32", [b, 1, s, keys], next), () => filled("bool", [s, keys], next, 0, 1), () => filled("f32", [heads, s, keys], next)];
      // Where ONNX has -Infinity for a masked score ONNX Runtime has the lowest float.
      const stage = mode >= 0 && mode < 4 && !(mode === 2 && (causal || mask === 3));
      return {
        op: "Attention",
        opset: 23,
        attributes: { is_causal: causal, ...(rank === 3 ? { q_num_heads: heads, kv_num_heads: kv } : {}), ...(softcap ? { softcap: { float: 2 } } : {}), ...(stage ? { qk_matmul_output_mode: mode } : {}) },
        inputs: {
          q: filled("f32", laid(heads, s, d), next), k: filled("f32", laid(kv, fresh, d), next), v: filled("f32", laid(kv, fresh, dv), next), mask: masks[mask]?.(),
          pastKey: past > 0 ? filled("f32", [b, kv, past, d], next) : undefined, pastValue: past > 0 ? filled("f32", [b, kv, past, dv], next) : undefined,
        },
        outputs: ["y", ...(past > 0 ? ["present_key", "present_value"] : stage ? ["", ""] : []), ...(stage ? ["scores"] : [])],
      };
    },
  );
  property<{ b: number; s: number; heads: number; interleaved: number; rank: number; width: number; positions: boolean }>(
    "RotaryEmbedding",
    { b: size(2), s: size(3), heads: size(2), interleaved: size(1, 0), rank: size(4, 3), width: fc.constantFrom(0, 4), positions: fc.boolean() },
    ({ b, s, heads, interleaved, rank, width, positions }, next) => {
      const half = (width || 8) / 2;
      const cache = positions ? [10, half] : [b, s, half];
      return {
        op: "RotaryEmbedding", opset: 23, attributes: { interleaved, rotary_embedding_dim: width, ...(rank === 3 ? { num_heads: heads } : {}) },
        inputs: { x: filled("f32", rank === 4 ? [b, heads, s, 8] : [b, s, heads * 8], next), cos: filled("f32", cache, next), sin: filled("f32", cache, next), positions: positions ? filled("i64", [b, s], next, 0, 9) : undefined },
      };
    },
  );
  property<{ shape: number[]; axis: number }>("RMSNormalization", { shape: shapeOf(4, 5, 1), axis: size(3, 0) }, ({ shape, axis }, next) => ({
    op: "RMSNormalization", opset: 23, attributes: { axis: axis % shape.length, epsilon: 0.001 }, inputs: { x: filled("f32", shape, next), scale: filled("f32", shape.slice(axis % shape.length), next) },
  }));
});

describe("losses", () => {
  property<{ n: number; classes: number; spatial: number[]; weight: boolean; ignore: boolean; reduction: string; op: string }>(
    "NegativeLogLikelihoodLoss and SoftmaxCrossEntropyLoss",
    { n: size(3), classes: size(4, 2), spatial: shapeOf(2, 3), weight: fc.boolean(), ignore: fc.boolean(), reduction: fc.constantFrom("mean", "sum", "none"), op: fc.constantFrom("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss") },
    ({ n, classes, spatial, weight, ignore, reduction, op }, next) => ({
      op, opset: 13, attributes: { reduction, ...(ignore ? { ignore_index: 0 } : {}) },
      inputs: { x: filled("f32", [n, classes, ...spatial], next), target: filled("i64", [n, ...spatial], next, ignore ? 0 : 1, classes - 1), weight: weight ? filled("f32", [classes], next, 0.1, 1) : undefined },
      constants: ["weight"],
    }),
  );
});
