// Means, variances and what normalizations do with them. The variance is a second pass over (x − mean)², which keeps its
// digits where E[x²] − E[x]² would lose them.

import type { Dim } from "../ir/dims.ts";
import * as dims from "../ir/dims.ts";
import type { Expr } from "../ir/expr.ts";
import * as x from "../ir/expr.ts";
import type { Lowering, ReduceStage } from "../ir/lower.ts";
import type { DType } from "../ir/types.ts";
import type { Value } from "../ir/value.ts";
import { readBroadcast } from "./broadcast.ts";
import type { NodeFacts } from "./define.ts";
import { type Reduction, reductionOver } from "./reduce.ts";

/** Reads an element by its index. */
export type Read = (index: readonly Expr[]) => Expr;

export const square = (e: Expr): Expr => x.mul(e, e);
export const countOf = (shape: readonly Dim[], axes: readonly number[]): Expr =>
  x.convert(x.int(dims.product(axes.map((axis) => shape[axis]!))), "f32");
export const axesFrom = (first: number, rank: number): readonly number[] =>
  Array.from({ length: rank - first }, (_, i) => first + i);

/** Stages whose results are the sum and the sum of squared distances from the mean. */
export const moments = (element: Expr, count: Expr): readonly ReduceStage[] => [
  { fn: "sum", body: () => element },
  { fn: "sum", body: ([sum]) => square(x.sub(element, x.div(sum!, count))) },
];

/** 1 / √(variance + epsilon). */
export const inverseDeviation = (squares: Expr, count: Expr, epsilon: number): Expr =>
  x.div(x.float(1), x.unary("sqrt", x.add(x.div(squares, count), x.float(epsilon))));

/** (x − mean) / √(variance + epsilon) over `axes`; `finish` scales and shifts. */
export function normalize(
  b: Lowering,
  dtype: DType,
  shape: readonly Dim[],
  axes: readonly number[],
  read: Read,
  epsilon: number,
  finish: (normal: Expr, index: readonly Expr[]) => Expr,
): Value {
  const count = countOf(shape, axes);
  return b.rows(
    dtype,
    shape,
    axes,
    (index) => moments(read(index), count),
    ([sum, squares], index) =>
      finish(x.mul(x.sub(read(index), x.div(sum!, count)), inverseDeviation(squares!, count, epsilon)), index),
  );
}

/** x / √(mean(x²) + epsilon) over `axes`. */
export function rmsNormalize(
  b: Lowering,
  dtype: DType,
  shape: readonly Dim[],
  axes: readonly number[],
  read: Read,
  epsilon: number,
  finish: (normal: Expr, index: readonly Expr[]) => Expr,
): Value {
  const count = countOf(shape, axes);
  return b.rows(
    dtype,
    shape,
    axes,
    (index) => [{ fn: "sum", body: () => square(read(index)) }],
    ([squares], index) => finish(x.mul(read(index), inverseDeviation(squares!, count, epsilon)), index),
  );
}

/** The mean over `over`, one element an outer index. */
export const meanOver = (b: Lowering, dtype: DType, over: Reduction, read: Read): Value =>
  b.reduce(
    dtype,
    over.outer,
    over.inner,
    (o, i) => [{ fn: "sum", body: () => read(over.index(o, i)) }],
    ([sum]) => x.div(sum!, over.count),
  );

/** The mean squared distance from the mean over `over`, through `finish`. */
export const varianceOver = (
  b: Lowering,
  dtype: DType,
  over: Reduction,
  read: Read,
  finish: (squares: Expr) => Expr = (squares) => x.div(squares, over.count),
): Value =>
  b.reduce(
    dtype,
    over.outer,
    over.inner,
    (o, i) => moments(read(over.index(o, i)), over.count),
    ([, squares]) => finish(squares!),
  );

/** Outputs 1 and 2 of the layer normalizations: mean and 1 / deviation, where wanted. */
export function layerStatistics(
  b: Lowering,
  shape: readonly Dim[],
  axes: readonly number[],
  read: Read,
  epsilon: number,
  wanted: { readonly mean: boolean; readonly inverse: boolean },
  dtype: DType,
): readonly [Value | undefined, Value | undefined] {
  const over = reductionOver(shape, axes, true);
  return [
    wanted.mean ? meanOver(b, dtype, over, read) : undefined,
    wanted.inverse
      ? varianceOver(b, dtype, over, read, (squares) => inverseDeviation(squares, over.count, epsilon))
      : undefined,
  ];
}

/** Scale and shift by values that broadcast to `shape`. */
export function affine(
  node: NodeFacts,
  shape: readonly Dim[],
  scale: Value | undefined,
  shift: Value | undefined,
): (e: Expr, index: readonly Expr[]) => Expr {
  const [readScale, readShift] = [scale && readBroadcast(node, scale, shape), shift && readBroadcast(node, shift, shape)];
  return (e, index) => {
    const grown = readScale ? x.mul(e, readScale(index)) : e;
    return readShift ? x.add(grown, readShift(index)) : grown;
  };
}
