// Networks against their peers in one run: each precision tuned, its outputs and ONNX Runtime's compared with the first one's,
// latency from typed array to typed array and from GPU buffer to GPU buffer (as PyTorch is measured). ONNX Runtime's WebGPU provider
// runs the same files; PyTorch, where --torch names a script that measures it, the networks of the same name.
//
//   node bench/run.mjs latency [--networks resnet50,bert] [--batches 1,32] [--precisions f32,f16] [--level 3] [--tune S]
//     [--seconds 1] [--toggles safe|fast] [--cache FILE] [--profile] [--no-ort] [--torch torch_peers.py] [--json FILE]

import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { TimingCache } from "../src/autotuner/cache.ts";
import { Builder, type BuildOptions } from "../src/builder.ts";
import { deviationOf } from "../src/cli/compare.ts";
import { prepareInputs } from "../src/cli/inputs.ts";
import { columns } from "../src/cli/print.ts";
import type { ExecutionContext } from "../src/engine/context.ts";
import type { Engine } from "../src/engine/engine.ts";
import type { DispatchStep } from "../src/engine/plan.ts";
import { Profiler } from "../src/engine/profiler.ts";
import { Memory } from "../src/gpu/buffers.ts";
import { deviceName } from "../src/gpu/fingerprint.ts";
import { median } from "../src/gpu/timer.ts";
import type { Tensor } from "../src/ir/tensor.ts";
import { loadTimingCache, saveTimingCache } from "../src/node.ts";
import { DEVICE_FLAGS, openDevice } from "./device.ts";
import { NETWORKS } from "./networks/index.ts";
import { openPeer } from "./peer.ts";
import { settle } from "./subject.ts";

const { values: flags } = parseArgs({
  allowNegative: true,
  options: {
    networks: { type: "string", default: "resnet50,mobilenetv2,bert,vit" },
    batches: { type: "string", default: "1" },
    precisions: { type: "string", default: "f32,f16" },
    level: { type: "string", default: "3" },
    tune: { type: "string", default: "60" },
    seconds: { type: "string", default: "1" },
    ...DEVICE_FLAGS,
    cache: { type: "string" },
    profile: { type: "boolean", default: false },
    ort: { type: "boolean", default: true },
    torch: { type: "string" },
    json: { type: "string" },
  },
});

type Tensors = Readonly<Record<string, Tensor>>;

interface Row {
  readonly network: string;
  readonly batch: number;
  readonly what: string;
  /** Milliseconds from typed array to typed array. */
  readonly hostMs?: number;
  /** Milliseconds from GPU buffer to GPU buffer, each run waited for. */
  readonly gpuMs?: number;
  readonly kernels?: number;
  readonly buildSeconds?: number;
  /** Relative RMS of the outputs against those of Kiln's first precision. */
  readonly relativeRms?: number;
  readonly failure?: string;
}

/** What the script that measures PyTorch calls the networks. */
const TORCH_NAMES: Readonly<Record<string, string>> = {
  resnet50: "resnet50",
  mobilenetv2: "mobilenet_v2",
  bert: "bert_base",
  vit: "vit_b_16",
};

/** 8 bits are calibrated on random data: enough for their speed, nothing is learned of accuracy. */
const PRECISIONS: Readonly<Record<string, (samples: () => Tensors[]) => BuildOptions>> = {
  f32: () => ({}),
  f16: () => ({ fp16: true }),
  int8: (samples) => ({ fp16: true, int8: { calibration: samples(), calibrator: "minmax" } }),
};

async function medianMs(run: () => Promise<unknown>): Promise<number> {
  const times: number[] = [];
  for (let warm = 0; warm < 10; warm++) await run();
  for (const until = performance.now() + 1000 * Number(flags.seconds); times.length < 10 || performance.now() < until; ) {
    const start = performance.now();
    await run();
    times.push(performance.now() - start);
  }
  return median(times);
}

const worst = (actual: Tensors, expected: Tensors): number =>
  Math.max(...Object.entries(expected).map(([name, tensor]) => deviationOf(actual[name]!, tensor).relRms));

/** Milliseconds from GPU buffers, which hold the inputs, to GPU buffers. */
async function betweenBuffers(engine: Engine, context: ExecutionContext, inputs: Tensors): Promise<number> {
  const memory = new Memory(engine.device);
  const from: Record<string, { buffer: GPUBuffer; shape: readonly number[] }> = {};
  for (const { name, dtype, storage } of engine.inputs) {
    const { data, shape } = inputs[name]!;
    const words = dtype === "i64" ? Int32Array.from(data as BigInt64Array, Number) : data;
    const bytes = storage.item === "f16" ? Uint16Array.from(words as Float32Array, () => 0x3000) : words;
    const buffer = await memory.create({ label: name, bytes: (bytes as Float32Array).byteLength });
    await memory.upload(buffer, bytes as Float32Array<ArrayBuffer>);
    from[name] = { buffer, shape };
  }
  const outputs: Record<string, GPUBuffer> = {};
  for (const [name, output] of Object.entries(await context.execute(inputs, { outputs: "gpu" })))
    if ("buffer" in output) outputs[name] = output.buffer;
  const ms = await medianMs(async () => {
    await context.enqueue(from, { outputs });
    await engine.device.queue.onSubmittedWorkDone();
  });
  memory.dispose();
  return ms;
}

/** Prints the kernels that cost most. */
async function profile(engine: Engine, context: ExecutionContext, inputs: Tensors): Promise<void> {
  const profiler = new Profiler(engine.device, true);
  context.profiler = profiler;
  const times = new Map<DispatchStep, number[]>();
  for (let run = 0; run < 20; run++) {
    await context.execute(inputs);
    for (const [step, ms] of (await profiler.read()).kernels) times.set(step, [...(times.get(step) ?? []), ms]);
  }
  context.profiler = undefined;
  profiler.dispose();
  const rows = [...times].map(([step, all]) => ({ step, us: 1000 * median(all) }));
  const total = rows.reduce((sum, { us }) => sum + us, 0);
  console.log(`GPU time ${total.toFixed(0)} µs in ${rows.length} kernels`);
  for (const { step, us } of rows)
    console.log(
      `${us.toFixed(1).padStart(8)}  ${step.tactic}  ${step.workgroups.join("x")}  ${JSON.stringify(step.config)}  ${step.label}`,
    );
}

async function kilnRows(
  network: string,
  batch: number,
  bytes: Uint8Array,
): Promise<{ rows: Row[]; inputs: Tensors; reference: Tensors }> {
  const rows: Row[] = [];
  let [inputs, reference]: [Tensors, Tensors | undefined] = [{}, undefined];
  for (const precision of flags.precisions.split(",")) {
    const started = performance.now();
    const engine = await new Builder(device).build(bytes, {
      file: network,
      optimizationLevel: Number(flags.level) as 3,
      maxTuneTime: Number(flags.tune),
      timingCache,
      ...PRECISIONS[precision]!(() => [inputs]),
    });
    const buildSeconds = (performance.now() - started) / 1000;
    inputs = prepareInputs(engine.plan, {}).tensors;
    const context = engine.createExecutionContext();
    const outputs = await context.execute(inputs);
    reference ??= outputs;
    const relativeRms = worst(outputs, reference);
    await settle(() => context.execute(inputs));
    const hostMs = await medianMs(() => context.execute(inputs));
    const gpuMs = await betweenBuffers(engine, context, inputs);
    const kernels = engine.describe().kernels.length;
    rows.push({ network, batch, what: `Kiln ${precision}`, hostMs, gpuMs, kernels, buildSeconds, relativeRms });
    if (flags.profile) await profile(engine, context, inputs);
    engine.dispose();
    if (flags.cache) saveTimingCache(timingCache, flags.cache);
  }
  return { rows, inputs, reference: reference! };
}

async function onnxRuntime(
  network: string,
  batch: number,
  bytes: Uint8Array,
  inputs: Tensors,
  reference: Tensors,
): Promise<Row> {
  const what = "ONNX Runtime WebGPU f32";
  try {
    const peer = await openPeer(bytes, inputs);
    const outputs = Object.entries(await peer.run()).map(([name, { data }]) => [name, { ...reference[name]!, data }]);
    const relativeRms = worst(Object.fromEntries(outputs) as Tensors, reference);
    const hostMs = await medianMs(() => peer.run());
    await peer.close();
    return { network, batch, what, hostMs, relativeRms };
  } catch (error) {
    return { network, batch, what, failure: (error as Error).message.split("\n")[0]! };
  }
}

function torch(script: string, network: string, batches: readonly number[]): Row[] {
  const name = TORCH_NAMES[network];
  if (!name) return [];
  const run = spawnSync("python3", [script, "bench", name, ...batches.map(String)], { encoding: "utf8" });
  if (run.status !== 0) return [{ network, batch: 0, what: "PyTorch", failure: run.stderr.trim().split("\n").at(-1)! }];
  return run.stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as { batch: number; dtype: string; cudaGraphMs: number })
    .map(({ batch, dtype, cudaGraphMs }) => ({ network, batch, what: `PyTorch ${dtype}, CUDA graph`, gpuMs: cudaGraphMs }));
}

const device = await openDevice(flags);
const timingCache = flags.cache ? loadTimingCache(flags.cache, () => {}) : new TimingCache();
const batches = flags.batches.split(",").map(Number);
console.log(
  `${deviceName(device.fingerprint)}, tier ${device.caps.tier}, toggles ${flags.toggles}, tuned at most ${flags.tune} s`,
);
const rows: Row[] = [];
for (const network of flags.networks.split(",")) {
  for (const batch of batches) {
    const bytes = NETWORKS[network]!({ batch });
    const { rows: own, inputs, reference } = await kilnRows(network, batch, bytes);
    rows.push(...own);
    if (flags.ort) rows.push(await onnxRuntime(network, batch, bytes, inputs, reference));
  }
  if (flags.torch) rows.push(...torch(flags.torch, network, batches));
  if (flags.json) writeFileSync(flags.json, `${JSON.stringify(rows, null, 2)}\n`);
}

/** Kiln's time as a part of a peer's: from host to host beside ONNX Runtime, on the GPU beside PyTorch. */
function ratio(row: Row, peer: string): string {
  const other = rows.find(
    ({ network, batch, what }) => network === row.network && batch === row.batch && what.startsWith(peer),
  );
  const [own, theirs] = peer.startsWith("PyTorch") ? [row.gpuMs, other?.gpuMs] : [row.hostMs, other?.hostMs];
  return row.what.startsWith("Kiln") && own && theirs ? (own / theirs).toFixed(3) : "";
}
const table = [
  ["network", "batch", "", "host ms", "GPU ms", "items/s", "of ORT", "of PyTorch f16", "kernels", "build s", "rms"],
];
for (const row of rows)
  table.push([
    row.network,
    String(row.batch),
    row.what,
    row.failure ?? row.hostMs?.toFixed(3) ?? "",
    row.gpuMs?.toFixed(3) ?? "",
    ((1000 * row.batch) / (row.gpuMs ?? row.hostMs ?? Number.POSITIVE_INFINITY)).toFixed(0),
    ratio(row, "ONNX Runtime"),
    ratio(row, "PyTorch float16"),
    String(row.kernels ?? ""),
    row.buildSeconds?.toFixed(1) ?? "",
    row.relativeRms?.toExponential(1) ?? "",
  ]);
console.log(`\n${columns(table, [0, 2])}`);
process.exit(0);
