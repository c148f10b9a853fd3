// Det: small matrices by cofactors, others by Gaussian elimination with partial pivoting, one column a turn.
// ONNX: https://onnx.ai/onnx/operators/onnx__Det.html

import { type Dim, isStatic, shapeText } from "../ir/dims.ts";
import type { Expr } from "../ir/expr.ts";
import * as x from "../ir/expr.ts";
import type { Lowering } from "../ir/lower.ts";
import type { Value } from "../ir/value.ts";
import { shapeMismatch } from "../util/errors.ts";
import { differ } from "./bounds.ts";
import { defineOp, need, type Operator } from "./define.ts";

/** Largest matrix whose determinant is one expression. */
const MAX_COFACTORS = 3;

function cofactors(element: (row: number, column: number) => Expr, columns: readonly number[], row = 0): Expr {
  if (columns.length === 0) return x.float(1);
  const terms = columns.map((column, k) => {
    const minor = x.mul(
      element(row, column),
      cofactors(
        element,
        columns.filter((other) => other !== column),
        row + 1,
      ),
    );
    return k % 2 === 0 ? minor : x.unary("neg", minor);
  });
  return terms.reduce((a, b) => x.add(a, b));
}

function eliminate(b: Lowering, matrices: Value, size: Dim): Value {
  const batch = matrices.shape.slice(0, -2);
  const one = b.map("f32", batch, () => x.float(1));
  const start = b.map("f32", matrices.shape, (i) => x.load(matrices, i));
  const [, determinant] = b.loop(size, [start, one], [], (inner, column, [current, factor]) => {
    const candidate = (n: readonly Expr[], row: Expr): Expr =>
      x.select(x.lt(row, column), x.float(-1), x.unary("abs", x.load(current!, [...n, row, column])));
    const pivot = inner.reduce("i32", batch, [size], (n, [row]) => [
      { fn: "max", body: () => candidate(n, row!) },
      { fn: "min", body: ([largest]) => x.select(x.eq(candidate(n, row!), largest!), row!, x.int(size)) },
    ]);
    // A column of NaN has no largest element: any row will do.
    const pivotRow = (n: readonly Expr[]): Expr => {
      const row = x.load(pivot, n);
      return x.select(x.lt(row, x.int(size)), row, column);
    };
    const value = (n: readonly Expr[]): Expr => x.load(current!, [...n, pivotRow(n), column]);
    const next = inner.map("f32", batch, (n) =>
      x.mul(x.load(factor!, n), x.select(x.eq(pivotRow(n), column), value(n), x.unary("neg", value(n)))),
    );
    const reduced = inner.map("f32", matrices.shape, (i) => {
      const [n, row, at] = [i.slice(0, -2), i.at(-2)!, i.at(-1)!];
      const from = x.select(x.eq(row, column), pivotRow(n), x.select(x.eq(row, pivotRow(n)), column, row));
      const element = x.load(current!, [...n, from, at]);
      const ratio = x.div(x.load(current!, [...n, from, column]), value(n));
      return x.select(
        x.and(x.lt(column, row), x.ne(value(n), x.float(0))),
        x.sub(element, x.mul(ratio, x.load(current!, [...n, pivotRow(n), at]))),
        element,
      );
    });
    return [reduced, next];
  });
  return b.map(matrices.dtype, batch, (n) => x.load(determinant!, n));
}

export const linearAlgebra: readonly Operator[] = [
  defineOp({
    name: "Det",
    since: [11, 22],
    lower: (b, inputs, _, node) => {
      const matrices = need(node, inputs, 0);
      const [rows, columns] = matrices.shape.slice(-2);
      if (rows === undefined || columns === undefined || differ(rows, columns))
        throw shapeMismatch(node, `an input of shape ${shapeText(matrices.shape)} holds no square matrices`);
      const size = isStatic(rows) ? rows : columns;
      if (!isStatic(size) || size > MAX_COFACTORS) return [eliminate(b, matrices, size)];
      const all = Array.from({ length: size }, (_, column) => column);
      return [
        b.map(matrices.dtype, matrices.shape.slice(0, -2), (n) =>
          cofactors((row, column) => x.load(matrices, [...n, x.int(row), x.int(column)]), all),
        ),
      ];
    },
  }),
];
