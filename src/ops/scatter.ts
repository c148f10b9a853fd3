// Operators that write elements where an index tensor says, into a copy of their first input. Indices are data; negative
// ones count from the end. Without a reduction indices must be distinct, as ONNX demands. ONNX: https://onnx.ai/onnx/operators/

import { isStatic, sameShape, shapeText } from "../ir/dims.ts";
import type { Expr } from "../ir/expr.ts";
import * as x from "../ir/expr.ts";
import type { Lowering } from "../ir/lower.ts";
import type { StoreMode } from "../ir/task.ts";
import type { Value } from "../ir/value.ts";
import { shapeMismatch, typeMismatch } from "../util/errors.ts";
import { type AttributeReader, axisIn, defineOp, type NodeFacts, need, type Operator } from "./define.ts";
import { coordinates, loadIndex } from "./gather.ts";

const REDUCTIONS = { none: "set", add: "add", mul: "mul", min: "min", max: "max" } as const satisfies Record<string, StoreMode>;
type Reduction = keyof typeof REDUCTIONS;

const readReduction = (read: AttributeReader): StoreMode =>
  REDUCTIONS[read.string<Reduction>("reduction", "none", Object.keys(REDUCTIONS) as Reduction[])];

function sameType(node: NodeFacts, value: Value, updates: Value): void {
  if (value.dtype !== updates.dtype) throw typeMismatch(node, `updates are ${updates.dtype}, the data is ${value.dtype}`);
}

/** out[…, indices[i], …] = updates[i] along one axis. */
function scatterElements(
  b: Lowering,
  node: NodeFacts,
  inputs: readonly (Value | undefined)[],
  axis: number,
  mode: StoreMode,
): Value {
  const [value, indices, updates] = [need(node, inputs, 0), need(node, inputs, 1), need(node, inputs, 2)];
  sameType(node, value, updates);
  if (indices.shape.length !== value.shape.length || updates.shape.length !== value.shape.length) {
    throw shapeMismatch(
      node,
      `indices ${shapeText(indices.shape)} and updates ${shapeText(updates.shape)} must have the rank of ${shapeText(value.shape)}`,
    );
  }
  const along = axisIn(node, axis, value.shape.length);
  return b.scatter(
    value,
    indices.shape,
    (i) => ({
      index: i.map((at, d) => (d === along ? loadIndex(indices, i, value.shape[along]!) : at)),
      expr: x.load(updates, i),
    }),
    mode,
  );
}

export const scatters: readonly Operator[] = [
  defineOp({
    name: "Scatter",
    since: [9],
    attrs: (read) => read.int("axis", 0),
    lower: (b, inputs, axis, node) => [scatterElements(b, node, inputs, axis, "set")],
  }),
  defineOp({
    name: "ScatterElements",
    since: [11, 13, 16, 18],
    attrs: (read) => ({ axis: read.int("axis", 0), mode: readReduction(read) }),
    lower: (b, inputs, { axis, mode }, node) => [scatterElements(b, node, inputs, axis, mode)],
  }),
  defineOp({
    name: "ScatterND",
    since: [11, 13, 16, 18],
    attrs: readReduction,
    lower: (b, inputs, mode, node) => {
      const [value, indices, updates] = [need(node, inputs, 0), need(node, inputs, 1), need(node, inputs, 2)];
      sameType(node, value, updates);
      const { depth, read } = coordinates(node, indices, value.shape, 0);
      const places = indices.shape.slice(0, -1);
      const expected = [...places, ...value.shape.slice(depth)];
      if (
        updates.shape.length !== expected.length ||
        updates.shape.some((dim, k) => isStatic(dim) && isStatic(expected[k]!) && dim !== expected[k])
      ) {
        throw shapeMismatch(node, `updates ${shapeText(updates.shape)} must be ${shapeText(expected)}`);
      }
      return [
        b.scatter(
          value,
          expected,
          (i) => ({ index: [...read(i.slice(0, places.length)), ...i.slice(places.length)], expr: x.load(updates, i) }),
          mode,
        ),
      ];
    },
  }),
  defineOp({
    name: "TensorScatter",
    since: [24],
    attrs: (read) => ({ axis: read.int("axis", -2), mode: read.string("mode", "linear", ["linear", "circular"]) }),
    lower: (b, inputs, { axis, mode }, node) => {
      const [cache, update, starts] = [need(node, inputs, 0), need(node, inputs, 1), inputs[2]];
      sameType(node, cache, update);
      const along = axisIn(node, axis, cache.shape.length);
      const others = (value: Value) => value.shape.toSpliced(along, 1);
      if (
        along === 0 ||
        update.shape.length !== cache.shape.length ||
        (others(update).every(isStatic) && others(cache).every(isStatic) && !sameShape(others(update), others(cache)))
      ) {
        throw shapeMismatch(
          node,
          `an update ${shapeText(update.shape)} does not fit the cache ${shapeText(cache.shape)}`,
          `they may differ in axis ${along} alone, which is not the batch`,
        );
      }
      return [
        b.scatter(cache, update.shape, (i: readonly Expr[]) => {
          const at = starts ? x.add(x.load(starts, [i[0]!]), i[along]!) : i[along]!;
          return {
            index: i.toSpliced(along, 1, mode === "circular" ? x.floorMod(at, x.int(cache.shape[along]!)) : at),
            expr: x.load(update, i),
          };
        }),
      ];
    },
  }),
];
