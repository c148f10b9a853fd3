// Graph → Graph: the one ordered table of passes, run again until none of them finds anything to do.

import type { Graph } from "../ir/graph.ts";
import { verifyGraph } from "../ir/verify.ts";
import { unknownRewrite } from "../util/errors.ts";
import { commonSubexpressions } from "./common-subexpressions.ts";
import { copyGraph } from "./copy.ts";
import { foldChannels } from "./fold-channels.ts";
import { foldConstants, foldContents } from "./fold-constants.ts";
import { foldIntoBatchNorm } from "./fold-into-batchnorm.ts";
import { foldPad } from "./fold-pad.ts";
import { inferBranches } from "./infer-branches.ts";
import { inlineBranches } from "./inline-branches.ts";
import { mergeChains } from "./merge-chains.ts";
import type { Pass, PassContext } from "./pass.ts";
import { recognizeActivations } from "./recognize-activations.ts";
import { recognizeNorms } from "./recognize-norms.ts";
import { removeDead } from "./remove-dead.ts";
import { removeIdentity } from "./remove-identity.ts";
import { GraphEditor } from "./rewrite/editor.ts";
import { type RewriteLog, rewriteLog } from "./rewrite/log.ts";

export { type RewriteLog, rewriteLog } from "./rewrite/log.ts";

export const PASSES: readonly Pass[] = [
  removeDead,
  foldConstants,
  foldContents,
  inlineBranches,
  removeIdentity,
  commonSubexpressions,
  mergeChains,
  recognizeActivations,
  recognizeNorms,
  foldPad,
  foldIntoBatchNorm,
  foldChannels,
];

/** Passes that make operators which the model's operator set may not have: to leave out where other runtimes read the graph. */
export const NEWER_OPERATORS: readonly string[] = [recognizeActivations.name, recognizeNorms.name];

/** Names that `disable` takes: every pass and every rule. */
export const REWRITE_NAMES: readonly string[] = [...new Set(PASSES.flatMap(({ name, rules }) => [name, ...(rules ?? [])]))];

export interface PassOptions {
  /** Is told every rewrite; its limit holds. */
  readonly log?: RewriteLog;
  /** Passes and rules to leave out, by name. */
  readonly disable?: readonly string[];
  /** Stop after so many rewrites; to bisect. Ignored when `log` is given. */
  readonly maxRewrites?: number;
  /** Verify the graph after every rewrite, and fail where one cannot be applied. Costs the whole graph each time. */
  readonly verify?: boolean;
}

/** Rounds after which passes that still find work are told to stop: far above what any model needs. */
const MAX_ROUNDS = 16;

/** Simplifies a graph and leaves `graph` itself as it was. Results keep their names. Throws K002 for names in `disable` that are none. */
export function runPasses(graph: Graph, options: PassOptions = {}): Graph {
  const log = options.log ?? rewriteLog(options.maxRewrites);
  const disabled = new Set(options.disable);
  for (const name of disabled) if (!REWRITE_NAMES.includes(name)) throw unknownRewrite(name, REWRITE_NAMES);
  const context: PassContext = {
    log,
    enabled: (name) => !disabled.has(name),
    check: options.verify ? (editor, rule) => verifyGraph(editor.finish(), rule) : () => undefined,
    strict: options.verify ?? false,
  };
  const copy = copyGraph(graph);
  const typed = new Set([copy]);
  for (const node of copy.nodes) inferBranches(node, typed);
  const editor = new GraphEditor(copy, typed);
  for (let round = 0, before = -1; round < MAX_ROUNDS && log.applied.length > before && before < log.limit; round++) {
    before = log.applied.length;
    for (const pass of PASSES) if (context.enabled(pass.name)) pass.run(editor, context);
  }
  return editor.finish();
}
