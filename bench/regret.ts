// Regret: how much slower than the best of an exhaustive search (level 5) is what a level chooses, over the layers of
// bench/layers.ts, and in what part of the time. Times of both choices are those that the exhaustive search measured.
//
//   node bench/run.mjs regret [--level 3] [--layers RE] [--batch 1] [--dtype f32|f16] [--shrink N] [--seconds S] [--json FILE]

import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { TimingCache } from "../src/autotuner/cache.ts";
import { type Candidate, keyOf } from "../src/autotuner/candidates.ts";
import { tune } from "../src/autotuner/tune.ts";
import { columns } from "../src/cli/print.ts";
import { key as fingerprintKey } from "../src/gpu/fingerprint.ts";
import { PipelineCache } from "../src/gpu/pipelines.ts";
import type { ConvTask } from "../src/ir/task.ts";
import { DEVICE_FLAGS, openDevice } from "./device.ts";
import { LAYERS, shrunk, taskOf } from "./layers.ts";

const { values: flags } = parseArgs({
  options: {
    level: { type: "string", default: "3" },
    layers: { type: "string", default: "" },
    batch: { type: "string", default: "1" },
    dtype: { type: "string", default: "f32" },
    shrink: { type: "string", default: "1" },
    /** Of the exhaustive search, a layer. */
    seconds: { type: "string", default: "120" },
    ...DEVICE_FLAGS,
    json: { type: "string" },
  },
});

interface Row {
  readonly layer: string;
  /** Time of the level's choice over that of the best. */
  readonly regret: number;
  readonly choice: string;
  readonly best: string;
  readonly seconds: readonly [number, number];
  readonly candidates: readonly [number, number];
}

const device = await openDevice(flags);
const deviceKey = fingerprintKey(device.fingerprint);
const dtype = flags.dtype === "f16" ? "f16" : "f32";
const rows: Row[] = [];
for (const layer of LAYERS.filter(({ name }) => new RegExp(flags.layers).test(name))) {
  const task = taskOf(Number(flags.shrink) > 1 ? shrunk(layer, Number(flags.shrink)) : layer, Number(flags.batch), dtype);
  const fast = await search(task, Number(flags.level) as 3);
  const whole = await search(task, 5);
  // What the level chose may not have been reached where the exhaustive search ran out of time: then its own time counts.
  const time = ({ kernel }: Candidate): number =>
    (whole.cache.get(keyOf(kernel, deviceKey, new Map())) ?? fast.cache.get(keyOf(kernel, deviceKey, new Map())))?.ns ??
    Number.NaN;
  const row = {
    layer: layer.name,
    regret: time(fast.choice) / Math.min(time(fast.choice), time(whole.choice)),
    choice: fast.choice.tactic,
    best: whole.choice.tactic,
    seconds: [fast.seconds, whole.seconds],
    candidates: [fast.cache.size, whole.cache.size],
  } as const;
  rows.push(row);
  console.error(`${row.layer}: ${row.regret.toFixed(3)}, ${row.seconds.map((s) => s.toFixed(1)).join(" of ")} s`);
}
const sum = (pick: (row: Row) => number): number => rows.reduce((all, row) => all + pick(row), 0);
const geometric = Math.exp(sum(({ regret }) => Math.log(regret)) / rows.length);
console.log(
  columns([
    ["layer", "regret", `level ${flags.level}`, "level 5", "seconds", "candidates"],
    ...rows.map(({ layer, regret, choice, best, seconds, candidates }) => [
      layer,
      regret.toFixed(3),
      choice,
      best,
      seconds.map((s) => s.toFixed(1)).join(" of "),
      candidates.join(" of "),
    ]),
  ]),
);
console.log(
  `regret: geometric mean ${geometric.toFixed(3)}, worst ${Math.max(...rows.map(({ regret }) => regret)).toFixed(3)} over ${rows.length} layers; time ${(sum(({ seconds }) => seconds[0]) / sum(({ seconds }) => seconds[1])).toFixed(3)} of the exhaustive search's`,
);
if (flags.json) writeFileSync(flags.json, `${JSON.stringify({ device: device.fingerprint, geometric, rows }, undefined, 2)}\n`);
device.destroy();

async function search(
  task: ConvTask,
  level: 1 | 2 | 3 | 4 | 5,
): Promise<{ choice: Candidate; seconds: number; cache: TimingCache }> {
  const cache = new TimingCache();
  const program = { inputs: [], outputs: [], tasks: [task], assumed: new Map() };
  const from = performance.now();
  const pipelines = new PipelineCache(device);
  const choices = await tune(program, device, { device, pipelines }, new Map(), {
    optimizationLevel: level,
    timingCache: cache,
    maxTuneTime: Number(flags.seconds),
  });
  return { choice: choices.get(task)!, seconds: (performance.now() - from) / 1000, cache };
}
