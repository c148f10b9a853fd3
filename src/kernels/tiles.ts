// Convolution by tiles of results: what the algorithms that transform tiles of the input share. A tile's input begins where its
// results do and overlaps the next tile's.

import { ceilDiv, type Dim, mul as mulDims, product } from "../ir/dims.ts";
import { add, and, bool, type Expr, float, int, lt, mul, select, substitute, within } from "../ir/expr.ts";
import { type ConvTask, mapStore } from "../ir/task.ts";

/** Tiles of `outputs` results along each axis: [batch, tiles…] and how many that is. */
export function tilesOf(task: ConvTask, outputs: readonly number[]): { readonly shape: readonly Dim[]; readonly count: Dim } {
  const shape = [task.batch.extent, ...task.out.map(({ extent }, axis) => ceilDiv(extent, outputs[axis]!))];
  return { shape, count: product(shape) };
}

/** Whether input and results are f16 in memory, so that little is lost when what lies between them is. */
export const isHalf = (task: ConvTask): boolean =>
  task.x.kind === "load" && task.x.value.dtype === "f16" && task.stores.every(({ value }) => value.dtype === "f16");

/** The input `at` elements from where tile `t` begins, 0 outside. */
export function inputAt(
  task: ConvTask,
  outputs: readonly number[],
  b: Expr,
  t: readonly Expr[],
  c: Expr,
  at: readonly Expr[],
): Expr {
  const position = t.map((tile, axis) =>
    add(mul(tile, int(outputs[axis]! * task.strides[axis]!)), at[axis]!, int(mulDims(task.pads[axis]!, -1))),
  );
  const inside = position.map((e, axis) => within(e, task.size[axis]!)).reduce((a, e) => and(a, e), bool(true));
  const index = [b, c, ...position];
  return select(inside, substitute(task.x, new Map(task.xVars.map((v, i) => [v, index[i]!]))), float(0));
}

/** The task's stores of result `at` of tile `t`, where it is not beyond the edge. */
export function storesAt(
  task: ConvTask,
  outputs: readonly number[],
  b: Expr,
  t: readonly Expr[],
  oc: Expr,
  at: readonly Expr[],
  result: Expr,
): ConvTask["stores"] {
  const position = t.map((tile, axis) => add(mul(tile, int(outputs[axis]!)), at[axis]!));
  const inside = position.map((e, axis) => lt(e, int(task.out[axis]!.extent))).reduce((a, e) => and(a, e), bool(true));
  const values = new Map<Expr, Expr>([
    [task.batch, b],
    [task.oc, oc],
    [task.acc, result],
    ...task.out.map((v, axis): [Expr, Expr] => [v, position[axis]!]),
  ]);
  return task.stores.map((store) => {
    const moved = mapStore(store, (e) => substitute(e, values));
    const when = and(inside, moved.when ?? bool(true));
    return when.kind === "const" && when.value ? moved : { ...moved, when };
  });
}
