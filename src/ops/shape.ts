// Operators about shapes: what a shape is, the same elements in another shape, and tensors made from a shape alone.
// ONNX: https://onnx.ai/onnx/operators/

import { ceilDiv, type Dim, floorDiv, isStatic, product, sameShape, shapeText, sub, symbol } from "../ir/dims.ts";
import * as x from "../ir/expr.ts";
import { contentsOf, knownTensor, type Lowering } from "../ir/lower.ts";
import { numbersOf, scalarTensor, type Tensor, tensor } from "../ir/tensor.ts";
import { type DType, dtypeOfOnnx, ONNX_TYPE_NAMES, scalarOf } from "../ir/types.ts";
import type { Value } from "../ir/value.ts";
import { badAttribute, shapeMismatch, unsupportedAttribute, unsupportedType } from "../util/errors.ts";
import { larger } from "./bounds.ts";
import { broadcastShapes, loadBroadcast } from "./broadcast.ts";
import { areSame, axisIn, defineOp, dimsOf, intsOf, type NodeFacts, need, type Operator } from "./define.ts";

/** The axes that an input (newer opsets) or an attribute (older ones) gives, in [0, rank) and distinct; undefined when neither does. */
export function axesOf(
  node: NodeFacts,
  rank: number,
  input: Value | undefined,
  attribute: readonly number[] | undefined,
): readonly number[] | undefined {
  const axes = (input ? intsOf(node, input, "axes") : attribute)?.map((axis) => axisIn(node, axis, rank));
  if (axes && new Set(axes).size < axes.length) throw shapeMismatch(node, `axes [${axes.join(", ")}] name one axis twice`);
  return axes;
}

/** The only element of a value, as data. */
export const loadScalar = (value: Value): x.Expr =>
  x.load(
    value,
    value.shape.map(() => x.int(0)),
  );

/** The element type that a `dtype` attribute names. */
export function dtypeOfAttribute(node: NodeFacts, code: number): DType {
  const dtype = dtypeOfOnnx(code);
  if (!dtype) throw unsupportedType(`${node.op} "${node.name}"`, ONNX_TYPE_NAMES[code] ?? `number ${code}`);
  return dtype;
}

/** The shape that Reshape asks for: 0 copies a dimension (unless `allowzero`), -1 takes what is left. */
export function reshapedShape(
  node: NodeFacts,
  from: readonly Dim[],
  target: readonly Dim[],
  allowzero: boolean,
): readonly Dim[] {
  const free = target.indexOf(-1);
  if (target.some((dim, i) => isStatic(dim) && (dim < -1 || (dim === -1 && i !== free))))
    throw shapeMismatch(
      node,
      `the shape ${shapeText(target)} is not one to reshape to`,
      "-1 may stand once, other sizes are not negative",
    );
  if (allowzero && free >= 0 && target.includes(0))
    throw shapeMismatch(
      node,
      `the shape ${shapeText(target)} holds both 0 and -1`,
      "with allowzero the size of -1 would be undefined",
    );
  const copies = target.map((dim) => dim === 0 && !allowzero);
  const shape = target.map((dim, axis) => {
    if (!copies[axis]) return dim;
    if (axis >= from.length)
      throw shapeMismatch(node, `the shape ${shapeText(target)} copies dimension ${axis} of ${shapeText(from)}`);
    return from[axis]!;
  });
  if (free >= 0) {
    // Copied dimensions cancel, so that what is left has a size even where they are 0.
    const total = product(from.filter((_, axis) => !copies[axis]));
    const others = product(shape.filter((_, axis) => axis !== free && !copies[axis]));
    if (others === 0) throw shapeMismatch(node, `the shape ${shapeText(target)} leaves the size of -1 undefined`);
    shape[free] = floorDiv(total, others);
  }
  const [before, after] = [product(from), product(shape)];
  if (!areSame(node, before, after, "hold as many elements", [from, shape]))
    throw shapeMismatch(
      node,
      `${shapeText(from)} does not reshape to ${shapeText(target)}`,
      `${before} elements against ${after}`,
    );
  return shape;
}

const reshaped = (b: Lowering, value: Value, shape: readonly Dim[]): Value =>
  sameShape(value.shape, shape) ? value : b.reshape(value, shape);

/** Without the `axes`, which must have size 1. */
export function squeeze(b: Lowering, value: Value, axes: readonly number[]): Value {
  if (axes.length === 0) return value;
  const kept = value.shape.flatMap((_, axis) => (axes.includes(axis) ? [] : [axis]));
  return b.map(
    value.dtype,
    kept.map((axis) => value.shape[axis]!),
    (i) =>
      x.load(
        value,
        value.shape.map((_, axis) => i[kept.indexOf(axis)] ?? x.int(0)),
      ),
  );
}

/** With axes of size 1 put in at `axes` of the result. */
export function unsqueeze(b: Lowering, value: Value, axes: readonly number[]): Value {
  if (axes.length === 0) return value;
  const source = [...value.shape];
  const shape = Array.from({ length: value.shape.length + axes.length }, (_, axis) =>
    axes.includes(axis) ? 1 : source.shift()!,
  );
  return b.map(value.dtype, shape, (i) =>
    x.load(
      value,
      i.filter((_, axis) => !axes.includes(axis)),
    ),
  );
}

/** Range's length and elements from known integers or symbols. */
function integerRange(b: Lowering, dtype: DType, [start, limit, delta]: readonly Dim[], node: NodeFacts): Value {
  if (delta === 0) throw shapeMismatch(node, "its delta is 0");
  const backward = isStatic(delta!) && delta < 0;
  const count = backward ? ceilDiv(sub(start!, limit!), -delta) : ceilDiv(sub(limit!, start!), delta!);
  return b.map(dtype, [larger(count, 0)], ([i]) => x.convert(x.add(x.int(start!), x.mul(i!, x.int(delta!))), dtype));
}

function rangeTensor(start: number, limit: number, delta: number, dtype: DType): Tensor {
  const count = Math.max(0, Math.ceil((limit - start) / delta));
  return tensor(
    dtype,
    [count],
    Array.from({ length: count }, (_, i) => start + i * delta),
  );
}

export const shape: readonly Operator[] = [
  defineOp({
    name: "Shape",
    since: [1, 13, 15, 19, 21, 23, 24, 25],
    attrs: (read) => ({ start: read.int("start", 0), end: read.int("end") }),
    lower: (b, inputs, { start, end }, node) => [b.dimensions(need(node, inputs, 0).shape.slice(start, end))],
  }),
  defineOp({
    name: "Size",
    since: [1, 13, 19, 21, 23, 24, 25],
    lower: (b, inputs, _, node) => [b.dimensions([product(need(node, inputs, 0).shape)], [])],
  }),
  defineOp({
    name: "Reshape",
    since: [1, 5, 13, 14, 19, 21, 23, 24, 25],
    attrs: (read) => {
      read.ignore("consumed_inputs");
      return { allowzero: read.flag("allowzero"), shape: read.ints("shape") };
    },
    lower: (b, inputs, { allowzero, shape }, node) => {
      const value = need(node, inputs, 0);
      const target = shape ?? dimsOf(node, need(node, inputs, 1), "shape");
      return [reshaped(b, value, reshapedShape(node, value.shape, target, allowzero))];
    },
  }),
  defineOp({
    name: "Flatten",
    since: [1, 9, 11, 13, 21, 23, 24, 25],
    attrs: (read) => read.int("axis", 1),
    lower: (b, inputs, axis, node) => {
      const value = need(node, inputs, 0);
      const at = axisIn(node, axis, value.shape.length, true);
      return [reshaped(b, value, [product(value.shape.slice(0, at)), product(value.shape.slice(at))])];
    },
  }),
  defineOp({
    name: "Squeeze",
    since: [1, 11, 13, 21, 23, 24, 25],
    attrs: (read) => read.ints("axes"),
    lower: (b, inputs, attribute, node) => {
      const value = need(node, inputs, 0);
      const axes =
        axesOf(node, value.shape.length, inputs[1], attribute) ?? value.shape.flatMap((dim, axis) => (dim === 1 ? [axis] : []));
      const wide = axes.find((axis) => isStatic(value.shape[axis]!) && value.shape[axis] !== 1);
      if (wide !== undefined)
        throw shapeMismatch(node, `axis ${wide} of ${shapeText(value.shape)} cannot be squeezed`, "its size is not 1");
      return [squeeze(b, value, axes)];
    },
  }),
  defineOp({
    name: "Unsqueeze",
    since: [1, 11, 13, 21, 23, 24, 25],
    attrs: (read) => read.ints("axes"),
    lower: (b, inputs, attribute, node) => {
      const value = need(node, inputs, 0);
      const given = inputs[1] ? intsOf(node, inputs[1], "axes") : attribute;
      if (!given) throw badAttribute(node, "axes", "missing", "a list of axes");
      return [unsqueeze(b, value, axesOf(node, value.shape.length + given.length, undefined, given)!)];
    },
  }),
  defineOp({
    name: "Expand",
    since: [8, 13],
    lower: (b, inputs, _, node) => {
      const value = need(node, inputs, 0);
      const target = broadcastShapes(node, value.shape, dimsOf(node, need(node, inputs, 1), "shape"));
      return [sameShape(target, value.shape) ? value : b.map(value.dtype, target, (i) => loadBroadcast(value, i, target))];
    },
  }),
  defineOp({
    name: "Constant",
    since: [1, 9, 11, 12, 13, 19, 21, 23, 24, 25],
    attrs: (read) => ({
      value: read.tensor("value") ?? read.tensor("sparse_value"),
      float: read.float("value_float"),
      floats: read.floats("value_floats"),
      int: read.int("value_int"),
      ints: read.ints("value_ints"),
      strings: read.string("value_string", "") || read.strings("value_strings"),
    }),
    lower: (b, _, { value, float, floats, int, ints, strings }, node) => {
      if (strings) throw unsupportedAttribute(node, "its value is text", "tensors, floats and integers");
      const data =
        value ??
        (float === undefined ? undefined : scalarTensor("f32", float)) ??
        (floats && tensor("f32", [floats.length], floats)) ??
        (int === undefined ? undefined : scalarTensor("i64", int)) ??
        (ints && tensor("i64", [ints.length], ints));
      if (!data)
        throw badAttribute(
          node,
          "value",
          "missing",
          "one of value, sparse_value, value_float, value_floats, value_int, value_ints",
        );
      return [b.constant(data)];
    },
  }),
  defineOp({
    name: "ConstantOfShape",
    since: [9, 20, 21, 23, 24, 25],
    attrs: (read) => read.tensor("value"),
    lower: (b, inputs, value, node) => {
      const dtype = value?.dtype ?? "f32";
      const fill = x.constant(scalarOf(dtype), value ? numbersOf(value)[0]! : 0);
      return [b.map(dtype, dimsOf(node, need(node, inputs, 0), "shape"), () => fill)];
    },
  }),
  defineOp({
    name: "Range",
    place: "GPU; host where data decides its size",
    since: [11, 27],
    // Elements are made in at least f32 whatever it says.
    attrs: (read) => read.ignore("stash_type"),
    lower: (b, inputs, _, node) => {
      const bounds = [0, 1, 2].map((at) => need(node, inputs, at));
      const { dtype } = bounds[0]!;
      const contents = bounds.map((value) => contentsOf(value)?.[0]);
      if (contents.every((dim) => dim !== undefined)) return [integerRange(b, dtype, contents, node)];
      const known = bounds.map((value) => knownTensor(value));
      if (known.every((data) => data !== undefined)) {
        const [start, limit, delta] = known.map((data) => numbersOf(data)[0]!) as [number, number, number];
        return [b.constant(rangeTensor(start, limit, delta, dtype))];
      }
      return b.host("Range", {}, bounds, [{ dtype, shape: [symbol(`${node.name}.count`)] }], "its length depends on data");
    },
    reference: ([start, limit, delta]) => {
      const [from, to, by] = [start!, limit!, delta!].map((data) => numbersOf(data)[0]!) as [number, number, number];
      return [rangeTensor(from, to, by, start!.dtype)];
    },
  }),
  defineOp({
    name: "EyeLike",
    since: [9, 22],
    attrs: (read) => ({ dtype: read.int("dtype"), k: read.int("k", 0) }),
    lower: (b, inputs, { dtype, k }, node) => {
      const value = need(node, inputs, 0);
      if (value.shape.length !== 2) throw shapeMismatch(node, `${shapeText(value.shape)} is not a matrix`);
      const type = dtype === undefined ? value.dtype : dtypeOfAttribute(node, dtype);
      const [one, zero] = [x.constant(scalarOf(type), 1), x.constant(scalarOf(type), 0)];
      return [b.map(type, value.shape, ([row, column]) => x.select(x.eq(x.sub(column!, row!), x.int(k)), one, zero))];
    },
  }),
];
