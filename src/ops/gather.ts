// Operators that read elements where an index tensor says. Indices are data: they need not be known when the engine is
// built; negative ones count from the end. ONNX: https://onnx.ai/onnx/operators/

import { type Dim, isStatic, product, shapeText, symbol } from "../ir/dims.ts";
import type { Expr } from "../ir/expr.ts";
import * as x from "../ir/expr.ts";
import { contentsOf, knownTensor, type Lowering } from "../ir/lower.ts";
import { allocate, numbersOf, sizeOf, type Tensor, tensor } from "../ir/tensor.ts";
import { isFloat } from "../ir/types.ts";
import type { Value } from "../ir/value.ts";
import { shapeMismatch, valueNeeded } from "../util/errors.ts";
import { axisIn, defineOp, type NodeFacts, need, type Operator } from "./define.ts";

/** Element `at` of an index tensor as an i32 in [0, size): a negative one counts from the end. */
export function loadIndex(indices: Value, at: readonly Expr[], size: Dim): Expr {
  const raw = x.convert(x.load(indices, at), "i32");
  const known = contentsOf(indices);
  if (known?.every((dim) => isStatic(dim) && dim >= 0) || indices.dtype.startsWith("u")) return raw;
  return x.select(x.lt(raw, x.int(0)), x.add(raw, x.int(size)), raw);
}

/** Slices of `value` along `axis`, in the order and shape of `indices`. */
export function gather(b: Lowering, value: Value, indices: Value, axis: number): Value {
  const rank = indices.shape.length;
  const shape = [...value.shape.slice(0, axis), ...indices.shape, ...value.shape.slice(axis + 1)];
  return b.map(value.dtype, shape, (i) =>
    x.load(value, [
      ...i.slice(0, axis),
      loadIndex(indices, i.slice(axis, axis + rank), value.shape[axis]!),
      ...i.slice(axis + rank),
    ]),
  );
}

/** The last axis of `indices` holds coordinates of axes `from`, `from` + 1, … of `shape`: the depth and a reader of them. */
export function coordinates(
  node: NodeFacts,
  indices: Value,
  shape: readonly Dim[],
  from: number,
): { readonly depth: number; readonly read: (at: readonly Expr[]) => Expr[] } {
  const depth = indices.shape.at(-1);
  if (depth === undefined || !isStatic(depth) || depth > shape.length - from) {
    throw shapeMismatch(
      node,
      `the last size of indices ${shapeText(indices.shape)} must be a number of axes of ${shapeText(shape)}`,
    );
  }
  return {
    depth,
    read: (at) => Array.from({ length: depth }, (_, k) => loadIndex(indices, [...at, x.int(k)], shape[from + k]!)),
  };
}

/** A new axis of `depth` at `axis` that holds `on` where the index says and `off` elsewhere. */
function oneHot(b: Lowering, indices: Value, depth: Dim, values: Value, axis: number): Value {
  return b.map(values.dtype, indices.shape.toSpliced(axis, 0, depth), (i) => {
    const raw = x.convert(x.load(indices, i.toSpliced(axis, 1)), "i32");
    const hit = x.eq(x.select(x.lt(raw, x.int(0)), x.add(raw, x.int(depth)), raw), i[axis]!);
    return x.select(hit, x.load(values, [x.int(1)]), x.load(values, [x.int(0)]));
  });
}

function sizeOfScalar(node: NodeFacts, value: Value, role: string): Dim {
  const size = isFloat(value.dtype) ? knownTensor(value) : undefined;
  const found = size ? Math.trunc(numbersOf(size)[0]!) : contentsOf(value)?.[0];
  if (found === undefined) throw valueNeeded(node, value.name, role);
  return found;
}

/** Copies the slices of `source` along `axis` whose positions are given. */
function takeSlices(source: Tensor, axis: number, positions: readonly number[]): Tensor {
  const inner = sizeOf(source.shape.slice(axis + 1));
  const outer = sizeOf(source.shape.slice(0, axis));
  const data = allocate(source.dtype, outer * positions.length * inner);
  for (let o = 0; o < outer; o++)
    positions.forEach((position, k) => {
      const from = (o * source.shape[axis]! + position) * inner;
      data.set(source.data.subarray(from, from + inner) as never, (o * positions.length + k) * inner);
    });
  return { dtype: source.dtype, shape: source.shape.toSpliced(axis, 1, positions.length), data };
}

const truePositions = (flags: readonly unknown[]): number[] => flags.flatMap((flag, i) => (flag ? [i] : []));

export const gathers: readonly Operator[] = [
  defineOp({
    name: "Gather",
    since: [1, 11, 13],
    attrs: (read) => read.int("axis", 0),
    lower: (b, inputs, axis, node) => {
      const value = need(node, inputs, 0);
      return [gather(b, value, need(node, inputs, 1), axisIn(node, axis, value.shape.length))];
    },
  }),
  defineOp({
    name: "GatherElements",
    since: [11, 13],
    attrs: (read) => read.int("axis", 0),
    lower: (b, inputs, axis, node) => {
      const [value, indices] = [need(node, inputs, 0), need(node, inputs, 1)];
      if (indices.shape.length !== value.shape.length)
        throw shapeMismatch(node, `indices ${shapeText(indices.shape)} must have the rank of ${shapeText(value.shape)}`);
      const along = axisIn(node, axis, value.shape.length);
      return [
        b.map(value.dtype, indices.shape, (i) =>
          x.load(
            value,
            i.map((at, d) => (d === along ? loadIndex(indices, i, value.shape[along]!) : at)),
          ),
        ),
      ];
    },
  }),
  defineOp({
    name: "GatherND",
    since: [11, 12, 13],
    attrs: (read) => read.int("batch_dims", 0),
    lower: (b, inputs, batch, node) => {
      const [value, indices] = [need(node, inputs, 0), need(node, inputs, 1)];
      const { depth, read } = coordinates(node, indices, value.shape, batch);
      const places = indices.shape.slice(0, -1);
      return [
        b.map(value.dtype, [...places, ...value.shape.slice(batch + depth)], (i) =>
          x.load(value, [...i.slice(0, batch), ...read(i.slice(0, places.length)), ...i.slice(places.length)]),
        ),
      ];
    },
  }),
  defineOp({
    name: "OneHot",
    since: [9, 11],
    attrs: (read) => read.int("axis", -1),
    lower: (b, inputs, axis, node) => {
      const indices = need(node, inputs, 0);
      return [
        oneHot(
          b,
          indices,
          sizeOfScalar(node, need(node, inputs, 1), "depth"),
          need(node, inputs, 2),
          axisIn(node, axis, indices.shape.length + 1),
        ),
      ];
    },
  }),
  defineOp({
    name: "Compress",
    place: "GPU; host where data decides its size",
    since: [9, 11],
    attrs: (read) => read.int("axis"),
    lower: (b, inputs, axis, node) => {
      const [source, condition] = [need(node, inputs, 0), need(node, inputs, 1)];
      const value = axis === undefined ? b.reshape(source, [product(source.shape)]) : source;
      const along = axisIn(node, axis ?? 0, value.shape.length);
      const known = contentsOf(condition);
      if (known?.every(isStatic)) {
        const positions = truePositions(known);
        return [gather(b, value, b.constant(tensor("i32", [positions.length], positions)), along)];
      }
      const shape = value.shape.toSpliced(along, 1, symbol(`${node.name}.count`));
      return b.host(
        "Compress",
        { axis: along },
        [value, condition],
        [{ dtype: value.dtype, shape }],
        "its size depends on data",
      );
    },
    reference: ([value, condition], { axis }) => [takeSlices(value!, axis as number, truePositions(numbersOf(condition!)))],
  }),
];
