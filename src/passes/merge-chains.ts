// Chains of operators that only move elements, or only change their type, become one.

import { type Dim, isStatic, sameDim, sameShape } from "../ir/dims.ts";
import type { GraphNode } from "../ir/graph.ts";
import { contentsOf } from "../ir/lower.ts";
import { tensor } from "../ir/tensor.ts";
import { type DType, dtypeFacts, isFloat, isInteger } from "../ir/types.ts";
import type { Value } from "../ir/value.ts";
import { attributesOf } from "./attributes.ts";
import { any, ints, op, optional, type Replacement, rule, rulesPass } from "./rewrite/index.ts";

const RESHAPES = ["Reshape", "Flatten", "Squeeze", "Unsqueeze"];

/** What Reshape must be given to make `to` of a value of the shape `from`; undefined where no constant says it. */
function reshapeTarget(from: readonly Dim[], to: readonly Dim[]): readonly number[] | undefined {
  if (to.includes(0)) return undefined;
  const target = to.map((dim, axis) => (isStatic(dim) ? dim : axis < from.length && sameDim(dim, from[axis]!) ? 0 : -1));
  return target.filter((size) => size === -1).length <= 1 ? target : undefined;
}

function reshapeTo(g: Replacement, x: Value, shape: readonly Dim[]): Value | undefined {
  if (sameShape(x.shape, shape)) return x;
  const target = reshapeTarget(x.shape, shape);
  if (target) return g.node("Reshape", [x, g.constant(tensor("i64", [target.length], target))]);
  // The shape as the model computes it serves where none of its elements means "copy".
  const given = g.root.op === "Reshape" ? g.root.inputs[1] : undefined;
  const contents = given && contentsOf(given);
  return contents?.every((dim) => dim !== 0) ? g.like(g.root, [x, given]) : undefined;
}

const permOf = (node: GraphNode, rank: number): readonly number[] =>
  attributesOf(node).ints("perm") ?? Array.from({ length: rank }, (_, i) => rank - 1 - i);

/** True when `to` holds every value of `from` exactly. */
function holds(to: DType, from: DType): boolean {
  if (to === from || from === "bool") return true;
  const [a, b] = [dtypeFacts[from], dtypeFacts[to]];
  if (isFloat(from)) return isFloat(to) && a.bytes < b.bytes;
  if (isFloat(to)) return 8 * a.bytes <= (to === "f64" ? 53 : to === "f32" ? 24 : to === "f16" ? 11 : 8);
  return isInteger(to) && (a.signed === b.signed ? a.bytes <= b.bytes : b.signed && a.bytes < b.bytes);
}

const rules = [
  rule({
    name: "merge-transposes",
    match: op("Transpose", [op("Transpose", [any("x")]).as("inner")]),
    rewrite: ({ x, inner }, g) => {
      const rank = x.shape.length;
      const [first, second] = [permOf(inner, rank), permOf(g.root, rank)];
      return g.node("Transpose", [x], { perm: ints(second.map((axis) => first[axis]!)) });
    },
  }),
  rule({
    name: "merge-reshapes",
    match: op(RESHAPES, [op(RESHAPES, [any("x"), optional(any("inner"))]), optional(any("outer"))]),
    rewrite: ({ x }, g) => reshapeTo(g, x, g.root.outputs[0]!.shape),
  }),
  rule({
    name: "merge-casts",
    match: op("Cast", [op("Cast", [any("x")])]),
    rewrite: ({ x }, g) => {
      const between = g.root.inputs[0]!.dtype;
      return holds(between, x.dtype) ? (x.dtype === g.root.outputs[0]!.dtype ? x : g.like(g.root, [x])) : undefined;
    },
  }),
];

export const mergeChains = rulesPass("merge-chains", "chains of transposes, of reshapes and of casts become one", rules);
