// GEMM and convolution as plain reductions: one invocation or one workgroup an element, every case, no reuse. What applies where nothing
// else does, and what the others are checked against.

import { isStatic } from "../ir/dims.ts";
import { asReduce } from "../ir/task.ts";
import { emitThread, emitWorkgroup, reduceThread, reduceWorkgroup } from "./reduce.ts";
import { tactic } from "./tactic.ts";

export const gemmDirect = tactic("gemm", {
  name: "gemm.direct",
  applicable: () => true,
  likelihood: () => 0.1,
  candidates: (task, caps) => reduceThread.candidates(asReduce(task), caps),
  emit: (task, config, caps) => emitThread(asReduce(task), config, caps),
});

export const convDirect = tactic("conv", {
  name: "conv.direct",
  applicable: () => true,
  likelihood: () => 0.1,
  candidates: (task, caps) => reduceThread.candidates(asReduce(task), caps),
  emit: (task, config, caps) => emitThread(asReduce(task), config, caps),
});

/** A workgroup an element: for few results of long dot products, whose operands lie along k. */
export const gemmDot = tactic("gemm", {
  name: "gemm.dot",
  applicable: (task, caps) => reduceWorkgroup.applicable(asReduce(task), caps),
  likelihood: (task) => (isStatic(task.m.extent) && task.m.extent < 8 ? 0.3 : 0.02),
  candidates: (task, caps) => reduceWorkgroup.candidates(asReduce(task), caps),
  emit: (task, config, caps) => emitWorkgroup(asReduce(task), config, caps),
});
