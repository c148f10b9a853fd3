// Operators that move elements or make them of shapes alone: properties against ONNX Runtime.

import fc from "fast-check";
import { describe } from "vitest";
import { sizeOf, type Tensor, tensor } from "../../src/ir/tensor.ts";
import { type DType, dtypeFacts } from "../../src/ir/types.ts";
import { list, property, shapeOf, size } from "../support/agreement.ts";
import { filled } from "../support/random.ts";

const i64 = (...values: number[]): Tensor => tensor("i64", [values.length], values);
const scalar = (value: number): Tensor => tensor("i64", [], [value]);

describe("blocks and triangles", () => {
  property<{ n: number; c: number; h: number; w: number; block: number; mode: string; op: string }>(
    "DepthToSpace and SpaceToDepth",
    {
      n: size(2),
      c: size(3),
      h: size(3),
      w: size(3),
      block: size(3),
      mode: fc.constantFrom("DCR", "CRD"),
      op: fc.constantFrom("DepthToSpace", "SpaceToDepth"),
    },
    ({ n, c, h, w, block, mode, op }, next) => ({
      op,
      opset: 13,
      attributes: { blocksize: block, ...(op === "DepthToSpace" ? { mode } : {}) },
      inputs: {
        x: filled("f32", op === "DepthToSpace" ? [n, c * block * block, h, w] : [n, c, h * block, w * block], next),
      },
    }),
    {},
    0.5,
  );
  property<{ shape: number[]; upper: number; k: number; dtype: DType }>(
    "Trilu",
    { shape: shapeOf(4, 5, 2), upper: size(1, 0), k: size(6, -6), dtype: fc.constantFrom<DType>("f32", "i64", "bool") },
    ({ shape, upper, k, dtype }, next) => ({
      op: "Trilu",
      attributes: { upper },
      inputs: { x: filled(dtype, shape, next, 0, dtype === "bool" ? 1 : 9), k: scalar(k) },
      constants: ["k"],
    }),
    {},
    0.5,
  );
  property<{ rows: number; columns: number; k: number; dtype: DType }>(
    "EyeLike",
    { rows: size(5), columns: size(5), k: size(4, -4), dtype: fc.constantFrom<DType>("f32", "i32", "i64", "u64") },
    ({ rows, columns, k, dtype }, next) => ({
      op: "EyeLike",
      attributes: { k, dtype: dtypeFacts[dtype].onnx },
      inputs: { x: filled("f32", [rows, columns], next) },
    }),
    {},
    0.25,
  );
  property<{ shape: number[]; to: number[]; axes: number[] }>(
    "CenterCropPad",
    { shape: list(size(6), 3), to: list(size(7), 3), axes: fc.shuffledSubarray([0, 1, 2], { minLength: 1 }) },
    ({ shape, to, axes }, next) => ({
      op: "CenterCropPad",
      opset: 18,
      attributes: { axes },
      inputs: { x: filled("f32", shape, next), shape: i64(...to.slice(0, axes.length)) },
      constants: ["shape"],
    }),
    {},
    0.25,
  );
});

describe("sequences", () => {
  property<{ shape: number[]; time: number; lengths: number[] }>(
    "ReverseSequence",
    { shape: shapeOf(4, 5, 2), time: size(1, 0), lengths: list(fc.nat(), 5) },
    ({ shape, time, lengths }, next) => ({
      op: "ReverseSequence",
      opset: 10,
      attributes: { time_axis: time, batch_axis: 1 - time },
      inputs: {
        x: filled("f32", shape, next),
        lengths: i64(...lengths.slice(0, shape[1 - time]!).map((length) => 1 + (length % shape[time]!))),
      },
    }),
    {},
    0.5,
  );
  property<{ tokens: number[]; batch: number; gram: number; skip: number; mode: string; weighted: boolean }>(
    "TfIdfVectorizer",
    {
      tokens: list(size(4), 12),
      batch: size(3, 0),
      gram: size(2),
      skip: size(3, 0),
      mode: fc.constantFrom("TF", "IDF", "TFIDF"),
      weighted: fc.boolean(),
    },
    ({ tokens, batch, gram, skip, mode, weighted }) => ({
      op: "TfIdfVectorizer",
      opset: 9,
      attributes: {
        mode,
        min_gram_length: gram,
        max_gram_length: 2,
        max_skip_count: skip,
        // Two tokens alone, then three pairs.
        pool_int64s: [2, 3, 1, 2, 2, 2, 4, 1],
        ngram_counts: [0, 2],
        ngram_indexes: [0, 1, 2, 3, 4],
        ...(weighted ? { weights: { floats: [0.5, 2, 3, 0.25, 1.5] } } : {}),
      },
      inputs: { x: tensor("i64", batch === 0 ? [12] : [batch, Math.floor(12 / batch)], tokens) },
    }),
    {},
    0.5,
  );
});

describe("shapes", () => {
  property<{ shape: number[]; start: number; end: number; given: number }>(
    "Shape",
    { shape: shapeOf(4, 5, 1), start: size(5, -5), end: size(5, -5), given: size(3, 0) },
    ({ shape, start, end, given }, next) => ({
      op: "Shape",
      opset: 15,
      attributes: { ...(given & 1 ? { start } : {}), ...(given & 2 ? { end } : {}) },
      inputs: { x: filled("f32", shape, next) },
    }),
    {},
    0.5,
  );
  property<{ shape: number[]; axis: number; op: string }>(
    "Flatten, Size and Unsqueeze",
    { shape: shapeOf(4, 4, 1), axis: size(4, -4), op: fc.constantFrom("Flatten", "Size", "Unsqueeze") },
    ({ shape, axis, op }, next) => {
      const at = Math.min(Math.max(axis, -shape.length), shape.length);
      return {
        op,
        opset: 13,
        attributes: op === "Flatten" ? { axis: at } : {},
        inputs: { x: filled("f32", shape, next), axes: op === "Unsqueeze" ? i64(at) : undefined },
        constants: ["axes"],
      };
    },
    {},
    0.5,
  );
  property<{ start: number; count: number; delta: number; dtype: DType; known: boolean }>(
    "Range",
    {
      start: size(9, -9),
      count: size(9, -2),
      delta: fc.constantFrom(1, 2, -1, -3),
      dtype: fc.constantFrom<DType>("f32", "f64", "i32", "i64", "i16"),
      known: fc.boolean(),
    },
    ({ start, count, delta, dtype, known }) => {
      const one = (value: number): Tensor => tensor(dtype, [], [value]);
      return {
        op: "Range",
        opset: 11,
        inputs: { start: one(start), limit: one(start + count * delta + Math.sign(delta)), delta: one(delta) },
        constants: known ? ["start", "limit", "delta"] : [],
      };
    },
    {},
    0.5,
  );
  property<{ shape: number[]; dtype: DType; least: number }>(
    "NonZero",
    { shape: shapeOf(3, 4, 0), dtype: fc.constantFrom<DType>("f32", "i32", "i64", "bool"), least: size(1, 0) },
    ({ shape, dtype, least }, next) => ({
      op: "NonZero",
      opset: 13,
      inputs: { x: filled(dtype, shape.length ? shape : [1], next, least - 1 < 0 && dtype === "bool" ? 0 : least - 1, 1) },
    }),
    {},
    0.25,
  );
});

describe("elements that indices choose", () => {
  property<{ shape: number[]; axis: number; k: number; dtype: DType }>(
    "TopK of other types",
    { shape: shapeOf(3, 6, 1), axis: size(2, 0), k: size(3), dtype: fc.constantFrom<DType>("f64", "i32", "i64") },
    ({ shape, axis, k, dtype }, next) => {
      const along = axis % shape.length;
      return {
        op: "TopK",
        opset: 11,
        attributes: { axis: along },
        inputs: { x: filled(dtype, shape, next, -9, 9), k: i64(Math.min(k, shape[along]!)) },
        constants: ["k"],
        outputs: ["y", "indices"],
      };
    },
    {},
    0.5,
  );
  property<{ shape: number[]; axis: number; dtype: DType; count: number }>(
    "Gather of other types",
    {
      shape: shapeOf(3, 5, 1),
      axis: size(2, -3),
      dtype: fc.constantFrom<DType>("i8", "u8", "i16", "i64", "bool", "f64", "f16"),
      count: size(4),
    },
    ({ shape, axis, dtype, count }, next) => {
      const along = ((axis % shape.length) + shape.length) % shape.length;
      return {
        op: "Gather",
        opset: 13,
        attributes: { axis: along },
        inputs: {
          x: filled(dtype, shape, next, 0, dtype === "bool" ? 1 : 9),
          at: filled("i32", [count], next, -shape[along]!, shape[along]! - 1),
        },
      };
    },
    {},
    0.5,
  );
  property<{ shape: number[]; dtype: DType; perm: number[] }>(
    "Transpose of other types",
    {
      shape: list(size(4), 3),
      dtype: fc.constantFrom<DType>("i8", "u8", "i16", "u16", "i64", "bool", "f64", "f16"),
      perm: fc.shuffledSubarray([0, 1, 2], { minLength: 3 }),
    },
    ({ shape, dtype, perm }, next) => ({
      op: "Transpose",
      attributes: { perm },
      inputs: { x: filled(dtype, shape, next, 0, dtype === "bool" ? 1 : 99) },
    }),
    {},
    0.5,
  );
  property<{ shape: number[]; rows: number }>(
    "ScatterND without a reduction",
    { shape: shapeOf(3, 5, 1), rows: size(5) },
    ({ shape, rows }, next) => {
      // Rows in order, so that no two are one.
      const count = Math.min(rows, shape[0]!);
      const updates = [count, ...shape.slice(1)];
      return {
        op: "ScatterND",
        opset: 13,
        inputs: {
          x: filled("f32", shape, next),
          at: tensor(
            "i64",
            [count, 1],
            Array.from({ length: count }, (_, i) => (i % 2 ? i - shape[0]! : i)),
          ),
          updates: tensor(
            "f32",
            updates,
            Array.from({ length: sizeOf(updates) }, (_, i) => i),
          ),
        },
        // How many axes a row of indices names must be known.
        constants: ["at"],
      };
    },
    {},
    0.5,
  );
});
