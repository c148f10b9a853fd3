// Running sums and products. A long axis is cut into chunks: totals of the chunks are scanned the same way, then every
// element combines what is before its chunk with the elements before it in the chunk (Blelloch, "Prefix sums", 1990).
// ONNX: https://onnx.ai/onnx/operators/

import { ceilDiv, isStatic, sub } from "../ir/dims.ts";
import type { Expr } from "../ir/expr.ts";
import * as x from "../ir/expr.ts";
import type { Lowering } from "../ir/lower.ts";
import { type DType, scalarOf } from "../ir/types.ts";
import type { Value } from "../ir/value.ts";
import { axisIn, defineOp, intsOf, need, type Operator } from "./define.ts";
import { wrap } from "./elementwise.ts";

type Fold = "sum" | "prod";

const CHUNK = 32;
/** An axis of unknown length is cut this often; what is then left is combined directly. */
const SYMBOLIC_LEVELS = 2;

interface Order {
  readonly exclusive: boolean;
  readonly reverse: boolean;
}

/** out[i] = the fold of all elements before i (and of i itself, unless exclusive) along an axis. */
function scan(b: Lowering, fn: Fold, value: Value, axis: number, order: Order, level = 0): Value {
  const size = value.shape[axis]!;
  const wide: DType = scalarOf(value.dtype) === "f32" && value.dtype !== "f64" ? "f32" : value.dtype;
  const identity = x.constant(scalarOf(wide), fn === "sum" ? 0 : 1);
  const combine = fn === "sum" ? x.add : x.mul;
  /** Element k in the order of the scan. */
  const read = (i: readonly Expr[], k: Expr): Expr =>
    x.load(value, i.toSpliced(axis, 1, order.reverse ? x.sub(x.int(sub(size, 1)), k) : k));
  const step = (at: Expr): Expr => (order.reverse ? x.sub(x.int(sub(size, 1)), at) : at);
  const taken = (k: Expr, at: Expr): Expr => (order.exclusive ? x.lt(k, at) : x.le(k, at));

  if (isStatic(size) ? size <= CHUNK : level === SYMBOLIC_LEVELS) {
    return b.map(value.dtype, value.shape, (i) => {
      const k = x.variable("k", size);
      return wrap(x.reduce(fn, [k], x.select(taken(k, step(i[axis]!)), read(i, k), identity)), value.dtype);
    });
  }
  const chunks = ceilDiv(size, CHUNK);
  const totals = b.reduce(wide, value.shape.toSpliced(axis, 1, chunks), [CHUNK], (o, [k]) => {
    const at = x.add(x.mul(o[axis]!, x.int(CHUNK)), k!);
    return [{ fn, body: () => x.select(x.lt(at, x.int(size)), read(o, at), identity) }];
  });
  const before = scan(b, fn, totals, axis, { exclusive: true, reverse: false }, level + 1);
  return b.map(value.dtype, value.shape, (i: readonly Expr[]) => {
    const at = step(i[axis]!);
    const chunk = x.floorDiv(at, x.int(CHUNK));
    const k = x.variable("k", CHUNK);
    const inside = x.select(taken(k, x.floorMod(at, x.int(CHUNK))), read(i, x.add(x.mul(chunk, x.int(CHUNK)), k)), identity);
    return wrap(combine(x.load(before, i.toSpliced(axis, 1, chunk)), x.reduce(fn, [k], inside)), value.dtype);
  });
}

const scanning = (name: string, since: readonly number[], fn: Fold): Operator =>
  defineOp({
    name,
    since,
    attrs: (read): Order => ({ exclusive: read.flag("exclusive"), reverse: read.flag("reverse") }),
    lower: (b, inputs, order, node) => {
      const value = need(node, inputs, 0);
      return [scan(b, fn, value, axisIn(node, intsOf(node, need(node, inputs, 1), "axis")[0] ?? 0, value.shape.length), order)];
    },
  });

export const scans: readonly Operator[] = [scanning("CumSum", [11, 14], "sum"), scanning("CumProd", [26], "prod")];
