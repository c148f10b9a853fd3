// What fusion weighs: operations and loads of an expression, and how often a reader evaluates each element that it reads.

import { type Dim, isStatic, product } from "../ir/dims.ts";
import { type Expr, loadsOf, operands, type Var } from "../ir/expr.ts";
import { expressionsOfStore, type KernelTask, parallelVars } from "../ir/task.ts";
import type { Value } from "../ir/value.ts";
import { loadsFrom } from "./task-graph.ts";

const EXPENSIVE = new Set([
  "exp",
  "log",
  "sin",
  "cos",
  "tan",
  "tanh",
  "erf",
  "pow",
  "sinh",
  "cosh",
  "asin",
  "acos",
  "atan",
  "asinh",
  "acosh",
  "atanh",
  "atan2",
]);

/** Operations of one evaluation, index arithmetic left out; loops count as infinitely many. */
export function operationsOf(expr: Expr): number {
  const seen = new Set<Expr>();
  const cost = (e: Expr): number => {
    if (seen.has(e)) return 0;
    seen.add(e);
    if (e.kind === "reduce") return Number.POSITIVE_INFINITY;
    if (e.kind === "load") return e.index.some((index) => loadsOf([index]).length > 0) ? 1 : 0;
    if (e.kind === "linear") return 0;
    const own =
      e.kind === "unary" || e.kind === "binary"
        ? EXPENSIVE.has(e.fn)
          ? 4
          : 1
        : e.kind === "select" || e.kind === "convert"
          ? 1
          : 0;
    return operands(e).reduce((sum, operand) => sum + cost(operand), own);
  };
  return cost(expr);
}

/** Loads of an expression that touch about as many elements as it is evaluated for: all but those of small values. */
export const wideLoadsOf = (expr: Expr, elements: number): number =>
  loadsOf([expr]).filter(({ value }) => elementsOf(value.shape) * 4 > elements).length;

/** One element of another value, moved (reshape, transpose, slice, broadcast), or nothing but a number. */
export const isView = (expr: Expr): boolean => expr.kind === "load" || expr.kind === "dim" || expr.kind === "const";

/** What a size counts as when only the run knows it. */
const TYPICAL = 64;
export const elementsOf = (shape: readonly Dim[]): number => {
  const size = product(shape);
  return isStatic(size) ? size : shape.reduce<number>((total, dim) => total * (isStatic(dim) ? dim : TYPICAL), 1);
};
const extentOf = (vars: readonly Var[]): number => elementsOf(vars.map(({ extent }) => extent));

/** Results along one side of a tile that share an operand's element. */
const TILE = 128;
const shares = (extent: number): number => Math.ceil(extent / TILE);
/** Times that attention reads its keys. */
const rowsOf = (queries: number): number => Math.ceil(queries / 16);

/** How often a task evaluates each element of `value` on average, where tiles share what they load. */
export function evaluationsOf(task: KernelTask, value: Value): number {
  const elements = Math.max(1, elementsOf(value.shape));
  const points = extentOf(parallelVars(task));
  const count = (expressions: readonly Expr[], times: number): number =>
    (loadsFrom(expressions, value).length * times) / elements;
  const stores = task.stores.flatMap(expressionsOfStore);
  switch (task.kind) {
    case "block":
      return task.parts.reduce((sum, part) => sum + evaluationsOf(part, value), 0);
    case "map":
      return count(stores, points);
    case "reduce": {
      const all = points * extentOf(task.inner);
      return task.stages.reduce((sum, { body }) => sum + count([body], all), count(stores, task.each ? all : points));
    }
    case "gemm": {
      const [batch, m, n, k] = [extentOf(task.batch), extentOf([task.m]), extentOf([task.n]), extentOf([task.k])];
      return count([task.a], batch * m * k * shares(n)) + count([task.b], batch * k * n * shares(m)) + count(stores, points);
    }
    case "attention": {
      const [batch, m, n, k, d] = [
        extentOf(task.batch),
        extentOf([task.m]),
        extentOf([task.n]),
        extentOf([task.k]),
        extentOf([task.d]),
      ];
      const ofKeys = count([task.key], batch * k * d * rowsOf(m)) + count([task.v], batch * k * n * rowsOf(m));
      return (
        count([task.q], batch * m * d) +
        ofKeys +
        count([task.score], batch * m * k) +
        count([task.shift], batch * m) +
        count(stores, points)
      );
    }
    case "conv": {
      const positions = extentOf([task.batch, ...task.out]);
      const [channels, taps] = [extentOf([task.ic]) * task.groups, extentOf(task.kernel)];
      const perGroup = extentOf([task.oc]) / task.groups;
      return (
        count([task.x], positions * channels * taps * shares(perGroup)) +
        count([task.w], extentOf([task.oc, task.ic]) * taps * shares(positions)) +
        count(stores, points)
      );
    }
  }
}
