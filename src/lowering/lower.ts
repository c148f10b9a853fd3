// Graph → Program: every node's tasks in order, over the graph's own inputs and constants. Fusion comes after.

import type { Graph } from "../ir/graph.ts";
import { Lowering } from "../ir/lower.ts";
import type { Program, Task } from "../ir/task.ts";
import { bindOutputs, type Environment, lowerNode } from "../ops/infer.ts";

/** Lowers a graph. The program holds all tasks; those whose results nobody reads are left to `removeDead`. */
export function lowerGraph(graph: Graph): Program {
  const env: Environment = new Map();
  const tasks: Task[] = [];
  for (const node of graph.nodes) {
    const b = new Lowering(node.name, node.origins);
    bindOutputs(node, lowerNode(b, node, env), env);
    tasks.push(...b.tasks);
  }
  return {
    inputs: graph.inputs,
    outputs: graph.outputs.map(({ name, value }) => ({ name, value: env.get(value) ?? value })),
    tasks,
    assumed: new Map(graph.inputs.flatMap((value) => (value.assumed ? [[value.name, value.assumed]] : []))),
  };
}
