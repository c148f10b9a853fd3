// GEMM and convolution as plain reductions: one invocation an element, every case, no reuse. What applies where nothing
// else does, and what the others are checked against.

import { asReduce } from "../ir/task.ts";
import { emitThread, reduceThread } from "./reduce.ts";
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
