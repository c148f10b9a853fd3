// What 16 and 8 bits cost: networks × f16 and calibrators on labelled data. Top-1, agreement with the f32 engine, relative RMS of the outputs,
// time and size; what calibrating costs against running the same data; and how the divergence of one tensor lies over its
// threshold.
//
//   node bench/run.mjs accuracy --shared DIR [--networks a,b] [--calibrators entropy,percentile] [--records 100] [--calibration 100]
//     [--level 3: tunes; 0 where only accuracy is wanted] [--tensor NAME] [--json FILE] [--svg DIR]

import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { TimingCache } from "../src/autotuner/cache.ts";
import { Builder } from "../src/builder.ts";
import { Collection, type Sample } from "../src/calibrator/collect.ts";
import { entropyCut } from "../src/calibrator/entropy.ts";
import type { Histogram } from "../src/calibrator/histogram.ts";
import type { Int8Report } from "../src/calibrator/quantize.ts";
import { columns } from "../src/cli/print.ts";
import type { ExecutionContext } from "../src/engine/context.ts";
import type { Engine } from "../src/engine/engine.ts";
import type { Outputs } from "../src/engine/public.ts";
import { reader, type Tensor } from "../src/ir/tensor.ts";
import { openNodeDevice } from "../src/node-device.ts";
import { divergenceChart } from "./chart.ts";
import { type LabelledBatch, type LabelledNetwork, labelledNetworks } from "./labelled.ts";

const { values: flags } = parseArgs({
  options: {
    shared: { type: "string", default: "../shared" },
    networks: { type: "string" },
    calibrators: { type: "string", default: "entropy,percentile,percentile:99.999,mse,minmax,auto" },
    records: { type: "string", default: "1000" },
    calibration: { type: "string", default: "100" },
    level: { type: "string", default: "3" },
    tensor: { type: "string" },
    json: { type: "string" },
    svg: { type: "string" },
  },
});

interface Row {
  readonly network: string;
  readonly variant: string;
  readonly top1: number;
  readonly agreement: number;
  readonly relativeRms: number;
  readonly msPerRecord: number;
  readonly bytes: number;
  readonly calibrationSeconds: number;
  readonly notes: readonly string[];
}

interface Results {
  readonly classes: readonly number[];
  readonly scores: readonly Float32Array[];
  readonly hits: number;
  readonly ms: number;
}

const device = await openNodeDevice();
const builder = new Builder(device);
const timingCache = new TimingCache();
const records = Number(flags.records);
const level = Number(flags.level) as 0;
const wanted = flags.networks?.split(",");
const networks = labelledNetworks(flags.shared, (name, what) => console.log(`skipped ${name}: there is no ${what}`)).filter(
  ({ name }) => !wanted || wanted.includes(name),
);
const rows: Row[] = [];
console.log("variant; top-1, agreement with f32, relative RMS error, time a record, size, calibration");
for (const network of networks) await measure(network);
if (flags.json) writeFileSync(flags.json, `${JSON.stringify(rows, undefined, 2)}\n`);
process.exit(0); // Dawn's threads would keep the process alive

async function measure(network: LabelledNetwork): Promise<void> {
  const onnx = readFileSync(network.model);
  const float = await builder.build(onnx, { file: network.model, optimizationLevel: level, timingCache });
  const expected = await run(float, network);
  const count = expected.classes.length;
  const runSeconds = await secondsToRun(float, network.calibration(Number(flags.calibration)));
  console.log(`\n${network.name}: ${count} records`);
  const compare = async (
    variant: string,
    engine: Engine,
    calibrationSeconds = 0,
    notes: readonly string[] = [],
  ): Promise<void> => {
    const actual = engine === float ? expected : await run(engine, network);
    add({
      network: network.name,
      variant,
      top1: actual.hits / count,
      agreement: actual.classes.filter((value, i) => value === expected.classes[i]).length / count,
      relativeRms: relativeRms(actual.scores, expected.scores),
      msPerRecord: actual.ms / count,
      bytes: engine.serialize().length,
      calibrationSeconds,
      notes,
    });
    engine.dispose();
  };
  await compare("f32", float);
  if (device.caps.f16)
    await compare("f16", await builder.build(onnx, { file: network.model, optimizationLevel: level, timingCache, fp16: true }));
  // All calibrators look at the same histograms: the data is run once.
  let state: string | undefined;
  let collected: (() => string) | undefined;
  let report: Int8Report | undefined;
  let names: readonly string[] = [];
  for (const calibrator of flags.calibrators.split(",")) {
    const from = performance.now();
    let [started, calibrated] = [from, from];
    const counted: number[] = [];
    const engine = await builder.build(onnx, {
      file: network.model,
      optimizationLevel: level,
      timingCache,
      int8: {
        calibrator,
        calibration: network.calibration(Number(flags.calibration)),
        ...(state === undefined ? {} : { state }),
        onState: (serialize) => {
          collected = serialize;
          counted.push(performance.now());
        },
        onReport: (made) => {
          report = made;
        },
      },
      onStage: (stage) => {
        if (stage === "passes") started = performance.now();
        if (stage === "calibrate") calibrated = performance.now();
      },
    });
    const calibrationSeconds = (calibrated - started) / 1000;
    if (state === undefined) {
      // From the first sample's end to the last's: what the runs cost when all is compiled.
      const counting = (counted.at(-1)! - counted[0]!) / 1000;
      const times = (seconds: number): string => `${seconds.toFixed(1)} s, ${(seconds / runSeconds).toFixed(2)} x`;
      console.log(
        `running the data in f32: ${runSeconds.toFixed(1)} s; calibrating: ${times(calibrationSeconds)}; its runs: ${times(counting)}`,
      );
      state = collected?.();
    }
    names = report!.cache
      .trim()
      .split("\n")
      .slice(1)
      .map((line) => line.slice(0, line.lastIndexOf(": ")));
    await compare(calibrator, engine, calibrationSeconds, engine.plan.notes.slice(1));
  }
  if (state !== undefined) await chart(network.name, Collection.parse(state, names, "state").histograms);
}

function add(row: Row): void {
  rows.push(row);
  const percent = (share: number): string => `${(100 * share).toFixed(2)} %`;
  console.log(
    columns(
      [
        [
          row.variant.padEnd(18),
          percent(row.top1).padStart(8),
          percent(row.agreement).padStart(9),
          row.relativeRms.toFixed(4).padStart(7),
          `${row.msPerRecord.toFixed(2)} ms`.padStart(10),
          `${(row.bytes / 1e6).toFixed(2)} MB`.padStart(9),
          `${row.calibrationSeconds.toFixed(1)} s`.padStart(8),
        ],
      ],
      [0],
    ),
  );
  for (const note of row.notes) console.log(`    ${note}`);
}

async function run(engine: Engine, network: LabelledNetwork): Promise<Results> {
  const context = engine.createExecutionContext();
  const [classes, scores]: [number[], Float32Array[]] = [[], []];
  let hits = 0;
  const from = performance.now();
  for await (const { outputs, labels } of inOrder(context, network.evaluation(records))) {
    const rowsOf = split(Object.values(outputs)[0]!, labels.length);
    rowsOf.forEach((row, i) => {
      const best = row.indexOf(row.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY));
      classes.push(best);
      scores.push(row);
      if (best === labels[i]) hits++;
    });
  }
  context.dispose();
  return { classes, scores, hits, ms: performance.now() - from };
}

/** Runs that are on the queue at once. */
const AHEAD = 4;

/** Runs batches, several at a time, and gives their results in order. */
async function* inOrder(
  context: ExecutionContext,
  batches: Iterable<LabelledBatch>,
): AsyncGenerator<{ readonly outputs: Outputs; readonly labels: readonly number[] }> {
  const running: Promise<{ outputs: Outputs; labels: readonly number[] }>[] = [];
  for (const { sample, labels } of batches) {
    running.push(context.enqueue(sample).then((outputs) => ({ outputs, labels })));
    if (running.length >= AHEAD) yield await running.shift()!;
  }
  for (const run of running) yield await run;
}

async function secondsToRun(engine: Engine, samples: AsyncIterable<Sample>): Promise<number> {
  const context = engine.createExecutionContext();
  const from = performance.now();
  for await (const sample of samples) await context.execute(sample);
  context.dispose();
  return (performance.now() - from) / 1000;
}

function split(output: Tensor, count: number): Float32Array[] {
  const read = reader(output);
  const length = output.data.length / count;
  return Array.from({ length: count }, (_, row) => Float32Array.from({ length }, (__, i) => read(row * length + i)));
}

function relativeRms(actual: readonly Float32Array[], expected: readonly Float32Array[]): number {
  let [error, total] = [0, 0];
  expected.forEach((row, r) =>
    row.forEach((value, i) => {
      error += (actual[r]![i]! - value) ** 2;
      total += value ** 2;
    }),
  );
  return Math.sqrt(error / total);
}

/** The divergence of one tensor over its threshold: the one asked for, or the one that is cut hardest. */
async function chart(network: string, histograms: readonly Histogram[]): Promise<void> {
  const share = ({ counts, width }: Histogram): number => (width === 0 ? 1 : entropyCut(counts) / counts.length);
  const hardest = histograms.reduce((a, b) => (share(b) < share(a) ? b : a));
  const histogram = histograms.find(({ name }) => name === flags.tensor) ?? hardest;
  if (flags.svg === undefined || histogram.width === 0) return;
  const file = join(flags.svg, `${network}.svg`);
  mkdirSync(flags.svg, { recursive: true });
  writeFileSync(file, await divergenceChart(histogram, network));
  console.log(`divergence of "${histogram.name}": ${file}`);
}
