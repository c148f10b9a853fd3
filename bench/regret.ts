// Regret: how much slower than the best of an exhaustive search (level 5) is what a level chooses, over the layers of
// bench/layers.ts, and in what part of the time. Times of both choices are those that the exhaustive search measured.
//
//   node bench/run.mjs regret [--level 3] [--layers RE] [--batch 1] [--dtype f32|f16] [--shrink N] [--seconds S] [--toggles safe|fast]
//     [--json FILE]

import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { TimingCache, type TimingEntry } from "../src/autotuner/cache.ts";
import { type Candidate, keyOf, taskKeyOf } from "../src/autotuner/candidates.ts";
import { type Choices, tune } from "../src/autotuner/tune.ts";
import { columns } from "../src/cli/print.ts";
import { key as fingerprintKey } from "../src/gpu/fingerprint.ts";
import { PipelineCache } from "../src/gpu/pipelines.ts";
import { DEVICE_FLAGS, openDevice } from "./device.ts";
import { LAYERS, shrunk, taskOf } from "./layers.ts";

const { values: flags } = parseArgs({
  options: {
    level: { type: "string", default: "3" },
    layers: { type: "string", default: "" },
    batch: { type: "string", default: "1" },
    dtype: { type: "string", default: "f32" },
    shrink: { type: "string", default: "1" },
    /** That the exhaustive search may take. */
    seconds: { type: "string", default: "3600" },
    ...DEVICE_FLAGS,
    json: { type: "string" },
  },
});

const device = await openDevice(flags);
const deviceKey = fingerprintKey(device.fingerprint);
const [dtype, shrink] = [flags.dtype === "f16" ? "f16" : "f32", Number(flags.shrink)] as const;
const layers = LAYERS.filter(({ name }) => new RegExp(flags.layers).test(name));
const tasks = layers.map((layer) => taskOf(shrink > 1 ? shrunk(layer, shrink) : layer, Number(flags.batch), dtype));

const fast = await search(Number(flags.level) as 3);
const whole = await search(5);
const rows = layers.map(({ name }, i) => {
  const task = tasks[i]!;
  const [chosen, best] = [fast, whole].map(({ choices }) => choices.get(task)!) as [Candidate, Candidate];
  // What the level chose may not have been reached where the exhaustive search ran out of time: then its own time counts.
  const time = ({ kernel }: Candidate): number => {
    const key = keyOf(kernel, deviceKey, new Map());
    return (whole.cache.get(key) ?? fast.cache.get(key))?.ns ?? Number.NaN;
  };
  const regret = time(chosen) / Math.min(time(chosen), time(best));
  return {
    name,
    regret,
    chosen: textOf(chosen),
    best: textOf(best),
    measured: [measured(fast, i), measured(whole, i)],
  } as const;
});
console.log(
  columns([
    ["layer", "regret", `level ${flags.level}`, "level 5", "candidates"],
    ...rows.map(({ name, regret, chosen, best, measured: [few, all] }) => {
      return [name, regret.toFixed(3), chosen, best, `${few.length} of ${all.length}`];
    }),
  ]),
);
const geometric = Math.exp(rows.reduce((sum, { regret }) => sum + Math.log(regret), 0) / rows.length);
console.log(
  `regret: geometric mean ${geometric.toFixed(3)}, worst ${Math.max(...rows.map(({ regret }) => regret)).toFixed(3)} over ${rows.length} layers; ${fast.seconds.toFixed(1)} s, ${(fast.seconds / whole.seconds).toFixed(3)} of the ${whole.seconds.toFixed(1)} s of the exhaustive search`,
);
if (flags.json) writeFileSync(flags.json, JSON.stringify({ device: device.fingerprint, geometric, rows }));
device.destroy();

interface Found {
  readonly choices: Choices;
  readonly seconds: number;
  readonly cache: TimingCache;
}

async function search(level: 3 | 5): Promise<Found> {
  const cache = new TimingCache();
  const from = performance.now();
  const seconds = (): number => (performance.now() - from) / 1000;
  let last = -1;
  const choices = await tune(
    { inputs: [], outputs: [], tasks, assumed: new Map() },
    device,
    { device, pipelines: new PipelineCache(device) },
    new Map(),
    {
      optimizationLevel: level,
      timingCache: cache,
      maxTuneTime: Number(flags.seconds),
      onProgress: ({ done, total, what }) => {
        if (done !== last) console.error(`level ${level}, ${seconds().toFixed(1)} s: ${done} of ${total}, ${what}`);
        last = done;
      },
    },
  );
  return { choices, seconds: seconds(), cache };
}

/** What was measured of a layer, the fastest first. */
function measured({ cache }: Found, layer: number): readonly TimingEntry[] {
  const name = taskKeyOf(tasks[layer]!, device, deviceKey, new Map());
  return cache
    .list()
    .flatMap(([, entry]) => (entry.task === name ? [entry] : []))
    .sort((a, b) => a.ns - b.ns);
}

function textOf({ tactic, config: { product, ...config } }: Candidate): string {
  return [tactic.replace("conv.", ""), product ?? "", ...Object.values(config).map(String)]
    .filter((word) => word !== "")
    .join(" ");
}
