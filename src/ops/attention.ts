// Attention and FlexAttention. ONNX: https://onnx.ai/onnx/operators/onnx__Attention.html

import * as dims from "../ir/dims.ts";
import type { Expr } from "../ir/expr.ts";
import * as x from "../ir/expr.ts";
import type { Graph } from "../ir/graph.ts";
import type { Lowering } from "../ir/lower.ts";
import { type DType, dtypeOfOnnx } from "../ir/types.ts";
import type { Value } from "../ir/value.ts";
import { badAttribute } from "../util/errors.ts";
import { appended, attend, bothAllowed, type Heads, headsOf, maskOf, mergeHeads, windowed } from "./attend.ts";
import { defineOp, type NodeFacts, need, type Operator } from "./define.ts";

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

function lowerAttention(
  b: Lowering,
  node: NodeFacts,
  inputs: readonly (Value | undefined)[],
  attrs: AttentionAttributes,
): (Value | undefined)[] {
  if (!STAGES[attrs.mode]) throw badAttribute(node, "qk_matmul_output_mode", String(attrs.mode), "0, 1, 2 or 3");
  const [query, key, value, mask, pastKey, pastValue, lengths] = [
    need(node, inputs, 0),
    need(node, inputs, 1),
    need(node, inputs, 2),
    ...inputs.slice(3),
  ];
  const q = headsOf(node, query!, attrs.qHeads);
  const [newK, newV] = [headsOf(node, key!, attrs.kvHeads), headsOf(node, value!, attrs.kvHeads)];
  const keep = (past: Value | undefined, now: Heads, dtype: DType, output: number): Value | undefined =>
    past || node.outputs[output] ? appended(b, dtype, past, now) : undefined;
  const [presentKey, presentValue] = [keep(pastKey, newK, key!.dtype, 1), keep(pastValue, newV, value!.dtype, 2)];
  const [k, v] = [
    pastKey ? headsOf(node, presentKey!, undefined) : newK,
    pastValue ? headsOf(node, presentValue!, undefined) : newV,
  ];
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
    q,
    k,
    v,
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
    q,
    k,
    v,
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
      return {
        scale: read.float("scale"),
        precision: precision === undefined ? undefined : dtypeOfOnnx(precision),
        score: read.graph("score_mod"),
        mask: read.graph("mask_mod"),
        prob: read.graph("prob_mod"),
      };
    },
    lower: (b, inputs, attrs, node) => [lowerFlex(b, node, inputs, attrs)],
  }),
];
