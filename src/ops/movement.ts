// Operators that move elements: every one is a map whose loads have other indices. ONNX: https://onnx.ai/onnx/operators/

import { add, ceilDiv, type Dim, floorDiv, isStatic, mod, mul, sameDim, sameShape, shapeText, sub } from "../ir/dims.ts";
import type { Expr, Var } from "../ir/expr.ts";
import * as x from "../ir/expr.ts";
import { contentsOf, type Lowering } from "../ir/lower.ts";
import { scalarOf } from "../ir/types.ts";
import type { Value } from "../ir/value.ts";
import { badAttribute, shapeMismatch, typeMismatch } from "../util/errors.ts";
import { boundsOfDim, larger, smaller } from "./bounds.ts";
import { areSame, axisIn, defineOp, dimsOf, intsOf, type NodeFacts, need, type Operator } from "./define.ts";
import { axesOf, loadScalar } from "./shape.ts";

/** Dimension k of the result is dimension `perm[k]` of the input. */
export function transpose(b: Lowering, value: Value, perm: readonly number[]): Value {
  if (perm.every((from, to) => from === to)) return value;
  return b.map(
    value.dtype,
    perm.map((from) => value.shape[from]!),
    (i) =>
      x.load(
        value,
        perm.map((_, axis) => i[perm.indexOf(axis)]!),
      ),
  );
}

/** Most inputs of one kernel: WebGPU promises eight storage buffers, and one is the result. */
const MAX_PARTS = 7;

/** Values one after the other along an axis; the other axes must be equal. More than a kernel can read are joined in groups. */
export function concat(b: Lowering, node: NodeFacts, values: readonly Value[], axis: number): Value {
  const first = values[0]!;
  const odd = values.find((value) => value.dtype !== first.dtype);
  if (odd) throw typeMismatch(node, `inputs are ${first.dtype} and ${odd.dtype}: all must have one type`);
  const fits = (shape: readonly Dim[]): boolean =>
    shape.length === first.shape.length &&
    shape.every((dim, k) => k === axis || areSame(node, dim, first.shape[k]!, "concatenate", [first.shape, shape]));
  const other = values.find(({ shape }) => !fits(shape));
  if (other)
    throw shapeMismatch(node, `${shapeText(first.shape)} and ${shapeText(other.shape)} do not concatenate along axis ${axis}`);
  const parts = values.filter(({ shape }) => shape[axis] !== 0);
  if (parts.length === 1) return parts[0]!;
  if (parts.length > MAX_PARTS) {
    const each = Math.ceil(parts.length / Math.ceil(parts.length / MAX_PARTS));
    const groups = Array.from({ length: Math.ceil(parts.length / each) }, (_, k) =>
      concat(b, node, parts.slice(k * each, (k + 1) * each), axis),
    );
    return concat(b, node, groups, axis);
  }
  const starts = parts.map((_, k) => add(...parts.slice(0, k).map(({ shape }) => shape[axis]!)));
  const shape = first.shape.map((dim, k) =>
    k === axis ? add(...parts.map((part) => part.shape[k]!)) : (values.map((value) => value.shape[k]!).find(isStatic) ?? dim),
  );
  if (parts.length === 0) return first;
  return b.map(first.dtype, shape, (i) => {
    const read = (k: number): Expr =>
      x.load(
        parts[k]!,
        i.map((at, d) => (d === axis ? x.sub(at, x.int(starts[k]!)) : at)),
      );
    // Halving finds the part in log2 comparisons.
    const find = (from: number, to: number): Expr => {
      if (to - from === 1) return read(from);
      const middle = (from + to) >> 1;
      return x.select(x.lt(i[axis]!, x.int(starts[middle]!)), find(from, middle), find(middle, to));
    };
    return find(0, parts.length);
  });
}

/** What a slice of one axis takes: elements start, start + step, … */
interface Cut {
  readonly start: Dim;
  readonly step: number;
  readonly size: Dim;
}

/** Positions from here on mean "as far as there is". */
const FAR = 2 ** 31 - 1;

/** Resolves negative and out-of-range positions on an axis of `size`. Symbolic positions count from the front unless proven negative. */
export function cutOf(size: Dim, from: Dim, to: Dim, step: number): Cut {
  const resolve = (position: Dim): Dim => {
    const [low, high] = boundsOfDim(position);
    if (low >= FAR) return size;
    if (high <= -FAR) return -1;
    return high < 0 ? add(position, size) : position;
  };
  const [start, end] = [resolve(from), resolve(to)];
  if (step > 0) {
    const stop = smaller(end, size);
    return { start: larger(start, 0), step, size: larger(ceilDiv(smaller(sub(stop, start), stop), step), 0) };
  }
  if (size === 0) return { start: 0, step, size: 0 };
  const first = larger(smaller(start, sub(size, 1)), 0);
  return { start: first, step, size: larger(ceilDiv(smaller(sub(first, end), add(first, 1)), -step), 0) };
}

/** Takes `cuts[k]` of axis k; undefined takes all of it. */
export function slice(b: Lowering, value: Value, cuts: readonly (Cut | undefined)[]): Value {
  const shape = value.shape.map((dim, axis) => cuts[axis]?.size ?? dim);
  if (cuts.every((cut) => !cut || (cut.start === 0 && cut.step === 1)) && sameShape(shape, value.shape)) return value;
  return b.map(value.dtype, shape, (i) =>
    x.load(
      value,
      i.map((at, axis) => {
        const cut = cuts[axis];
        return cut ? x.add(x.int(cut.start), x.mul(at, x.int(cut.step))) : at;
      }),
    ),
  );
}

/** `size` elements from `start` of one axis. */
export const sliceAxis = (b: Lowering, value: Value, axis: number, start: Dim, size: Dim): Value =>
  slice(
    b,
    value,
    value.shape.map((_, k) => (k === axis ? { start, step: 1, size } : undefined)),
  );

const PAD_MODES = ["constant", "reflect", "edge", "wrap"] as const;
type PadMode = (typeof PAD_MODES)[number];

/** The element of an axis of `size` that position `at`, perhaps outside of it, repeats. */
function paddedIndex(mode: PadMode, at: Expr, size: Dim): Expr {
  if (mode === "edge") return x.minimum(x.maximum(at, x.int(0)), x.int(sub(size, 1)));
  if (mode === "wrap") return x.floorMod(at, x.int(size));
  if (size === 1) return x.int(0);
  // A mirror on the first and last element has this period.
  const period = sub(mul(size, 2), 2);
  const phase = x.floorMod(at, x.int(larger(period, 1)));
  return x.minimum(phase, x.sub(x.int(period), phase));
}

/** Pads every axis; negative pads crop, before anything is added. `fill` is what the constant mode adds. */
export function pad(
  b: Lowering,
  node: NodeFacts,
  value: Value,
  before: readonly Dim[],
  after: readonly Dim[],
  mode: PadMode,
  fill: Expr,
): Value {
  const cropped = (by: Dim): Dim => (boundsOfDim(by)[1] < 0 ? mul(by, -1) : 0);
  const added = (by: Dim): Dim => (boundsOfDim(by)[1] < 0 ? 0 : by);
  const kept = value.shape.map((dim, axis) => larger(sub(sub(dim, cropped(before[axis]!)), cropped(after[axis]!)), 0));
  const touched = kept.map((_, axis) => added(before[axis]!) !== 0 || added(after[axis]!) !== 0);
  const empty = kept.findIndex((dim, axis) => dim === 0 && touched[axis] && mode !== "constant");
  if (empty >= 0) throw shapeMismatch(node, `axis ${empty} of ${shapeText(value.shape)} has nothing to ${mode}`);
  const shape = kept.map((dim, axis) => add(dim, added(before[axis]!), added(after[axis]!)));
  if (sameShape(shape, value.shape) && before.every((by) => by === 0)) return value;
  return b.map(value.dtype, shape, (i) => {
    const at = i.map((e, axis) => x.sub(e, x.int(added(before[axis]!))));
    const shifted = (e: Expr, axis: number): Expr => x.add(e, x.int(cropped(before[axis]!)));
    if (mode !== "constant")
      return x.load(
        value,
        at.map((e, axis) => shifted(touched[axis] ? paddedIndex(mode, e, kept[axis]!) : e, axis)),
      );
    const inside = x.and(x.bool(true), ...at.flatMap((e, axis) => (touched[axis] ? [x.within(e, kept[axis]!)] : [])));
    return x.select(inside, x.load(value, at.map(shifted)), fill);
  });
}

/** The sizes of Split's parts: given, or as equal as they can be. */
function partSizes(node: NodeFacts, size: Dim, given: readonly Dim[] | undefined, count: number): readonly Dim[] {
  if (given) {
    const total = add(...given);
    if (!areSame(node, total, size, "sum to the axis", [given]))
      throw shapeMismatch(node, `parts ${shapeText(given)} do not sum to ${size}`);
    return given;
  }
  const chunk = ceilDiv(size, count);
  if (isStatic(size))
    return Array.from({ length: count }, (_, k) => Math.max(0, Math.min(chunk as number, size - k * (chunk as number))));
  if (mod(size, count) === 0 || node.opset < 18) return Array.from({ length: count }, () => floorDiv(size, count));
  return Array.from({ length: count }, (_, k) => (k < count - 1 ? chunk : sub(size, mul(chunk, count - 1))));
}

const image = (node: NodeFacts, value: Value): readonly [Dim, Dim, Dim, Dim] => {
  if (value.shape.length !== 4) throw shapeMismatch(node, `${shapeText(value.shape)} is not [N, C, H, W]`);
  return value.shape as readonly [Dim, Dim, Dim, Dim];
};

export const movement: readonly Operator[] = [
  defineOp({
    name: "Transpose",
    since: [1, 13, 21, 23, 24, 25],
    attrs: (read) => read.ints("perm"),
    lower: (b, inputs, given, node) => {
      const value = need(node, inputs, 0);
      const perm = given && given.length > 0 ? given : value.shape.map((_, axis) => value.shape.length - 1 - axis);
      const whole = perm.length === value.shape.length && value.shape.every((_, axis) => perm.includes(axis));
      if (!whole) throw badAttribute(node, "perm", `[${perm.join(", ")}]`, `every axis of ${shapeText(value.shape)} once`);
      return [transpose(b, value, perm)];
    },
  }),
  defineOp({
    name: "Concat",
    since: [4, 11, 13],
    attrs: (read) => read.int("axis", 1),
    lower: (b, inputs, axis, node) => {
      const values = inputs.map((_, at) => need(node, inputs, at));
      return [concat(b, node, values, axisIn(node, axis, need(node, inputs, 0).shape.length))];
    },
  }),
  defineOp({
    name: "Split",
    since: [2, 11, 13, 18],
    attrs: (read) => ({ axis: read.int("axis", 0), split: read.ints("split"), count: read.int("num_outputs") }),
    lower: (b, inputs, { axis, split, count }, node) => {
      const value = need(node, inputs, 0);
      const at = axisIn(node, axis, value.shape.length);
      const sizes = partSizes(
        node,
        value.shape[at]!,
        inputs[1] ? dimsOf(node, inputs[1], "split") : split,
        count ?? node.outputs.length,
      );
      return sizes.map((size, k) => sliceAxis(b, value, at, add(...sizes.slice(0, k)), size));
    },
  }),
  defineOp({
    name: "Slice",
    since: [1, 10, 11, 13],
    attrs: (read) => ({ starts: read.ints("starts"), ends: read.ints("ends"), axes: read.ints("axes") }),
    lower: (b, inputs, attrs, node) => {
      const value = need(node, inputs, 0);
      const starts = attrs.starts ?? dimsOf(node, need(node, inputs, 1), "starts");
      const ends = attrs.ends ?? dimsOf(node, need(node, inputs, 2), "ends");
      const axes =
        axesOf(node, value.shape.length, inputs[3], attrs.axes) ?? starts.map((_, k) => axisIn(node, k, value.shape.length));
      const steps = inputs[4] ? intsOf(node, inputs[4], "steps") : starts.map(() => 1);
      const lengths = [starts, ends, axes, steps].map((list) => list.length);
      if (lengths.some((length) => length !== lengths[0]))
        throw shapeMismatch(node, `starts, ends, axes and steps have ${lengths.join(", ")} elements`);
      if (steps.includes(0)) throw shapeMismatch(node, "a step is 0");
      const cuts = value.shape.map((dim, axis) => {
        const k = axes.indexOf(axis);
        return k < 0 ? undefined : cutOf(dim, starts[k]!, ends[k]!, steps[k]!);
      });
      return [slice(b, value, cuts)];
    },
  }),
  defineOp({
    name: "Pad",
    since: [1, 2, 11, 13, 18, 19, 21, 23, 24, 25],
    attrs: (read) => ({
      mode: read.string("mode", "constant", PAD_MODES),
      pads: read.ints("pads") ?? read.ints("paddings"),
      value: read.float("value", 0),
    }),
    lower: (b, inputs, attrs, node) => {
      const value = need(node, inputs, 0);
      const rank = value.shape.length;
      const pads = attrs.pads ?? dimsOf(node, need(node, inputs, 1), "pads");
      const axes = axesOf(node, rank, inputs[3], undefined) ?? value.shape.map((_, axis) => axis);
      if (pads.length !== 2 * axes.length)
        throw shapeMismatch(node, `${pads.length} pads for ${axes.length} axes`, "two an axis are needed");
      const side = (offset: number): Dim[] =>
        value.shape.map((_, axis) => (axes.includes(axis) ? pads[axes.indexOf(axis) + offset]! : 0));
      const fill = inputs[2] ? loadScalar(inputs[2]) : x.constant(scalarOf(value.dtype), attrs.value);
      return [pad(b, node, value, side(0), side(axes.length), attrs.mode, fill)];
    },
  }),
  defineOp({
    name: "Tile",
    since: [6, 13],
    lower: (b, inputs, _, node) => {
      const value = need(node, inputs, 0);
      const repeats = dimsOf(node, need(node, inputs, 1), "repeats");
      if (repeats.length !== value.shape.length)
        throw shapeMismatch(node, `${repeats.length} repeats for ${shapeText(value.shape)}`);
      if (repeats.every((times) => times === 1)) return [value];
      return [
        b.map(
          value.dtype,
          value.shape.map((dim, axis) => mul(dim, repeats[axis]!)),
          (i) =>
            x.load(
              value,
              i.map((at, axis) => x.floorMod(at, x.int(value.shape[axis]!))),
            ),
        ),
      ];
    },
  }),
  defineOp({
    name: "DepthToSpace",
    since: [1, 11, 13],
    attrs: (read) => ({ block: read.int("blocksize", 0), mode: read.string("mode", "DCR", ["DCR", "CRD"]) }),
    lower: (b, inputs, { block, mode }, node) => {
      const value = need(node, inputs, 0);
      const [batch, channels, height, width] = image(node, value);
      if (block < 1 || (isStatic(channels) && channels % (block * block) !== 0))
        throw badAttribute(node, "blocksize", String(block), `one whose square divides the ${shapeText([channels])} channels`);
      const depth = floorDiv(channels, block * block);
      const size = x.int(block);
      return [
        b.map(value.dtype, [batch, depth, mul(height, block), mul(width, block)], ([n, c, h, w]) => {
          const within = x.add(x.mul(x.floorMod(h!, size), size), x.floorMod(w!, size));
          const channel =
            mode === "DCR" ? x.add(x.mul(within, x.int(depth)), c!) : x.add(x.mul(c!, x.int(block * block)), within);
          return x.load(value, [n!, channel, x.floorDiv(h!, size), x.floorDiv(w!, size)]);
        }),
      ];
    },
  }),
  defineOp({
    name: "SpaceToDepth",
    since: [1, 13, 28],
    attrs: (read) => ({ block: read.int("blocksize", 0), mode: read.string("mode", "DCR", ["DCR", "CRD"]) }),
    lower: (b, inputs, { block, mode }, node) => {
      const value = need(node, inputs, 0);
      const [batch, channels, height, width] = image(node, value);
      if (block < 1 || [height, width].some((dim) => isStatic(dim) && dim % block !== 0))
        throw badAttribute(node, "blocksize", String(block), `one that divides ${shapeText([height, width])}`);
      return [
        b.map(
          value.dtype,
          [batch, mul(channels, block * block), floorDiv(height, block), floorDiv(width, block)],
          ([n, c, h, w]) => {
            const split = x.int(mode === "DCR" ? channels : block * block);
            const [major, minor] = [x.floorDiv(c!, split), x.floorMod(c!, split)];
            const [within, channel] = mode === "DCR" ? [major, minor] : [minor, major];
            const at = (e: Var, offset: Expr): Expr => x.add(x.mul(e, x.int(block)), offset);
            return x.load(value, [
              n!,
              channel,
              at(h!, x.floorDiv(within, x.int(block))),
              at(w!, x.floorMod(within, x.int(block))),
            ]);
          },
        ),
      ];
    },
  }),
  defineOp({
    name: "ReverseSequence",
    since: [10],
    attrs: (read) => ({ batch: read.int("batch_axis", 1), time: read.int("time_axis", 0) }),
    lower: (b, inputs, { batch, time }, node) => {
      const [value, lengths] = [need(node, inputs, 0), need(node, inputs, 1)];
      const [batchAxis, timeAxis] = [axisIn(node, batch, value.shape.length), axisIn(node, time, value.shape.length)];
      if (batchAxis === timeAxis) throw badAttribute(node, "time_axis", String(time), "another axis than batch_axis");
      return [
        b.map(value.dtype, value.shape, (i) => {
          const length = x.load(lengths, [i[batchAxis]!]);
          const at = i[timeAxis]!;
          const from = x.select(x.lt(at, length), x.sub(x.sub(length, at), x.int(1)), at);
          return x.load(
            value,
            i.map((e, axis) => (axis === timeAxis ? from : e)),
          );
        }),
      ];
    },
  }),
  defineOp({
    name: "Trilu",
    since: [14],
    attrs: (read) => read.flag("upper", true),
    lower: (b, inputs, upper, node) => {
      const value = need(node, inputs, 0);
      if (value.shape.length < 2) throw shapeMismatch(node, `${shapeText(value.shape)} is not a matrix`);
      const known = inputs[1] && contentsOf(inputs[1])?.[0];
      const k = known !== undefined ? x.int(known) : inputs[1] ? loadScalar(inputs[1]) : x.int(0);
      return [
        b.map(value.dtype, value.shape, (i) => {
          const diagonal = x.sub(i.at(-1)!, i.at(-2)!);
          return x.select(
            upper ? x.ge(diagonal, k) : x.le(diagonal, k),
            x.load(value, i),
            x.constant(scalarOf(value.dtype), 0),
          );
        }),
      ];
    },
  }),
  defineOp({
    name: "CenterCropPad",
    since: [18],
    attrs: (read) => read.ints("axes"),
    lower: (b, inputs, attribute, node) => {
      const value = need(node, inputs, 0);
      const target = dimsOf(node, need(node, inputs, 1), "shape");
      const axes = axesOf(node, value.shape.length, undefined, attribute) ?? value.shape.map((_, axis) => axis);
      if (target.length !== axes.length)
        throw shapeMismatch(node, `the shape ${shapeText(target)} is for ${target.length} axes, not ${axes.length}`);
      const shape = value.shape.map((dim, axis) => (axes.includes(axis) ? target[axes.indexOf(axis)]! : dim));
      return [
        b.map(value.dtype, shape, (i) => {
          const at = i.map((e, axis) => {
            const [from, to] = [value.shape[axis]!, shape[axis]!];
            return x.add(e, x.int(sub(floorDiv(larger(sub(from, to), 0), 2), floorDiv(larger(sub(to, from), 0), 2))));
          });
          const inside = x.and(
            x.bool(true),
            ...at.flatMap((e, axis) => (sameDim(shape[axis]!, value.shape[axis]!) ? [] : [x.within(e, value.shape[axis]!)])),
          );
          return x.select(inside, x.load(value, at), x.constant(scalarOf(value.dtype), 0));
        }),
      ];
    },
  }),
];
