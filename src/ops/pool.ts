// Pooling: windows that slide over the spatial axes, and pooling over all of them. ONNX: https://onnx.ai/onnx/operators/

import type { Dim } from "../ir/dims.ts";
import * as dims from "../ir/dims.ts";
import type { Expr } from "../ir/expr.ts";
import * as x from "../ir/expr.ts";
import type { Lowering, ReduceStage } from "../ir/lower.ts";
import { type DType, scalarOf } from "../ir/types.ts";
import type { Value } from "../ir/value.ts";
import { badAttribute, shapeMismatch } from "../util/errors.ts";
import { type AttributeReader, defineOp, dimsOf, type NodeFacts, need, type Operator } from "./define.ts";
import {
  countWithin,
  inside,
  padsOf,
  perAxis,
  placeWindows,
  positionIn,
  readWindow,
  type Window,
  type WindowAttributes,
} from "./window.ts";

interface PoolAttributes extends WindowAttributes {
  readonly ceil: boolean;
}

export const readPool = (read: AttributeReader): PoolAttributes => ({ ...readWindow(read), ceil: read.flag("ceil_mode") });

/** Places a pooling kernel over channels-first `input` [n, c, spatial…]. */
function poolWindow(node: NodeFacts, input: Value, attrs: PoolAttributes): Window {
  const size = input.shape.slice(2);
  if (size.length === 0) throw shapeMismatch(node, `input ${dims.shapeText(input.shape)} has no spatial axes`);
  if (!attrs.kernel || attrs.kernel.length !== size.length)
    throw badAttribute(node, "kernel_shape", `[${attrs.kernel?.join(", ") ?? ""}]`, `${size.length} numbers`);
  return placeWindows(node, size, attrs.kernel, attrs, attrs.ceil);
}

/** The element of `input` under kernel element `k` of window `o`, `outside` where that is padding. */
function underWindow(
  input: Value,
  window: Window,
  [n, c, ...o]: readonly Expr[],
  k: readonly Expr[],
  outside: Expr,
  change: (e: Expr) => Expr = (e) => e,
): Expr {
  const position = positionIn(window, o, k);
  return x.select(inside(position, input.shape.slice(2)), change(x.load(input, [n!, c!, ...position])), outside);
}

/** What no element is below, in the scalar type of `dtype`. */
const lowest = (dtype: DType): Expr => {
  const type = scalarOf(dtype);
  return x.constant(type, type === "f32" ? Number.NEGATIVE_INFINITY : type === "i32" ? -(2 ** 31) : 0);
};

interface MaxPoolAttributes extends PoolAttributes {
  readonly columnMajor: boolean;
}

/** The largest element of each window and, when asked for, its offset in the whole input (the first in row-major order). */
function maxPool(b: Lowering, node: NodeFacts, input: Value, attrs: MaxPoolAttributes): Value[] {
  const window = poolWindow(node, input, attrs);
  const [batch, channels, ...size] = input.shape as [Dim, Dim, ...Dim[]];
  const shape = [batch, channels, ...window.out];
  const largest = (o: readonly Expr[], k: readonly Expr[]): ReduceStage => ({
    fn: "max",
    body: () => underWindow(input, window, o, k, lowest(input.dtype)),
  });
  const out = b.reduce(input.dtype, shape, window.kernel, (o, k) => [largest(o, k)]);
  if (!node.outputs[1]) return [out];
  const nowhere = x.int(2 ** 31 - 1);
  const indices = b.reduce(
    "i64",
    shape,
    window.kernel,
    (o, k) => {
      const position = positionIn(window, o.slice(2), k);
      const hit = ([most]: readonly Expr[]): Expr => x.eq(x.load(input, [o[0]!, o[1]!, ...position]), most!);
      return [
        largest(o, k),
        {
          fn: "min",
          body: (results) =>
            x.select(inside(position, size), x.select(hit(results), x.flatten(position, size), nowhere), nowhere),
        },
      ];
    },
    ([, first], o) => {
      const plane = x.mul(x.flatten([o[0]!, o[1]!], [batch, channels]), x.int(dims.product(size)));
      if (!attrs.columnMajor) return x.add(plane, first!);
      return x.add(plane, x.flatten(x.unflatten(first!, size).reverse(), [...size].reverse()));
    },
  );
  return [out, indices];
}

interface AveragePoolAttributes extends PoolAttributes {
  readonly countPadding: boolean;
}

/** The mean of each window, over the input's elements or (`countPadding`) over padding as well. */
export function averagePool(
  b: Lowering,
  node: NodeFacts,
  input: Value,
  attrs: AveragePoolAttributes,
  dtype: DType,
  change?: (e: Expr) => Expr,
  finish: (mean: Expr) => Expr = (mean) => mean,
): Value {
  const window = poolWindow(node, input, attrs);
  const size = input.shape.slice(2);
  const counted = size.map((extent, axis): readonly [Dim, Dim] =>
    attrs.countPadding ? [dims.mul(window.before[axis]!, -1), dims.add(extent, window.after[axis]!)] : [0, extent],
  );
  return b.reduce(
    dtype,
    [input.shape[0]!, input.shape[1]!, ...window.out],
    window.kernel,
    (o, k) => [{ fn: "sum", body: () => underWindow(input, window, o, k, x.float(0), change) }],
    ([sum], [, , ...o]) => {
      const count = counted
        .map(([low, high], axis) => countWithin(window, axis, o[axis]!, low, high))
        .reduce((a, c) => x.mul(a, c));
      return finish(x.div(sum!, x.convert(count, "f32")));
    },
  );
}

/** |e|^p and its inverse. */
const powers = (p: number): { readonly raise: (e: Expr) => Expr; readonly root: (e: Expr) => Expr } => ({
  raise: (e) => (p === 1 ? x.unary("abs", e) : p === 2 ? x.mul(e, e) : x.binary("pow", x.unary("abs", e), x.float(p))),
  root: (e) => (p === 1 ? e : p === 2 ? x.unary("sqrt", e) : x.binary("pow", e, x.float(1 / p))),
});

/** One reduction over all spatial axes, which stay with size 1. */
export function globalPool(
  b: Lowering,
  node: NodeFacts,
  input: Value,
  dtype: DType,
  fn: ReduceStage["fn"],
  change: (e: Expr) => Expr,
  finish: (e: Expr, count: Expr) => Expr,
): Value {
  const [batch, channels, ...size] = input.shape;
  if (batch === undefined || channels === undefined)
    throw shapeMismatch(node, `input ${dims.shapeText(input.shape)} has no channel axis`);
  const count = x.convert(x.int(dims.product(size)), "f32");
  return b.reduce(
    dtype,
    [batch, channels, ...size.map(() => 1)],
    size,
    ([n, c], at) => [{ fn, body: () => change(x.load(input, [n!, c!, ...at])) }],
    ([total]) => finish(total!, count),
  );
}

const same = (e: Expr): Expr => e;

interface UnpoolAttributes {
  readonly kernel: readonly number[] | undefined;
  readonly pads: readonly number[] | undefined;
  readonly strides: readonly number[] | undefined;
}

/** Puts each element where its index says, in zeros. Indices are offsets in the shape that the kernel implies, which stands at the origin of a larger one asked for. */
function maxUnpool(b: Lowering, node: NodeFacts, inputs: readonly (Value | undefined)[], attrs: UnpoolAttributes): Value {
  const [input, indices, asked] = [need(node, inputs, 0), need(node, inputs, 1), inputs[2]];
  const rank = input.shape.length - 2;
  if (!attrs.kernel || attrs.kernel.length !== rank)
    throw badAttribute(node, "kernel_shape", `[${attrs.kernel?.join(", ") ?? ""}]`, `${rank} numbers`);
  const { kernel } = attrs;
  const strides = perAxis(node, "strides", attrs.strides, rank);
  const { before, after } = padsOf(node, attrs.pads, rank);
  const implied = [
    ...input.shape.slice(0, 2),
    ...input.shape
      .slice(2)
      .map((extent, axis) =>
        dims.add(dims.mul(dims.sub(extent, 1), strides[axis]!), kernel[axis]! - before[axis]! - after[axis]!),
      ),
  ];
  const shape = asked ? dimsOf(node, asked, "output shape") : implied;
  if (shape.length !== implied.length)
    throw shapeMismatch(node, `output shape ${dims.shapeText(shape)} must have rank ${implied.length}`);
  const zeros = b.map(input.dtype, shape, () => x.constant(scalarOf(input.dtype), 0));
  return b.scatter(zeros, input.shape, (i) => ({ index: x.unflatten(x.load(indices, i), implied), expr: x.load(input, i) }));
}

export const pools: readonly Operator[] = [
  defineOp<MaxPoolAttributes>({
    name: "MaxPool",
    since: [1, 8, 10, 11, 12, 22],
    attrs: (read) => ({ ...readPool(read), columnMajor: read.flag("storage_order") }),
    lower: (b, inputs, attrs, node) => maxPool(b, node, need(node, inputs, 0), attrs),
  }),
  defineOp<AveragePoolAttributes>({
    name: "AveragePool",
    since: [7, 10, 11, 19, 22],
    attrs: (read) => ({ ...readPool(read), countPadding: read.flag("count_include_pad") }),
    lower: (b, inputs, attrs, node) => {
      const input = need(node, inputs, 0);
      return [averagePool(b, node, input, attrs, input.dtype)];
    },
  }),
  defineOp<PoolAttributes & { readonly p: number }>({
    name: "LpPool",
    since: [2, 11, 18, 22],
    attrs: (read) => ({ ...readPool(read), p: read.int("p", 2) }),
    lower: (b, inputs, attrs, node) => {
      const input = need(node, inputs, 0);
      const window = poolWindow(node, input, attrs);
      const { raise, root } = powers(attrs.p);
      const shape = [input.shape[0]!, input.shape[1]!, ...window.out];
      return [
        b.reduce(
          input.dtype,
          shape,
          window.kernel,
          (o, k) => [{ fn: "sum", body: () => underWindow(input, window, o, k, x.float(0), raise) }],
          ([sum]) => root(sum!),
        ),
      ];
    },
  }),
  defineOp({
    name: "GlobalMaxPool",
    since: [1, 22],
    lower: (b, inputs, _, node) => [globalPool(b, node, need(node, inputs, 0), need(node, inputs, 0).dtype, "max", same, same)],
  }),
  defineOp({
    name: "GlobalAveragePool",
    since: [1, 22],
    lower: (b, inputs, _, node) => [
      globalPool(b, node, need(node, inputs, 0), need(node, inputs, 0).dtype, "sum", same, x.div),
    ],
  }),
  defineOp<number>({
    name: "GlobalLpPool",
    since: [2, 22],
    attrs: (read) => read.int("p", 2),
    lower: (b, inputs, p, node) => {
      const { raise, root } = powers(p);
      return [globalPool(b, node, need(node, inputs, 0), need(node, inputs, 0).dtype, "sum", raise, root)];
    },
  }),
  defineOp<UnpoolAttributes>({
    name: "MaxUnpool",
    since: [9, 11, 22],
    attrs: (read) => ({ kernel: read.ints("kernel_shape"), pads: read.ints("pads"), strides: read.ints("strides") }),
    lower: (b, inputs, attrs, node) => [maxUnpool(b, node, inputs, attrs)],
  }),
];
