// If and Loop. What is known when the engine is built is lowered in place: the branch taken, the turns of a loop. The rest
// becomes tasks that the host drives.
// ONNX: https://onnx.ai/onnx/operators/onnx__If.html https://onnx.ai/onnx/operators/onnx__Loop.html

import { type Dim, isStaticShape, sameShape } from "../ir/dims.ts";
import * as x from "../ir/expr.ts";
import type { Graph, GraphNode } from "../ir/graph.ts";
import { Lowering } from "../ir/lower.ts";
import type { Task } from "../ir/task.ts";
import { scalarTensor, sizeOf } from "../ir/tensor.ts";
import type { Value } from "../ir/value.ts";
import { KilnError, shapeMismatch, valueNeeded } from "../util/errors.ts";
import { larger } from "./bounds.ts";
import { defineOp, type NodeFacts, need, type Operator } from "./define.ts";
import { known, type Limits, repeat, UNBOUNDED } from "./repeat.ts";
import { scanOperator } from "./scan-loop.ts";
import { loadScalar } from "./shape.ts";

/** Branches whose every value is at most this large are both computed: that is cheaper than to wait for the condition. */
const MAX_SELECTED = 1 << 16;

// --- If ------------------------------------------------------------------------------------------------------------------

const isSmallMap = (task: Task): boolean =>
  task.kind === "map" &&
  task.stores.every(
    ({ value, mode, init }) => mode === "set" && !init && isStaticShape(value.shape) && sizeOf(value.shape) <= MAX_SELECTED,
  );

/** Both branches, and a choice an element; undefined where one of them is more than small maps or they differ in shape. */
function selectResults(
  b: Lowering,
  condition: Value,
  yes: (inner: Lowering) => readonly Value[],
  no: (inner: Lowering) => readonly Value[],
): Value[] | undefined {
  const inner = [new Lowering(`${b.node}/then`, b.origins), new Lowering(`${b.node}/else`, b.origins)] as const;
  const [left, right] = [yes(inner[0]), no(inner[1])];
  const tasks = inner.flatMap((branch) => branch.tasks);
  const alike = left.every(
    (value, i) =>
      value.dtype === right[i]!.dtype &&
      isStaticShape(value.shape) &&
      sizeOf(value.shape) <= MAX_SELECTED &&
      sameShape(value.shape, right[i]!.shape),
  );
  if (!alike || !tasks.every(isSmallMap)) return undefined;
  b.tasks.push(...tasks);
  return left.map((value, i) =>
    b.map(value.dtype, value.shape, (at) => x.select(loadScalar(condition), x.load(value, at), x.load(right[i]!, at))),
  );
}

// --- Loop ----------------------------------------------------------------------------------------------------------------

/** A body's input `at` is a scalar, or has one element where the body declares it so. */
const scalarShape = (body: Graph, at: number): readonly Dim[] => (body.inputs[at]?.shape.length === 1 ? [1] : []);

/**
 * ONNX Loop. A body's condition is heeded even where the node's own is absent: ONNX's text says otherwise, but its reference
 * and ONNX Runtime do so, and exporters rely on it.
 */
function lowerLoop(b: Lowering, inputs: readonly (Value | undefined)[], body: Graph, node: NodeFacts): readonly Value[] {
  const [trips, condition] = inputs;
  const initial = inputs.slice(2).map((_, i) => need(node, inputs, i + 2));
  if (body.inputs.length !== initial.length + 2)
    throw shapeMismatch(
      node,
      `the body has ${body.inputs.length} inputs for ${initial.length} carried values`,
      "it takes the turn, the condition and the carried values",
    );
  if (body.outputs.length < initial.length + 1)
    throw shapeMismatch(node, `the body has ${body.outputs.length} outputs for ${initial.length} carried values`);
  const count = trips ? known(trips) : UNBOUNDED;
  const going = condition ? known(condition) : 1;
  const limits: Limits = {
    count: going === 0 ? 0 : count === undefined ? UNBOUNDED : larger(count, 0),
    ...(trips && count === undefined ? { trips } : {}),
    ...(condition && going === undefined ? { condition } : {}),
  };
  const carriedAt = initial.flatMap((_, i) => (passesOn(body, i) ? [] : [i]));
  const results = repeat(
    b,
    node,
    limits,
    carriedAt.map((i) => initial[i]!),
    (inner, turn, carried) => {
      const iteration = inner.map("i64", scalarShape(body, 0), () => turn);
      const yes = inner.constant({ ...scalarTensor("bool", 1), shape: scalarShape(body, 1) as readonly number[] });
      const entering = initial.map((value, i) => carried[carriedAt.indexOf(i)] ?? value);
      const [proceed, ...rest] = node.inline(inner, body, [iteration, yes, ...entering]);
      return {
        ...(known(proceed!) === 1 ? {} : { condition: proceed! }),
        carried: carriedAt.map((i) => rest[i]!),
        scans: rest.slice(initial.length),
      };
    },
  );
  return [...initial.map((value, i) => results.carried[carriedAt.indexOf(i)] ?? value), ...results.scans];
}

/** True when a body gives carried value `i` on as it came: it stays what it was before the loop. */
function passesOn(body: Graph, i: number): boolean {
  let value: Value | undefined = body.outputs[i + 1]!.value;
  for (let node = producerOf(body, value); node?.op === "Identity"; node = producerOf(body, value)) value = node.inputs[0];
  return value === body.inputs[i + 2];
}

const producerOf = (graph: Graph, value: Value | undefined): GraphNode | undefined =>
  graph.nodes.find(({ outputs }) => value && outputs.includes(value));

export const controls: readonly Operator[] = [
  defineOp<{ yes: Graph; no: Graph }>({
    name: "If",
    place: "GPU; the host decides what data decides",
    since: [1, 11, 13, 16, 19, 21, 23, 24, 25],
    attrs: (read) => ({ yes: read.requiredGraph("then_branch"), no: read.requiredGraph("else_branch") }),
    lower: (b, inputs, { yes, no }, node) => {
      const condition = need(node, inputs, 0);
      const certain = known(condition);
      if (certain !== undefined) return node.inline(b, certain !== 0 ? yes : no, []);
      const lowering =
        (graph: Graph) =>
        (inner: Lowering): readonly Value[] =>
          node.inline(inner, graph, []);
      try {
        return selectResults(b, condition, lowering(yes), lowering(no)) ?? b.branch(condition, lowering(yes), lowering(no));
      } catch (failure) {
        // A branch that is never taken may not fit, and the two may differ in rank.
        if (!(failure instanceof KilnError && failure.code === "K301")) throw failure;
        throw valueNeeded(node, condition.name, "condition", failure.message);
      }
    },
  }),
  defineOp<Graph>({
    name: "Loop",
    place: "GPU; the host decides what data decides",
    since: [1, 11, 13, 16, 19, 21, 23, 24, 25],
    attrs: (read) => read.requiredGraph("body"),
    lower: lowerLoop,
  }),
  scanOperator,
];
