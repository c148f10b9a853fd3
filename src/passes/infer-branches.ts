// Types inside of nested graphs. An If's branches read only values whose types are known, so theirs follow; the bodies of
// Loop and Scan get other shapes turn by turn, and stay closed to passes that need types.

import { type Graph, type GraphNode, subgraphsOf } from "../ir/graph.ts";
import { inferNode } from "../ops/infer.ts";
import { KilnError } from "../util/errors.ts";

/** Infers the values in the branches of a node that is an If, and adds to `typed` the branches where all could be. */
export function inferBranches(node: GraphNode, typed: Set<Graph>): void {
  if (node.op !== "If" || node.domain !== "") return;
  for (const branch of subgraphsOf(node)) if (inferNested(branch, typed)) typed.add(branch);
}

function inferNested(graph: Graph, typed: Set<Graph>): boolean {
  try {
    for (const node of graph.nodes) {
      inferNode(node);
      inferBranches(node, typed);
    }
    return true;
  } catch (error) {
    // A branch that is never taken may be one that does not fit.
    if (!(error instanceof KilnError)) throw error;
    return false;
  }
}
