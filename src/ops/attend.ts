// Scaled dot-product attention: Q·Kᵀ with masks in its result, softmax, ·V; and the views that operators make of its parts.

import type { Dim } from "../ir/dims.ts";
import * as dims from "../ir/dims.ts";
import type { Expr } from "../ir/expr.ts";
import * as x from "../ir/expr.ts";
import type { Lowering } from "../ir/lower.ts";
import type { DType } from "../ir/types.ts";
import type { Value } from "../ir/value.ts";
import { badAttribute, shapeMismatch } from "../util/errors.ts";
import { broadcastIndex } from "./broadcast.ts";
import type { NodeFacts } from "./define.ts";

/** Queries, keys or values: element [batch, head, position, d], read as f32. */
export interface Heads {
  /** [batch, heads, length, size]. */
  readonly shape: readonly [Dim, Dim, Dim, Dim];
  readonly read: (index: readonly Expr[]) => Expr;
}

/** A [batch, heads, length, size] value, or with `count` a [batch, length, heads · size] one. */
export function headsOf(node: NodeFacts, value: Value, count: Dim | undefined): Heads {
  const { shape } = value;
  if (shape.length === 4) return { shape: shape as readonly Dim[] as Heads["shape"], read: (i) => x.load(value, i) };
  if (shape.length !== 3)
    throw shapeMismatch(
      node,
      `"${value.name}" is ${dims.shapeText(shape)}`,
      "expected [batch, heads, length, size] or [batch, length, heads * size]",
    );
  if (!count) throw badAttribute(node, "num_heads", String(count), "a positive number for an input of rank 3");
  const [batch, length, hidden] = shape as readonly [Dim, Dim, Dim];
  const size = dims.floorDiv(hidden, count);
  return {
    shape: [batch, count, length, size],
    read: ([b, h, s, d]) => x.load(value, [b!, s!, x.flatten([h!, d!], [count, size])]),
  };
}

/** Heads that lie side by side from column `from` on in a [batch, length, columns] value. */
export const headsFrom = (value: Value, from: Dim, count: number, size: Dim): Heads => ({
  shape: [value.shape[0]!, count, value.shape[1]!, size],
  read: ([n, h, s, d]) => x.load(value, [n!, s!, x.add(x.int(from), x.flatten([h!, d!], [count, size]))]),
});

/** `past` before `now` along the length, as a [batch, heads, length, size] value. */
export function appended(b: Lowering, dtype: DType, past: Value | undefined, now: Heads): Value {
  const before = past ? past.shape[2]! : 0;
  const shape = [now.shape[0], now.shape[1], dims.add(before, now.shape[2]), now.shape[3]];
  return b.map(dtype, shape, ([n, h, s, d]) => {
    const here = now.read([n!, h!, x.sub(s!, x.int(before)), d!]);
    return past ? x.select(x.lt(s!, x.int(before)), x.load(past, [n!, h!, s!, d!]), here) : here;
  });
}

/** The factor of Q·Kᵀ: `given`, or 1 / √size. */
export function scaleOf(given: number | undefined, size: Dim): Expr {
  if (given !== undefined) return x.float(given);
  return dims.isStatic(size) ? x.float(1 / Math.sqrt(size)) : x.div(x.float(1), x.unary("sqrt", x.convert(x.int(size), "f32")));
}

const minusInfinity = x.float(Number.NEGATIVE_INFINITY);

export interface AttentionParts {
  readonly q: Heads;
  /** Fewer heads than queries share theirs: query head h reads head h / (queries / keys). */
  readonly k: Heads;
  readonly v: Heads;
  readonly dtype: DType;
  /** Default 1 / √size. */
  readonly scale?: number | undefined;
  readonly softcap?: number | undefined;
  /** Added to the score at [batch, head, query, key]. */
  readonly bias?: ((index: readonly Expr[]) => Expr) | undefined;
  /** False where a query must not see a key. */
  readonly allowed?: ((index: readonly Expr[]) => Expr) | undefined;
  /** A logit beside the keys' that takes part in the softmax and has no value, at [head]. */
  readonly sink?: ((head: Expr) => Expr) | undefined;
  /** Which intermediate is wanted beside the result. */
  readonly stage?: "product" | "capped" | "biased" | "softmax" | undefined;
  readonly changeScores?: ((scores: Value) => Value) | undefined;
  readonly changeProbabilities?: ((probabilities: Value) => Value) | undefined;
}

/** The result [batch, heads, queries, value size] and the wanted intermediate [batch, heads, queries, keys]. Rows without a key are zeros. */
export function attend(b: Lowering, parts: AttentionParts): { readonly out: Value; readonly stage: Value | undefined } {
  const { q, k, v, dtype, softcap } = parts;
  const [batch, heads, queries, size] = q.shape;
  const keys = k.shape[2];
  const shared = (of: Heads, head: Expr): Expr =>
    dims.sameDim(of.shape[1], heads) ? head : x.floorDiv(head, x.int(dims.floorDiv(heads, of.shape[1])));
  const scale = scaleOf(parts.scale, size);
  const capped = (e: Expr): Expr => (softcap ? x.mul(x.float(softcap), x.unary("tanh", x.div(e, x.float(softcap)))) : e);
  const biased = (e: Expr, index: readonly Expr[]): Expr => {
    const sum = parts.bias ? x.add(e, parts.bias(index)) : e;
    return parts.allowed ? x.select(parts.allowed(index), sum, minusInfinity) : sum;
  };
  const product = (type: DType, result: (e: Expr, index: readonly Expr[]) => Expr): Value =>
    b.gemm(
      type,
      { batch: [batch, heads], m: queries, n: keys, k: size },
      ([n, h], i, d) => q.read([n!, h!, i, d]),
      ([n, h], d, j) => k.read([n!, shared(k, h!), j, d]),
      (acc, index) => result(x.mul(acc, scale), index),
    );

  let stage =
    parts.stage === "product" ? product(dtype, (e) => e) : parts.stage === "capped" ? product(dtype, capped) : undefined;
  const scored = product("f32", (e, index) => biased(capped(e), index));
  if (parts.stage === "biased") stage = b.map(dtype, scored.shape, (i) => x.load(scored, i));
  const scores = parts.changeScores?.(scored) ?? scored;
  const softmaxed = maskedSoftmax(b, scores, dtype, parts.sink);
  if (parts.stage === "softmax") stage = softmaxed;
  const probabilities = parts.changeProbabilities?.(softmaxed) ?? softmaxed;
  const out = b.gemm(
    dtype,
    { batch: [batch, heads], m: queries, n: v.shape[3], k: keys },
    ([n, h], i, j) => x.load(probabilities, [n!, h!, i, j]),
    ([n, h], j, d) => v.read([n!, shared(v, h!), j, d]),
  );
  return { out, stage };
}

/** Softmax over the last axis of [batch, heads, queries, keys], zeros where all of a row is −∞. */
function maskedSoftmax(b: Lowering, scores: Value, dtype: DType, sink: ((head: Expr) => Expr) | undefined): Value {
  const exponential = (index: readonly Expr[], most: Expr): Expr =>
    x.unary("exp", x.sub(x.load(scores, index), x.select(x.eq(most, minusInfinity), x.float(0), most)));
  const highest = (most: Expr, head: Expr): Expr => (sink ? x.maximum(most, sink(head)) : most);
  return b.rows(
    dtype,
    scores.shape,
    [3],
    (index) => [
      { fn: "max", body: () => x.load(scores, index) },
      { fn: "sum", body: ([most]) => exponential(index, highest(most!, index[1]!)) },
    ],
    ([most, sum], index) => {
      const top = highest(most!, index[1]!);
      const total = sink ? x.add(sum!, x.unary("exp", x.sub(sink(index[1]!), top))) : sum!;
      return x.select(x.eq(total, x.float(0)), x.float(0), x.div(exponential(index, top), total));
    },
  );
}

/** [batch, heads, length, size] as [batch, length, heads · size]. */
export function mergeHeads(b: Lowering, value: Value): Value {
  const [batch, heads, length, size] = value.shape as readonly [Dim, Dim, Dim, Dim];
  return b.map(value.dtype, [batch, length, dims.mul(heads, size)], ([n, s, c]) =>
    x.load(value, [n!, x.floorDiv(c!, x.int(size)), s!, x.floorMod(c!, x.int(size))]),
  );
}

/** A mask that broadcasts to [batch, heads, queries, keys]; keys beyond its last axis are masked. Boolean masks allow, others are added. */
export function maskOf(mask: Value, keys: Dim, target: readonly Dim[]): Pick<AttentionParts, "bias" | "allowed"> {
  const last = mask.shape.at(-1)!;
  const whole = dims.sameDim(last, keys);
  const index = (at: readonly Expr[]): Expr[] => [...broadcastIndex(mask.shape, at, target).slice(0, -1), at[3]!];
  const read = (at: readonly Expr[], beyond: Expr): Expr =>
    whole ? x.load(mask, index(at)) : x.select(x.lt(at[3]!, x.int(last)), x.load(mask, index(at)), beyond);
  return mask.dtype === "bool" ? { allowed: (at) => read(at, x.bool(false)) } : { bias: (at) => read(at, minusInfinity) };
}

/** Both conditions, where given. */
export const bothAllowed = (...conditions: readonly AttentionParts["allowed"][]): AttentionParts["allowed"] => {
  const given = conditions.filter((condition) => condition !== undefined);
  return given.length === 0 ? undefined : (index) => given.map((condition) => condition(index)).reduce((a, c) => x.and(a, c));
};

/** Which keys a query at absolute position `at(index)` may see: causal, and no more than `left` before and `right` after it (−1: no limit). */
export function windowed(
  at: (index: readonly Expr[]) => Expr,
  causal: boolean,
  left: number,
  right: number,
): AttentionParts["allowed"] {
  const reach = causal ? 0 : right;
  if (left < 0 && reach < 0) return undefined;
  return (index) => {
    const gap = x.sub(index[3]!, at(index));
    const near = reach < 0 ? x.bool(true) : x.le(gap, x.int(reach));
    return left < 0 ? near : x.and(near, x.le(x.int(-left), gap));
  };
}
