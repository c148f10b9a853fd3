// NumPy broadcasting with symbolic dimensions. ONNX: https://onnx.ai/onnx/repo-docs/Broadcasting.html

import { type Dim, dimText, isStatic, max, sameDim, shapeText, sub } from "../ir/dims.ts";
import { type Expr, int, load, minimum } from "../ir/expr.ts";
import type { Value } from "../ir/value.ts";
import { shapeMismatch } from "../util/errors.ts";
import type { NodeFacts } from "./define.ts";

/** Of a node, what broadcasting needs: its name, and where to note what a run must check. */
type BroadcastNode = Pick<NodeFacts, "name" | "op"> & Partial<Pick<NodeFacts, "requirements">>;

/** The shape that all `shapes` broadcast to. Two different symbols are taken to be equal or 1 when the engine runs. */
export function broadcastShapes(node: BroadcastNode, ...shapes: readonly (readonly Dim[])[]): Dim[] {
  const rank = Math.max(...shapes.map((shape) => shape.length));
  return Array.from({ length: rank }, (_, axis) =>
    shapes.reduce<Dim>((result, shape) => {
      const dim = shape[axis - (rank - shape.length)] ?? 1;
      if (dim === 1 || sameDim(dim, result)) return result;
      if (result === 1) return dim;
      if (isStatic(dim) && isStatic(result)) {
        throw shapeMismatch(
          node,
          `shapes ${shapes.map(shapeText).join(" and ")} do not broadcast`,
          `dimension ${axis}: ${dimText(result)} against ${dimText(dim)}`,
        );
      }
      node.requirements?.push({
        node: `${node.op} "${node.name}"`,
        verb: "broadcast",
        shapes,
        sizes: [result, dim],
        orOne: true,
      });
      // A static size above 1 decides; of two symbols the larger does (the other is 1 or the same).
      return isStatic(dim) ? dim : isStatic(result) ? result : max(result, dim);
    }, 1),
  );
}

/** Index into a value of `shape` for element `index` of the broadcast `target`. */
export function broadcastIndex(shape: readonly Dim[], index: readonly Expr[], target: readonly Dim[]): Expr[] {
  const skip = index.length - shape.length;
  return shape.map((dim, axis) => {
    const at = index[axis + skip]!;
    if (dim === 1) return int(0);
    if (isStatic(dim) || sameDim(dim, target[axis + skip]!)) return at;
    return minimum(at, int(sub(dim, 1)));
  });
}

/** Element of `value` that meets element `index` of the broadcast `target`. */
export const loadBroadcast = (value: Value, index: readonly Expr[], target: readonly Dim[]): Expr =>
  load(value, broadcastIndex(value.shape, index, target));

/** Reads elements of `value` by the index of `shape`, to which it must broadcast without widening it. */
export function readBroadcast(node: BroadcastNode, value: Value, shape: readonly Dim[]): (index: readonly Expr[]) => Expr {
  const joint = broadcastShapes(node, shape, value.shape);
  if (joint.length !== shape.length || joint.some((dim, i) => isStatic(dim) && isStatic(shape[i]!) && dim !== shape[i])) {
    throw shapeMismatch(node, `"${value.name}" ${shapeText(value.shape)} does not broadcast to ${shapeText(shape)}`);
  }
  return (index) => loadBroadcast(value, index, shape);
}
