// Algorithm × layer: the best time of every convolution tactic for every layer, and which one the tuner picks.
//
//   node bench/run.mjs algorithms [--layers RE] [--batch 1] [--dtype f32|f16] [--candidates 6] [--level 3] [--shrink N]
//     [--toggles safe|fast] [--seconds S a layer] [--json FILE] [--svg FILE]

import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { TimingCache } from "../src/autotuner/cache.ts";
import { type Candidate, plainest } from "../src/autotuner/candidates.ts";
import { Bench, type Measured } from "../src/autotuner/measure.ts";
import { tune } from "../src/autotuner/tune.ts";
import { columns } from "../src/cli/print.ts";
import { PipelineCache } from "../src/gpu/pipelines.ts";
import { tacticsFor } from "../src/kernels/index.ts";
import { DEVICE_FLAGS, openDevice } from "./device.ts";
import { heatMap } from "./heat-map.ts";
import { flopsOf, LAYERS, shrunk, taskOf } from "./layers.ts";

const { values: flags } = parseArgs({
  options: {
    layers: { type: "string", default: "" },
    batch: { type: "string", default: "1" },
    dtype: { type: "string", default: "f32" },
    candidates: { type: "string", default: "6" },
    level: { type: "string", default: "3" },
    shrink: { type: "string", default: "1" },
    ...DEVICE_FLAGS,
    seconds: { type: "string", default: "60" },
    json: { type: "string" },
    svg: { type: "string" },
  },
});

interface Row {
  readonly layer: string;
  readonly flops: number;
  /** By tactic: the best of its candidates, or why there is none. */
  readonly tactics: Readonly<Record<string, Measured & { readonly config: Candidate["config"] }>>;
  readonly pick: string;
}

const [batch, shrink, most] = [Number(flags.batch), Number(flags.shrink), Number(flags.candidates)];
const dtype = flags.dtype === "f16" ? "f16" : "f32";
const device = await openDevice(flags);
const pipelines = new PipelineCache(device);
const rows: Row[] = [];
for (const layer of LAYERS.filter(({ name }) => new RegExp(flags.layers).test(name))) {
  const row = await measure(layer);
  rows.push(row);
  const best = row.tactics[row.pick];
  console.error(`${layer.name}: ${row.pick} ${best ? `${(best.ns / 1e3).toFixed(1)} µs` : ""}`);
}
const tactics = [...new Set(rows.flatMap((row) => Object.keys(row.tactics)))];
const { description, vendor } = device.fingerprint;
const title = `${description || vendor}, ${dtype}, batch ${batch}${shrink > 1 ? `, layers shrunk ${shrink} times` : ""}`;
console.log(`${title}\nµs, * the tuner's pick at level ${flags.level}, ! rejected by the numerical gate or the device\n`);
console.log(
  columns([
    ["layer", ...tactics.map((tactic) => tactic.replace("conv.", "")), "TFLOP/s"],
    ...rows.map(({ layer, flops, tactics: found, pick }) => [
      layer,
      ...tactics.map((tactic) => cell(found[tactic], tactic === pick)),
      found[pick] ? (flops / found[pick].ns / 1e3).toFixed(2) : "",
    ]),
  ]),
);
for (const { layer, tactics: found } of rows)
  for (const [tactic, { rejected }] of Object.entries(found)) if (rejected) console.log(`${layer}, ${tactic}: ${rejected}`);
if (flags.json) writeFileSync(flags.json, `${JSON.stringify({ title, device: device.fingerprint, rows }, undefined, 2)}\n`);
if (flags.svg) {
  const cells = rows.flatMap(({ layer, tactics: found, pick }) => {
    const best = Math.min(...Object.values(found).map(({ ns }) => ns));
    return Object.entries(found).flatMap(([tactic, { ns }]) =>
      Number.isFinite(ns) ? [{ row: layer, column: tactic.replace("conv.", ""), value: ns / best, mark: tactic === pick }] : [],
    );
  });
  writeFileSync(flags.svg, await heatMap(title, "time over the best", cells));
}
device.destroy();

async function measure(shape: (typeof LAYERS)[number]): Promise<Row> {
  const layer = shrink > 1 ? shrunk(shape, shrink) : shape;
  const task = taskOf(layer, batch, dtype);
  const bench = new Bench(device, pipelines, new Map());
  const field = await bench.field(task, plainest(task, device));
  const found: Record<string, Measured & { config: Candidate["config"] }> = {};
  const until = performance.now() + 1000 * Number(flags.seconds);
  let least = Number.POSITIVE_INFINITY;
  const tactics = tacticsFor(task, device.caps);
  for (const [done, tactic] of tactics.entries()) {
    // An even share of what is left, so that every tactic has its turn.
    const end = performance.now() + (until - performance.now()) / (tactics.length - done);
    const candidates: Candidate[] = [];
    for (const config of tactic.candidates(task, device.caps)) {
      if (candidates.length >= most) break;
      candidates.push({ tactic: tactic.name, config, kernel: tactic.emit(task, config, device.caps) });
    }
    bench.compileAhead(candidates.map(({ kernel }) => kernel));
    const times = new Map<Candidate, Measured>();
    // Candidates hopelessly behind the best tactic so far are not timed for long.
    await field.race(
      candidates,
      8 * least,
      () => times.size === 0 || performance.now() < end,
      (candidate, measured) => times.set(candidate, measured),
    );
    for (const [{ config }, measured] of times)
      if (!found[tactic.name] || measured.ns < found[tactic.name]!.ns) found[tactic.name] = { ...measured, config };
    least = Math.min(least, found[tactic.name]?.ns ?? least);
  }
  field.dispose();
  bench.dispose();
  const program = { inputs: [], outputs: [], tasks: [task], assumed: new Map() };
  const level = Number(flags.level) as 3;
  const choices = await tune(program, device, { device, pipelines }, new Map(), {
    optimizationLevel: level,
    timingCache: new TimingCache(),
    maxTuneTime: Number(flags.seconds),
  });
  return { layer: layer.name, flops: flopsOf(layer, batch), tactics: found, pick: choices.get(task)!.tactic };
}

function cell(measured: Measured | undefined, isPick: boolean): string {
  if (!measured) return "";
  if (measured.rejected) return "!";
  return `${(measured.ns / 1e3).toFixed(1)}${isPick ? "*" : ""}`;
}
