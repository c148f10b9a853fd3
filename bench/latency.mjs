// One model, f32 and f16, fused: build, agreement of f16 with f32, and latency from typed array to typed array; with
// onnxruntime-node's WebGPU provider in the same run where it is installed.
//   node bench/latency.mjs MODEL.onnx [INPUT=1x3x224x224,…] [--seconds N] [--level 0..5] [--json FILE]

import { readFileSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { Builder, TimingCache } from "../dist/node.js";

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    seconds: { type: "string", default: "2" },
    level: { type: "string", default: "3" },
    tune: { type: "string", default: "60" },
    json: { type: "string" },
  },
});
const [file, shapesText = ""] = positionals;
const shapes = Object.fromEntries(
  shapesText
    .split(",")
    .filter(Boolean)
    .map((part) => part.split("="))
    .map(([name, dims]) => [name, dims.split("x").map(Number)]),
);
const bytes = readFileSync(file);
const profile = Object.fromEntries(
  Object.entries(shapes).map(([name, shape]) => [name, { min: shape, opt: shape, max: shape }]),
);

const builder = await Builder.create();
const timingCache = new TimingCache();
const rows = [];
let inputs;
let expected;
for (const fp16 of [false, true]) {
  const started = performance.now();
  const engine = await builder.build(bytes, {
    file,
    fp16,
    profiles: shapesText ? [profile] : [],
    optimizationLevel: Number(values.level),
    maxTuneTime: Number(values.tune),
    timingCache,
  });
  const buildS = (performance.now() - started) / 1000;
  inputs ??= Object.fromEntries(
    engine.plan.inputs.map(({ name, dtype, shape }) => [name, randomTensor(dtype, shapes[name] ?? shape.map(Number))]),
  );
  const context = engine.createExecutionContext();
  const outputs = await context.execute(inputs);
  expected ??= outputs;
  rows.push({
    variant: fp16 ? "kiln f16" : "kiln f32",
    medianMs: await median(() => context.execute(inputs)),
    buildS,
    kernels: engine.describe().kernels.length,
    relativeRms: relativeRms(outputs, expected),
  });
  for (const note of engine.plan.notes) console.log(note);
  const tactics = {};
  for (const { tactic } of engine.describe().kernels) tactics[tactic] = (tactics[tactic] ?? 0) + 1;
  console.log(
    `${fp16 ? "f16" : "f32"} tactics: ${Object.entries(tactics)
      .map(([name, count]) => `${count} ${name}`)
      .join(", ")}`,
  );
  context.dispose();
  engine.dispose();
}
const peer = await onnxRuntime().catch((error) => console.log(`onnxruntime-node webgpu: ${error.message}`));
if (peer) rows.push(peer);
for (const row of rows)
  console.log(
    [
      row.variant.padEnd(20),
      `${row.medianMs.toFixed(3)} ms`.padStart(12),
      row.kernels ? `${row.kernels} kernels` : "",
      row.buildS ? `build ${row.buildS.toFixed(1)} s` : "",
      row.relativeRms === undefined ? "" : `rms ${row.relativeRms.toExponential(2)}`,
      peer ? `${(peer.medianMs / row.medianMs).toFixed(2)}x` : "",
    ].join("  "),
  );
if (values.json) writeFileSync(values.json, JSON.stringify(rows, null, 2));
process.exit(0);

async function median(run) {
  for (let i = 0; i < 10; i++) await run();
  const times = [];
  for (const until = performance.now() + 1000 * Number(values.seconds); times.length < 10 || performance.now() < until; ) {
    const start = performance.now();
    await run();
    times.push(performance.now() - start);
  }
  return times.sort((a, b) => a - b)[times.length >> 1];
}

/** Floats in [-1, 1); integers 0 or 1, which every vocabulary and mask allows. */
function randomTensor(dtype, shape) {
  const length = shape.reduce((a, b) => a * b, 1);
  if (dtype === "i64") return { dtype, shape, data: BigInt64Array.from({ length }, () => BigInt(Math.random() < 0.5)) };
  return { dtype, shape, data: Float32Array.from({ length }, () => Math.random() * 2 - 1) };
}

function relativeRms(actual, reference) {
  let error = 0;
  let size = 0;
  for (const [name, { data }] of Object.entries(reference))
    for (let i = 0; i < data.length; i++) {
      error += (actual[name].data[i] - data[i]) ** 2;
      size += data[i] ** 2;
    }
  return Math.sqrt(error / size);
}

async function onnxRuntime() {
  const { default: ort } = await import("onnxruntime-node");
  const session = await ort.InferenceSession.create(file, { executionProviders: ["webgpu"], logSeverityLevel: 3 });
  const feeds = Object.fromEntries(
    Object.entries(inputs).map(([name, { dtype, data, shape }]) => [
      name,
      new ort.Tensor(dtype === "i64" ? "int64" : "float32", data, shape),
    ]),
  );
  const outputs = await session.run(feeds);
  return {
    variant: "onnxruntime webgpu",
    medianMs: await median(() => session.run(feeds)),
    relativeRms: relativeRms(Object.fromEntries(Object.entries(outputs).map(([name, { data }]) => [name, { data }])), expected),
  };
}
