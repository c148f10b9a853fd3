// TopK: sorting by rank. An element's rank is the number of elements that come before it; ranks are a permutation, so every
// element knows its place. A long axis is thinned first: only the k first of each chunk can be among the k first of all.
// ONNX: https://onnx.ai/onnx/operators/onnx__TopK.html

import { ceilDiv, type Dim, isStatic, mul, shapeText, sub } from "../ir/dims.ts";
import type { Expr } from "../ir/expr.ts";
import * as x from "../ir/expr.ts";
import type { Lowering } from "../ir/lower.ts";
import { isFloat } from "../ir/types.ts";
import type { Value } from "../ir/value.ts";
import { badAttribute, shapeMismatch } from "../util/errors.ts";
import { axisIn, defineOp, dimsOf, need, type Operator } from "./define.ts";

/** Elements that a chunk holds at least where the axis is thinned. */
const MIN_CHUNK = 512;

/** Candidates along `axis` of `value`: all of it, or those whose positions `at` lists (-1: none). */
interface Candidates {
  readonly value: Value;
  readonly axis: number;
  readonly at: Value | undefined;
  readonly size: Dim;
}

const put = (i: readonly Expr[], axis: number, e: Expr): Expr[] => i.toSpliced(axis, 1, e);

/** Whether candidate p (at position `pi`) comes before candidate q: by value, NaN as the largest, then by position. */
function comesBefore(p: Expr, pi: Expr, q: Expr, qi: Expr, largest: boolean, float: boolean): Expr {
  const [bigger, smaller] = largest ? [p, q] : [q, p];
  const above = float
    ? x.or(x.lt(smaller, bigger), x.and(x.unary("isnan", bigger), x.not(x.unary("isnan", smaller))))
    : x.lt(smaller, bigger);
  const equal = float ? x.or(x.eq(p, q), x.and(x.unary("isnan", p), x.unary("isnan", q))) : x.eq(p, q);
  return x.or(above, x.and(equal, x.lt(pi, qi)));
}

/** Positions of the `k` first candidates of every run of `chunk`, in order; -1 where a run has fewer. */
function firstOfRuns(b: Lowering, { value, axis, at, size }: Candidates, chunk: Dim, k: Dim, largest: boolean): Value {
  const runs = ceilDiv(size, chunk);
  const whole = runs === 1;
  const padded = value.shape.toSpliced(axis, 1, mul(runs, chunk));
  const float = isFloat(value.dtype);
  /** Position of candidate `c` on the axis, -1 where there is none. */
  const position = (i: readonly Expr[], c: Expr): Expr => {
    const held = at ? x.load(at, put(i, axis, c)) : c;
    return whole ? held : x.select(x.lt(c, x.int(size)), held, x.int(-1));
  };
  const exists = (p: Expr): Expr => (at || !whole ? x.ge(p, x.int(0)) : x.bool(true));
  const rank = b.reduce("i32", padded, [chunk], (o, [r]) => {
    const mine = position(o, o[axis]!);
    const start = x.mul(x.floorDiv(o[axis]!, x.int(chunk)), x.int(chunk));
    const other = x.add(start, r!);
    const theirs = position(o, other);
    const read = (p: Expr): Expr => x.load(value, put(o, axis, p));
    // The missing come after all others, in the order they stand.
    const before = x.select(
      exists(theirs),
      x.select(exists(mine), comesBefore(read(theirs), theirs, read(mine), mine, largest, float), x.bool(true)),
      x.and(x.not(exists(mine)), x.lt(other, o[axis]!)),
    );
    return [{ fn: "sum", body: () => x.select(before, x.int(1), x.int(0)) }];
  });
  const empty = b.map("i32", padded, () => x.int(-1));
  const order = b.scatter(empty, padded, (i) => {
    const start = x.mul(x.floorDiv(i[axis]!, x.int(chunk)), x.int(chunk));
    return { index: put(i, axis, x.add(start, x.load(rank, i))), expr: position(i, i[axis]!) };
  });
  return b.map("i32", value.shape.toSpliced(axis, 1, mul(runs, k)), (i) => {
    const [run, place] = [x.floorDiv(i[axis]!, x.int(k)), x.floorMod(i[axis]!, x.int(k))];
    return x.load(order, put(i, axis, x.add(x.mul(run, x.int(chunk)), place)));
  });
}

/** Positions (i32) of the `k` first elements along `axis`, in order; elements of equal value in the order they stand. */
export function topPositions(b: Lowering, value: Value, axis: number, k: Dim, largest: boolean): Value {
  if (k === 0) return b.map("i32", value.shape.toSpliced(axis, 1, 0), () => x.int(0));
  let candidates: Candidates = { value, axis, at: undefined, size: value.shape[axis]! };
  const chunk = isStatic(k) ? Math.max(MIN_CHUNK, 4 * k) : Number.POSITIVE_INFINITY;
  while (isStatic(candidates.size) && candidates.size > 2 * chunk) {
    const at = firstOfRuns(b, candidates, chunk, k, largest);
    candidates = { value, axis, at, size: at.shape[axis]! };
  }
  return firstOfRuns(b, candidates, candidates.size, k, largest);
}

export const sorting: readonly Operator[] = [
  defineOp({
    name: "TopK",
    since: [1, 10, 11, 24],
    attrs: (read) => {
      read.ignore("sorted");
      return { axis: read.int("axis", -1), k: read.int("k"), largest: read.flag("largest", true) };
    },
    lower: (b, inputs, { axis, k, largest }, node) => {
      const value = need(node, inputs, 0);
      const along = axisIn(node, axis, value.shape.length);
      const count = inputs[1] ? dimsOf(node, inputs[1], "k")[0] : k;
      if (count === undefined) throw badAttribute(node, "k", "missing", "how many to take");
      const room = sub(value.shape[along]!, count);
      if (isStatic(room) && room < 0)
        throw shapeMismatch(node, `k is ${shapeText([count])}, axis ${along} of ${shapeText(value.shape)} has fewer elements`);
      const at = topPositions(b, value, along, count, largest);
      const shape = value.shape.toSpliced(along, 1, count);
      return [
        b.map(value.dtype, shape, (i) => x.load(value, put(i, along, x.load(at, i)))),
        b.map("i64", shape, (i) => x.load(at, i)),
      ];
    },
  }),
];
