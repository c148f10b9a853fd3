// Removes nodes that no result needs, and marks outputs that nobody reads as not wanted.

import { type Graph, subgraphsOf } from "../ir/graph.ts";
import type { Pass } from "./pass.ts";
import type { GraphEditor } from "./rewrite/editor.ts";

export const removeDead: Pass = {
  name: "remove-dead",
  doc: "nodes and outputs that no result needs go",
  run(editor, { log, check }) {
    const sweep = (graph: Graph): void => {
      for (const node of editor.nodesOf(graph).reverse()) {
        if (node.outputs.some((value) => value && editor.isUsed(value))) {
          for (const nested of subgraphsOf(node)) sweep(nested);
          dropUnusedOutputs(editor, node);
        } else if (log.take("remove-dead", node.name)) {
          editor.remove(node);
          check(editor, "remove-dead");
        }
      }
    };
    sweep(editor.graph);
  },
};

function dropUnusedOutputs(editor: GraphEditor, node: ReturnType<GraphEditor["nodesOf"]>[number]): void {
  for (const value of node.outputs) if (value && !editor.isUsed(value)) editor.dropOutput(node, value);
}
