// float64: the GPU has no such type. What a model takes or gives in it, with all that such values flow through, is computed
// on the host in double precision; what only passes through it between other types is f32 on the GPU, and the build says so.

import { type Graph, type GraphNode, subgraphsOf } from "../ir/graph.ts";
import type { Value } from "../ir/value.ts";
import { hostAttributesOf } from "../ops/host.ts";

export const WHY_HOST = "float64 in and out of the model is computed in double precision, which the GPU lacks";

const isDouble = (value: Value | undefined): value is Value => value?.dtype === "f64" && !value.data;

/** Nodes that work on float64 values which reach, by way of other such values, an input or output of the model. */
export function doublesOnHost(graph: Graph): ReadonlySet<GraphNode> {
  const touching = new Map<Value, GraphNode[]>();
  for (const node of graph.nodes)
    for (const value of [...node.inputs, ...node.outputs].filter(isDouble)) {
      const known = touching.get(value);
      if (known) known.push(node);
      else touching.set(value, [node]);
    }
  const exact = new Set<GraphNode>();
  const seen = new Set<Value>();
  const pending = [...graph.inputs, ...graph.outputs.map(({ value }) => value)].filter(isDouble);
  for (let value = pending.pop(); value; value = pending.pop()) {
    if (seen.has(value)) continue;
    seen.add(value);
    for (const node of touching.get(value) ?? []) {
      if (exact.has(node) || subgraphsOf(node).length > 0 || !hostAttributesOf(node)) continue;
      exact.add(node);
      pending.push(...[...node.inputs, ...node.outputs].filter(isDouble));
    }
  }
  return exact;
}

/** What is said of the float64 values that kernels hold as f32. */
export function doubleNotes(graph: Graph): readonly string[] {
  const exact = doublesOnHost(graph);
  const names = graph.nodes
    .filter((node) => !exact.has(node) && [...node.inputs, ...node.outputs].some(isDouble))
    .map(({ name }) => name);
  return names.length === 0
    ? []
    : [
        `float64: computed as float32 in ${names.slice(0, 3).join(", ")}${names.length > 3 ? ` and ${names.length - 3} more` : ""}`,
      ];
}
