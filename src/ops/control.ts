// If, Loop and Scan. What is known when the engine is built is lowered in place: the branch taken, the turns of a short loop,
// a loop whose turns are alike. The rest becomes tasks that the host drives. ONNX: https://onnx.ai/onnx/operators/

import { type Dim, add, isStatic, isStaticShape, max, sameShape, symbolsOf } from "../ir/dims.ts";
import * as x from "../ir/expr.ts";
import type { Expr } from "../ir/expr.ts";
import type { Graph } from "../ir/graph.ts";
import { type TurnResults, Lowering, contentsOf } from "../ir/lower.ts";
import { scalarTensor, sizeOf } from "../ir/tensor.ts";
import type { Value } from "../ir/value.ts";
import { KilnError, badAttribute, shapeMismatch, typeMismatch } from "../util/errors.ts";
import { type AttributeReader, type NodeFacts, type Operator, axisIn, defineOp, need } from "./define.ts";
import { concat, unsqueezed } from "./movement.ts";

/** Loops whose turns are not alike are laid out turn by turn up to this many. */
const MAX_UNROLLED = 64;
/** Turns of a loop that only its condition ends. */
const UNBOUNDED = 2 ** 31 - 1;
/** Results up to this many elements are computed by both branches and selected: cheaper than to wait for the condition. */
const MAX_SELECTED = 1 << 16;

const graphOf = (read: AttributeReader, node: string, name: string): Graph => {
  const graph = read.graph(name);
  if (!graph) throw badAttribute({ name: node, op: "" }, name, "missing", "a graph");
  return graph;
};
