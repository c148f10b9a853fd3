// How long an engine takes: whole runs by the clock, its kernels by timestamps, on inputs of the sizes that it was tuned for.

import { Profiler } from "../../../src/engine/profiler.ts";
import { evaluate, parseDim } from "../../../src/ir/dims.ts";
import { allocate, sizeOf } from "../../../src/ir/tensor.ts";
import type { Engine, Tensor } from "../../../src/runtime.ts";
import type { Timing } from "../protocol.ts";

/** Each of the two measurements ends after so many runs or milliseconds. */
const RUNS = { most: 50, ms: 800 } as const;

/** Whole runs and kernels. Browsers round timestamps; the mean of many runs is finer than one. */
export async function timeEngine(engine: Engine): Promise<Timing> {
  const context = engine.createExecutionContext();
  const profiler = new Profiler(engine.device, true);
  try {
    const inputs = inputsOf(engine);
    await context.execute(inputs);
    const times = await repeated(() => context.execute(inputs));
    const latencyMs = times.sort((a, b) => a - b)[times.length >> 1]!;
    context.profiler = profiler;
    const kernels = new Map<unknown, number>();
    const sums = { h2dMs: 0, enqueueMs: 0, gpuMs: 0, d2hMs: 0 };
    const { length } = await repeated(async () => {
      await context.execute(inputs);
      const profile = await profiler.read();
      for (const phase of Object.keys(sums) as (keyof typeof sums)[]) sums[phase] += profile[phase];
      for (const [step, ms] of profile.kernels) kernels.set(step, (kernels.get(step) ?? 0) + ms);
    });
    const mean = (sum = 0): number => sum / length;
    const phases = {
      h2dMs: mean(sums.h2dMs),
      enqueueMs: mean(sums.enqueueMs),
      gpuMs: mean(sums.gpuMs),
      d2hMs: mean(sums.d2hMs),
    };
    const kernelMs =
      kernels.size === 0 ? {} : { kernelMs: [...engine.pipelines.keys()].map((step) => mean(kernels.get(step))) };
    return { runs: times.length, latencyMs, ...phases, ...kernelMs };
  } finally {
    context.dispose();
    profiler.dispose();
  }
}

async function repeated(run: () => Promise<unknown>): Promise<number[]> {
  const times: number[] = [];
  const end = performance.now() + RUNS.ms;
  do {
    const start = performance.now();
    await run();
    times.push(performance.now() - start);
  } while (times.length < RUNS.most && performance.now() < end);
  return times;
}

/** Waves where the elements are f32, zeros elsewhere. */
function inputsOf({ plan }: Engine): Record<string, Tensor> {
  const sizes = new Map(Object.entries(plan.profiles[0]?.symbols ?? {}).map(([name, { opt }]) => [name, opt]));
  return Object.fromEntries(
    plan.inputs.map(({ name, dtype, shape: texts }) => {
      const shape = texts.map((text) => evaluate(parseDim(text), sizes) ?? 1);
      const data = allocate(dtype, sizeOf(shape));
      if (dtype === "f32") for (let i = 0; i < data.length; i++) data[i] = Math.sin(i);
      return [name, { dtype, shape, data }];
    }),
  );
}
