// What running costs besides the GPU's own time: end-to-end latency less GPU time, the host's work a run, throughput with runs in
// flight against what the GPU alone would allow, and 64 MiB up and down.
//
//   node bench/run.mjs overhead MODEL.onnx [INPUT=1x3x224x224,…] [--level 3] [--seconds 3] [--fp16] [--json FILE]

import { readFileSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { Builder } from "../src/builder.ts";
import { randomTensor } from "../src/cli/random.ts";
import type { ExecutionContext } from "../src/engine/context.ts";
import type { Engine } from "../src/engine/engine.ts";
import { Profiler } from "../src/engine/profiler.ts";
import { Memory } from "../src/gpu/buffers.ts";
import { deviceName } from "../src/gpu/fingerprint.ts";
import { median } from "../src/gpu/timer.ts";
import type { Tensor } from "../src/ir/tensor.ts";
import { openNodeDevice } from "../src/node-device.ts";
import { shapesOf } from "./shapes.ts";

const { positionals, values: flags } = parseArgs({
  allowPositionals: true,
  options: {
    level: { type: "string", default: "3" },
    seconds: { type: "string", default: "3" },
    toggles: { type: "string", default: "safe" },
    fp16: { type: "boolean", default: false },
    json: { type: "string" },
  },
});
const [file, shapesText] = positionals;
if (file === undefined) throw new Error("usage: node bench/run.mjs overhead MODEL.onnx [INPUT=1x3x224x224,…]");
const shapes = shapesOf(shapesText);
const ms = Number(flags.seconds) * 1000;

/** Times of `work`, in milliseconds, over about as long as asked for. */
async function timesOf(work: () => Promise<unknown>): Promise<number[]> {
  for (let i = 0; i < 5; i++) await work();
  const times: number[] = [];
  for (const until = performance.now() + ms; times.length < 5 || performance.now() < until; ) {
    const from = performance.now();
    await work();
    times.push(performance.now() - from);
  }
  return times;
}

/** Milliseconds of GPU work in a run: each run alone, by timestamps. */
async function gpuTime(engine: Engine, context: ExecutionContext, inputs: Readonly<Record<string, Tensor>>): Promise<number> {
  const profiler = new Profiler(engine.device);
  context.profiler = profiler;
  const times: number[] = [];
  await timesOf(async () => {
    await context.execute(inputs);
    times.push((await profiler.read()).gpuMs);
  });
  context.profiler = undefined;
  profiler.dispose();
  return median(times);
}

/** Milliseconds a run with runs in flight. */
async function pipelined(start: () => Promise<unknown>): Promise<number> {
  const flying = new Set<Promise<unknown>>();
  let done = 0;
  const from = performance.now();
  while (performance.now() - from < ms || done < 5) {
    const run: Promise<unknown> = start().then(() => flying.delete(run));
    flying.add(run);
    if (flying.size >= 4) await Promise.race(flying);
    done++;
  }
  await Promise.all(flying);
  return (performance.now() - from) / done;
}

const device = await openNodeDevice({ toggles: flags.toggles === "fast" ? "fast" : "safe" });
const engine = await new Builder(device).build(readFileSync(file), {
  file,
  fp16: flags.fp16,
  optimizationLevel: Number(flags.level) as 0 | 1 | 2 | 3 | 4 | 5,
  profiles:
    Object.keys(shapes).length > 0
      ? [Object.fromEntries(Object.entries(shapes).map(([name, shape]) => [name, { min: shape, opt: shape, max: shape }]))]
      : [],
});
const inputs = Object.fromEntries(
  engine.inputs.map(({ name, dtype, shape }) => [name, randomTensor(dtype, shapes[name] ?? shape.map(Number), 1)]),
);
const context = engine.createExecutionContext();
const latency = median(await timesOf(() => context.execute(inputs)));
const gpu = await gpuTime(engine, context, inputs);
const inFlight = await pipelined(() => context.enqueue(inputs));
// From buffers into buffers: no data moves, what is left is encoding and submitting.
const memory = new Memory(device);
const [onGpu, outputs]: [Record<string, { buffer: GPUBuffer; shape: readonly number[] }>, Record<string, GPUBuffer>] = [{}, {}];
const first = await context.execute(inputs, { outputs: "gpu" });
for (const [name, output] of Object.entries(first)) if ("buffer" in output) outputs[name] = output.buffer;
for (const { name, shape, storage } of engine.inputs.map((input) => ({ ...input, shape: inputs[input.name]!.shape }))) {
  const elements = shape.reduce((a, b) => a * b, 1);
  const bytes = (elements * (storage.item === "f16" ? 2 : 4)) / storage.lanes;
  onGpu[name] = { buffer: await memory.create({ label: name, bytes: bytes + 4 }), shape };
}
const between = await pipelined(() => context.enqueue(onGpu, { outputs }));
const submits: number[] = [];
await timesOf(async () => {
  const from = performance.now();
  await context.enqueue(onGpu, { outputs });
  submits.push(performance.now() - from);
  await device.queue.onSubmittedWorkDone();
});

const bytes = 64 << 20;
const large = await memory.create({ label: "64 MiB", bytes, boundInParts: true });
const data = new Uint8Array(bytes).fill(1);
const target = new Uint8Array(bytes);
const up = median(
  await timesOf(async () => {
    await memory.upload(large, data);
    await device.queue.onSubmittedWorkDone();
  }),
);
const down = median(await timesOf(() => memory.download(large, 0, bytes, target)));
const rate = (time: number): number => bytes / time / 1e6;

const result = {
  device: deviceName(device.fingerprint),
  kernels: engine.describe().kernels.length,
  latencyMs: latency,
  gpuMs: gpu,
  overheadUs: (latency - gpu) * 1000,
  hostUsPerRun: median(submits) * 1000,
  inFlightMsPerRun: inFlight,
  ofGpuBound: gpu / inFlight,
  betweenBuffersMsPerRun: between,
  ofGpuBoundBetweenBuffers: gpu / between,
  h2dGBs: rate(up),
  d2hGBs: rate(down),
};
console.log(`device: ${result.device}, ${result.kernels} kernels`);
console.log(`latency ${latency.toFixed(3)} ms, GPU ${gpu.toFixed(3)} ms: overhead ${result.overheadUs.toFixed(0)} µs`);
console.log(`host work until the queue has a run: ${result.hostUsPerRun.toFixed(0)} µs`);
console.log(`in flight: ${inFlight.toFixed(3)} ms a run, ${(100 * result.ofGpuBound).toFixed(1)} % of GPU-bound`);
console.log(`GPU to GPU: ${between.toFixed(3)} ms a run, ${(100 * result.ofGpuBoundBetweenBuffers).toFixed(1)} % of GPU-bound`);
console.log(`64 MiB: up ${result.h2dGBs.toFixed(1)} GB/s, down ${result.d2hGBs.toFixed(1)} GB/s`);
if (flags.json !== undefined) writeFileSync(flags.json, JSON.stringify(result, undefined, 2));
process.exit(0);
