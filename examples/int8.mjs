// INT8 quantization: calibrates a classifier on samples, builds it in 8-bit integers and as float, and compares the two on
// pictures that the calibration has not seen. Also writes the quantized network as ONNX, which any other runtime can run.
//   node examples/int8.mjs [--level 0…5] [--onnx FILE]

import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { Builder, TimingCache } from "../dist/node.js";
import { answersOf, batchOf, draw, network, picturesUpTo } from "./digits.mjs";

const { values } = parseArgs({ options: { level: { type: "string", default: "3" }, onnx: { type: "string" } } });
const BATCH = 10;
const NOISE = 0.5;

/** The same pictures every time: xorshift32 (Marsaglia, 2003) in [0, 1). */
let state = 1;
const random = () => {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return (state >>> 0) / 2 ** 32;
};
/** Batches of all ten digits in order. */
const batches = (count) =>
  Array.from({ length: count }, () => batchOf(Array.from({ length: BATCH }, (_, digit) => draw(digit, NOISE, random))));

const calibration = batches(50).map((picture) => ({ picture }));
const unseen = batches(100);

const builder = await Builder.create();
// 8 bits are tuned against float: what is measured for one engine serves the other.
const timingCache = new TimingCache();
const common = { file: "digits", profiles: [picturesUpTo(BATCH)], optimizationLevel: Number(values.level), timingCache };
let report;
const int8 = { calibration, calibrator: "entropy", onReport: (told) => (report = told) };

const float = await measure(await builder.build(network(), common));
const quantized = await measure(await builder.build(network(), { ...common, int8 }));
for (const note of quantized.notes) console.log(note);

const both = [float, quantized];
const rows = [
  ["", "float", "int8"],
  ["right", ...both.map(({ answers }) => `${(100 * rightOf(answers)).toFixed(1)} %`)],
  ["weights, bytes", ...both.map(({ weights }) => weights)],
  [`${BATCH} pictures, ms`, ...both.map(({ ms }) => ms.toFixed(2))],
];
for (const [name, ...cells] of rows) console.log(name.padEnd(20) + cells.map((cell) => String(cell).padStart(10)).join(""));
const same = float.answers.filter(({ digit }, i) => digit === quantized.answers[i].digit).length;
console.log(`the same answer for ${same} of ${float.answers.length} pictures that the calibration has not seen`);

if (values.onnx) {
  const onnx = await builder.quantize(network(), { ...common, int8: { cache: report.cache } });
  writeFileSync(values.onnx, onnx);
  console.log(`wrote ${values.onnx}: explicit QuantizeLinear and DequantizeLinear, ${onnx.length} bytes`);
}
builder.device.destroy();

/** The engine's answers for the unseen pictures, the median time of a run, and the size of its weights. */
async function measure(engine) {
  const context = engine.createExecutionContext();
  const answers = [];
  const times = [];
  for (const picture of unseen) {
    const start = performance.now();
    const { scores } = await context.execute({ picture });
    times.push(performance.now() - start);
    answers.push(...answersOf(scores));
  }
  const { weights } = engine.describe().memory;
  const { notes } = engine.plan;
  engine.dispose();
  return { answers, ms: times.sort((a, b) => a - b)[times.length >> 1], weights, notes };
}

function rightOf(answers) {
  return answers.filter(({ digit }, i) => digit === i % BATCH).length / answers.length;
}
