// All tactics by the kind of task they run. The first of each kind applies to every task of it.

import type { KernelTask } from "../ir/task.ts";
import type { Caps } from "../util/caps.ts";
import { attentionDirect, attentionRows } from "./attention.ts";
import { convBlocked, gemmBlocked } from "./blocked.ts";
import { convDepthwise } from "./depthwise.ts";
import { convDirect, gemmDirect, gemmDot } from "./direct.ts";
import { convDot4, gemmDot4 } from "./gemm-dot4.ts";
import { convMatrix, gemmMatrix } from "./gemm-matrix.ts";
import { convMatrixBytes, gemmMatrixBytes } from "./gemm-matrix-bytes.ts";
import { convImplicitGemm, gemmTiled } from "./gemm-tiled.ts";
import { mapElement } from "./map.ts";
import { mapPrivate } from "./private.ts";
import { reduceThread, reduceWorkgroup } from "./reduce.ts";
import type { Tactic } from "./tactic.ts";

const TACTICS = {
  map: [mapElement, mapPrivate],
  reduce: [reduceThread, reduceWorkgroup],
  gemm: [gemmDirect, gemmDot, gemmBlocked, gemmTiled, gemmMatrix, gemmDot4, gemmMatrixBytes],
  conv: [convDirect, convBlocked, convImplicitGemm, convMatrix, convDot4, convDepthwise, convMatrixBytes],
  attention: [attentionDirect, attentionRows],
} as const;

export const allTactics: readonly Tactic[] = Object.values(TACTICS).flat() as unknown as readonly Tactic[];

/** Tactics that can run a task on a device. */
export const tacticsFor = (task: KernelTask, caps: Caps): readonly Tactic[] =>
  (TACTICS[task.kind] as unknown as readonly Tactic[]).filter((candidate) => candidate.applicable(task, caps));
