// The pattern engine's words, for the files that hold rules.

import type { Pass } from "../pass.ts";
import { applyRules } from "./driver.ts";
import type { Rule } from "./rule.ts";

export { type RewriteLog, rewriteLog } from "./log.ts";
export { any, type Constant, constant, either, exponent, number, op, optional, scalar, scalarOf } from "./pattern.ts";
export { float, int, ints, type Replacement, type Rule, rule, text } from "./rule.ts";

/** A pass that applies rules together until none matches. */
export const rulesPass = (name: string, doc: string, rules: readonly Rule[]): Pass => ({
  name,
  doc,
  rules: rules.map((rule) => rule.name),
  run: (editor, context) => {
    for (const graph of editor.typedGraphs()) applyRules(editor, graph, rules, context);
  },
});
