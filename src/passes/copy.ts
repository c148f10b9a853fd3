// A deep copy of a graph, nested graphs included: passes change their copy and leave the caller's graph as it was.

import type { Attribute, Graph, GraphNode } from "../ir/graph.ts";
import type { Value } from "../ir/value.ts";

/** The same graph over values and nodes of its own. Tensors are shared. */
export function copyGraph(graph: Graph, copies: Map<Value, Value> = new Map()): Graph {
  const copyValue = (value: Value): Value => {
    const done = copies.get(value);
    if (done) return done;
    const made = { ...value };
    copies.set(value, made);
    return made;
  };
  const copyAttribute = (attribute: Attribute): Attribute =>
    attribute.kind === "graph" ? { kind: "graph", value: copyGraph(attribute.value, copies) } : attribute;
  const copyNode = (node: GraphNode): GraphNode => ({
    ...node,
    inputs: node.inputs.map((value) => value && copyValue(value)),
    outputs: node.outputs.map((value) => value && copyValue(value)),
    attributes: new Map([...node.attributes].map(([name, attribute]) => [name, copyAttribute(attribute)])),
  });
  return {
    name: graph.name,
    inputs: graph.inputs.map(copyValue),
    nodes: graph.nodes.map(copyNode),
    outputs: graph.outputs.map(({ name, value }) => ({ name, value: copyValue(value) })),
  };
}
