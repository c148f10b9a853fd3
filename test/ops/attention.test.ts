// Attention and rotary embeddings: properties against ONNX Runtime.

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { difference } from "../../src/cli/cases.ts";
import { numbersOf, tensor } from "../../src/ir/tensor.ts";
import { modelOf, property, shapeOf, size } from "../support/agreement.ts";
import { runInterpreted } from "../support/interpret-model.ts";
import type { AttributeSpec } from "../support/onnx-model.ts";
import { filled, generator } from "../support/random.ts";

describe("attention", () => {
  property<{
    b: number;
    s: number;
    l: number;
    kv: number;
    groups: number;
    d: number;
    dv: number;
    past: number;
    mask: number;
    causal: number;
    softcap: boolean;
    rank: number;
    mode: number;
  }>(
    "Attention",
    {
      b: size(2),
      s: size(4),
      l: size(4),
      kv: size(2),
      groups: size(2),
      d: size(3),
      dv: size(3),
      past: size(2, 0),
      mask: size(4, 0),
      causal: size(1, 0),
      softcap: fc.boolean(),
      rank: size(4, 3),
      mode: size(4, -1),
    },
    ({ b, s, l, kv, groups, d, dv, past, mask, causal, softcap, rank, mode }, next) => {
      const heads = kv * groups;
      // ONNX's causal mask starts after the past; ONNX Runtime's counts from the last key, which is the same for as many keys as queries.
      const fresh = causal ? s : l;
      const keys = past + fresh;
      const laid = (count: number, length: number, width: number): number[] =>
        rank === 4 ? [b, count, length, width] : [b, length, count * width];
      const masks = [
        undefined,
        () => filled("f32", [s, keys], next),
        () => filled("f32", [b, 1, s, keys], next),
        () => filled("bool", [s, keys], next, 0, 1),
        () => filled("f32", [heads, s, keys], next),
      ];
      // Where ONNX has -Infinity for a masked score ONNX Runtime has the lowest float.
      const stage = mode >= 0 && mode < 4 && !(mode === 2 && (causal || mask === 3));
      return {
        op: "Attention",
        opset: 23,
        attributes: {
          is_causal: causal,
          ...(rank === 3 ? { q_num_heads: heads, kv_num_heads: kv } : {}),
          ...(softcap ? { softcap: { float: 2 } } : {}),
          ...(stage ? { qk_matmul_output_mode: mode } : {}),
        },
        inputs: {
          q: filled("f32", laid(heads, s, d), next),
          k: filled("f32", laid(kv, fresh, d), next),
          v: filled("f32", laid(kv, fresh, dv), next),
          mask: masks[mask]?.(),
          pastKey: past > 0 ? filled("f32", [b, kv, past, d], next) : undefined,
          pastValue: past > 0 ? filled("f32", [b, kv, past, dv], next) : undefined,
        },
        outputs: ["y", ...(past > 0 ? ["present_key", "present_value"] : stage ? ["", ""] : []), ...(stage ? ["scores"] : [])],
      };
    },
  );
  property<{ b: number; s: number; heads: number; interleaved: number; rank: number; width: number; positions: boolean }>(
    "RotaryEmbedding",
    {
      b: size(2),
      s: size(3),
      heads: size(2),
      interleaved: size(1, 0),
      rank: size(4, 3),
      width: fc.constantFrom(0, 4),
      positions: fc.boolean(),
    },
    ({ b, s, heads, interleaved, rank, width, positions }, next) => {
      const half = (width || 8) / 2;
      const cache = positions ? [10, half] : [b, s, half];
      return {
        op: "RotaryEmbedding",
        opset: 23,
        attributes: { interleaved, rotary_embedding_dim: width, ...(rank === 3 ? { num_heads: heads } : {}) },
        inputs: {
          x: filled("f32", rank === 4 ? [b, heads, s, 8] : [b, s, heads * 8], next),
          cos: filled("f32", cache, next),
          sin: filled("f32", cache, next),
          positions: positions ? filled("i64", [b, s], next, 0, 9) : undefined,
        },
      };
    },
  );
  property<{ shape: number[]; axis: number }>(
    "RMSNormalization",
    { shape: shapeOf(4, 5, 1), axis: size(3, 0) },
    ({ shape, axis }, next) => ({
      op: "RMSNormalization",
      opset: 23,
      attributes: { axis: axis % shape.length, epsilon: 0.001 },
      inputs: { x: filled("f32", shape, next), scale: filled("f32", shape.slice(axis % shape.length), next) },
    }),
  );
});

test("FlexAttention runs its subgraphs on scores and probabilities", () => {
  const next = generator(3);
  const fed = {
    q: filled("f32", [1, 4, 3, 5], next),
    k: filled("f32", [1, 2, 6, 5], next),
    v: filled("f32", [1, 2, 6, 4], next),
  };
  const through = (op: string, other: number): AttributeSpec => ({
    graph: {
      inputs: { e: { dtype: "f32", shape: ["b", "h", "s", "t"] } },
      outputs: ["changed"],
      initializers: { other: tensor("f32", [], [other]) },
      nodes: [{ op, inputs: ["e", "other"], outputs: ["changed"] }],
    },
  });
  const attributes = { scale: { float: 0.5 }, score_mod: through("Mul", 2), prob_mod: through("Mul", 3) };
  const flex = modelOf({ op: "FlexAttention", domain: "ai.onnx.preview", opset: 26, attributes, inputs: fed });
  const plain = modelOf({ op: "Attention", opset: 24, attributes: { scale: { float: 1 } }, inputs: fed });
  const expected = numbersOf(runInterpreted(plain.bytes, fed).y!).map((value) => 3 * value);
  expect(difference(runInterpreted(flex.bytes, fed).y!, tensor("f32", [1, 4, 3, 4], expected))).toBeUndefined();
});
