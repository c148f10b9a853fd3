// What a pass is: one row of the table in index.ts.

import type { GraphEditor } from "./rewrite/editor.ts";
import type { RewriteLog } from "./rewrite/log.ts";

export interface PassContext {
  readonly log: RewriteLog;
  /** False for passes and rules that were switched off by name. */
  readonly enabled: (name: string) => boolean;
  /** Checks the graph after each rewrite; does nothing unless asked for. */
  readonly check: (editor: GraphEditor, rule: string) => void;
  /** True in development: a rewrite that fails is an error and not just left out. */
  readonly strict: boolean;
}

export interface Pass {
  readonly name: string;
  /** One sentence for `--help` and the architecture page. */
  readonly doc: string;
  /** Names under which it logs and can be switched off; just `name` when it has no rules. */
  readonly rules?: readonly string[];
  readonly run: (editor: GraphEditor, context: PassContext) => void;
}
