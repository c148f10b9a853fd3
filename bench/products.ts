// Matrix products for benchmarks, and a race of the candidates of a task.

import { type Candidate, candidatesOf, plainest } from "../src/autotuner/candidates.ts";
import { Bench, type Measured } from "../src/autotuner/measure.ts";
import type { Device } from "../src/gpu/device.ts";
import { PipelineCache } from "../src/gpu/pipelines.ts";
import { load } from "../src/ir/expr.ts";
import { Lowering } from "../src/ir/lower.ts";
import type { GemmTask, KernelTask } from "../src/ir/task.ts";
import type { DType } from "../src/ir/types.ts";
import { makeValue } from "../src/ir/value.ts";

/** a·b of m × k by k × n; bytes are summed in i32 and lie along k. */
export function productOf(type: "f32" | "f16" | "i8", m: number, n: number, k: number): GemmTask {
  const b = new Lowering("gemm");
  const isBytes = type === "i8";
  const left = makeValue("a", type as DType, [m, k]);
  const right = makeValue("b", type as DType, isBytes ? [n, k] : [k, n]);
  b.gemm(
    isBytes ? "i32" : type,
    { batch: [], m, n, k },
    (_, mm, kk) => load(left, [mm, kk]),
    (_, kk, nn) => load(right, isBytes ? [nn, kk] : [kk, nn]),
  );
  return b.tasks[0] as GemmTask;
}

/** Times a task's candidates of some tactics for about so many seconds, the fastest first. */
export async function race(
  device: Device,
  task: KernelTask,
  tactics: RegExp,
  seconds: number,
): Promise<readonly (readonly [Candidate, Measured])[]> {
  const bench = new Bench(device, new PipelineCache(device), new Map());
  const field = await bench.field(task, plainest(task, device));
  const candidates = [...candidatesOf(task, device)].filter(({ tactic }) => tactics.test(tactic));
  bench.compileAhead(candidates.map(({ kernel }) => kernel));
  const until = performance.now() + 1000 * seconds;
  const times = new Map<Candidate, Measured>();
  await field.race(
    candidates,
    Number.POSITIVE_INFINITY,
    () => performance.now() < until,
    (candidate, measured) => void times.set(candidate, measured),
  );
  field.dispose();
  bench.dispose();
  if (times.size < candidates.length)
    console.log(`${candidates.length - times.size} of ${candidates.length} candidates were not reached`);
  return [...times].sort(([, a], [, b]) => a.ns - b.ns);
}
