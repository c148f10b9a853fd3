// What running costs besides the GPU's own time: end-to-end latency less GPU time and what it goes to, throughput with runs in
// flight against what the GPU alone would allow, and data up and down. onnxruntime-node's WebGPU provider runs beside it.
//
//   node bench/run.mjs overhead MODEL [INPUT=1x3x224x224,…] [--seconds 1] [--level 3] [--tune 30] [--timingCacheFile F] [--fp16]
//     [--toggles safe|fast] [--json FILE]
//
// MODEL is a file or one of bench/networks.

import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { Builder } from "../src/builder.ts";
import { columns } from "../src/cli/print.ts";
import type { ContextOptions, ExecutionContext } from "../src/engine/context.ts";
import type { Engine } from "../src/engine/engine.ts";
import { Profiler } from "../src/engine/profiler.ts";
import { Memory } from "../src/gpu/buffers.ts";
import { BufferUsage, MapMode } from "../src/gpu/constants.ts";
import type { Device } from "../src/gpu/device.ts";
import { deviceName } from "../src/gpu/fingerprint.ts";
import { median } from "../src/gpu/timer.ts";
import { UploadRing } from "../src/gpu/upload.ts";
import type { Tensor } from "../src/ir/tensor.ts";
import { saveTimingCache } from "../src/node.ts";
import { DEVICE_FLAGS, openDevice } from "./device.ts";
import { openPeer } from "./peer.ts";
import { SUBJECT_FLAGS, subjectOf, timesOf, verdict } from "./subject.ts";
import { callsOf, type Launch, launchesOf, PHASES, timelineOf } from "./timeline.ts";

type Inputs = Readonly<Record<string, Tensor>>;

const { positionals, values: flags } = parseArgs({
  allowPositionals: true,
  options: {
    ...SUBJECT_FLAGS,
    seconds: { type: "string", default: "1" },
    ...DEVICE_FLAGS,
    json: { type: "string" },
  },
});
if (positionals[0] === undefined) throw new Error("usage: node bench/run.mjs overhead MODEL [INPUT=1x3x224x224,…]");
const subject = subjectOf(positionals[0], positionals[1], flags);
const ms = Number(flags.seconds) * 1000;

/** Milliseconds of GPU work in a run: each run alone, by timestamps. */
async function gpuTime(engine: Engine, context: ExecutionContext, inputs: Inputs): Promise<number> {
  const profiler = new Profiler(engine.device);
  context.profiler = profiler;
  const times: number[] = [];
  const note = async (): Promise<void> => {
    await context.execute(inputs);
    times.push((await profiler.read()).gpuMs);
  };
  await timesOf(note, ms);
  context.profiler = undefined;
  profiler.dispose();
  return median(times);
}

/** Milliseconds a run with so many runs in flight. */
async function pipelined(start: () => Promise<unknown>, flights = 4): Promise<number> {
  const flying = new Set<Promise<unknown>>();
  let done = 0;
  const from = performance.now();
  while (performance.now() - from < ms || done < 5) {
    const run: Promise<unknown> = start().then(() => flying.delete(run));
    flying.add(run);
    if (flying.size >= flights) await Promise.race(flying);
    done++;
  }
  await Promise.all(flying);
  return (performance.now() - from) / done;
}

/** Milliseconds of a run that comes when the one before is long over, as a camera's frames do. */
async function pausedLatency(run: () => Promise<unknown>): Promise<number> {
  const times: number[] = [];
  for (const until = performance.now() + 2 * ms; performance.now() < until || times.length < 5; ) {
    await new Promise((resolve) => setTimeout(resolve, 1));
    const from = performance.now();
    await run();
    times.push(performance.now() - from);
  }
  return median(times);
}

/** Latency by the kernels of the first submit, the contexts taking turns. */
async function byFirstSubmit(engine: Engine, inputs: Inputs): Promise<readonly (readonly [kernels: number, ms: number])[]> {
  const options: ContextOptions[] = [4, 8, 16, Number.POSITIVE_INFINITY].map((firstSubmit) => ({ firstSubmit }));
  const racers = options.map((one) => ({ one, context: engine.createExecutionContext(one), times: [] as number[] }));
  for (let turn = 0; turn < 4; turn++)
    for (const { context, times } of racers) times.push(...(await timesOf(() => context.execute(inputs), ms / 8, 2)));
  for (const { context } of racers) context.dispose();
  return racers.map(({ one, times }) => [one.firstSubmit!, median(times)]);
}

/** From buffers into buffers no data moves: what is left is encoding and submitting. */
async function betweenBuffers(engine: Engine, context: ExecutionContext, inputs: Inputs): Promise<number> {
  const memory = new Memory(engine.device);
  const outputs: Record<string, GPUBuffer> = {};
  const results = await context.execute(inputs, { outputs: "gpu" });
  for (const [name, output] of Object.entries(results)) if ("buffer" in output) outputs[name] = output.buffer;
  const given: Record<string, { buffer: GPUBuffer; shape: readonly number[] }> = {};
  for (const { name, storage } of engine.inputs) {
    const { shape, data } = inputs[name]!;
    const bytes = (data.length * (storage.item === "f16" ? 2 : 4)) / storage.lanes;
    given[name] = { buffer: await memory.create({ label: name, bytes: bytes + 4 }), shape };
  }
  const time = await pipelined(() => context.enqueue(given, { outputs }));
  memory.dispose();
  for (const buffer of Object.values(outputs)) buffer.destroy();
  return time;
}

const LARGE = 64 << 20;
const rateOf = (bytes: number, time: number): number => bytes / time / 1e6;

/** GB/s of 64 MiB up and down, and of what bounds them: the host's copy into and out of mapped memory, and the GPU's own. */
async function transfers(device: Device): Promise<Readonly<Record<"up" | "down" | "intoMapped" | "outOfMapped", number>>> {
  const memory = new Memory(device);
  const large = await memory.create({ label: "64 MiB", bytes: LARGE, boundInParts: true });
  const [data, target] = [new Uint8Array(LARGE).fill(1), new Uint8Array(LARGE)];
  const rate = async (work: () => Promise<unknown>): Promise<number> => rateOf(LARGE, median(await timesOf(work, ms / 2)));
  const up = await rate(async () => {
    await memory.upload(large, data);
    await device.queue.onSubmittedWorkDone();
  });
  const down = await rate(() => memory.download(large, 0, LARGE, target));
  const mapped = async (mode: "READ" | "WRITE", other: number, copy: (range: Uint8Array) => void): Promise<number> => {
    const staging = device.device.createBuffer({ size: LARGE, usage: BufferUsage[`MAP_${mode}`] | other });
    await staging.mapAsync(MapMode[mode]);
    const range = new Uint8Array(staging.getMappedRange());
    const time = rate(async () => copy(range));
    return time.finally(() => staging.destroy());
  };
  const intoMapped = await mapped("WRITE", BufferUsage.COPY_SRC, (range) => range.set(data));
  const outOfMapped = await mapped("READ", BufferUsage.COPY_DST, (range) => target.set(range));
  memory.dispose();
  return { up, down, intoMapped, outOfMapped };
}

/** Microseconds until the GPU has `bytes`, by both ways up. */
async function waysUp(device: Device, bytes: number): Promise<Readonly<Record<"writeBuffer" | "ring", number>>> {
  const memory = new Memory(device);
  const ring = new UploadRing(device);
  const buffer = await memory.create({ label: "ways up", bytes });
  const data = new Uint8Array(bytes).fill(1);
  const us = async (upload: () => unknown): Promise<number> => {
    const once = async (): Promise<void> => {
      await upload();
      await device.queue.onSubmittedWorkDone();
    };
    return 1000 * median(await timesOf(once, ms / 10));
  };
  const times = {
    writeBuffer: await us(() => {
      device.queue.writeBuffer(buffer, 0, data);
      device.queue.submit([]);
    }),
    ring: await us(() => ring.upload(buffer, data, 0)),
  };
  ring.dispose();
  memory.dispose();
  return times;
}

/** A kernel that does next to nothing. */
const EMPTY = `@group(0) @binding(0) var<storage, read_write> x: array<u32>;
@compute @workgroup_size(1) fn main() { x[0] += 1u; }`;

async function emptyLaunch({ device }: Device): Promise<Launch> {
  const module = device.createShaderModule({ code: EMPTY });
  const pipeline = await device.createComputePipelineAsync({ layout: "auto", compute: { module } });
  const buffer = device.createBuffer({ size: 4, usage: BufferUsage.STORAGE });
  const layout = pipeline.getBindGroupLayout(0);
  return {
    pipeline,
    group: device.createBindGroup({ layout, entries: [{ binding: 0, resource: { buffer } }] }),
    counts: [1, 1, 1],
  };
}

/** Milliseconds. */
interface Floor {
  /** One run at a time. */
  readonly alone: number;
  /** A run, with as many in flight as is fastest. */
  readonly inFlight: number;
  /** Of this thread for a run's launches alone, which nothing waits for. */
  readonly encoding: number;
}

/** Such launches with `up` bytes to the GPU before them and `down` back behind, by the fewest calls of WebGPU. */
async function floorOf({ device, queue }: Device, launches: readonly Launch[], up: number, down: number): Promise<Floor> {
  const { COPY_SRC, COPY_DST, MAP_READ } = BufferUsage;
  const [input, output] = [up, down].map((size) => device.createBuffer({ size, usage: COPY_SRC | COPY_DST })) as [
    GPUBuffer,
    GPUBuffer,
  ];
  const stagings = [0, 1, 2, 3].map(() => device.createBuffer({ size: down, usage: MAP_READ | COPY_DST }));
  const data = new Uint8Array(up);
  const encode = (staging?: GPUBuffer): void => {
    const encoder = device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    for (const { pipeline, group, counts } of launches) {
      pass.setPipeline(pipeline);
      pass.setBindGroup(0, group);
      pass.dispatchWorkgroups(...counts);
    }
    pass.end();
    if (staging) encoder.copyBufferToBuffer(output, 0, staging, 0, down);
    queue.submit([encoder.finish()]);
  };
  let turn = 0;
  const run = async (): Promise<void> => {
    const staging = stagings[turn++ % stagings.length]!;
    queue.writeBuffer(input, 0, data);
    encode(staging);
    await staging.mapAsync(MapMode.READ);
    new Uint8Array(staging.getMappedRange()).slice();
    staging.unmap();
  };
  const alone = median(await timesOf(run, ms / 2));
  const flying: number[] = [];
  for (const flights of [2, 3, 4]) flying.push(await pipelined(run, flights));
  const encodings: number[] = [];
  for (let i = 0; i < 100; i++) {
    const from = performance.now();
    encode();
    encodings.push(performance.now() - from);
    if (i % 10 === 9) await queue.onSubmittedWorkDone();
  }
  for (const buffer of [input, output, ...stagings]) buffer.destroy();
  return { alone, inFlight: Math.min(...flying), encoding: median(encodings) };
}

async function peerLatency(inputs: Inputs): Promise<number | string> {
  try {
    const peer = await openPeer(subject.onnx, inputs);
    const latency = median(await timesOf(() => peer.run(), ms));
    await peer.close();
    return latency;
  } catch (failure) {
    return (failure as Error).message.split("\n")[0]!;
  }
}

const device = await openDevice(flags);
const engine = await new Builder(device).build(subject.onnx, subject.options);
if (flags.timingCacheFile !== undefined) saveTimingCache(subject.options.timingCache, flags.timingCacheFile);
const inputs = subject.inputsOf(engine);
const context = engine.createExecutionContext();
const kernels = engine.describe().kernels.length;
console.log(`${subject.name} on ${deviceName(device.fingerprint)}: ${kernels} kernels`);

const latency = median(await timesOf(() => context.execute(inputs), ms));
const gpu = await gpuTime(engine, context, inputs);
const paused = await pausedLatency(() => context.execute(inputs));
const overheads = [latency, paused].map((time) => (time - gpu) * 1000) as [number, number];
const judged = (us: number): string => `${us.toFixed(0)} µs over it: at most 120 is ${verdict(us <= 120)}`;
console.log(`GPU ${gpu.toFixed(3)} ms a run`);
console.log(`latency, one run after the other ${latency.toFixed(3)} ms, ${judged(overheads[0])}`);
console.log(`latency, a millisecond after the last ${paused.toFixed(3)} ms, ${judged(overheads[1])}`);

const timeline = await timelineOf(() => context.execute(inputs), 200);
const share = (us: number): string[] => [
  us.toFixed(0).padStart(7),
  `${((100 * us) / timeline.total).toFixed(0)} %`.padStart(6),
];
console.log(
  columns([
    ["phase", "     µs", "  part"],
    ...PHASES.map((phase) => [phase, ...share(timeline.phases[phase])]),
    ["all", ...share(timeline.total)],
  ]),
);
console.log(`the queue has the first kernels after ${timeline.untilFirstKernels.toFixed(0)} µs`);
console.log(`while it waits, ${timeline.ahead.toFixed(0)} µs go into encoding the next run`);
const calls = await callsOf(() => context.execute(inputs));
console.log(`calls a run: ${[...calls].map(([name, count]) => `${count} ${name}`).join(", ")}`);

const bytesOf = (tensors: Inputs): number => Object.values(tensors).reduce((sum, { data }) => sum + data.byteLength, 0);
const [bytesUp, bytesDown] = [bytesOf(inputs), bytesOf(await context.execute(inputs))].map((bytes) => Math.ceil(bytes / 4) * 4);
const launches = await launchesOf(() => engine.createExecutionContext().execute(inputs));
const smallest = await floorOf(device, [await emptyLaunch(device)], bytesUp!, bytesDown!);
const floor = await floorOf(device, launches, bytesUp!, bytesDown!);
const us = (time: number): string => `${(1000 * time).toFixed(0)} µs`;
console.log(`without Kiln, one empty kernel and as many bytes up and down: ${us(smallest.alone)}`);
console.log(
  `without Kiln, the same ${launches.length} launches and as many bytes: ${us(floor.alone)}, ${us(floor.alone - gpu)} over the GPU's time`,
);

const firstSubmits = await byFirstSubmit(engine, inputs);
const submitText = firstSubmits.map(([first, time]) => `${Number.isFinite(first) ? first : "all"}: ${time.toFixed(3)}`);
console.log(`latency in ms by kernels of the first submit: ${submitText.join(", ")}`);

const inFlight = await pipelined(() => context.enqueue(inputs));
const between = await betweenBuffers(engine, context, inputs);
const bound = (time: number): string => `${time.toFixed(3)} ms a run, ${((100 * gpu) / time).toFixed(1)} % of GPU-bound`;
console.log(`in flight: ${bound(inFlight)}: at least 90 % is ${verdict(gpu / inFlight >= 0.9)}`);
console.log(`without Kiln, the same launches in flight: ${bound(floor.inFlight)}`);
console.log(
  `to encode and submit them alone takes ${us(floor.encoding)} of the thread that calls Dawn: ${bound(Math.max(gpu, floor.encoding))} at best`,
);
console.log(`in flight from GPU buffers into GPU buffers: ${bound(between)}`);

const moved = await transfers(device);
const direction = (way: string, rate: number, what: string, copy: number): string =>
  `64 MiB ${way}: ${rate.toFixed(1)} GB/s: at least 5 is ${verdict(rate >= 5)}; ${what} alone ${copy.toFixed(1)} GB/s`;
console.log(direction("up", moved.up, "copying into mapped memory", moved.intoMapped));
console.log(direction("down", moved.down, "copying out of mapped memory", moved.outOfMapped));
const ways = [];
for (const bytes of [16e3, 150e3, 600e3, 1.2e6, 2.4e6, 4.8e6]) ways.push({ bytes, ...(await waysUp(device, bytes)) });
console.log(
  columns([
    ["kB up", "writeBuffer µs", "ring µs"],
    ...ways.map(({ bytes, writeBuffer, ring }) => [String(bytes / 1e3), writeBuffer.toFixed(0), ring.toFixed(0)]),
  ]),
);

const peer = await peerLatency(inputs);
if (typeof peer === "string") console.log(`onnxruntime-node webgpu: ${peer}`);
else console.log(`onnxruntime-node webgpu: ${peer.toFixed(3)} ms, ${(peer / latency).toFixed(2)} times as long`);
if (flags.json !== undefined) {
  const { name } = subject;
  const result = {
    name,
    device: deviceName(device.fingerprint),
    kernels,
    latency,
    gpu,
    paused,
    overheads,
    smallest,
    floor,
    timeline,
    firstSubmits,
    inFlight,
  };
  writeFileSync(
    flags.json,
    JSON.stringify({ ...result, between, moved, ways, peer, calls: Object.fromEntries(calls) }, null, 2),
  );
}
process.exit(0);
