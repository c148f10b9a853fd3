// An If whose condition is known becomes the nodes of the branch it takes.

import type { Graph, GraphNode } from "../ir/graph.ts";
import { capturesOf } from "../ir/graph.ts";
import { reader } from "../ir/tensor.ts";
import type { Value } from "../ir/value.ts";
import { inferNode } from "../ops/infer.ts";
import { copyGraph } from "./copy.ts";
import { inferBranches } from "./infer-branches.ts";
import type { Pass } from "./pass.ts";
import type { Draft, GraphEditor } from "./rewrite/editor.ts";

export const inlineBranches: Pass = {
  name: "inline-branches",
  doc: "an If whose condition is constant becomes the branch it takes",
  run(editor, { log, check }) {
    const pending = editor
      .typedGraphs()
      .flatMap((graph) => editor.nodesOf(graph))
      .reverse();
    for (let node = pending.pop(); node; node = pending.pop()) {
      const branch = editor.has(node) ? branchTaken(node) : undefined;
      if (!branch || !log.take("inline-branches", node.name)) continue;
      pending.push(...inline(editor, node, branch).reverse());
      check(editor, "inline-branches");
    }
  },
};

function branchTaken(node: GraphNode): Graph | undefined {
  const [condition] = node.inputs;
  if (node.op !== "If" || node.domain !== "" || !condition?.data) return undefined;
  const branch = node.attributes.get(reader(condition.data)(0) ? "then_branch" : "else_branch");
  return branch?.kind === "graph" ? branch.value : undefined;
}

/** Puts a copy of the branch in the node's place; the node's outputs stay the values they are where the branch makes them. */
function inline(editor: GraphEditor, node: GraphNode, branch: Graph): GraphNode[] {
  const copies = new Map<Value, Value>(capturesOf(branch).map((value) => [value, value]));
  const made = new Set(branch.nodes.flatMap((inner) => inner.outputs.filter((value) => value !== undefined)));
  node.outputs.forEach((output, i) => {
    const result = branch.outputs[i]!.value;
    if (output && made.has(result) && !copies.has(result)) copies.set(result, output);
  });
  const adopted = new Set(copies.values());
  const copy = copyGraph(branch, copies);
  const drafts: Draft[] = copy.nodes.map((inner) => ({
    ...inner,
    name: editor.nodeNames.fresh(`${node.name}/${inner.name}`),
    origins: [...new Set([...node.origins, ...inner.origins])],
  }));
  for (const draft of drafts) {
    for (const value of draft.outputs)
      if (value && !adopted.has(value)) value.name = editor.valueNames.fresh(`${node.name}/${value.name}`);
    inferNode(draft);
    inferBranches(draft, editor.typed);
    editor.insertBefore(node, draft);
  }
  node.outputs.forEach((output, i) => {
    const result = copy.outputs[i]!.value;
    if (output && output !== result) editor.replaceUses(output, result);
  });
  editor.remove(node);
  return drafts;
}
