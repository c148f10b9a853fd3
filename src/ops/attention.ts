// Scaled dot-product attention: Q·Kᵀ with masks in its result, softmax, ·V; Attention and FlexAttention on top of it.
// ONNX: https://onnx.ai/onnx/operators/onnx__Attention.html

import * as dims from "../ir/dims.ts";
import type { Dim } from "../ir/dims.ts";
import * as x from "../ir/expr.ts";
import type { Expr } from "../ir/expr.ts";
import type { Graph } from "../ir/graph.ts";
import type { Lowering } from "../ir/lower.ts";
import { type DType, dtypeOfOnnx } from "../ir/types.ts";
import type { Value } from "../ir/value.ts";
import { badAttribute, shapeMismatch } from "../util/errors.ts";
import { broadcastIndex } from "./broadcast.ts";
import { type NodeFacts, type Operator, defineOp, need } from "./define.ts";

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
  if (shape.length !== 3) throw shapeMismatch(node, `"${value.name}" is ${dims.shapeText(shape)}`, "expected [batch, heads, length, size] or [batch, length, heads * size]");
  if (!count) throw badAttribute(node, "num_heads", String(count), "a positive number for an input of rank 3");
  const [batch, length, hidden] = shape as readonly [Dim, Dim, Dim];
  const size = dims.floorDiv(hidden, count);
  return { shape: [batch, count, length, size], read: ([b, h, s, d]) => x.load(value, [b!, s!, x.flatten([h!, d!], [count, size])]) };
}

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
  const shared = (of: Heads, head: Expr): Expr => (dims.sameDim(of.shape[1], heads) ? head : x.floorDiv(head, x.int(dims.floorDiv(heads, of.shape[1]))));
  const scale = scaleOf(parts.scale, size);
  const capped = (e: Expr): Expr => (softcap ? x.mul(x.float(softcap), x.unary("tanh", x.div(e, x.float(softcap)))) : e);
  const biased = (e: Expr, index: readonly Expr[]): Expr => {
    const sum = parts.bias ? x.add(e, parts.bias(index)) : e;
    return parts.allowed ? x.select(parts.allowed(index), sum, minusInfinity) : sum;
  };
  const product = (type: DType, result: (e: Expr, index: readonly Expr[]) => Expr): Value =>
    b.gemm(type, { batch: [batch, heads], m: queries, n: keys, k: size }, ([n, h], i, d) => q.read([n!, h!, i, d]), ([n, h], d, j) => k.read([n!, shared(k, h!), j, d]), (acc, index) => result(x.mul(acc, scale), index));

  let stage = parts.stage === "product" ? product(dtype, (e) => e) : parts.stage === "capped" ? product(dtype, capped) : undefined;
  const scored = product("f32", (e, index) => biased(capped(e), index));
  if (parts.stage === "biased") stage = b.map(dtype, scored.shape, (i) => x.load(scored, i));
  const scores = parts.changeScores?.(scored) ?? scored;
  const softmaxed = maskedSoftmax(b, scores, dtype, parts.sink);
  if (parts.stage === "softmax") stage = softmaxed;
  const probabilities = parts.changeProbabilities?.(softmaxed) ?? softmaxed;
  const out = b.gemm(dtype, { batch: [batch, heads], m: queries, n: v.shape[3], k: keys }, ([n, h], i, j) => x.load(probabilities, [n!, h!, i, j]), ([n, h], j, d) => v.read([n!, shared(v, h!), j, d]));
  return { out, stage };
}

/** Softmax over the last axis of [batch, heads, queries, keys], zeros where all of a row is −∞. */
function maskedSoftmax(b: Lowering, scores: Value, dtype: DType, sink: ((head: Expr) => Expr) | undefined): Value {
  const exponential = (index: readonly Expr[], most: Expr): Expr => x.unary("exp", x.sub(x.load(scores, index), x.select(x.eq(most, minusInfinity), x.float(0), most)));
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
  return b.map(value.dtype, [batch, length, dims.mul(heads, size)], ([n, s, c]) => x.load(value, [n!, x.floorDiv(c!, x.int(size)), s!, x.floorMod(c!, x.int(size))]));
}

/** A mask that broadcasts to [batch, heads, queries, keys]; keys beyond its last axis are masked. Boolean masks allow, others are added. */
export function maskOf(mask: Value, keys: Dim, target: readonly Dim[]): Pick<AttentionParts, "bias" | "allowed"> {
  const last = mask.shape.at(-1)!;
  const whole = dims.sameDim(last, keys);
  const index = (at: readonly Expr[]): Expr[] => [...broadcastIndex(mask.shape, at, target).slice(0, -1), at[3]!];
  const read = (at: readonly Expr[], beyond: Expr): Expr => (whole ? x.load(mask, index(at)) : x.select(x.lt(at[3]!, x.int(last)), x.load(mask, index(at)), beyond));
  return mask.dtype === "bool" ? { allowed: (at) => read(at, x.bool(false)) } : { bias: (at) => read(at, minusInfinity) };
}

/** Both conditions, where given. */
export const bothAllowed = (...conditions: readonly AttentionParts["allowed"][]): AttentionParts["allowed"] => {
  const given = conditions.filter((condition) => condition !== undefined);
  return given.length === 0 ? undefined : (index) => given.map((condition) => condition(index)).reduce((a, c) => x.and(a, c));
};

/** Which keys a query at absolute position `at(index)` may see: causal, and no more than `left` before and `right` after it (−1: no limit). */
export function windowed(at: (index: readonly Expr[]) => Expr, causal: boolean, left: number, right: number): AttentionParts["allowed"] {
  const reach = causal ? 0 : right;
  if (left < 0 && reach < 0) return undefined;
  return (index) => {
    const gap = x.sub(index[3]!, at(index));
    const near = reach < 0 ? x.bool(true) : x.le(gap, x.int(reach));
    return left < 0 ? near : x.and(near, x.le(x.int(-left), gap));
  };
}

interface AttentionAttributes {
  readonly causal: boolean;
  readonly left: number;
  readonly right: number;
  readonly qHeads: number | undefined;
  readonly kvHeads: number | undefined;
  readonly scale: number | undefined;
  readonly softcap: number;
  readonly mode: number;
}

const STAGES = ["product", "capped", "biased", "softmax"] as const;

function lowerAttention(b: Lowering, node: NodeFacts, inputs: readonly (Value | undefined)[], attrs: AttentionAttributes): (Value | undefined)[] {
  if (!STAGES[attrs.mode]) throw badAttribute(node, "qk_matmul_output_mode", String(attrs.mode), "0, 1, 2 or 3");
  const [query, key, value, mask, pastKey, pastValue, lengths] = [need(node, inputs, 0), need(node, inputs, 1), need(node, inputs, 2), ...inputs.slice(3)];
  const q = headsOf(node, query!, attrs.qHeads);
  const [newK, newV] = [headsOf(node, key!, attrs.kvHeads), headsOf(node, value!, attrs.kvHeads)];
  const keep = (past: Value | undefined, now: Heads, dtype: DType, output: number): Value | undefined => (past || node.outputs[output] ? appended(b, dtype, past, now) : undefined);
  const [presentKey, presentValue] = [keep(pastKey, newK, key!.dtype, 1), keep(pastValue, newV, value!.dtype, 2)];
  const [k, v] = [pastKey ? headsOf(node, presentKey!, undefined) : newK, pastValue ? headsOf(node, presentValue!, undefined) : newV];
  const [batch, heads, queries] = q.shape;
  const keys = k.shape[2];
  const masked = mask ? maskOf(mask, keys, [batch, heads, queries, keys]) : {};
  // Where the first query stands: after the cached keys, which are `past` or all but the last queries of `lengths`.
  const position = ([n, , i]: readonly Expr[]): Expr => {
    if (pastKey) return x.add(i!, x.int(pastKey.shape[2]!));
    return lengths ? x.add(i!, x.load(lengths, [n!]), x.int(dims.mul(queries, -1))) : i!;
  };
  const valid = lengths && (([n, , , j]: readonly Expr[]): Expr => x.lt(j!, x.load(lengths, [n!])));
  const { out, stage } = attend(b, {
    q, k, v,
    dtype: query!.dtype,
    scale: attrs.scale,
    softcap: attrs.softcap,
    bias: masked.bias,
    allowed: bothAllowed(masked.allowed, windowed(position, attrs.causal, attrs.left, attrs.right), valid),
    stage: node.outputs[3] ? STAGES[attrs.mode] : undefined,
  });
  return [query!.shape.length === 3 ? mergeHeads(b, out) : out, presentKey, presentValue, stage];
}

interface FlexAttributes {
  readonly scale: number | undefined;
  readonly precision: DType | undefined;
  readonly score: Graph | undefined;
  readonly mask: Graph | undefined;
  readonly prob: Graph | undefined;
}

/** Attention whose scores and probabilities pass through subgraphs of one input and one output. */
function lowerFlex(b: Lowering, node: NodeFacts, inputs: readonly (Value | undefined)[], attrs: FlexAttributes): Value {
  const [query, key, value] = [need(node, inputs, 0), need(node, inputs, 1), need(node, inputs, 2)];
  const precision = attrs.precision ?? (query.dtype === "f64" ? "f64" : "f32");
  const through = (graph: Graph | undefined, from: Value): Value => {
    if (!graph) return from;
    const typed = from.dtype === precision ? from : b.map(precision, from.shape, (i) => x.load(from, i));
    return node.inline(b, graph, [typed])[0]!;
  };
  const [q, k, v] = [headsOf(node, query, undefined), headsOf(node, key, undefined), headsOf(node, value, undefined)];
  return attend(b, {
    q, k, v,
    dtype: value.dtype,
    scale: attrs.scale,
    changeScores: (scores) => through(attrs.mask, through(attrs.score, scores)),
    changeProbabilities: (probabilities) => through(attrs.prob, probabilities),
  }).out;
}

export const attentions: readonly Operator[] = [
  defineOp<AttentionAttributes>({
    name: "Attention",
    since: [23, 24, 25],
    attrs: (read) => {
      read.ignore("softmax_precision");
      return {
        causal: read.flag("is_causal"),
        left: read.int("left_window_size", -1),
        right: read.int("right_window_size", -1),
        qHeads: read.int("q_num_heads"),
        kvHeads: read.int("kv_num_heads"),
        scale: read.float("scale"),
        softcap: read.float("softcap", 0),
        mode: read.int("qk_matmul_output_mode", 0),
      };
    },
    lower: (b, inputs, attrs, node) => lowerAttention(b, node, inputs, attrs),
  }),
  defineOp<FlexAttributes>({
    name: "FlexAttention",
    domain: "ai.onnx.preview",
    since: [1],
    attrs: (read) => {
      read.ignore("enable_gqa");
      const precision = read.int("softmax_precision");
      return { scale: read.float("scale"), precision: precision === undefined ? undefined : dtypeOfOnnx(precision), score: read.graph("score_mod"), mask: read.graph("mask_mod"), prob: read.graph("prob_mod") };
    },
    lower: (b, inputs, attrs, node) => [lowerFlex(b, node, inputs, attrs)],
  }),
];
