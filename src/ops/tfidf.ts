// TfIdfVectorizer over integers: how often each n-gram of a pool occurs, with gaps.
// ONNX: https://onnx.ai/onnx/operators/onnx__TfIdfVectorizer.html

import { shapeText, sub } from "../ir/dims.ts";
import type { Expr } from "../ir/expr.ts";
import * as x from "../ir/expr.ts";
import type { Lowering } from "../ir/lower.ts";
import { tensor } from "../ir/tensor.ts";
import type { Value } from "../ir/value.ts";
import { badAttribute, shapeMismatch, unsupportedAttribute } from "../util/errors.ts";
import { defineOp, type NodeFacts, need, type Operator } from "./define.ts";

interface Pool {
  /** Where the n-grams of each length begin in `items`. */
  readonly counts: readonly number[];
  readonly items: readonly number[];
  /** Column of each n-gram. */
  readonly columns: readonly number[];
  readonly weights: readonly number[] | undefined;
}

/** Constants by column: length (0 where no n-gram of a wanted length is), items and weight. */
function tablesOf(
  b: Lowering,
  node: NodeFacts,
  { counts, items, columns, weights }: Pool,
  least: number,
  most: number,
): { size: number; lengths: Value; grams: Value; weights: Value } {
  const size = Math.max(-1, ...columns) + 1;
  if (new Set(columns).size < columns.length)
    throw badAttribute(node, "ngram_indexes", "with an index twice", "one column an n-gram");
  const lengths = new Array<number>(size).fill(0);
  const grams = new Array<number>(size * most).fill(0);
  const weightOf = new Array<number>(size).fill(1);
  let gram = 0;
  counts.forEach((start, n) => {
    const length = n + 1;
    for (let at = start; at + length <= (counts[n + 1] ?? items.length); at += length, gram++) {
      const column = columns[gram]!;
      weightOf[column] = weights?.[gram] ?? 1;
      if (length < least || length > most) continue;
      lengths[column] = length;
      items.slice(at, at + length).forEach((item, k) => {
        grams[column * most + k] = item;
      });
    }
  });
  return {
    size,
    lengths: b.constant(tensor("i32", [size], lengths)),
    grams: b.constant(tensor("i32", [size, most], grams)),
    weights: b.constant(tensor("f32", [size], weightOf)),
  };
}

export const tfidf: readonly Operator[] = [
  defineOp({
    name: "TfIdfVectorizer",
    since: [9],
    attrs: (read) => ({
      least: read.int("min_gram_length", 1),
      most: read.int("max_gram_length", 1),
      skips: read.int("max_skip_count", 0),
      mode: read.string("mode", "TF", ["TF", "IDF", "TFIDF"]),
      strings: read.strings("pool_strings"),
      pool: {
        counts: read.ints("ngram_counts") ?? [],
        items: read.ints("pool_int64s") ?? [],
        columns: read.ints("ngram_indexes") ?? [],
        weights: read.floats("weights"),
      } satisfies Pool,
    }),
    lower: (b, inputs, { least, most, skips, mode, strings, pool }, node) => {
      const value = need(node, inputs, 0);
      if (strings && strings.length > 0) throw unsupportedAttribute(node, "its pool is text", "pool_int64s");
      if (value.shape.length < 1 || value.shape.length > 2)
        throw shapeMismatch(node, `${shapeText(value.shape)} is neither [items] nor [batch, items]`);
      const { size, lengths, grams, weights } = tablesOf(b, node, pool, least, most);
      const items = value.shape.at(-1)!;
      const shape = [...value.shape.slice(0, -1), size];
      const one = x.int(1);
      return [
        b.reduce(
          "f32",
          shape,
          [items, skips + 1],
          (o, [start, skip]) => {
            const column = o.at(-1)!;
            const length = x.load(lengths, [column]);
            const at = (k: number): Expr => x.add(start!, x.mul(x.add(skip!, one), x.int(k)));
            // Gaps change nothing for a single item, which counts once.
            const counted = x.and(x.ge(length, one), x.or(x.ge(length, x.int(2)), x.eq(skip!, x.int(0))));
            const fits = x.lt(x.add(start!, x.mul(x.add(skip!, one), x.sub(length, one))), x.int(items));
            const matches = Array.from({ length: most }, (_, k) =>
              x.select(
                x.lt(x.int(k), length),
                x.eq(
                  x.convert(x.load(value, [...o.slice(0, -1), x.minimum(at(k), x.int(sub(items, 1)))]), "i32"),
                  x.load(grams, [column, x.int(k)]),
                ),
                x.bool(true),
              ),
            );
            return [{ fn: "sum", body: () => x.select(x.and(counted, fits, ...matches), one, x.int(0)) }];
          },
          ([count], o) => {
            const frequency = x.convert(count!, "f32");
            const weight = x.load(weights, [o.at(-1)!]);
            if (mode === "TF") return frequency;
            return mode === "IDF" ? x.select(x.ge(count!, one), weight, x.float(0)) : x.mul(frequency, weight);
          },
        ),
      ];
    },
  }),
];
