// com.microsoft operators: properties against ONNX Runtime, whose operators they are.

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { difference } from "../../src/cli/cases.ts";
import { type Tensor, numbersOf, tensor } from "../../src/ir/tensor.ts";
import type { DType } from "../../src/ir/types.ts";
import { type Case, type Slack, agrees, filled, generator, modelOf } from "../support/agreement.ts";
import { runInterpreted } from "../support/interpret-model.ts";
import type { AttributeSpec } from "../support/onnx-model.ts";

const RUNS = { numRuns: Number(process.env.RUNS ?? 60) };
const domain = "com.microsoft";

function property<T extends object>(name: string, shapes: { [K in keyof T]: fc.Arbitrary<T[K]> }, build: (drawn: T, next: () => number) => Omit<Case, "symbolic">, slack: Slack = { rtol: 1e-3, atol: 1e-4 }): void {
  test(name, async () => {
    const drawn = fc.record({ drawn: fc.record(shapes), seed: fc.nat(), symbolic: fc.boolean() });
    await fc.assert(fc.asyncProperty(drawn, ({ drawn: values, seed, symbolic }) => agrees({ domain, ...build(values as T, generator(seed)), symbolic }, slack)), RUNS);
  });
}

const size = (max: number, min = 1): fc.Arbitrary<number> => fc.integer({ min, max });
const shapeOf = (maxRank: number, max = 4, minRank = 1): fc.Arbitrary<number[]> => fc.array(size(max), { minLength: minRank, maxLength: maxRank });
const i32 = (shape: readonly number[], values: readonly number[]): Tensor => tensor("i32", shape, values);
const f32 = (shape: readonly number[], next: () => number, low?: number, high?: number): Tensor => filled("f32", shape, next, low, high);

describe("activations and products", () => {
  property<{ shape: number[]; op: string; bias: boolean }>("Gelu, FastGelu, BiasGelu and QuickGelu", { shape: shapeOf(3, 6), op: fc.constantFrom("Gelu", "FastGelu", "BiasGelu", "QuickGelu"), bias: fc.boolean() }, ({ shape, op, bias }, next) => ({
    op, inputs: { x: f32(shape, next, -4, 4), bias: op === "BiasGelu" || (op === "FastGelu" && bias) ? f32([shape.at(-1)!], next) : undefined },
  }));
  property<{ activation: number; groups: number; residual: boolean }>("FusedConv", { activation: size(5, 0), groups: size(2), residual: fc.boolean() }, ({ activation, groups, residual }, next) => {
    const [name, params] = ([["Relu"], ["Tanh"], ["Sigmoid"], ["LeakyRelu", [0.1]], ["Clip", [-0.5, 1.5]], ["HardSigmoid", [0.25, 0.5]]] as const)[activation]!;
    const attributes: Record<string, AttributeSpec> = { activation: name, group: groups, pads: [1, 1, 1, 1], ...(params ? { activation_params: { floats: params } } : {}) };
    return { op: "FusedConv", attributes, inputs: { x: f32([1, 4, 5, 5], next), w: f32([4, 4 / groups, 3, 3], next), b: f32([4], next), z: residual ? f32([1, 4, 5, 5], next) : undefined }, constants: ["w", "b"] };
  });
  property<{ batch: number[]; m: number; k: number; n: number; flips: number }>("FusedMatMul", { batch: shapeOf(2, 3), m: size(4), k: size(4), n: size(4), flips: size(15, 0) }, ({ batch, m, k, n, flips }, next) => {
    const laid = (rows: number, columns: number, transpose: boolean, transposeBatch: boolean): number[] => {
      const [r, c] = transpose ? [columns, rows] : [rows, columns];
      return transposeBatch ? [r, ...batch, c] : [...batch, r, c];
    };
    return {
      op: "FusedMatMul",
      attributes: { alpha: 0.5, transA: flips & 1, transB: (flips >> 1) & 1, transBatchA: (flips >> 2) & 1, transBatchB: flips >> 3 },
      inputs: { a: f32(laid(m, k, (flips & 1) > 0, (flips & 4) > 0), next), b: f32(laid(k, n, (flips & 2) > 0, (flips & 8) > 0), next) },
    };
  });
  property<{ rows: number; k: number; n: number; block: number; bits: number; zero: string; bias: boolean }>(
    "MatMulNBits",
    { rows: size(3), k: size(70, 3), n: size(5), block: fc.constantFrom(16, 32), bits: fc.constantFrom(4, 8), zero: fc.constantFrom("none", "packed", "float"), bias: fc.boolean() },
    ({ rows, k, n, block, bits, zero, bias }, next) => {
      const blocks = Math.ceil(k / block);
      const zeros = zero === "none" || (zero === "float" && bits === 8) ? undefined : zero === "float" ? f32([n * blocks], next, 0, 15) : filled("u8", [n * Math.ceil((blocks * bits) / 8)], next, 0, 255);
      return {
        op: "MatMulNBits",
        attributes: { K: k, N: n, bits, block_size: block },
        inputs: {
          a: f32([2, rows, k], next), b: filled("u8", [n, blocks, (block * bits) / 8], next, 0, 255), scales: f32([n * blocks], next, 0.01, 0.1), zeros,
          groups: undefined, bias: bias ? f32([n], next) : undefined,
        },
        constants: ["b", "scales", "zeros", "bias"],
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
      op: "SkipLayerNormalization", outputs, attributes: { epsilon: 0.001 },
      inputs: { x: f32([b, s, h], next), skip: f32(optional & 4 ? [1, s, h] : [b, s, h], next), gamma: f32([h], next), beta: optional & 1 ? f32([h], next) : undefined, bias: optional & 2 ? f32([h], next) : undefined },
    }),
  );
  property<{ b: number; s: number; h: number; bias: boolean; outputs: string[] }>(
    "SkipSimplifiedLayerNormalization",
    { b: size(2), s: size(4), h: size(9, 2), bias: fc.boolean(), outputs: fc.constantFrom(["y"], ["y", "", "", "sum"]) },
    ({ b, s, h, bias, outputs }, next) => ({
      op: "SkipSimplifiedLayerNormalization", outputs, attributes: { epsilon: 0.001 },
      inputs: { x: f32([b, s, h], next), skip: f32([b, s, h], next), gamma: f32([h], next), bias: bias ? f32([h], next) : undefined },
    }),
  );
  property<{ shape: number[]; axis: number }>("SimplifiedLayerNormalization", { shape: shapeOf(4, 5), axis: size(3, 0) }, ({ shape, axis }, next) => ({
    op: "SimplifiedLayerNormalization", domain: "", attributes: { axis: axis % shape.length, epsilon: 0.001 }, inputs: { x: f32(shape, next), scale: f32(shape.slice(axis % shape.length), next) }, outputs: ["y", "inverse"],
  }));
  property<{ b: number; s: number; segment: boolean; mask: boolean }>("EmbedLayerNormalization", { b: size(2), s: size(4), segment: fc.boolean(), mask: fc.boolean() }, ({ b, s, segment, mask }, next) => ({
    op: "EmbedLayerNormalization",
    attributes: { epsilon: 0.001 },
    inputs: {
      ids: filled("i32", [b, s], next, 0, 6), segments: segment ? filled("i32", [b, s], next, 0, 1) : undefined, words: f32([7, 6], next), places: f32([5, 6], next),
      segmentTable: segment ? f32([2, 6], next) : undefined, gamma: f32([6], next), beta: f32([6], next), mask: mask ? filled("i32", [b, s], next, 0, 1) : undefined,
    },
    constants: ["words", "places", "segmentTable", "gamma", "beta"],
    outputs: ["y", "mask_index"],
  }));
});

describe("attentions", () => {
  interface Packed { b: number; s: number; heads: number; d: number; past: number; mask: number; causal: number; extra: boolean }
  property<Packed>(
    "Attention",
    { b: size(2), s: size(4), heads: size(2), d: size(3), past: size(3, 0), mask: size(3, 0), causal: size(1, 0), extra: fc.boolean() },
    ({ b, s, heads, d, past, mask, causal, extra }, next) => {
      const hidden = heads * d;
      const keys = past + s;
      const masks = [undefined, () => filled("i32", [b], next, past + 1, keys), () => filled("i32", [b, keys], next, 0, 1), () => filled("i32", [b, s, keys], next, 0, 1)];
      return {
        op: "Attention",
        attributes: { num_heads: heads, unidirectional: causal },
        inputs: {
          // ONNX Runtime's CPU kernel falls over without a bias and refuses a past beside an attention bias.
          x: f32([b, s, 5], next), w: f32([5, 3 * hidden], next), bias: f32([3 * hidden], next), mask: masks[mask]?.(),
          past: past > 0 ? f32([2, b, heads, past, d], next) : undefined, extra: extra && past === 0 ? f32([b, heads, s, keys], next) : undefined,
        },
        constants: ["w", "bias"],
        outputs: past > 0 ? ["y", "present"] : ["y"],
      };
    },
  );
  property<Packed & { l: number; dv: number; bias: boolean; cached: boolean }>(
    "MultiHeadAttention",
    { b: size(2), s: size(4), l: size(4), heads: size(2), d: size(3), dv: size(3), past: size(3, 0), mask: size(1, 0), causal: size(1, 0), bias: fc.boolean(), extra: fc.boolean(), cached: fc.boolean() },
    ({ b, s, l, heads, d, dv, past, mask, causal, bias, extra, cached }, next) => {
      const before = cached ? 0 : past;
      // A cache lies beside as many new keys as queries, of the queries' own size.
      const length = before > 0 || causal ? s : l;
      const width = before > 0 || cached ? d : dv;
      const keys = before + length;
      return {
        op: "MultiHeadAttention",
        attributes: { num_heads: heads, unidirectional: causal },
        inputs: {
          q: f32([b, s, heads * d], next), k: f32(cached ? [b, heads, length, d] : [b, length, heads * d], next), v: f32(cached ? [b, heads, length, width] : [b, length, heads * width], next),
          bias: bias && !cached ? f32([heads * (2 * d + width)], next) : undefined, mask: mask === 1 ? filled("i32", [b, keys], next, 0, 1) : undefined,
          extra: extra ? f32([b, heads, s, keys], next) : undefined, pastKey: before > 0 ? f32([b, heads, before, d], next) : undefined, pastValue: before > 0 ? f32([b, heads, before, width], next) : undefined,
        },
        outputs: before > 0 ? ["y", "present_key", "present_value"] : ["y"],
      };
    },
  );
  test("MultiHeadAttention reads packed layouts as it does the parts", () => {
    const [b, s, heads, d] = [2, 3, 2, 4];
    const qkv = f32([b, s, heads, 3, d], generator(5));
    const picked = (which: readonly number[], shape: readonly number[]): Tensor => {
      const values = numbersOf(qkv);
      return tensor("f32", shape, Array.from({ length: b * s * heads * which.length * d }, (_, i) => values[(Math.floor(i / d / which.length) * 3 + which[Math.floor(i / d) % which.length]!) * d + (i % d)]!));
    };
    const run = (inputs: Case["inputs"]): Tensor => {
      const { bytes, fed } = modelOf({ op: "MultiHeadAttention", domain, attributes: { num_heads: heads }, inputs });
      return runInterpreted(bytes, fed).y!;
    };
    const [q, k, v] = [0, 1, 2].map((which) => picked([which], [b, s, heads * d])) as [Tensor, Tensor, Tensor];
    const apart = run({ q, k, v });
    expect(difference(run({ qkv }), apart)).toBeUndefined();
    expect(difference(run({ q, kv: picked([1, 2], [b, s, heads, 2, d]) }), apart)).toBeUndefined();
  });
  interface Grouped { b: number; s: number; kv: number; groups: number; past: number; packed: boolean; rotary: number; window: number; softcap: boolean; prompt: boolean; extra: boolean; sink: number }
  property<Grouped>(
    "GroupQueryAttention",
    { b: size(2), s: size(4), kv: size(2), groups: size(2), past: size(4), packed: fc.boolean(), rotary: size(2, 0), window: fc.constantFrom(-1, 1, 2, 3), softcap: fc.boolean(), prompt: fc.boolean(), extra: fc.boolean(), sink: size(2, 0) },
    ({ b, s, kv, groups, past, packed, rotary, window, softcap, prompt, extra, sink }, next) => {
      const heads = kv * groups;
      const d = 16;
      const queries = prompt ? s : 1;
      const before = prompt ? 0 : past;
      const total = before + queries;
      // Sequences of a prompt may be shorter than it; later ones have their past in front of the cache.
      const lengths = i32([b], Array.from({ length: b }, () => total - 1));
      const attributes: Record<string, AttributeSpec> = {
        num_heads: heads, kv_num_heads: kv, local_window_size: window, do_rotary: rotary > 0 ? 1 : 0, rotary_interleaved: rotary === 2 ? 1 : 0,
        ...(softcap ? { softcap: { float: 5 } } : {}), ...(sink === 1 ? { smooth_softmax: 1 } : {}),
      };
      const cache = (): Tensor => f32([b, kv, before, d], next);
      return {
        op: "GroupQueryAttention",
        attributes,
        inputs: {
          q: f32([b, queries, packed ? (heads + 2 * kv) * d : heads * d], next), k: packed ? undefined : f32([b, queries, kv * d], next), v: packed ? undefined : f32([b, queries, kv * d], next),
          pastKey: before > 0 ? cache() : undefined, pastValue: before > 0 ? cache() : undefined, lengths, total: i32([1], [total]),
          cos: rotary > 0 ? f32([16, d / 2], next, -1, 1) : undefined, sin: rotary > 0 ? f32([16, d / 2], next, -1, 1) : undefined, positions: undefined,
          extra: extra ? f32([1, heads, queries, total], next) : undefined, sinks: sink === 2 ? f32([heads], next) : undefined,
        },
        constants: ["total", "cos", "sin"],
        outputs: ["y", "present_key", "present_value"],
      };
    },
  );
  property<{ b: number; s: number; heads: number; interleaved: number; rank: number; start: boolean; partial: boolean }>(
    "RotaryEmbedding",
    { b: size(2), s: size(3), heads: size(2), interleaved: size(1, 0), rank: size(4, 3), start: fc.boolean(), partial: fc.boolean() },
    ({ b, s, heads, interleaved, rank, start, partial }, next) => {
      const d = 8;
      const width = partial ? 4 : d;
      return {
        op: "RotaryEmbedding",
        attributes: { interleaved, ...(partial ? { num_heads: heads, rotary_embedding_dim: width } : {}) },
        inputs: {
          x: f32(rank === 4 ? [b, heads, s, d] : [b, s, heads * d], next), positions: start ? filled("i64", [1], next, 0, 5) : filled("i64", [b, s], next, 0, 9),
          cos: f32([10, width / 2], next, -1, 1), sin: f32([10, width / 2], next, -1, 1),
        },
        constants: ["cos", "sin"],
      };
    },
  );
});

describe("quantized", () => {
  const types = fc.constantFrom<DType>("u8", "i8");
  const range = (dtype: DType): readonly [number, number] => (dtype === "u8" ? [0, 255] : [-128, 127]);
  const bytes = (dtype: DType, shape: readonly number[], next: () => number): Tensor => filled(dtype, shape, next, ...range(dtype));
  const off: Slack = { steps: 1 };
  property<{ shape: number[]; ones: boolean[]; op: string; dtype: DType }>(
    "QLinearAdd and QLinearMul",
    { shape: shapeOf(3, 5), ones: fc.array(fc.boolean(), { minLength: 3, maxLength: 3 }), op: fc.constantFrom("QLinearAdd", "QLinearMul"), dtype: types },
    ({ shape, ones, op, dtype }, next) => ({
      op,
      inputs: {
        a: bytes(dtype, shape, next), as: f32([], next, 0.01, 0.1), az: bytes(dtype, [], next), b: bytes(dtype, shape.map((dim, i) => (ones[i] ? 1 : dim)), next), bs: f32([], next, 0.01, 0.1), bz: bytes(dtype, [], next),
        ys: f32([], next, 0.05, 0.3), yz: bytes(dtype, [], next),
      },
    }),
    off,
  );
  property<{ shape: number[]; op: string; dtype: DType }>("QLinearSigmoid and QLinearLeakyRelu", { shape: shapeOf(3, 5), op: fc.constantFrom("QLinearSigmoid", "QLinearLeakyRelu"), dtype: types }, ({ shape, op, dtype }, next) => ({
    op, attributes: op === "QLinearLeakyRelu" ? { alpha: 0.1 } : {},
    inputs: { x: bytes(dtype, shape, next), xs: f32([], next, 0.01, 0.05), xz: bytes(dtype, [], next), ys: f32([], next, 0.005, 0.05), yz: bytes(dtype, [], next) }, constants: ["xs", "xz", "ys", "yz"],
  }), off);
  property<{ shape: number[]; axis: number; parts: number[]; dtype: DType }>("QLinearConcat", { shape: shapeOf(3, 3), axis: size(2, 0), parts: shapeOf(3, 3), dtype: types }, ({ shape, axis, parts, dtype }, next) => {
    const along = axis % shape.length;
    const part = (count: number, i: number): Record<string, Tensor> => ({ [`x${i}`]: bytes(dtype, shape.map((dim, j) => (j === along ? count : dim)), next), [`s${i}`]: f32([], next, 0.01, 0.1), [`z${i}`]: bytes(dtype, [], next) });
    return { op: "QLinearConcat", attributes: { axis: along }, inputs: { ys: f32([], next, 0.05, 0.1), yz: bytes(dtype, [], next), ...Object.assign({}, ...parts.map(part)) as Record<string, Tensor> } };
  }, off);
  property<{ last: number; c: number; dtype: DType; pad: number }>("QLinearGlobalAveragePool and QLinearAveragePool", { last: size(1, 0), c: size(3), dtype: types, pad: size(2, 0) }, ({ last, c, dtype, pad }, next) => ({
    op: pad === 0 ? "QLinearGlobalAveragePool" : "QLinearAveragePool",
    attributes: { channels_last: last, ...(pad === 0 ? {} : { kernel_shape: [3, 2], strides: [2, 1], pads: [1, 0, 1, 1], count_include_pad: pad - 1 }) },
    inputs: { x: bytes(dtype, last ? [2, 5, 4, c] : [2, c, 5, 4], next), xs: f32([], next, 0.01, 0.1), xz: bytes(dtype, [], next), ys: f32([], next, 0.01, 0.1), yz: bytes(dtype, [], next) },
    constants: ["xs", "xz", "ys", "yz"],
  }), off);
  property<{ m: number; k: number; n: number; columns: boolean; zero: boolean; bias: boolean; dynamic: boolean }>(
    "DynamicQuantizeMatMul and MatMulIntegerToFloat",
    { m: size(4), k: size(6), n: size(4), columns: fc.boolean(), zero: fc.boolean(), bias: fc.boolean(), dynamic: fc.boolean() },
    ({ m, k, n, columns, zero, bias, dynamic }, next) => {
      const vector = columns ? [n] : [1];
      const right = { b: filled("u8", [k, n], next, 0, 255) };
      const [scale, zeros] = [f32(vector, next, 0.01, 0.1), zero ? filled("u8", vector, next, 0, 255) : undefined];
      const extra = bias ? f32([n], next) : undefined;
      return dynamic
        ? { op: "DynamicQuantizeMatMul", inputs: { a: f32([2, m, k], next), ...right, bs: scale, bz: zeros, bias: extra }, constants: ["b", "bs", "bz", "bias"] }
        : { op: "MatMulIntegerToFloat", inputs: { a: filled("u8", [2, m, k], next, 0, 255), ...right, as: f32([1], next, 0.01, 0.1), bs: scale, az: zero ? filled("u8", [1], next, 0, 255) : undefined, bz: zeros, bias: extra }, constants: ["b", "bs", "bz", "bias"] };
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
        a: bytes("u8", flips & 1 ? [k, m] : [m, k], next), as: f32([], next, 0.01, 0.1), az: bytes("u8", [], next),
        b: bytes("u8", flips & 2 ? [n, k] : [k, n], next), bs: f32(columns ? [n] : [], next, 0.01, 0.1), bz: bytes("u8", columns ? [n] : [], next),
        c: bias ? filled("i32", [n], next, -500, 500) : undefined, ys: real ? undefined : f32([], next, 0.5, 2), yz: real ? undefined : bytes("u8", [], next),
      },
      constants: ["b", "bs", "bz", "c"],
    }),
    { steps: 1, rtol: 1e-4, atol: 1e-3 },
  );
});
