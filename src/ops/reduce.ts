// Reductions over axes: ReduceSum and its kin, whose axes are an attribute or, in later versions, an input.
// ONNX: https://onnx.ai/onnx/operators/onnx__ReduceSum.html

import type { Dim } from "../ir/dims.ts";
import * as dims from "../ir/dims.ts";
import type { BinaryFn, Combiner, Expr } from "../ir/expr.ts";
import * as x from "../ir/expr.ts";
import { contentsOf, type Lowering, type ReduceStage } from "../ir/lower.ts";
import { type DType, isInteger } from "../ir/types.ts";
import type { Value } from "../ir/value.ts";
import { axisIn, defineOp, intsOf, type NodeFacts, need, type Operator } from "./define.ts";
import { integerRange } from "./quantized.ts";

/** Which axes a reduction drops (or keeps with size 1), and how its result's index meets the input's. */
export interface Reduction {
  readonly axes: readonly number[];
  readonly outer: readonly Dim[];
  readonly inner: readonly Dim[];
  /** How many elements are combined, as f32. */
  readonly count: Expr;
  readonly index: (o: readonly Expr[], i: readonly Expr[]) => Expr[];
}

export function reductionOver(shape: readonly Dim[], axes: readonly number[], keep: boolean): Reduction {
  const inner = axes.map((axis) => shape[axis]!);
  const outer = shape.flatMap((dim, axis) => (!axes.includes(axis) ? [dim] : keep ? [1] : []));
  const kept = shape.map((_, axis) => axis).filter((axis) => keep || !axes.includes(axis));
  return {
    axes,
    outer,
    inner,
    count: x.convert(x.int(dims.product(inner)), "f32"),
    index: (o, i) => shape.map((_, axis) => (axes.includes(axis) ? i[axes.indexOf(axis)]! : o[kept.indexOf(axis)]!)),
  };
}

/** What a reduction computes, given element expressions in the scalar type of the input. */
interface Rule {
  readonly name: string;
  readonly since: readonly number[];
  /** Integer inputs are computed in f32 and cut back. */
  readonly throughFloat?: boolean;
  readonly stages: (element: Expr, dtype: DType) => readonly ReduceStage[];
  readonly finish?: (results: readonly Expr[], count: Expr, dtype: DType, inner: readonly Dim[]) => Expr;
  /** For shape arithmetic on integers that are known as dimensions. */
  readonly fold?: BinaryFn;
}

const one =
  (fn: Combiner, body: (e: Expr) => Expr = (e) => e) =>
  (e: Expr): readonly ReduceStage[] => [{ fn, body: () => body(e) }];
const square = (e: Expr): Expr => x.mul(e, e);
const absolute = (e: Expr): Expr => (e.type === "u32" ? e : x.unary("abs", e));

/** An extremum; over no elements it is the type's own limit. */
const extremum = (fn: "max" | "min"): Pick<Rule, "stages" | "finish"> => ({
  stages: (e) => [{ fn: e.type === "bool" ? (fn === "max" ? "any" : "all") : fn, body: () => e }],
  finish: ([most], _, dtype, inner) => {
    if (!isInteger(dtype) || inner.every((dim) => dims.isStatic(dim) && dim > 0)) return most!;
    const [low, high] = integerRange(dtype === "i64" ? "i32" : dtype === "u64" ? "u32" : dtype);
    const limit = x.constant(most!.type, fn === "max" ? low : high);
    return x.select(x.eq(x.int(dims.product(inner)), x.int(0)), limit, most!);
  },
});

const RULES: readonly Rule[] = [
  { name: "ReduceSum", since: [1, 11, 13], stages: one("sum"), fold: "add" },
  { name: "ReduceProd", since: [1, 11, 13, 18], stages: one("prod"), fold: "mul" },
  { name: "ReduceMax", since: [1, 11, 12, 13, 18, 20], ...extremum("max"), fold: "max" },
  { name: "ReduceMin", since: [1, 11, 12, 13, 18, 20], ...extremum("min"), fold: "min" },
  {
    name: "ReduceMean",
    since: [1, 11, 13, 18],
    stages: one("sum"),
    finish: ([sum], count) =>
      sum!.type === "f32" ? x.div(sum!, count) : x.binary("quot", sum!, x.convert(count, sum!.type === "i32" ? "i32" : "u32")),
  },
  { name: "ReduceSumSquare", since: [1, 11, 13, 18], stages: one("sum", square) },
  { name: "ReduceL1", since: [1, 11, 13, 18], stages: one("sum", absolute) },
  {
    name: "ReduceL2",
    since: [1, 11, 13, 18],
    throughFloat: true,
    stages: one("sum", square),
    finish: ([sum]) => x.unary("sqrt", sum!),
  },
  {
    name: "ReduceLogSum",
    since: [1, 11, 13, 18],
    throughFloat: true,
    stages: one("sum"),
    finish: ([sum]) => x.unary("log", sum!),
  },
  {
    name: "ReduceLogSumExp",
    since: [1, 11, 13, 18],
    throughFloat: true,
    // The maximum is subtracted so that exp cannot overflow; an infinite one would make NaN of the difference.
    stages: (e) => [
      { fn: "max", body: () => e },
      { fn: "sum", body: ([most]) => x.unary("exp", x.sub(e, finiteOr0(most!))) },
    ],
    finish: ([most, sum]) => x.add(x.unary("log", sum!), finiteOr0(most!)),
  },
];

const finiteOr0 = (e: Expr): Expr => x.select(x.unary("isinf", e), x.float(0), e);

interface ReduceAttributes {
  readonly axes: readonly number[] | undefined;
  readonly keep: boolean;
  readonly noop: boolean;
}

/** Axes from the attribute or the input, in [0, rank); none given means all, unless noop_with_empty_axes is set. */
function axesOf(
  node: NodeFacts,
  inputs: readonly (Value | undefined)[],
  attrs: ReduceAttributes,
  rank: number,
): readonly number[] {
  const given = inputs[1] ? intsOf(node, inputs[1], "axes") : (attrs.axes ?? []);
  if (given.length === 0) return attrs.noop ? [] : Array.from({ length: rank }, (_, axis) => axis);
  return [...new Set(given.map((axis) => axisIn(node, axis, rank)))].sort((a, c) => a - c);
}

function lowerReduction(
  b: Lowering,
  node: NodeFacts,
  inputs: readonly (Value | undefined)[],
  attrs: ReduceAttributes,
  rule: Rule,
): Value {
  const input = need(node, inputs, 0);
  const { dtype } = input;
  const { outer, inner, count, index } = reductionOver(
    input.shape,
    axesOf(node, inputs, attrs, input.shape.length),
    attrs.keep,
  );
  const known =
    rule.fold && isInteger(dtype) && dims.isStaticShape(inner) && inner.every((dim) => dim > 0) ? contentsOf(input) : undefined;
  if (known) {
    const places = Array.from({ length: dims.product(inner) as number }, (_, flat) => x.unflatten(x.int(flat), inner));
    return b.map(dtype, outer, (o) =>
      places.map((i) => x.load(input, index(o, i))).reduce((a, c) => x.binary(rule.fold!, a, c)),
    );
  }
  const widen = (e: Expr): Expr => (rule.throughFloat ? x.convert(e, "f32") : e);
  return b.reduce(
    dtype,
    outer,
    inner,
    (o, i) => rule.stages(widen(x.load(input, index(o, i))), dtype),
    (results) => {
      const result = rule.finish ? rule.finish(results, count, dtype, inner) : results[0]!;
      return isInteger(dtype) ? x.convert(result, dtype) : result;
    },
  );
}

export const reductions: readonly Operator[] = RULES.map((rule) =>
  defineOp<ReduceAttributes>({
    name: rule.name,
    since: rule.since,
    attrs: (read) => ({ axes: read.ints("axes"), keep: read.flag("keepdims", true), noop: read.flag("noop_with_empty_axes") }),
    lower: (b, inputs, attrs, node) => [lowerReduction(b, node, inputs, attrs, rule)],
  }),
);
