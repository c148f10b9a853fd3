// All tactics by the kind of task they run. The first of each kind applies to every task of it.

import type { KernelTask } from "../ir/task.ts";
import type { Caps } from "../util/caps.ts";
import { attentionDirect, attentionRows } from "./attention.ts";
import { attentionMatrix } from "./attention-matrix.ts";
import { blockApart, blockTiled } from "./block.ts";
import { convBlocked, gemmBlocked } from "./blocked.ts";
import { convDepthwise } from "./depthwise.ts";
import { convDepthwiseWindow } from "./depthwise-window.ts";
import { convDirect, gemmDirect, gemmDot } from "./direct.ts";
import { convFft } from "./fft.ts";
import { convFirstLayer } from "./first-layer.ts";
import { convDot4, convDot4Blocked, gemmDot4, gemmDot4Blocked } from "./gemm-dot4.ts";
import { convMatrix, gemmMatrix } from "./gemm-matrix.ts";
import { convMatrixBytes, gemmMatrixBytes } from "./gemm-matrix-bytes.ts";
import { convImplicitGemm, gemmTiled } from "./gemm-tiled.ts";
import { convVector, gemmVector } from "./gemm-vector.ts";
import { gemmVectorMatrix } from "./gemv.ts";
import { convIm2col } from "./im2col.ts";
import { mapElement } from "./map.ts";
import { mapRun, reduceRun } from "./neighbours.ts";
import { mapPrivate } from "./private.ts";
import { reduceThread, reduceWorkgroup } from "./reduce.ts";
import { reduceSubgroup } from "./reduce-subgroup.ts";
import { convSplitK, gemmSplitK } from "./split-k.ts";
import type { Tactic } from "./tactic.ts";
import { convWinograd } from "./winograd.ts";
import { convWinogradFused } from "./winograd-fused.ts";

const TACTICS = {
  map: [mapElement, mapPrivate, mapRun],
  reduce: [reduceThread, reduceWorkgroup, reduceRun, reduceSubgroup],
  gemm: [
    gemmDirect,
    gemmDot,
    gemmVectorMatrix,
    gemmBlocked,
    gemmTiled,
    gemmVector,
    gemmSplitK,
    gemmMatrix,
    gemmDot4,
    gemmDot4Blocked,
    gemmMatrixBytes,
  ],
  conv: [
    convDirect,
    convBlocked,
    convImplicitGemm,
    convVector,
    convMatrix,
    convDot4,
    convDot4Blocked,
    convMatrixBytes,
    convWinograd,
    convWinogradFused,
    convFft,
    convSplitK,
    convIm2col,
    convDepthwise,
    convDepthwiseWindow,
    convFirstLayer,
  ],
  attention: [attentionDirect, attentionRows, attentionMatrix],
  block: [blockApart, blockTiled],
} as const;

export const allTactics: readonly Tactic[] = Object.values(TACTICS).flat() as unknown as readonly Tactic[];

/** Tactics that can run a task on a device. */
export const tacticsFor = (task: KernelTask, caps: Caps): readonly Tactic[] =>
  (TACTICS[task.kind] as unknown as readonly Tactic[]).filter((candidate) => candidate.applicable(task, caps));
