// Positions of the largest and smallest element of an axis. NaN counts as the most extreme, as in NumPy.
// ONNX: https://onnx.ai/onnx/operators/

import { type Dim, product, shapeText } from "../ir/dims.ts";
import type { Expr } from "../ir/expr.ts";
import * as x from "../ir/expr.ts";
import type { Lowering, ReduceStage } from "../ir/lower.ts";
import { isFloat, scalarOf } from "../ir/types.ts";
import type { Value } from "../ir/value.ts";
import { shapeMismatch } from "../util/errors.ts";
import { type AttributeReader, axisIn, defineOp, need, type Operator } from "./define.ts";
import { unsqueeze } from "./shape.ts";

type Extreme = "max" | "min";

/** Stages over `size` elements: the extreme value, then the first (or last) position of those that have it. */
function extremeStages(fn: Extreme, element: Expr, position: Expr, size: Dim, last: boolean, float: boolean): ReduceStage[] {
  const nan = float ? x.unary("isnan", element) : x.bool(false);
  const infinite = x.constant(element.type, float ? (fn === "max" ? Number.POSITIVE_INFINITY : Number.NEGATIVE_INFINITY) : 0);
  return [
    { fn, body: () => x.select(nan, infinite, element) },
    {
      fn: last ? "max" : "min",
      body: ([best]) => x.select(x.or(nan, x.eq(element, best!)), position, x.int(last ? -1 : size)),
    },
  ];
}

/** i64 positions of the extremes along an axis, which goes. */
export function argExtreme(b: Lowering, value: Value, fn: Extreme, axis: number, last: boolean): Value {
  const size = value.shape[axis]!;
  return b.reduce("i64", value.shape.toSpliced(axis, 1), [size], (outer, [inner]) => {
    const element = x.load(value, outer.toSpliced(axis, 0, inner!));
    const ordered = element.type === "bool" ? x.convert(element, "i32") : element;
    return extremeStages(fn, ordered, inner!, size, last, isFloat(value.dtype));
  });
}

const extreme = (name: string, fn: Extreme): Operator =>
  defineOp({
    name,
    since: [1, 11, 12, 13],
    attrs: (read) => ({ axis: read.int("axis", 0), keep: read.flag("keepdims", true), last: read.flag("select_last_index") }),
    lower: (b, inputs, { axis, keep, last }, node) => {
      const value = need(node, inputs, 0);
      const along = axisIn(node, axis, value.shape.length);
      if (value.shape[along] === 0) throw shapeMismatch(node, `axis ${along} of ${shapeText(value.shape)} is empty`);
      const found = argExtreme(b, value, fn, along, last);
      return [keep ? unsqueeze(b, found, [along]) : found];
    },
  });

export const argmax: readonly Operator[] = [
  extreme("ArgMax", "max"),
  extreme("ArgMin", "min"),
  defineOp({
    name: "Hardmax",
    since: [1, 11, 13],
    attrs: (read: AttributeReader) => read.int("axis"),
    lower: (b, inputs, given, node) => {
      const value = need(node, inputs, 0);
      const rank = value.shape.length;
      // Before opset 13 all axes from `axis` on are one.
      const first = axisIn(node, given ?? (node.opset < 13 ? 1 : -1), rank, node.opset < 13);
      const axes = value.shape.flatMap((_, axis) => (axis === first || (node.opset < 13 && axis > first) ? [axis] : []));
      const sizes = axes.map((axis) => value.shape[axis]!);
      const type = scalarOf(value.dtype);
      const position = (i: readonly Expr[]): Expr =>
        x.flatten(
          axes.map((axis) => i[axis]!),
          sizes,
        );
      return [
        b.rows(
          value.dtype,
          value.shape,
          axes,
          (i) => extremeStages("max", x.load(value, i), position(i), product(sizes), false, isFloat(value.dtype)),
          ([, best], i) => x.select(x.eq(position(i), best!), x.constant(type, 1), x.constant(type, 0)),
        ),
      ];
    },
  }),
];
