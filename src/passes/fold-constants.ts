// Evaluates what is known when the engine is built: nodes over constants, and integer values whose contents are static.

import { type Dim, dimText, isStatic, isStaticShape } from "../ir/dims.ts";
import { type GraphNode, readsOfNode, subgraphsOf } from "../ir/graph.ts";
import { interpret, type Tensors } from "../ir/interpret.ts";
import { Lowering } from "../ir/lower.ts";
import { asReduce, type HostTask, isKernelTask, type Task } from "../ir/task.ts";
import { sizeOf, type Tensor, tensor } from "../ir/tensor.ts";
import { dtypeFacts } from "../ir/types.ts";
import type { Value } from "../ir/value.ts";
import { hostOperator } from "../ops/host.ts";
import { inferNode, lowerNode } from "../ops/infer.ts";
import { findOperator } from "../ops/registry.ts";
import { internal, KilnError } from "../util/errors.ts";
import type { Pass, PassContext } from "./pass.ts";
import type { GraphEditor } from "./rewrite/editor.ts";
import { stridedCopy } from "./strided-copy.ts";

/** Loop iterations that folding one node, and all nodes of a run, may take. */
const MAX_STEPS = 50e6;
const MAX_STEPS_TOTAL = 500e6;
/** Results above this size are folded only when they are at most twice their inputs. */
const MAX_GROWTH_BYTES = 1 << 20;

/** Operators that only give elements another shape. */
const RESHAPES: ReadonlySet<string> = new Set(["Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze"]);
/** Kept although known: what 8-bit weights stand for is the quantized kernels' business. */
const KEPT: ReadonlySet<string> = new Set(["DequantizeLinear"]);

export const foldConstants: Pass = {
  name: "fold-constants",
  doc: "nodes whose inputs are all constant become constants",
  run(editor, context) {
    const changed = new Set<Value>();
    let steps = MAX_STEPS_TOTAL;
    for (const node of editor.nodes()) {
      if (!editor.has(node)) continue;
      const folded = foldNode(editor, node, context, steps);
      if (folded !== undefined) {
        steps -= folded;
        for (const value of node.outputs) if (value) changed.add(value);
      } else if (editor.typed.has(editor.graphOf(node)) && readsAny(node, changed)) {
        // What became known may sharpen the types of what reads it.
        const before = node.outputs.map(knowledge);
        inferNode(node);
        node.outputs.forEach((value, i) => {
          if (value && knowledge(value) !== before[i]) changed.add(value);
        });
      }
    }
  },
};

export const foldContents: Pass = {
  name: "fold-contents",
  doc: "integer values whose elements are all known from static shapes become constants",
  run(editor, { log, check }) {
    for (const node of editor.typedGraphs().flatMap((graph) => editor.nodesOf(graph))) {
      const known = node.outputs.map((value) => value && !value.data && constantContents(value));
      if (!editor.has(node) || !known.some((data) => data) || !log.take("fold-contents", node.name)) continue;
      node.outputs.forEach((value, i) => {
        if (value && known[i]) editor.setConstant(value, known[i]);
      });
      if (node.outputs.every((value) => !value || value.data || !editor.isUsed(value))) removeFolded(editor, node);
      check(editor, "fold-contents");
    }
  },
};

const knowledge = (value: Value | undefined): string =>
  value
    ? `${value.dtype}[${value.shape.map(dimText).join()}]${value.data ? "!" : (value.contents?.map(dimText).join() ?? "?")}`
    : "";

const readsAny = (node: GraphNode, values: ReadonlySet<Value>): boolean =>
  values.size > 0 &&
  (node.inputs.some((value) => value && values.has(value)) ||
    subgraphsOf(node).some(
      (graph) => graph.nodes.some((inner) => readsAny(inner, values)) || graph.outputs.some(({ value }) => values.has(value)),
    ));

/** The value's elements as a tensor, when all are numbers that doubles hold exactly. */
function constantContents({ dtype, shape, contents }: Value): Tensor | undefined {
  if (!contents || !isStaticShape(shape) || !contents.every((dim): dim is number => isStatic(dim) && Number.isSafeInteger(dim)))
    return undefined;
  return tensor(dtype, shape, contents);
}

/** Removes a node whose results are constants now, with the nodes that only it used. */
function removeFolded(editor: GraphEditor, node: GraphNode): void {
  const producers = readsOfNode(node).flatMap((value) => editor.producerOf(value) ?? []);
  editor.remove(node);
  for (const producer of producers) if (editor.has(producer)) editor.removeUnused(producer);
}

/** Folds one node when it can be; returns the iterations it took. */
function foldNode(
  editor: GraphEditor,
  node: GraphNode,
  { log, check, strict }: PassContext,
  budget: number,
): number | undefined {
  if (node.outputs.every((value) => !value || value.data)) {
    // Constant nodes: inference has put the tensor on the value.
    removeFolded(editor, node);
    return 0;
  }
  if (KEPT.has(node.op) || readsOfNode(node).some((value) => !value.data) || isRandom(node)) return undefined;
  let made: Made | undefined;
  try {
    made = evaluate(node, budget);
  } catch (error) {
    // Left in the graph, where lowering meets it again and the message names the stage.
    if (strict || !(error instanceof KilnError)) throw error;
  }
  if (!made || !log.take("fold-constants", node.name)) return undefined;
  const { results, steps } = made;
  node.outputs.forEach((value, i) => {
    if (value) editor.setConstant(value, results[i]!);
  });
  removeFolded(editor, node);
  check(editor, "fold-constants");
  return steps;
}

/** True when the node, or one nested in it, draws new results at each run. */
function isRandom(node: GraphNode): boolean {
  return findOperator(node.domain, node.op)?.random === true || subgraphsOf(node).some((graph) => graph.nodes.some(isRandom));
}

interface Made {
  readonly results: readonly (Tensor | undefined)[];
  readonly steps: number;
}

/** The tensors that a node over constants gives; undefined when they are too large or too much work. */
function evaluate(node: GraphNode, budget: number): Made | undefined {
  const b = new Lowering(node.name);
  const values = lowerNode(b, node, new Map());
  const [source] = node.inputs;
  const [first] = values;
  if (RESHAPES.has(node.op) && source?.data && first && isStaticShape(first.shape))
    return { results: [{ ...source.data, shape: first.shape }], steps: 0 };
  const bytesIn = readsOfNode(node).reduce((sum, value) => sum + bytesOf(value), 0);
  const wanted = values.filter((value, i) => value && node.outputs[i]);
  if (wanted.some((value) => bytesOf(value!) > Math.max(MAX_GROWTH_BYTES, 2 * bytesIn))) return undefined;
  const [only] = b.tasks;
  const copied = b.tasks.length === 1 && values.length === 1 ? stridedCopy(only!) : undefined;
  if (copied) return { results: [copied], steps: 0 };
  const steps = b.tasks.reduce((sum, task) => sum + stepsOf(task), 0);
  if (steps > Math.min(MAX_STEPS, budget)) return undefined;
  const tensors: Tensors = new Map();
  interpret(b.tasks, tensors, new Map(), (task, inputs) => runHost(node, task, inputs));
  const results = values.map((value) => value && (tensors.get(value) ?? value.data));
  return node.outputs.every((value, i) => !value || results[i]) ? { results, steps } : undefined;
}

const bytesOf = ({ dtype, shape }: Value): number => (isStaticShape(shape) ? sizeOf(shape) * dtypeFacts[dtype].bytes : 0);

function runHost(node: GraphNode, task: HostTask, inputs: readonly (Tensor | undefined)[]): readonly Tensor[] {
  const operator = hostOperator(task.op);
  if (!operator) throw internal(node.name, `operator ${task.op} has no reference`);
  return operator(inputs, task.attrs);
}

/** Iterations of a task's innermost loop; sizes that only the run knows count as 1. */
function stepsOf(task: Task): number {
  const extent = (dim: Dim): number => (isStatic(dim) ? dim : 1);
  if (task.kind === "host") return task.inputs.reduce((sum, value) => sum + (value?.data?.data.length ?? 0), 0);
  if (task.kind === "if") return [...task.then, ...task.else].reduce((sum, inner) => sum + stepsOf(inner), 0);
  if (!isKernelTask(task)) return extent(task.count) * task.body.reduce((sum, inner) => sum + stepsOf(inner), 0);
  if (task.kind === "block") return task.parts.reduce((sum, part) => sum + stepsOf(part), 0);
  const loop = task.kind === "map" || task.kind === "reduce" ? task : asReduce(task);
  const points = loop.vars.reduce((product, v) => product * extent(v.extent), 1);
  if (loop.kind === "map") return points;
  return points * (loop.stages.length + (loop.each ? 1 : 0)) * loop.inner.reduce((product, v) => product * extent(v.extent), 1);
}
