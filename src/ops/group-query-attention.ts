// com.microsoft.GroupQueryAttention: causal attention over a cache that each call writes its new keys and values into.
// https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.GroupQueryAttention

import * as dims from "../ir/dims.ts";
import type { Expr } from "../ir/expr.ts";
import * as x from "../ir/expr.ts";
import { contentsOf, type Lowering } from "../ir/lower.ts";
import type { Value } from "../ir/value.ts";
import { badAttribute } from "../util/errors.ts";
import { appended, attend, bothAllowed, type Heads, headsFrom, headsOf, mergeHeads, windowed } from "./attend.ts";
import { loadBroadcast } from "./broadcast.ts";
import { defineOp, type NodeFacts, need, type Operator } from "./define.ts";
import { rotated } from "./transformer.ts";

interface GroupAttributes {
  readonly heads: number;
  readonly kvHeads: number;
  readonly scale: number | undefined;
  readonly softcap: number;
  readonly rotary: boolean;
  readonly interleaved: boolean;
  /** How many keys a query sees, its own included; -1 for all. */
  readonly window: number;
  readonly smooth: boolean;
}

/**
 * GroupQueryAttention: causal, with a cache in which sequence b holds seqlens_k[b] + 1 keys once the new ones are in. A
 * prompt (as many queries as keys in all) starts at position 0 and may be padded on the right.
 */
function groupQueryAttention(
  b: Lowering,
  node: NodeFacts,
  inputs: readonly (Value | undefined)[],
  attrs: GroupAttributes,
): (Value | undefined)[] {
  const { heads, kvHeads } = attrs;
  if (heads <= 0 || kvHeads <= 0 || heads % kvHeads !== 0)
    throw badAttribute(node, "num_heads", String(heads), `a multiple of kv_num_heads = ${kvHeads}`);
  const query = need(node, inputs, 0);
  const [key, value, pastKey, pastValue] = inputs.slice(1, 5);
  const [lengths, totals, cos, sin, positions, extra, sinks] = [
    need(node, inputs, 5),
    need(node, inputs, 6),
    ...inputs.slice(7),
  ];
  const size = dims.floorDiv(query.shape[2]!, key ? heads : heads + 2 * kvHeads);
  const [q, newK, newV] =
    key && value
      ? [headsOf(node, query, heads), headsOf(node, key, kvHeads), headsOf(node, value, kvHeads)]
      : [
          headsFrom(query, 0, heads, size),
          headsFrom(query, dims.mul(size, heads), kvHeads, size),
          headsFrom(query, dims.mul(size, heads + kvHeads), kvHeads, size),
        ];
  const queries = q.shape[2];
  const buffer = pastKey ? pastKey.shape[2]! : 0;
  const known = contentsOf(totals!)?.[0];
  const keys = dims.max(buffer, known ?? dims.add(buffer, queries));
  const length = (n: Expr): Expr =>
    x.add(
      x.load(
        lengths!,
        lengths!.shape.map((_, axis) => (axis === 0 ? n : x.int(0))),
      ),
      x.int(1),
    );
  const prompt = x.eq(
    x.load(
      totals!,
      totals!.shape.map(() => x.int(0)),
    ),
    x.int(queries),
  );
  /** How many keys of sequence n are in the cache before this call. */
  const before = (n: Expr): Expr => x.select(prompt, x.int(0), x.sub(length(n), x.int(queries)));
  const turned = (view: Heads): Heads => {
    if (!attrs.rotary || !cos || !sin) return view;
    const at = (n: Expr, s: Expr): Expr => (positions ? x.load(positions, [n, s]) : x.add(before(n), s));
    return {
      shape: view.shape,
      read: ([n, h, s, d]) =>
        rotated(
          (e) => view.read([n!, h!, s!, e]),
          d!,
          dims.mul(cos.shape[1]!, 2),
          attrs.interleaved,
          (pair) => x.load(cos, [at(n!, s!), pair]),
          (pair) => x.load(sin, [at(n!, s!), pair]),
        ),
    };
  };
  const cache = (past: Value | undefined, now: Heads): Value =>
    b.map(query.dtype, [now.shape[0], kvHeads, keys, now.shape[3]], ([n, h, s, d]) => {
      const at = x.sub(s!, before(n!));
      const old = past ? x.select(x.lt(s!, x.int(buffer)), x.load(past, [n!, h!, s!, d!]), x.float(0)) : x.float(0);
      return x.select(x.within(at, queries), now.read([n!, h!, at, d!]), old);
    });
  const [presentKey, presentValue] = [cache(pastKey, turned(newK)), cache(pastValue, newV)];
  const rotatedQuery = attrs.rotary ? appended(b, query.dtype, undefined, turned(q)) : undefined;
  const target = [q.shape[0], heads, queries, keys];
  const { out } = attend(b, {
    q: rotatedQuery ? headsOf(node, rotatedQuery, undefined) : q,
    k: headsOf(node, presentKey, undefined),
    v: headsOf(node, presentValue, undefined),
    dtype: query.dtype,
    scale: attrs.scale,
    softcap: attrs.softcap,
    bias: extra && ((index) => loadBroadcast(extra, index, target)),
    allowed: bothAllowed(
      windowed((index) => x.add(index[2]!, before(index[0]!)), true, attrs.window < 0 ? -1 : attrs.window - 1, -1),
      (index) => x.lt(index[3]!, length(index[0]!)),
    ),
    sink: sinks ? (head) => x.load(sinks, [head]) : attrs.smooth ? () => x.float(0) : undefined,
  });
  return [mergeHeads(b, out), presentKey, presentValue];
}

export const GroupQueryAttention: Operator = defineOp<GroupAttributes>({
  name: "GroupQueryAttention",
  domain: "com.microsoft",
  since: [1],
  attrs: (read) => {
    const scale = read.float("scale", 0);
    read.ignore("qk_output");
    return {
      heads: read.int("num_heads", 0),
      kvHeads: read.int("kv_num_heads", 0),
      scale: scale === 0 ? undefined : scale,
      softcap: read.float("softcap", 0),
      rotary: read.flag("do_rotary"),
      interleaved: read.flag("rotary_interleaved"),
      window: read.int("local_window_size", -1),
      smooth: read.flag("smooth_softmax"),
    };
  },
  lower: (b, inputs, attrs, node) => groupQueryAttention(b, node, inputs, attrs),
});
