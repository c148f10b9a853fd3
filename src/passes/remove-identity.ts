// Nodes that give their input back: same elements, type and shape.

import { sameShape } from "../ir/dims.ts";
import type { GraphNode } from "../ir/graph.ts";
import { isFloat } from "../ir/types.ts";
import type { Value } from "../ir/value.ts";
import { attributesOf, hasOneOutput, integers, isFilled } from "./attributes.ts";
import { any, constant, op, optional, rule, rulesPass } from "./rewrite/index.ts";

/** The node's input when its first output has the input's type. */
const unchanged = (x: Value, { outputs: [out] }: GraphNode): Value | undefined =>
  out && out.dtype === x.dtype && sameShape(out.shape, x.shape) ? x : undefined;
const isZero = (value: number): boolean => value === 0;
const isOne = (value: number): boolean => value === 1;

/** True when combining with `c` as the operator's second operand changes no bit; x + 0 would lose the sign of -0. */
function isNeutral(operator: string, c: Value): boolean {
  switch (operator) {
    case "Mul":
    case "Div":
    case "Pow":
      return isFilled(c, 1);
    case "Sub":
      return isFilled(c, 0);
    case "Add":
      return isFilled(c, isFloat(c.dtype) ? -0 : 0);
    default:
      return false;
  }
}

const rules = [
  rule({ name: "remove-identity", match: op("Identity", [any("x")]), rewrite: ({ x }) => x }),
  rule({
    name: "remove-dropout",
    match: op("Dropout", [any("x"), optional(any("ratio")), optional(constant("training"))]),
    rewrite: ({ x, training }, { root }) => (hasOneOutput(root) && (!training || isFilled(training, 0)) ? x : undefined),
  }),
  rule({
    name: "remove-cast",
    match: op(["Cast", "CastLike"], [any("x"), optional(any("like"))]),
    rewrite: ({ x }, { root }) => unchanged(x, root),
  }),
  rule({
    name: "remove-reshape",
    match: op(["Reshape", "Expand", "Tile", "Flatten", "Squeeze"], [any("x"), optional(any("shape"))]),
    rewrite: ({ x }, { root }) => unchanged(x, root),
  }),
  rule({
    name: "remove-transpose",
    match: op("Transpose", [any("x")]),
    rewrite: ({ x }, { root }) =>
      attributesOf(root)
        .ints("perm")
        ?.every((axis, i) => axis === i) || x.shape.length < 2
        ? x
        : undefined,
  }),
  rule({
    name: "remove-pad",
    match: op("Pad", [any("x"), optional(any("pads")), optional(any("value")), optional(any("axes"))]),
    rewrite: ({ x }, { root }) => (integers(root, 1, "pads")?.every(isZero) ? x : undefined),
  }),
  rule({
    // With steps of 1 an equal size leaves no other start than 0.
    name: "remove-slice",
    match: op("Slice", [
      any("x"),
      optional(any("starts")),
      optional(any("ends")),
      optional(any("axes")),
      optional(any("steps")),
    ]),
    rewrite: ({ x }, { root }) => (integers(root, 4, "steps", [])?.every(isOne) ? unchanged(x, root) : undefined),
  }),
  rule({
    name: "remove-concat",
    match: op(["Concat", "Sum", "Mean", "Max", "Min"], [any("x")]),
    rewrite: ({ x }, { root }) => unchanged(x, root),
  }),
  rule({
    name: "remove-split",
    match: op("Split", [any("x"), optional(any("split"))]),
    rewrite: ({ x }, { root }) => (root.outputs.length === 1 ? unchanged(x, root) : undefined),
  }),
  rule({
    name: "remove-neutral",
    match: op(["Mul", "Div", "Pow", "Sub", "Add"], [any("x"), constant("c")]),
    rewrite: ({ x, c }, { root }) => (isNeutral(root.op, c) ? unchanged(x, root) : undefined),
  }),
  rule({
    name: "remove-where",
    match: op("Where", [constant("condition"), any("x"), any("y")]),
    rewrite: ({ condition, x, y }, { root }) =>
      isFilled(condition, 1) ? unchanged(x, root) : isFilled(condition, 0) ? unchanged(y, root) : undefined,
  }),
];

export const removeIdentity = rulesPass("remove-identity", "nodes that give their input back go", rules);
