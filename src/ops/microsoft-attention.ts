// com.microsoft's attentions: packed projections, padding masks by length, and caches that are written in place.
// https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md

import type { Dim } from "../ir/dims.ts";
import * as dims from "../ir/dims.ts";
import type { Expr } from "../ir/expr.ts";
import * as x from "../ir/expr.ts";
import type { Lowering } from "../ir/lower.ts";
import type { Value } from "../ir/value.ts";
import { shapeMismatch, unsupportedAttribute } from "../util/errors.ts";
import { type AttentionParts, appended, attend, type Heads, headsFrom, headsOf, mergeHeads, windowed } from "./attend.ts";
import { loadBroadcast } from "./broadcast.ts";
import { type AttributeReader, defineOp, type NodeFacts, need, type Operator } from "./define.ts";
import { GroupQueryAttention } from "./group-query-attention.ts";
import { matmul, operand } from "./matmul.ts";

const domain = "com.microsoft";

/** Heads plus a bias that starts at element `from` of a vector. */
const withBias = (heads: Heads, bias: Value | undefined, from: Dim): Heads => ({
  shape: heads.shape,
  read: (i) =>
    bias
      ? x.add(heads.read(i), x.load(bias, [x.add(x.int(from), x.flatten([i[1]!, i[3]!], [heads.shape[1], heads.shape[3]]))]))
      : heads.read(i),
});

const addBoth = (first: AttentionParts["bias"], second: AttentionParts["bias"]): AttentionParts["bias"] =>
  first && second ? (index) => x.add(first(index), second(index)) : (first ?? second);

/**
 * What a padding mask adds to scores: `filter` where the key is masked. [batch] holds lengths, [2·batch] ends and then
 * starts, [batch, keys] and [batch, queries, keys] flags.
 */
function paddingBias(node: NodeFacts, mask: Value, batch: Dim, target: readonly Dim[], filter: number): AttentionParts["bias"] {
  const keep = ([n, h, i, j]: readonly Expr[]): Expr => {
    const positive = (at: readonly Expr[]): Expr => x.lt(x.int(0), x.load(mask, at));
    if (mask.shape.length === 2) return positive([n!, j!]);
    if (mask.shape.length === 3) return positive([n!, i!, j!]);
    if (mask.shape.length === 4) return x.lt(x.int(0), loadBroadcast(mask, [n!, h!, i!, j!], target));
    const ended = x.lt(j!, x.load(mask, [n!]));
    return twice ? x.and(ended, x.le(x.load(mask, [x.add(n!, x.int(batch))]), j!)) : ended;
  };
  const [count] = mask.shape;
  const twice = dims.sameDim(count!, dims.mul(batch, 2));
  if (mask.shape.length === 1 && dims.isStatic(count!) && dims.isStatic(batch) && count !== batch && !twice) {
    throw shapeMismatch(
      node,
      `mask is ${dims.shapeText(mask.shape)}`,
      `expected [batch], [2 * batch], [batch, keys] or more, with a batch of ${dims.dimText(batch)}`,
    );
  }
  return (index) => x.select(keep(index), x.float(0), x.float(filter));
}

interface CommonAttributes {
  readonly heads: number;
  readonly scale: number | undefined;
  readonly filter: number;
  readonly causal: boolean;
}

const readCommon = (read: AttributeReader): CommonAttributes => {
  const scale = read.float("scale", 0);
  return {
    heads: read.int("num_heads", 0),
    scale: scale === 0 ? undefined : scale,
    filter: read.float("mask_filter_value", -10000),
    causal: read.flag("unidirectional"),
  };
};

/** Input [batch, length, channels] through one weight matrix to queries, keys and values side by side, then attention. */
function packedAttention(
  b: Lowering,
  node: NodeFacts,
  inputs: readonly (Value | undefined)[],
  attrs: CommonAttributes & { readonly sizes: readonly number[] | undefined },
): (Value | undefined)[] {
  const [input, weights, bias, mask, past, extra] = [need(node, inputs, 0), need(node, inputs, 1), ...inputs.slice(2)];
  const total = weights!.shape[1]!;
  const third = dims.floorDiv(total, 3);
  const [qWidth, kWidth, vWidth] =
    attrs.sizes?.length === 3 ? (attrs.sizes as readonly [Dim, Dim, Dim]) : ([third, third, third] as const);
  const projected = matmul(b, node, input!.dtype, operand(input!), operand(weights!), (acc, index) =>
    bias ? x.add(acc, x.load(bias, [index.at(-1)!])) : acc,
  );
  const part = (from: Dim, width: Dim): Heads => headsFrom(projected, from, attrs.heads, dims.floorDiv(width, attrs.heads));
  const [q, newK, newV] = [part(0, qWidth), part(qWidth, kWidth), part(dims.add(qWidth, kWidth), vWidth)];
  const before = past ? past.shape[3]! : 0;
  const joined = (side: number, now: Heads): Heads => ({
    shape: [now.shape[0], now.shape[1], dims.add(before, now.shape[2]), now.shape[3]],
    read: ([n, h, s, d]) => {
      const here = now.read([n!, h!, x.sub(s!, x.int(before)), d!]);
      return past ? x.select(x.lt(s!, x.int(before)), x.load(past, [x.int(side), n!, h!, s!, d!]), here) : here;
    },
  });
  const [allK, allV] = [joined(0, newK), joined(1, newV)];
  const present =
    past || node.outputs[1]
      ? b.map(input!.dtype, [2, ...allK.shape], ([side, ...at]) =>
          x.select(x.eq(side!, x.int(0)), allK.read(at), allV.read(at)),
        )
      : undefined;
  const half = (side: number, all: Heads): Heads =>
    present ? { shape: all.shape, read: (i) => x.load(present, [x.int(side), ...i]) } : all;
  const [k, v] = [half(0, allK), half(1, allV)];
  const { out } = attend(b, {
    q,
    k,
    v,
    dtype: input!.dtype,
    scale: attrs.scale,
    ...maskParts(node, attrs, q, k, mask, extra, before),
  });
  return [mergeHeads(b, out), present];
}

/** Padding mask, attention bias and causality together; queries stand after `before` cached keys. */
function maskParts(
  node: NodeFacts,
  attrs: CommonAttributes,
  q: Heads,
  k: Heads,
  mask: Value | undefined,
  extra: Value | undefined,
  before: Dim,
): Pick<AttentionParts, "bias" | "allowed"> {
  const target = [q.shape[0], q.shape[1], q.shape[2], k.shape[2]];
  return {
    bias: addBoth(
      extra && ((index) => loadBroadcast(extra, index, target)),
      mask && paddingBias(node, mask, q.shape[0], target, attrs.filter),
    ),
    allowed: windowed((index) => x.add(index[2]!, x.int(before)), attrs.causal, -1, -1),
  };
}

/** Queries, keys and values of MultiHeadAttention, which may come apart, packed in fives, or keys and values as a cache. */
function multiHeads(node: NodeFacts, inputs: readonly (Value | undefined)[], heads: number): readonly [Heads, Heads, Heads] {
  const [query, key, value, bias] = [need(node, inputs, 0), inputs[1], inputs[2], inputs[3]];
  const packed = (from: Value, at: number): Heads => {
    const [batch, length, count, , size] = from.shape as readonly [Dim, Dim, Dim, Dim, Dim];
    return { shape: [batch, count, length, size], read: ([n, h, s, d]) => x.load(from, [n!, s!, h!, x.int(at), d!]) };
  };
  const apart = (from: Value): Heads => headsOf(node, from, heads);
  const q = query.shape.length === 5 ? packed(query, 0) : apart(query);
  const k = key ? (key.shape.length === 5 ? packed(key, 0) : apart(key)) : packed(query, 1);
  const v = value ? apart(value) : key ? packed(key, 1) : packed(query, 2);
  const width = dims.mul(q.shape[1], q.shape[3]);
  // Keys and values that come as a cache have their bias already.
  const cached = key?.shape.length === 4;
  return [withBias(q, bias, 0), cached ? k : withBias(k, bias, width), cached ? v : withBias(v, bias, dims.mul(width, 2))];
}

export const microsoftAttentions: readonly Operator[] = [
  defineOp<CommonAttributes & { readonly sizes: readonly number[] | undefined; readonly rotary: boolean }>({
    name: "Attention",
    domain,
    since: [1],
    attrs: (read) => {
      read.ignore("past_present_share_buffer", "rotary_embedding_dim");
      return { ...readCommon(read), sizes: read.ints("qkv_hidden_sizes"), rotary: read.flag("do_rotary") };
    },
    lower: (b, inputs, attrs, node) => {
      if (attrs.rotary || inputs[6])
        throw unsupportedAttribute(
          node,
          attrs.rotary ? "do_rotary = 1" : "a past_sequence_length (shared cache)",
          "do_rotary = 0 with a cache of the past's own length",
        );
      return packedAttention(b, node, inputs, attrs);
    },
  }),
  defineOp<CommonAttributes>({
    name: "MultiHeadAttention",
    domain,
    since: [1],
    attrs: readCommon,
    lower: (b, inputs, attrs, node) => {
      if (inputs[8] || inputs[9])
        throw unsupportedAttribute(
          node,
          "a past_sequence_length or cache_indirection (beam search)",
          "a cache of the past's own length",
        );
      const [mask, extra, pastKey, pastValue] = inputs.slice(4, 8);
      const query = need(node, inputs, 0);
      const [q, newK, newV] = multiHeads(node, inputs, attrs.heads);
      const keep = (past: Value | undefined, now: Heads, output: number): Value | undefined =>
        past || node.outputs[output] ? appended(b, query.dtype, past, now) : undefined;
      const [presentKey, presentValue] = [keep(pastKey, newK, 1), keep(pastValue, newV, 2)];
      const [k, v] = [
        presentKey ? headsOf(node, presentKey, undefined) : newK,
        presentValue ? headsOf(node, presentValue, undefined) : newV,
      ];
      const parts = maskParts(node, attrs, q, k, mask, extra, pastKey ? pastKey.shape[2]! : 0);
      const { out, stage } = attend(b, {
        q,
        k,
        v,
        dtype: query.dtype,
        scale: attrs.scale,
        ...parts,
        stage: node.outputs[3] ? "biased" : undefined,
      });
      return [mergeHeads(b, out), presentKey, presentValue, stage];
    },
  }),
  GroupQueryAttention,
];
