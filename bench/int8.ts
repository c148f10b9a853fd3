// INT8 kernels against f32 and f16 ones: every convolution of ResNet-50 by itself, each precision with its best kernel, bytes
// on tensor cores and on dot4I8Packed apart. Microseconds of GPU time; every kernel is checked against the plainest one.
//
//   node bench/run.mjs int8 [--batches 1,8,32] [--candidates 12] [--layers 3x3] [--shrink 1] [--json FILE]

import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { type Candidate, candidatesOf } from "../src/autotuner/candidates.ts";
import { Bench } from "../src/autotuner/measure.ts";
import { columns } from "../src/cli/print.ts";
import { PipelineCache } from "../src/gpu/pipelines.ts";
import { convert, type Expr, float, maximum, minimum, mul, unary } from "../src/ir/expr.ts";
import { Lowering } from "../src/ir/lower.ts";
import type { ConvTask } from "../src/ir/task.ts";
import { makeValue, type Value } from "../src/ir/value.ts";
import { openNodeDevice } from "../src/node-device.ts";

const { values: flags } = parseArgs({
  options: {
    batches: { type: "string", default: "1,8,32" },
    candidates: { type: "string", default: "12" },
    layers: { type: "string", default: "" },
    shrink: { type: "string", default: "1" },
    json: { type: "string" },
  },
});

interface Layer {
  readonly name: string;
  readonly channels: readonly [number, number];
  readonly kernel: number;
  readonly stride: number;
  /** Height and width of the input. */
  readonly size: number;
  /** How many the network has. */
  readonly count: number;
}
type Precision = "f32" | "f16" | "i8";

/** Blocks and width of each stage of ResNet-50 v1.5, and the size of what it reads. */
const STAGES = [
  [3, 64, 56],
  [4, 128, 56],
  [6, 256, 28],
  [3, 512, 14],
] as const;

function layersOf(shrink: number): Layer[] {
  const layers: Layer[] = [{ name: "stem 7x7", channels: [3, 64], kernel: 7, stride: 2, size: 224, count: 1 }];
  STAGES.forEach(([blocks, width, size], stage) => {
    const stride = stage === 0 ? 1 : 2;
    const [before, after] = [stage === 0 ? 64 : 2 * width, 4 * width];
    const add = (what: string, channels: readonly [number, number], kernel: number, by: number, at: number, count: number) =>
      layers.push({ name: `stage ${stage + 1} ${what}`, channels, kernel, stride: by, size: at, count });
    add("first 1x1", [before, width], 1, 1, size, 1);
    add("first 3x3", [width, width], 3, stride, size, 1);
    add("side 1x1", [before, after], 1, stride, size, 1);
    add("narrow 1x1", [after, width], 1, 1, size / stride, blocks - 1);
    if (stride > 1) add("3x3", [width, width], 3, 1, size / stride, blocks - 1);
    add("wide 1x1", [width, after], 1, 1, size / stride, blocks);
  });
  return layers.map((layer) => ({
    ...layer,
    channels: layer.channels.map((count) => (count === 3 ? 3 : Math.max(8, count / shrink))) as [number, number],
    size: Math.max(4, layer.size / shrink),
  }));
}

/** The layer and its activation as one task: bias and ReLU in float, or rounded to a byte again. */
function taskOf({ name, channels: [ic, oc], kernel, stride, size }: Layer, batch: number, precision: Precision): ConvTask {
  const b = new Lowering(name);
  const value = (what: string, shape: readonly number[], layout: readonly number[]): Value => ({
    ...makeValue(what, precision, shape),
    layout,
  });
  const isBytes = precision === "i8";
  const x = value("x", [batch, ic, size, size], [0, 2, 3, 1]);
  const w = value("w", [oc, ic, kernel, kernel], isBytes ? [0, 2, 3, 1] : [2, 3, 1, 0]);
  const pad = (kernel - 1) >> 1;
  const side = Math.floor((size + 2 * pad - kernel) / stride) + 1;
  const scale = 1 / (32 * ic * kernel * kernel);
  const finish = (acc: Expr): Expr =>
    isBytes
      ? convert(maximum(float(0), minimum(float(127), unary("round", mul(convert(acc, "f32"), float(scale))))), "i8")
      : maximum(acc, float(0));
  const shape = {
    groups: 1,
    strides: [stride, stride],
    dilations: [1, 1],
    pads: [pad, pad],
    out: [side, side],
  };
  const out = b.conv(isBytes ? "i32" : precision, x, w, shape, undefined, finish);
  out.dtype = precision;
  out.layout = [0, 2, 3, 1];
  return b.tasks[0] as ConvTask;
}

const device = await openNodeDevice();
const pipelines = new PipelineCache(device);
const bench = new Bench(device, pipelines, new Map());

/** Least microseconds over a tactic's candidates, for each tactic. */
async function timesOf(task: ConvTask, count: number): Promise<Map<string, number>> {
  const byTactic = new Map<string, Candidate[]>();
  for (const candidate of candidatesOf(task, device)) {
    const list = byTactic.get(candidate.tactic) ?? [];
    if (list.length < count) byTactic.set(candidate.tactic, [...list, candidate]);
  }
  const plain = byTactic.get("conv.direct")![0]!.kernel;
  byTactic.delete("conv.direct");
  const times = new Map<string, number>();
  const field = await bench.field(task, plain);
  for (const candidates of byTactic.values())
    await field.race(
      candidates,
      Number.POSITIVE_INFINITY,
      () => true,
      ({ tactic }, { ns }) => times.set(tactic, Math.min(times.get(tactic) ?? Number.POSITIVE_INFINITY, ns / 1000)),
    );
  field.dispose();
  return times;
}

const { vendor, architecture, description } = device.fingerprint;
console.log(`${[vendor, architecture, description].filter(Boolean).join(" ")}, tier ${device.caps.tier}`);
const layers = layersOf(Number(flags.shrink)).filter(({ name }) => name.includes(flags.layers));
const text = (us: number): string => (Number.isFinite(us) ? us.toFixed(1) : "-");
const rows: Record<string, string | number>[] = [];
for (const batch of flags.batches.split(",").map(Number)) {
  console.log(`\nbatch ${batch}, microseconds`);
  const lines = [["layer", "of", "m x n x k", "f32", "f16", "i8 matrix", "i8 dot4", "f32/i8", "f16/i8", "i8 Top/s"]];
  const total = { f32: 0, f16: 0, matrix: 0, dot4: 0, i8: 0 };
  for (const layer of layers) {
    const best = async (precision: Precision): Promise<Map<string, number>> =>
      precision === "f16" && !device.caps.f16
        ? new Map()
        : await timesOf(taskOf(layer, batch, precision), Number(flags.candidates));
    const least = (times: Map<string, number>): number => Math.min(...times.values());
    const [f32, f16, bytes] = [least(await best("f32")), least(await best("f16")), await best("i8")];
    const matrix = bytes.get("conv.matrix-bytes") ?? Number.POSITIVE_INFINITY;
    const dot4 = bytes.get("conv.dot4") ?? Number.POSITIVE_INFINITY;
    const i8 = least(bytes);
    const side = layer.size / layer.stride;
    const [m, n, k] = [batch * side * side, layer.channels[1], layer.channels[0] * layer.kernel ** 2];
    const times = { f32, f16, matrix, dot4, i8 };
    for (const key of Object.keys(total) as (keyof typeof total)[]) total[key] += layer.count * times[key];
    rows.push({ batch, layer: layer.name, count: layer.count, m, n, k, ...times });
    lines.push([
      layer.name,
      String(layer.count),
      `${m} x ${n} x ${k}`,
      ...[f32, f16, matrix, dot4].map(text),
      text(f32 / i8),
      text(f16 / i8),
      text((2 * m * n * k) / i8 / 1e6),
    ]);
  }
  const all = [total.f32, total.f16, total.matrix, total.dot4].map(text);
  lines.push(["all, as often as they occur", "", "", ...all, text(total.f32 / total.i8), text(total.f16 / total.i8), ""]);
  console.log(columns(lines));
}
if (flags.json) writeFileSync(flags.json, `${JSON.stringify(rows, undefined, 2)}\n`);
process.exit(0); // Dawn's threads would keep the process alive
