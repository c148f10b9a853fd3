// Cuts a map that chooses by position, as concatenation does, into maps over the ranges in which it need not choose.

import { add, type Dim, dimText, interval, sub } from "../ir/dims.ts";
import { AT_LEAST_ONE, type Expr, int, add as plus, substitute, type Var, variable, visit } from "../ir/expr.ts";
import { type MapTask, mapStore } from "../ir/task.ts";
import { soleStore } from "./task-graph.ts";

export interface Cuts {
  readonly axis: Var;
  /** Where ranges begin, after the first, in ascending order. */
  readonly at: readonly Dim[];
}

/** The positions of one variable at which a map chooses between expressions; undefined where it does not, or by several variables. */
export function cutsOf(map: MapTask): Cuts | undefined {
  const store = soleStore(map);
  if (!store) return undefined;
  let axis: Var | undefined;
  let mixed = false;
  const at = new Map<string, Dim>();
  visit([store.expr], (e) => {
    if (e.kind !== "select" || e.condition.kind !== "binary" || e.condition.fn !== "lt") return;
    const { a, b } = e.condition;
    if (a.kind !== "var" || b.kind !== "dim" || !map.vars.includes(a)) return;
    mixed ||= axis !== undefined && axis !== a;
    axis = a;
    at.set(dimText(b.dim), b.dim);
  });
  const sorted = axis && !mixed ? inOrder([...at.values()]) : undefined;
  return sorted && { axis: axis!, at: sorted };
}

export const isJoin = (map: MapTask): boolean => cutsOf(map) !== undefined;

/** Dimensions in ascending order, when that is provable. */
function inOrder(dims: readonly Dim[]): readonly Dim[] | undefined {
  const least = (dim: Dim): number => interval(dim, AT_LEAST_ONE)[0];
  const sorted = [...dims].sort((a, b) => (least(sub(b, a)) > 0 ? -1 : 1));
  return sorted.every((dim, i) => i === 0 || least(sub(dim, sorted[i - 1]!)) > 0) ? sorted : undefined;
}

/** The map as one over each range, in order; together they store what it does. */
export const piecesOf = (map: MapTask, { axis, at }: Cuts): readonly MapTask[] =>
  [0, ...at].map((start, i): MapTask => range(map, axis, start, sub(at[i] ?? axis.extent, start)));

/** The part of a map in which `axis` is in [start, start + size). */
export function range(map: MapTask, axis: Var, start: Dim, size: Dim): MapTask {
  const inside = variable(axis.name, size);
  const moved = new Map<Expr, Expr>([[axis, plus(inside, int(start))]]);
  return {
    ...map,
    vars: map.vars.map((v) => (v === axis ? inside : v)),
    stores: map.stores.map((store) => mapStore(store, (e) => substitute(e, moved))),
  };
}

/** Where the range of a piece ends, given those before it. */
export const endOf = (start: Dim, piece: MapTask, axis: number): Dim => add(start, piece.vars[axis]!.extent);
