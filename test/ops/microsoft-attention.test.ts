// com.microsoft attentions: properties against ONNX Runtime, whose operators they are.

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { difference } from "../../src/cli/cases.ts";
import { numbersOf, type Tensor, tensor } from "../../src/ir/tensor.ts";
import { type Case, modelOf, microsoftProperty as property, size } from "../support/agreement.ts";
import { runInterpreted } from "../support/interpret-model.ts";
import type { AttributeSpec } from "../support/onnx-model.ts";
import { filled, generator } from "../support/random.ts";

const i32 = (shape: readonly number[], values: readonly number[]): Tensor => tensor("i32", shape, values);
const f32 = (shape: readonly number[], next: () => number, low?: number, high?: number): Tensor =>
  filled("f32", shape, next, low, high);

describe("attentions", () => {
  interface Packed {
    b: number;
    s: number;
    heads: number;
    d: number;
    past: number;
    mask: number;
    causal: number;
    extra: boolean;
  }
  property<Packed>(
    "Attention",
    {
      b: size(2),
      s: size(4),
      heads: size(2),
      d: size(3),
      past: size(3, 0),
      mask: size(3, 0),
      causal: size(1, 0),
      extra: fc.boolean(),
    },
    ({ b, s, heads, d, past, mask, causal, extra }, next) => {
      const hidden = heads * d;
      const keys = past + s;
      const masks = [
        undefined,
        () => filled("i32", [b], next, past + 1, keys),
        () => filled("i32", [b, keys], next, 0, 1),
        () => filled("i32", [b, s, keys], next, 0, 1),
      ];
      return {
        op: "Attention",
        attributes: { num_heads: heads, unidirectional: causal },
        inputs: {
          // ONNX Runtime's CPU kernel falls over without a bias and refuses a past beside an attention bias.
          x: f32([b, s, 5], next),
          w: f32([5, 3 * hidden], next),
          bias: f32([3 * hidden], next),
          mask: masks[mask]?.(),
          past: past > 0 ? f32([2, b, heads, past, d], next) : undefined,
          extra: extra && past === 0 ? f32([b, heads, s, keys], next) : undefined,
        },
        constants: ["w", "bias"],
        outputs: past > 0 ? ["y", "present"] : ["y"],
      };
    },
  );
  property<Packed & { l: number; dv: number; bias: boolean; cached: boolean }>(
    "MultiHeadAttention",
    {
      b: size(2),
      s: size(4),
      l: size(4),
      heads: size(2),
      d: size(3),
      dv: size(3),
      past: size(3, 0),
      mask: size(1, 0),
      causal: size(1, 0),
      bias: fc.boolean(),
      extra: fc.boolean(),
      cached: fc.boolean(),
    },
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
          q: f32([b, s, heads * d], next),
          k: f32(cached ? [b, heads, length, d] : [b, length, heads * d], next),
          v: f32(cached ? [b, heads, length, width] : [b, length, heads * width], next),
          bias: bias && !cached ? f32([heads * (2 * d + width)], next) : undefined,
          mask: mask === 1 ? filled("i32", [b, keys], next, 0, 1) : undefined,
          extra: extra ? f32([b, heads, s, keys], next) : undefined,
          pastKey: before > 0 ? f32([b, heads, before, d], next) : undefined,
          pastValue: before > 0 ? f32([b, heads, before, width], next) : undefined,
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
      return tensor(
        "f32",
        shape,
        Array.from(
          { length: b * s * heads * which.length * d },
          (_, i) => values[(Math.floor(i / d / which.length) * 3 + which[Math.floor(i / d) % which.length]!) * d + (i % d)]!,
        ),
      );
    };
    const run = (inputs: Case["inputs"]): Tensor => {
      const { bytes, fed } = modelOf({
        op: "MultiHeadAttention",
        domain: "com.microsoft",
        attributes: { num_heads: heads },
        inputs,
      });
      return runInterpreted(bytes, fed).y!;
    };
    const [q, k, v] = [0, 1, 2].map((which) => picked([which], [b, s, heads * d])) as [Tensor, Tensor, Tensor];
    const apart = run({ q, k, v });
    expect(difference(run({ qkv }), apart)).toBeUndefined();
    expect(difference(run({ q, kv: picked([1, 2], [b, s, heads, 2, d]) }), apart)).toBeUndefined();
  });
  interface Grouped {
    b: number;
    s: number;
    kv: number;
    groups: number;
    past: number;
    packed: boolean;
    rotary: number;
    window: number;
    softcap: boolean;
    prompt: boolean;
    extra: boolean;
    sink: number;
  }
  property<Grouped>(
    "GroupQueryAttention",
    {
      b: size(2),
      s: size(4),
      kv: size(2),
      groups: size(2),
      past: size(4),
      packed: fc.boolean(),
      rotary: size(2, 0),
      window: fc.constantFrom(-1, 1, 2, 3),
      softcap: fc.boolean(),
      prompt: fc.boolean(),
      extra: fc.boolean(),
      sink: size(2, 0),
    },
    ({ b, s, kv, groups, past, packed, rotary, window, softcap, prompt, extra, sink }, next) => {
      const heads = kv * groups;
      const d = 16;
      const queries = prompt ? s : 1;
      const before = prompt ? 0 : past;
      const total = before + queries;
      // Sequences of a prompt may be shorter than it; later ones have their past in front of the cache.
      const lengths = i32(
        [b],
        Array.from({ length: b }, () => total - 1),
      );
      const attributes: Record<string, AttributeSpec> = {
        num_heads: heads,
        kv_num_heads: kv,
        local_window_size: window,
        do_rotary: rotary > 0 ? 1 : 0,
        rotary_interleaved: rotary === 2 ? 1 : 0,
        ...(softcap ? { softcap: { float: 5 } } : {}),
        ...(sink === 1 ? { smooth_softmax: 1 } : {}),
      };
      const cache = (): Tensor => f32([b, kv, before, d], next);
      return {
        op: "GroupQueryAttention",
        attributes,
        inputs: {
          q: f32([b, queries, packed ? (heads + 2 * kv) * d : heads * d], next),
          k: packed ? undefined : f32([b, queries, kv * d], next),
          v: packed ? undefined : f32([b, queries, kv * d], next),
          pastKey: before > 0 ? cache() : undefined,
          pastValue: before > 0 ? cache() : undefined,
          lengths,
          total: i32([1], [total]),
          cos: rotary > 0 ? f32([16, d / 2], next, -1, 1) : undefined,
          sin: rotary > 0 ? f32([16, d / 2], next, -1, 1) : undefined,
          positions: undefined,
          extra: extra ? f32([1, heads, queries, total], next) : undefined,
          sinks: sink === 2 ? f32([heads], next) : undefined,
        },
        constants: ["total", "cos", "sin"],
        outputs: ["y", "present_key", "present_value"],
      };
    },
  );
  property<{ b: number; s: number; heads: number; interleaved: number; rank: number; start: boolean; partial: boolean }>(
    "RotaryEmbedding",
    {
      b: size(2),
      s: size(3),
      heads: size(2),
      interleaved: size(1, 0),
      rank: size(4, 3),
      start: fc.boolean(),
      partial: fc.boolean(),
    },
    ({ b, s, heads, interleaved, rank, start, partial }, next) => {
      const d = 8;
      const width = partial ? 4 : d;
      return {
        op: "RotaryEmbedding",
        attributes: { interleaved, ...(partial ? { num_heads: heads, rotary_embedding_dim: width } : {}) },
        inputs: {
          x: f32(rank === 4 ? [b, heads, s, d] : [b, s, heads * d], next),
          positions: start ? filled("i64", [1], next, 0, 5) : filled("i64", [b, s], next, 0, 9),
          cos: f32([10, width / 2], next, -1, 1),
          sin: f32([10, width / 2], next, -1, 1),
        },
        constants: ["cos", "sin"],
      };
    },
  );
});
