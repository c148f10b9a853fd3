// Applies rules until none matches. The worklist starts with every node; after a rewrite only nodes that the rewrite could
// have given a match come back: those made, and those downstream of a change within the depth of the deepest pattern.

import { isStatic, sameDim } from "../../ir/dims.ts";
import type { Graph, GraphNode } from "../../ir/graph.ts";
import type { Value } from "../../ir/value.ts";
import { internal, KilnError } from "../../util/errors.ts";
import type { PassContext } from "../pass.ts";
import type { GraphEditor } from "./editor.ts";
import { type Match, matchNode } from "./match.ts";
import { Replacement, type Rule } from "./rule.ts";

/** Applies `rules` to the nodes of one graph (not of nested ones) to a fixed point; of two that match a node the first wins. */
export function applyRules(editor: GraphEditor, graph: Graph, rules: readonly Rule[], context: PassContext): void {
  const active = rules.filter(({ name }) => context.enabled(name));
  const byOp = new Map<string, Rule[]>();
  for (const rule of active) for (const name of rule.match.names) byOp.set(name, [...(byOp.get(name) ?? []), rule]);
  const depth = Math.max(0, ...active.map((rule) => rule.depth));
  const queue = editor.nodesOf(graph).filter((node) => byOp.has(node.op));
  const queued = new Set(queue);
  // Each rewrite brings its graph nearer to a normal form; a pair of rules that undo each other is a defect.
  let patience = 10 * (queue.length + 100);

  const enqueue = (node: GraphNode): void => {
    if (queued.has(node) || !byOp.has(node.op) || editor.graphOf(node) !== graph) return;
    queued.add(node);
    queue.push(node);
  };
  /** Queues nodes and what is downstream of them, as deep as a pattern looks. */
  const enqueueFrom = (nodes: Iterable<GraphNode>): void => {
    let level = new Set(nodes);
    for (let i = 0; i < depth && level.size > 0; i++) {
      const next = new Set<GraphNode>();
      for (const node of level) {
        if (!editor.has(node)) continue;
        enqueue(node);
        for (const output of node.outputs) if (output) for (const reader of editor.readersOf(output)) next.add(reader);
      }
      level = next;
    }
  };

  for (let at = 0; at < queue.length; at++) {
    const node = queue[at]!;
    queued.delete(node);
    if (!editor.has(node)) continue;
    for (const rule of byOp.get(node.op) ?? []) {
      const changed = tryRule(editor, rule, node, context);
      if (!changed) continue;
      if (patience-- === 0) throw internal(node.name, `the rule ${rule.name} finds no end`);
      enqueueFrom(changed);
      break;
    }
  }
}

/** Applies a rule at `root` if it can be; returns the nodes whose inputs changed or whose inputs have fewer readers. */
function tryRule(
  editor: GraphEditor,
  rule: Rule,
  root: GraphNode,
  { log, check, strict }: PassContext,
): ReadonlySet<GraphNode> | undefined {
  const match = matchNode(editor, rule.match, root);
  if (!match) return undefined;
  const replacement = new Replacement(root, editor.opset);
  let results: readonly (Value | undefined)[];
  try {
    const made = rule.rewrite(Object.fromEntries(match.captures) as never, replacement);
    if (!made) return undefined;
    results = Array.isArray(made) ? made : [made as Value];
    if (root.outputs.some((output, i) => output && editor.isUsed(output) && !hasTypeOf(output, results[i]))) return undefined;
  } catch (error) {
    // What inference refuses is no rewrite; in development it is the rule's defect.
    if (strict || !(error instanceof KilnError)) throw error;
    return undefined;
  }
  if (!log.take(rule.name, root.name)) return undefined;
  const changed = replace(editor, match, replacement, results);
  check(editor, rule.name);
  return changed;
}

/** True when `result` can stand for `output`: scalars of a higher rank than a pattern's input would change it. */
const hasTypeOf = (output: Value, result: Value | undefined): boolean =>
  result?.dtype === output.dtype &&
  result.shape.length === output.shape.length &&
  result.shape.every((dim, i) => sameDim(dim, output.shape[i]!) || !isStatic(dim) || !isStatic(output.shape[i]!));

/** Puts `results` in the place of the root's outputs, which keep their identity and name where a new node makes them. */
function replace(
  editor: GraphEditor,
  match: Match,
  replacement: Replacement,
  results: readonly (Value | undefined)[],
): ReadonlySet<GraphNode> {
  const { root, nodes: drafts } = replacement;
  const changed = new Set<GraphNode>();
  const instead = new Map<Value, Value>();
  const adopt = new Map<Value, Value>();
  root.outputs.forEach((output, i) => {
    const result = results[i];
    if (!output || !result || !editor.isUsed(output)) return;
    for (const reader of editor.readersOf(output)) changed.add(reader);
    const isNew = drafts.some((node) => node.outputs.includes(result));
    if (isNew && !adopt.has(result)) adopt.set(result, output);
    else instead.set(output, adopt.get(result) ?? result);
  });

  for (const value of replacement.constants) value.name = editor.valueNames.fresh(value.name);
  for (const node of drafts) {
    const renamed = (value: Value | undefined): Value | undefined => (value && adopt.get(value)) ?? value;
    const isLast = node.outputs.some((value) => value && adopt.has(value));
    node.inputs = node.inputs.map(renamed);
    node.outputs = node.outputs.map(renamed);
    node.name = isLast && !drafts.some(({ name }) => name === root.name) ? root.name : editor.nodeNames.fresh(node.name);
    if (!isLast) for (const value of node.outputs) if (value) value.name = editor.valueNames.fresh(value.name);
    editor.insertBefore(root, node);
    changed.add(node);
  }
  for (const [output, value] of instead) editor.replaceUses(output, value);

  const removed = [root];
  const read = root.inputs;
  editor.remove(root);
  for (const value of read) {
    const producer = value && editor.producerOf(value);
    if (producer) editor.removeUnused(producer, removed);
  }
  for (const node of drafts) editor.removeUnused(node);
  const gone = match.nodes.filter((node) => !editor.has(node));
  for (const node of drafts) editor.inherit(node, gone);
  // A value with one reader left may match where `singleUse` kept it from doing so.
  for (const node of removed)
    for (const value of node.inputs)
      if (value && editor.isSingleUse(value)) for (const reader of editor.readersOf(value)) changed.add(reader);
  return changed;
}
