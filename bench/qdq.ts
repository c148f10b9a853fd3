// Explicit Q/DQ against ONNX Runtime: models that Kiln quantized and wrote out, and one that another tool did. Classes that
// agree, how far the values before the last Softmax are apart, and the step of the last quantization before them.
//
//   node bench/run.mjs qdq --shared DIR [--networks a,b] [--calibrator entropy] [--records 100] [--calibration 100]

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { InferenceSession, Tensor as OrtTensor } from "onnxruntime-node";
import { Builder } from "../src/builder.ts";
import type { Sample } from "../src/calibrator/collect.ts";
import { columns } from "../src/cli/print.ts";
import { decodeModel, encodeModel } from "../src/importer/proto.ts";
import { decodeTensor } from "../src/importer/tensors.ts";
import { numbersOf, type Tensor } from "../src/ir/tensor.ts";
import { openNodeDevice } from "../src/node-device.ts";
import { type LabelledNetwork, labelledNetworks } from "./labelled.ts";

const { values: flags } = parseArgs({
  options: {
    shared: { type: "string", default: "../shared" },
    networks: { type: "string" },
    calibrator: { type: "string", default: "entropy" },
    records: { type: "string", default: "100" },
    calibration: { type: "string", default: "100" },
  },
});

/** The 8-bit SqueezeNet that comes with its quantization. */
const GIVEN = "models/squeezenet-fp16/squeezenet_int8_qdq.onnx";

const builder = new Builder(await openNodeDevice());
const wanted = flags.networks?.split(",");
const networks = labelledNetworks(flags.shared, (name, what) => console.log(`skipped ${name}: there is no ${what}`));
console.log(columns([["model", "records", "same class", "right", "largest difference", "step", "of"]]));
for (const network of networks) {
  if (wanted && !wanted.includes(network.name)) continue;
  const calibration = network.calibration(Number(flags.calibration));
  const int8 = { calibration, calibrator: flags.calibrator };
  const model = await builder.quantize(readFileSync(network.model), { file: network.model, int8 });
  await compare(`${network.name}, by Kiln`, model, network);
}
const squeezenet = networks.find(({ name }) => name === "squeezenet");
const given = join(flags.shared, GIVEN);
if (squeezenet && existsSync(given) && (!wanted || wanted.includes("given"))) {
  await compare("squeezenet, as given", readFileSync(given), squeezenet);
}
process.exit(0); // Dawn's threads would keep the process alive

/** Results of one run: rows of scores, and of the values that the last Softmax reads where there is one. */
interface Scores {
  readonly classes: readonly number[];
  readonly logits: Float32Array;
}

async function compare(name: string, onnx: Uint8Array, network: LabelledNetwork): Promise<void> {
  const { bytes, logits } = withLogits(onnx);
  const engine = await builder.build(bytes, { optimizationLevel: 0 });
  const context = engine.createExecutionContext();
  // Integer kernels that are exact: its usual ones saturate on processors without VNNI.
  const extra = { session: { x64quantprecision: "1" } };
  const session = await InferenceSession.create(bytes, { extra, logSeverityLevel: 3 });
  let [records, same, right, worst, largest] = [0, 0, 0, 0, 0];
  for (const { sample, labels } of network.evaluation(Number(flags.records))) {
    const mine = scoresOf(await context.execute(sample), logits, labels.length);
    const theirs = scoresOf(await runOrt(session, sample), logits, labels.length);
    labels.forEach((label, i) => {
      records++;
      if (mine.classes[i] === theirs.classes[i]) same++;
      if (mine.classes[i] === label) right++;
    });
    theirs.logits.forEach((value, i) => {
      worst = Math.max(worst, Math.abs(value - mine.logits[i]!));
      largest = Math.max(largest, Math.abs(value));
    });
  }
  engine.dispose();
  await session.release();
  const numbers = [worst, stepOf(onnx), largest].map((number) => number.toPrecision(3));
  console.log(columns([[name, String(records), String(same), String(right), ...numbers]]));
}

/** The scale of a model's last QuantizeLinear. */
function stepOf(onnx: Uint8Array): number {
  const { node, initializer } = decodeModel(onnx, "model").graph!;
  const last = (node ?? []).findLast(({ opType }) => opType === "QuantizeLinear")!;
  const scale = (initializer ?? []).find(({ name }) => name === last.input![1])!;
  return numbersOf(decodeTensor(scale, () => new Uint8Array()))[0]!;
}

/** The model with what its last Softmax reads as a further output, and that output's name. */
function withLogits(onnx: Uint8Array): { bytes: Uint8Array; logits: string } {
  const model = decodeModel(onnx, "model");
  const graph = model.graph!;
  const softmax = (graph.node ?? []).findLast(({ opType }) => opType === "Softmax" || opType === "LogSoftmax");
  const last = graph.output![0]!.name!;
  if (softmax?.output?.[0] !== last) return { bytes: onnx, logits: last };
  const logits = softmax.input![0]!;
  const output = [...graph.output!, { name: logits, type: { tensorType: { elemType: 1 } } }];
  return { bytes: encodeModel({ ...model, graph: { ...graph, output } }), logits };
}

function scoresOf(outputs: Readonly<Record<string, { readonly data: unknown }>>, logits: string, rows: number): Scores {
  const data = outputs[logits]!.data as Float32Array;
  const length = data.length / rows;
  const classes = Array.from({ length: rows }, (_, row) => {
    const scores = data.subarray(row * length, (row + 1) * length);
    return scores.indexOf(scores.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY));
  });
  return { classes, logits: data };
}

async function runOrt(session: InferenceSession, sample: Sample): Promise<InferenceSession.OnnxValueMapType> {
  const feeds = Object.entries(sample).map(([name, input]) => {
    const { data, shape } = input as Tensor;
    return [name, new OrtTensor("float32", data as Float32Array, [...shape])] as const;
  });
  return session.run(Object.fromEntries(feeds));
}
