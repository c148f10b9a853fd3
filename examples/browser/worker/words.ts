// A build's progress in words for people.

import type { BuildProgress } from "../../../src/index.ts";
import type { Progress } from "../protocol.ts";

const STAGES = {
  import: "reading the model",
  passes: "simplifying the graph",
  calibrate: "calibrating",
  lower: "writing tensor expressions",
  fuse: "fusing kernels",
  tune: "choosing kernels",
  plan: "planning memory",
  load: "compiling kernels and uploading weights",
} as const satisfies Record<BuildProgress["stage"], string>;

/** While kernels are tuned: which one, what is tried, and the best so far. */
export function wordsFor({ stage, done, total, what }: BuildProgress): Omit<Progress, "title"> {
  if (done === undefined || total === undefined || what === undefined) return { detail: STAGES[stage] };
  return { detail: `tuning kernel ${done + 1} of ${total}: ${what}`, fraction: done / total };
}
