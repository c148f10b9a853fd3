// Types and contents of a node's outputs, by a dry run of its `lower`; and the one way in which passes lower nodes.

import type { Graph, GraphNode } from "../ir/graph.ts";
import { Lowering } from "../ir/lower.ts";
import type { Value } from "../ir/value.ts";
import { internal, shapeMismatch } from "../util/errors.ts";
import { AttributeReader, type NodeFacts, type Operator } from "./define.ts";
import { findOperator } from "./registry.ts";

/** What a graph's value became: the value that a task writes, an input or a constant. */
export type Environment = Map<Value, Value>;

const resolve = (value: Value | undefined, env: Environment): Value | undefined => value && (env.get(value) ?? value);

/** Lowers one node: appends its tasks to `b` and returns its outputs. */
export function lowerNode(b: Lowering, node: GraphNode, env: Environment): readonly (Value | undefined)[] {
  const operator = findOperator(node.domain, node.op);
  if (!operator) throw internal(node.name, `operator ${node.op} was not refused at import`);
  const facts: NodeFacts = {
    // The path through enclosing nodes and turns: names that a subgraph's nodes make up stay unique.
    name: b.node,
    op: node.op,
    opset: node.opset,
    outputs: node.outputs.map((value) => value !== undefined),
    requirements: b.requirements,
    inline: (inner, graph, inputs) => inlineGraph(inner, graph, inputs, env),
  };
  const results = operator.lower(
    b,
    node.inputs.map((value) => resolve(value, env)),
    readAttributes(operator, node),
    facts,
  );
  node.outputs.forEach((output, i) => {
    if (output && !results[i]) throw shapeMismatch(node, `output ${i} ("${output.name}") is not one that the operator makes`);
  });
  return results;
}

function readAttributes(operator: Operator, node: GraphNode): unknown {
  const read = new AttributeReader(node, node.attributes);
  const attrs = operator.attrs?.(read);
  read.done();
  return attrs;
}

/** Lowers a graph's nodes in order into `b`, with `inputs` for the graph's inputs; returns its outputs. */
function inlineGraph(b: Lowering, graph: Graph, inputs: readonly Value[], outer: Environment): readonly Value[] {
  const env: Environment = new Map(outer);
  graph.inputs.forEach((value, i) => {
    if (inputs[i]) env.set(value, inputs[i]);
  });
  for (const node of graph.nodes) {
    const inner = new Lowering(`${b.node}/${node.name}`, [...b.origins, ...node.origins]);
    bindOutputs(node, lowerNode(inner, node, env), env);
    b.tasks.push(...inner.tasks);
    b.requirements.push(...inner.requirements);
  }
  return graph.outputs.map(({ value }) => env.get(value) ?? value);
}

/** Records what a node's outputs became. */
export function bindOutputs(node: GraphNode, results: readonly (Value | undefined)[], env: Environment): void {
  node.outputs.forEach((output, i) => {
    const result = results[i];
    if (output && result) env.set(output, result);
  });
}

/** Sets dtype, shape and contents of a node's outputs from its inputs. */
export function inferNode(node: GraphNode): void {
  const results = lowerNode(new Lowering(node.name), node, new Map());
  node.outputs.forEach((output, i) => {
    const result = results[i];
    if (!output || !result) return;
    output.dtype = result.dtype;
    output.shape = result.shape;
    if (result.contents) output.contents = result.contents;
    if (result.data) output.data = result.data;
    if (result.assumed) output.assumed = result.assumed;
  });
}
