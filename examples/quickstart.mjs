// The main job, start to end: compile a text recognizer, read a picture with it, and show what fusion is worth.
//   npm run quickstart [-- picture.png]

import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Builder, Runtime } from "../dist/node.js";
import { decodeText, readLine, recognizer } from "./ocr.mjs";

const picture = process.argv[2] ?? fileURLToPath(new URL("sample.png", import.meta.url));
const line = readLine(picture);
const profile = { x: { min: [1, 3, 48, 32], opt: line.shape, max: [1, 3, 48, 2048] } };

const builder = await Builder.create();
const { description, device, vendor } = builder.device.fingerprint;
console.log(`device: ${description || device || vendor} (${builder.device.caps.tier} tier)\n`);

const rows = [];
for (const fusion of [false, true]) {
  const start = performance.now();
  const engine = await builder.build(recognizer(), {
    file: "PP-OCRv4 rec",
    fusion,
    profiles: [profile],
    optimizationLevel: 1,
    maxTuneTime: 30,
    onProgress: progress,
  });
  const built = performance.now() - start;
  const context = engine.createExecutionContext();
  const { [engine.plan.outputs[0].name]: scores } = await context.execute({ x: line });
  const times = [];
  for (const until = performance.now() + 2000; times.length < 50 && (times.length < 3 || performance.now() < until); ) {
    const before = performance.now();
    await context.execute({ x: line });
    times.push(performance.now() - before);
  }
  const { kernels, memory } = engine.describe();
  rows.push({
    fusion,
    text: decodeText(scores).trim(),
    kernels: kernels.length,
    activations: memory.activations,
    latency: times.sort((a, b) => a - b)[times.length >> 1],
    built,
  });
  if (fusion) await saveAndReload(engine, line);
  context.dispose();
  engine.dispose();
}

const [unfused, fused] = rows;
console.log(`\nThe picture says: ${fused.text}\n`);
const table = [
  ["", "kernels", "activations", "latency", "build"],
  ...rows.map((row) => [
    row.fusion ? "fused" : "unfused",
    row.kernels,
    `${(row.activations / 1e6).toFixed(2)} MB`,
    `${row.latency.toFixed(2)} ms`,
    `${(row.built / 1000).toFixed(1)} s`,
  ]),
  [
    "ratio",
    (fused.kernels / unfused.kernels).toFixed(2),
    (fused.activations / unfused.activations).toFixed(2),
    (fused.latency / unfused.latency).toFixed(2),
    "",
  ],
];
for (const row of table)
  console.log(row.map((cell, i) => (i === 0 ? String(cell).padEnd(9) : String(cell).padStart(13))).join(""));
console.log(`
Try next:
  node dist/cli.js inspect quickstart.engine      what is inside: kernels, tactics, memory
  node dist/cli.js bench quickstart.engine --shapes x:${line.shape.join("x")}
  node dist/cli.js build model.onnx -o model.engine   your own model`);
process.exit(fused.text === unfused.text ? 0 : 1);

/** A deployed engine needs neither the model nor the compiler: writes it, loads it with the runtime and compares. */
async function saveAndReload(engine, input) {
  const bytes = engine.serialize();
  writeFileSync("quickstart.engine", bytes);
  const runtime = await Runtime.create(builder.device);
  const loaded = await runtime.deserialize(bytes);
  const result = await loaded.createExecutionContext().execute({ x: input });
  console.log(
    `\nwrote quickstart.engine (${(bytes.length / 1e6).toFixed(1)} MB); loaded again, it reads: ${decodeText(Object.values(result)[0])}`,
  );
}

function progress({ stage, done, total, what }) {
  if (!process.stdout.isTTY || stage !== "tune" || done === undefined) return;
  process.stdout.write(`\r\x1b[2Ktuning ${done + 1}/${total}  ${what.slice(0, 80)}${done + 1 === total ? "\r\x1b[2K" : ""}`);
}
