// Operators whose number of results depends on data: they run on the host, or at once where all they read is known.
// ONNX: https://onnx.ai/onnx/operators/

import { type Dim, isStatic, isStaticShape, product, symbol } from "../ir/dims.ts";
import { contentsOf, type Lowering } from "../ir/lower.ts";
import type { HostAttributes } from "../ir/task.ts";
import { allocate, numbersOf, reader, sizeOf, type Tensor, tensor } from "../ir/tensor.ts";
import { type DType, isFloat } from "../ir/types.ts";
import type { Value } from "../ir/value.ts";
import { shapeMismatch } from "../util/errors.ts";
import { axisIn, defineOp, type NodeFacts, need, type Operator } from "./define.ts";

type Reference = (inputs: readonly (Tensor | undefined)[], attrs: HostAttributes) => readonly Tensor[];

/** What a value will hold whatever the engine is given. */
function constantOf(value: Value): Tensor | undefined {
  if (value.data) return value.data;
  const contents = contentsOf(value);
  return !value.assumed && contents?.every(isStatic) && isStaticShape(value.shape)
    ? tensor(value.dtype, value.shape, contents)
    : undefined;
}

function onHost(
  b: Lowering,
  node: NodeFacts,
  reference: Reference,
  attrs: HostAttributes,
  inputs: readonly (Value | undefined)[],
  outputs: readonly { dtype: DType; shape: readonly Dim[] }[],
): Value[] {
  const known = inputs.map((value) => value && constantOf(value));
  if (known.every((data, i) => data || !inputs[i])) return reference(known, attrs).map((data) => b.constant(data));
  return b.host(node.op, attrs, inputs, outputs, "the number of its results depends on data");
}

const nonZero: Reference = ([value]) => {
  const { shape } = value!;
  const found = numbersOf(value!).flatMap((element, flat) => (element === 0 ? [] : [flat]));
  const rows = shape.map((size, axis) => {
    const stride = sizeOf(shape.slice(axis + 1));
    return found.map((flat) => Math.floor(flat / stride) % size);
  });
  return [tensor("i64", [shape.length, found.length], rows.flat())];
};

/** Unique slices along an axis (null: elements), by value: sorted, or in order of first appearance. */
const unique: Reference = ([source], attrs) => {
  const value = attrs.axis === null ? { ...source!, shape: [source!.data.length] } : source!;
  const axis = (attrs.axis as number | null) ?? 0;
  const count = value.shape[axis]!;
  const inner = sizeOf(value.shape.slice(axis + 1));
  const outer = sizeOf(value.shape.slice(0, axis));
  const read = isFloat(value.dtype) ? reader(value) : (i: number): number => value.data[i] as number;
  const offsets = Array.from({ length: outer * inner }, (_, k) => Math.floor(k / inner) * count * inner + (k % inner));
  /** Lexicographic, NaN last; 0 for equal slices. */
  const compare = (p: number, q: number): number => {
    for (const offset of offsets) {
      const [a, c] = [read(offset + p * inner), read(offset + q * inner)];
      if (a < c) return -1;
      if (a > c) return 1;
      const nans = Number(Number.isNaN(a)) - Number(Number.isNaN(c));
      if (nans !== 0) return nans;
    }
    return 0;
  };
  const order = Array.from({ length: count }, (_, i) => i).sort((p, q) => compare(p, q) || p - q);
  const groups: number[][] = [];
  for (const i of order) {
    const last = groups.at(-1);
    if (last && compare(last[0]!, i) === 0) last.push(i);
    else groups.push([i]);
  }
  if (!attrs.sorted) groups.sort((a, c) => a[0]! - c[0]!);
  const inverse = new Array<number>(count);
  groups.forEach((members, g) => {
    for (const i of members) inverse[i] = g;
  });
  const data = allocate(value.dtype, offsets.length * groups.length);
  groups.forEach(([i], g) => {
    offsets.forEach((offset, k) => {
      data[(Math.floor(k / inner) * groups.length + g) * inner + (k % inner)] = value.data[offset + i! * inner]!;
    });
  });
  return [
    { dtype: value.dtype, shape: value.shape.toSpliced(axis, 1, groups.length), data },
    tensor(
      "i64",
      [groups.length],
      groups.map(([first]) => first!),
    ),
    tensor("i64", [count], inverse),
    tensor(
      "i64",
      [groups.length],
      groups.map((members) => members.length),
    ),
  ];
};

type Box = readonly [low: readonly [number, number], high: readonly [number, number]];

const area = ([low, high]: Box): number => Math.max(0, high[0] - low[0]) * Math.max(0, high[1] - low[1]);

function overlap(a: Box, c: Box): number {
  const common = area([
    [Math.max(a[0][0], c[0][0]), Math.max(a[0][1], c[0][1])],
    [Math.min(a[1][0], c[1][0]), Math.min(a[1][1], c[1][1])],
  ]);
  const union = area(a) + area(c) - common;
  return common > 0 && union > 0 ? common / union : 0;
}

/** Greedy suppression of boxes that overlap a better one, a class at a time. */
const suppress: Reference = ([boxes, scores, most, iou, least], attrs) => {
  const [batches, count] = boxes!.shape as [number, number, number];
  const classes = scores!.shape[1]!;
  const scalar = (source: Tensor | undefined, fallback: number): number =>
    source && source.data.length > 0 ? Number(reader(source)(0)) : fallback;
  const [limit, threshold, floor] = [scalar(most, 0), scalar(iou, 0), scalar(least, Number.NEGATIVE_INFINITY)];
  const [coordinate, score] = [reader(boxes!), reader(scores!)];
  const boxAt = (flat: number): Box => {
    const [a, c, d, e] = [0, 1, 2, 3].map((k) => coordinate(flat * 4 + k)) as [number, number, number, number];
    if (attrs.center)
      return [
        [a - d / 2, c - e / 2],
        [a + d / 2, c + e / 2],
      ];
    return [
      [Math.min(a, d), Math.min(c, e)],
      [Math.max(a, d), Math.max(c, e)],
    ];
  };
  const selected: number[] = [];
  for (let batch = 0; batch < batches; batch++) {
    const all = Array.from({ length: count }, (_, i) => boxAt(batch * count + i));
    for (let cls = 0; cls < classes; cls++) {
      const scoreOf = (i: number): number => score((batch * classes + cls) * count + i);
      const candidates = all
        .flatMap((_, i) => (scoreOf(i) > floor ? [i] : []))
        .sort((p, q) => scoreOf(q) - scoreOf(p) || p - q);
      const kept: number[] = [];
      for (const i of candidates) {
        if (kept.length >= limit) break;
        if (kept.every((k) => overlap(all[k]!, all[i]!) <= threshold)) kept.push(i);
      }
      for (const i of kept) selected.push(batch, cls, i);
    }
  }
  return [tensor("i64", [selected.length / 3, 3], selected)];
};

const PLACE = "host: the number of its results depends on data";

export const selections: readonly Operator[] = [
  defineOp({
    name: "NonZero",
    place: PLACE,
    since: [9, 13],
    lower: (b, inputs, _, node) => {
      const value = need(node, inputs, 0);
      return onHost(
        b,
        node,
        nonZero,
        {},
        [value],
        [{ dtype: "i64", shape: [value.shape.length, symbol(`${node.name}.count`)] }],
      );
    },
    reference: nonZero,
  }),
  defineOp({
    name: "Unique",
    place: PLACE,
    since: [11],
    attrs: (read) => ({ axis: read.int("axis"), sorted: read.flag("sorted", true) }),
    lower: (b, inputs, { axis, sorted }, node) => {
      const value = need(node, inputs, 0);
      const along = axis === undefined ? null : axisIn(node, axis, value.shape.length);
      const count = symbol(`${node.name}.count`);
      const slots = along === null ? product(value.shape) : value.shape[along]!;
      return onHost(
        b,
        node,
        unique,
        { axis: along, sorted },
        [value],
        [
          { dtype: value.dtype, shape: along === null ? [count] : value.shape.toSpliced(along, 1, count) },
          { dtype: "i64", shape: [count] },
          { dtype: "i64", shape: [slots] },
          { dtype: "i64", shape: [count] },
        ],
      );
    },
    reference: unique,
  }),
  defineOp({
    name: "NonMaxSuppression",
    place: PLACE,
    since: [10, 11],
    attrs: (read) => read.flag("center_point_box"),
    lower: (b, inputs, center, node) => {
      const [boxes, scores] = [need(node, inputs, 0), need(node, inputs, 1)];
      if (boxes.shape.length !== 3 || scores.shape.length !== 3 || boxes.shape[2] !== 4)
        throw shapeMismatch(node, "boxes must be [batch, boxes, 4] and scores [batch, classes, boxes]");
      return onHost(b, node, suppress, { center }, inputs, [{ dtype: "i64", shape: [symbol(`${node.name}.count`), 3] }]);
    },
    reference: suppress,
  }),
];
