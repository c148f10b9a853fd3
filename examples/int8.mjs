// INT8 quantization: calibrates a classifier on samples, builds it in 8-bit integers and as float, and compares the two on
// data that the calibration has not seen. Also writes the quantized network as ONNX, which any other runtime can run.
//   node examples/int8.mjs [--level 0…5] [--onnx FILE]

import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { Builder } from "../dist/node.js";
import { readLine } from "./ocr.mjs";
import { answersOf, batchesUpTo, batchOf, classifier, turned, windowOf } from "./orientation.mjs";

const { values } = parseArgs({ options: { level: { type: "string", default: "1" }, onnx: { type: "string" } } });

// Windows of one line, both ways up: every third is kept back to compare on. Use your network's real inputs, a hundred or more.
const line = readLine(fileURLToPath(new URL("sample.png", import.meta.url)));
const windows = [];
for (let from = 0; from + 192 <= line.shape[3]; from += 12) windows.push(windowOf(line, from), turned(windowOf(line, from)));
const unseen = windows.filter((_, i) => i % 3 === 0);
const calibration = windows.filter((_, i) => i % 3 !== 0).map((pixels) => ({ x: batchOf([pixels]) }));

const builder = await Builder.create();
const common = { file: "orientation classifier", profiles: [batchesUpTo(8)], optimizationLevel: Number(values.level) };
let report;
const int8 = { calibration, calibrator: "entropy", onReport: (told) => (report = told) };

const float = await measure(await builder.build(classifier(), common));
const quantized = await measure(await builder.build(classifier(), { ...common, int8 }));
console.log(`${report.layers.length} layers in 8-bit integers, by ${report.samples} samples (${report.calibrator})`);
for (const { layer, why } of report.kept) console.log(`${layer} stays in float: ${why}`);

const rows = [
  ["", "float", "int8"],
  ["weights, kB", ...[float, quantized].map(({ weights }) => (weights / 1000).toFixed(0))],
  ["kernels", float.kernels, quantized.kernels],
  ["upright / upside down", ...[float, quantized].map(({ answers }) => counts(answers))],
  ["latency of 8, ms", float.ms.toFixed(2), quantized.ms.toFixed(2)],
];
for (const [name, ...cells] of rows) console.log(name.padEnd(24) + cells.map((cell) => String(cell).padStart(10)).join(""));
const same = float.answers.filter(({ label }, i) => label === quantized.answers[i].label).length;
console.log(`the same answer for ${same} of ${unseen.length} windows that the calibration has not seen`);

if (values.onnx) {
  const onnx = await builder.quantize(classifier(), { ...common, int8: { cache: report.cache } });
  writeFileSync(values.onnx, onnx);
  console.log(`wrote ${values.onnx}: ${classifier().length} bytes as float, ${onnx.length} with explicit quantization`);
}
builder.device.destroy();

/** Answers for the unseen windows, eight at a time; the median time of a run; what the engine holds. */
async function measure(engine) {
  const context = engine.createExecutionContext();
  const answers = [];
  const times = [];
  for (let i = 0; i < unseen.length; i += 8) {
    const x = batchOf(unseen.slice(i, i + 8));
    const start = performance.now();
    const [scores] = Object.values(await context.execute({ x }));
    times.push(performance.now() - start);
    answers.push(...answersOf(scores));
  }
  const { memory, kernels } = engine.describe();
  engine.dispose();
  return { answers, ms: times.sort((a, b) => a - b)[times.length >> 1], weights: memory.weights, kernels: kernels.length };
}

function counts(answers) {
  const upright = answers.filter(({ label }) => label === "upright").length;
  return `${upright} / ${answers.length - upright}`;
}
