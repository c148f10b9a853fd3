// The smaller parts of transformers: rotary embeddings, gated units and the recurrent mixers that keep a state.
// ONNX: https://onnx.ai/onnx/operators/onnx__RotaryEmbedding.html

import type { Dim } from "../ir/dims.ts";
import * as dims from "../ir/dims.ts";
import type { Expr } from "../ir/expr.ts";
import * as x from "../ir/expr.ts";
import type { Lowering } from "../ir/lower.ts";
import type { Value } from "../ir/value.ts";
import { badAttribute, shapeMismatch } from "../util/errors.ts";
import { headsOf, scaleOf } from "./attend.ts";
import { defineOp, type NodeFacts, need, type Operator } from "./define.ts";
import { broadcasting, sigmoid } from "./elementwise.ts";

/**
 * Element `d` of a head whose first `width` elements are turned by pairs (Su et al. 2021, "RoFormer"): pair p is
 * (2p, 2p + 1) when interleaved, else (p, p + width / 2). `cos` and `sin` give the angle of pair p.
 */
export function rotated(
  read: (d: Expr) => Expr,
  d: Expr,
  width: Dim,
  interleaved: boolean,
  cos: (pair: Expr) => Expr,
  sin: (pair: Expr) => Expr,
): Expr {
  const half = dims.floorDiv(width, 2);
  const pair = interleaved ? x.floorDiv(d, x.int(2)) : x.floorMod(d, x.int(half));
  const second = interleaved ? x.eq(x.floorMod(d, x.int(2)), x.int(1)) : x.le(x.int(half), d);
  const [at1, at2] = interleaved
    ? [x.mul(pair, x.int(2)), x.add(x.mul(pair, x.int(2)), x.int(1))]
    : [pair, x.add(pair, x.int(half))];
  const turned = x.select(
    second,
    x.add(x.mul(sin(pair), read(at1)), x.mul(cos(pair), read(at2))),
    x.sub(x.mul(cos(pair), read(at1)), x.mul(sin(pair), read(at2))),
  );
  return x.select(x.lt(d, x.int(width)), turned, read(d));
}

/** Turns every head of a [batch, heads, length, size] or [batch, length, heads · size] input; `angle` reads a cache for (batch, position, pair). */
export function rotate(
  b: Lowering,
  node: NodeFacts,
  input: Value,
  heads: Dim | undefined,
  width: number,
  interleaved: boolean,
  angle: (cache: "cos" | "sin", n: Expr, s: Expr, pair: Expr) => Expr,
): Value {
  const view = headsOf(node, input, heads);
  const size = view.shape[3];
  return b.map(input.dtype, input.shape, (index) => {
    const [n, h, s, d] =
      input.shape.length === 4
        ? (index as readonly Expr[])
        : [index[0]!, x.floorDiv(index[2]!, x.int(size)), index[1]!, x.floorMod(index[2]!, x.int(size))];
    const from =
      (cache: "cos" | "sin") =>
      (pair: Expr): Expr =>
        angle(cache, n!, s!, pair);
    return rotated((at) => view.read([n!, h!, s!, at]), d!, width > 0 ? width : size, interleaved, from("cos"), from("sin"));
  });
}

interface RotaryAttributes {
  readonly interleaved: boolean;
  readonly heads: number;
  readonly width: number;
}

const UPDATE_RULES = ["linear", "gated", "delta", "gated_delta"] as const;

interface LinearAttributes {
  readonly qHeads: number | undefined;
  readonly kvHeads: number | undefined;
  readonly scale: number;
  readonly rule: (typeof UPDATE_RULES)[number];
}

/**
 * Attention through a state S [batch, kv heads, key size, value size] that each position updates and reads:
 * S ← exp(decay)·S + k ⊗ beta·(v − Sᵀk) and o = scale·Sᵀq; without decay or delta those parts fall away.
 */
function linearAttention(
  b: Lowering,
  node: NodeFacts,
  inputs: readonly (Value | undefined)[],
  attrs: LinearAttributes,
): Value[] {
  const { qHeads, kvHeads } = attrs;
  if (!qHeads || !kvHeads || qHeads % kvHeads !== 0)
    throw badAttribute(node, "q_num_heads", String(qHeads), `a multiple of kv_num_heads = ${kvHeads}`);
  const [query, key, value, past, decay, beta] = [
    need(node, inputs, 0),
    need(node, inputs, 1),
    need(node, inputs, 2),
    ...inputs.slice(3),
  ];
  if ((attrs.rule === "gated" || attrs.rule === "gated_delta") !== (decay !== undefined))
    throw badAttribute(node, "update_rule", attrs.rule, decay ? "a gated rule for an input decay" : "an input decay");
  if ((attrs.rule === "delta" || attrs.rule === "gated_delta") !== (beta !== undefined))
    throw badAttribute(node, "update_rule", attrs.rule, beta ? "a delta rule for an input beta" : "an input beta");
  const [q, k, v] = [headsOf(node, query!, qHeads), headsOf(node, key!, kvHeads), headsOf(node, value!, kvHeads)];
  const [batch, , length, size] = q.shape;
  const width = v.shape[3];
  const shape = [batch, kvHeads, size, width];
  const scale = scaleOf(attrs.scale === 0 ? undefined : attrs.scale, size);
  // One element a head, or one a head and key element.
  const decays = decay && headsOf(node, decay, kvHeads);
  const kept = (state: Value, [n, h, d, m]: readonly Expr[], t: Expr): Expr => {
    const old = x.load(state, [n!, h!, d!, m!]);
    return decays ? x.mul(old, x.unary("exp", decays.read([n!, h!, t, decays.shape[3] === 1 ? x.int(0) : d!]))) : old;
  };
  const start = b.map("f32", shape, (i) => (past ? x.load(past, i) : x.float(0)));
  const out = b.value(query!.dtype, [batch, length, dims.mul(qHeads, width)]);
  const [final] = b.loop(length, [start], [out], (inner, t, [state]) => {
    const recalled =
      beta &&
      inner.reduce("f32", [batch, kvHeads, width], [size], ([n, h, m], [d]) => [
        { fn: "sum", body: () => x.mul(kept(state!, [n!, h!, d!, m!], t), k.read([n!, h!, t, d!])) },
      ]);
    const next = inner.map("f32", shape, (i) => {
      const [n, h, d, m] = i as readonly Expr[];
      const now = v.read([n!, h!, t, m!]);
      const written = beta && recalled ? x.mul(x.load(beta, [n!, t, h!]), x.sub(now, x.load(recalled, [n!, h!, m!]))) : now;
      return x.add(kept(state!, i, t), x.mul(k.read([n!, h!, t, d!]), written));
    });
    const read = inner.reduce("f32", [batch, qHeads, width], [size], ([n, h, m], [d]) => [
      {
        fn: "sum",
        body: () => x.mul(q.read([n!, h!, t, d!]), x.load(next, [n!, x.floorDiv(h!, x.int(qHeads / kvHeads)), d!, m!])),
      },
    ]);
    inner.store(out, [batch, qHeads, width], ([n, h, m]) => ({
      index: [n!, t, x.flatten([h!, m!], [qHeads, width])],
      expr: x.mul(scale, x.load(read, [n!, h!, m!])),
    }));
    return [next];
  });
  const state = past?.dtype ?? query!.dtype;
  return [out, b.map(state, shape, (i) => x.load(final!, i))];
}

/** Depthwise convolution over the last axis that sees the past only; the last kernel − 1 inputs are the next call's past. */
function causalConv(b: Lowering, node: NodeFacts, inputs: readonly (Value | undefined)[], activation: string): Value[] {
  const [input, weight, bias, past] = [need(node, inputs, 0), need(node, inputs, 1), inputs[2], inputs[3]];
  if (input.shape.length !== 3 || weight.shape.length !== 3)
    throw shapeMismatch(
      node,
      `input ${dims.shapeText(input.shape)} and weight ${dims.shapeText(weight.shape)} must have rank 3`,
    );
  const [batch, channels, length] = input.shape as readonly [Dim, Dim, Dim];
  const kernel = weight.shape[2]!;
  const before = dims.sub(kernel, 1);
  // Element `at` of the past followed by the input.
  const joined = (n: Expr, c: Expr, at: Expr): Expr =>
    x.select(
      x.lt(at, x.int(before)),
      past ? x.load(past, [n, c, at]) : x.float(0),
      x.load(input, [n, c, x.sub(at, x.int(before))]),
    );
  const out = b.reduce(
    input.dtype,
    input.shape,
    [kernel],
    ([n, c, t], [k]) => [{ fn: "sum", body: () => x.mul(joined(n!, c!, x.add(t!, k!)), x.load(weight, [c!, x.int(0), k!])) }],
    ([sum], [, c]) => {
      const biased = bias ? x.add(sum!, x.load(bias, [c!])) : sum!;
      return activation === "none" ? biased : x.mul(biased, sigmoid(biased));
    },
  );
  return [
    out,
    b.map(past?.dtype ?? input.dtype, [batch, channels, before], ([n, c, t]) => joined(n!, c!, x.add(t!, x.int(length)))),
  ];
}

export const transformerParts: readonly Operator[] = [
  defineOp<RotaryAttributes>({
    name: "RotaryEmbedding",
    since: [23],
    attrs: (read) => ({
      interleaved: read.flag("interleaved"),
      heads: read.int("num_heads", 0),
      width: read.int("rotary_embedding_dim", 0),
    }),
    lower: (b, inputs, { interleaved, heads, width }, node) => {
      const [input, cos, sin, positions] = [need(node, inputs, 0), need(node, inputs, 1), need(node, inputs, 2), inputs[3]];
      const at = (n: Expr, s: Expr): Expr[] => (positions ? [x.load(positions, [n, s])] : [n, s]);
      return [
        rotate(b, node, input, heads, width, interleaved, (cache, n, s, pair) =>
          x.load(cache === "cos" ? cos : sin, [...at(n, s), pair]),
        ),
      ];
    },
  }),
  broadcasting<number>("SwiGLU", [28], ([a, c], _, alpha) => x.mul(x.mul(a!, sigmoid(x.mul(x.float(alpha), a!))), c!), {
    attrs: (read) => read.float("alpha", 1),
  }),
  defineOp<LinearAttributes>({
    name: "LinearAttention",
    since: [27],
    attrs: (read) => {
      read.ignore("chunk_size");
      return {
        qHeads: read.int("q_num_heads"),
        kvHeads: read.int("kv_num_heads"),
        scale: read.float("scale", 0),
        rule: read.string("update_rule", "gated_delta", UPDATE_RULES),
      };
    },
    lower: (b, inputs, attrs, node) => linearAttention(b, node, inputs, attrs),
  }),
  defineOp<string>({
    name: "CausalConvWithState",
    since: [27],
    attrs: (read) => read.string("activation", "none", ["none", "silu", "swish"]),
    lower: (b, inputs, activation, node) => causalConv(b, node, inputs, activation),
  }),
];
