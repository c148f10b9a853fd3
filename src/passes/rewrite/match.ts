// Matches a pattern against a node by backtracking: commutative inputs and alternatives are tried in turn.

import type { GraphNode } from "../../ir/graph.ts";
import type { Value } from "../../ir/value.ts";
import type { GraphEditor } from "./editor.ts";
import type { Constant, OpForm, Pattern } from "./pattern.ts";

export interface Match {
  readonly captures: ReadonlyMap<string, Value | GraphNode>;
  /** Nodes that operators of the pattern matched, the root last. */
  readonly nodes: readonly GraphNode[];
}

const COMMUTATIVE: ReadonlySet<string> = new Set(["Add", "Mul", "Min", "Max", "Sum"]);

/** The first way in which `pattern` matches with `root` as its outermost node. */
export function matchNode(editor: GraphEditor, form: OpForm, root: GraphNode): Match | undefined {
  const captures = new Map<string, Value | GraphNode>();
  const nodes: GraphNode[] = [];
  const graph = editor.graphOf(root);

  const bind = (name: string | undefined, found: Value | GraphNode, next: () => boolean): boolean => {
    if (name === undefined) return next();
    const before = captures.get(name);
    if (before) return before === found && next();
    captures.set(name, found);
    if (next()) return true;
    captures.delete(name);
    return false;
  };

  const value = ({ form }: Pattern, found: Value | undefined, next: () => boolean): boolean => {
    switch (form.kind) {
      case "any":
        return found !== undefined && form.test(found) && bind(form.name, found, next);
      case "constant":
        return found?.data !== undefined && form.test(found as Constant) && bind(form.name, found, next);
      case "optional":
        return found === undefined ? next() : value(form.pattern, found, next);
      case "either":
        return form.patterns.some((pattern) => value(pattern, found, next));
      case "op": {
        const producer = found && !found.data && editor.producerOf(found);
        if (!producer || producer.outputs[0] !== found || editor.graphOf(producer) !== graph) return false;
        if (form.options.singleUse && !editor.isSingleUse(found)) return false;
        return node(form, producer, next);
      }
    }
  };

  const node = (form: OpForm, found: GraphNode, next: () => boolean): boolean => {
    const { names, inputs, options, capture } = form;
    if (!names.includes(found.op) || found.domain !== (options.domain ?? "") || (options.where && !options.where(found)))
      return false;
    const from = (at: number, order: readonly (Value | undefined)[]): boolean => {
      if (at < inputs.length) return value(inputs[at]!, order[at], () => from(at + 1, order));
      if (order.length > inputs.length && order.slice(inputs.length).some((extra) => extra)) return false;
      nodes.push(found);
      if (bind(capture, found, next)) return true;
      nodes.pop();
      return false;
    };
    if (from(0, found.inputs)) return true;
    const [a, b, c] = found.inputs;
    return COMMUTATIVE.has(found.op) && inputs.length === 2 && c === undefined && a !== b && from(0, [b, a]);
  };

  return node(form, root, () => true) ? { captures, nodes } : undefined;
}
