// Graph → Program: every node's tasks in order, over the graph's own inputs and constants. Fusion comes after.

import { dimText } from "../ir/dims.ts";
import type { Graph, GraphNode } from "../ir/graph.ts";
import { Lowering } from "../ir/lower.ts";
import type { Program, Requirement, Task } from "../ir/task.ts";
import type { Value } from "../ir/value.ts";
import { hostAttributesOf } from "../ops/host.ts";
import { bindOutputs, type Environment, lowerNode } from "../ops/infer.ts";
import { doublesOnHost, WHY_HOST } from "./doubles.ts";

/** Lowers a graph. The program holds all tasks; those whose results nobody reads are left to `removeDead`. */
export function lowerGraph(graph: Graph): Program {
  const env: Environment = new Map();
  const tasks: Task[] = [];
  const requirements = new Map<string, Requirement>();
  const onHost = doublesOnHost(graph);
  for (const node of graph.nodes) {
    const b = new Lowering(node.name, node.origins);
    const results = lowerNode(b, node, env);
    for (const one of b.requirements) {
      const key = `${one.sizes.map(dimText).sort().join()} ${one.orOne}`;
      if (!requirements.has(key)) requirements.set(key, one);
    }
    // Shapes and constants are exact as they are.
    const isKnown = results.every((value) => !value || value.data || value.contents);
    if (onHost.has(node) && !isKnown) {
      const host = new Lowering(node.name, node.origins);
      bindOutputs(node, wholeNode(host, node, results, env), env);
      tasks.push(...host.tasks);
    } else {
      bindOutputs(node, results, env);
      tasks.push(...b.tasks);
    }
  }
  return {
    inputs: graph.inputs,
    outputs: graph.outputs.map(({ name, value }) => ({ name, value: env.get(value) ?? value })),
    tasks,
    requirements: [...requirements.values()],
    assumed: new Map(graph.inputs.flatMap((value) => (value.assumed ? [[value.name, value.assumed]] : []))),
  };
}

/** The node as one host layer, with the types that its kernels would have. */
function wholeNode(
  b: Lowering,
  node: GraphNode,
  types: readonly (Value | undefined)[],
  env: Environment,
): readonly (Value | undefined)[] {
  const inputs = node.inputs.map((value) => value && (env.get(value) ?? value));
  const used = node.outputs.flatMap((value, i) => (value ? [i] : []));
  const outputs = b.host(
    node.op,
    hostAttributesOf(node)!,
    inputs,
    used.map((i) => types[i]!),
    WHY_HOST,
  );
  return node.outputs.map((_, i) => outputs[used.indexOf(i)]);
}
