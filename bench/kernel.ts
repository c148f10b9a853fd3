// Replays one task over every candidate, fastest first. `kiln build --dump DIR` writes each task into DIR/tasks.
//
//   node bench/run.mjs kernel TASK.json [--bind N=8,H=224] [--tactic RE] [--most N] [--seconds S] [--toggles safe|fast] [--json FILE]

import { readFileSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { type Candidate, candidatesOf, plainest } from "../src/autotuner/candidates.ts";
import { Bench, type Measured } from "../src/autotuner/measure.ts";
import { withDefaults } from "../src/autotuner/tune.ts";
import { columns } from "../src/cli/print.ts";
import { PipelineCache } from "../src/gpu/pipelines.ts";
import { taskTitle } from "../src/ir/task.ts";
import { taskFromJson } from "../src/ir/task-json.ts";
import { DEVICE_FLAGS, openDevice } from "./device.ts";

const { positionals, values: flags } = parseArgs({
  allowPositionals: true,
  options: {
    bind: { type: "string", default: "" },
    tactic: { type: "string", default: "" },
    most: { type: "string", default: "1000" },
    seconds: { type: "string", default: "600" },
    ...DEVICE_FLAGS,
    json: { type: "string" },
  },
});
const [file] = positionals;
if (!file) {
  console.error("usage: node bench/run.mjs kernel TASK.json, from the tasks/ folder of kiln build --dump DIR");
  process.exit(2);
}
const task = taskFromJson(readFileSync(file, "utf8"));
const sizes = flags.bind
  .split(",")
  .filter(Boolean)
  .map((pair) => pair.split("=") as [string, string]);
const bindings = withDefaults(new Map(sizes.map(([name, size]) => [name, Number(size)])));
const device = await openDevice(flags);
const bench = new Bench(device, new PipelineCache(device), bindings);
const field = await bench.field(task, plainest(task, device));
const candidates = [...candidatesOf(task, device)]
  .filter(({ tactic }) => new RegExp(flags.tactic).test(tactic))
  .slice(0, Number(flags.most));
bench.compileAhead(candidates.map(({ kernel }) => kernel));
const results = new Map<Candidate, Measured>();
const until = performance.now() + 1000 * Number(flags.seconds);
await field.race(
  candidates,
  Number.POSITIVE_INFINITY,
  () => performance.now() < until,
  (candidate, measured) => {
    results.set(candidate, measured);
  },
);
const sorted = [...results].sort(([, a], [, b]) => a.ns - b.ns);
console.log(taskTitle(task));
console.log(
  columns(
    [
      ["µs", "over best", "error", "tactic", "configuration"],
      ...sorted.map(([{ tactic, config }, { ns, error, rejected }]) => [
        Number.isFinite(ns) ? (ns / 1e3).toFixed(1) : "-",
        Number.isFinite(ns) ? (ns / sorted[0]![1].ns).toFixed(2) : "-",
        error?.toExponential(1) ?? "",
        tactic,
        `${JSON.stringify(config)}${rejected ? ` ${rejected}` : ""}`,
      ]),
    ],
    [3, 4],
  ),
);
if (results.size < candidates.length)
  console.log(`${candidates.length - results.size} candidates were not reached in ${flags.seconds} s`);
if (flags.json)
  writeFileSync(
    flags.json,
    `${JSON.stringify(
      sorted.map(([{ tactic, config }, measured]) => ({ tactic, config, ...measured })),
      undefined,
      2,
    )}\n`,
  );
field.dispose();
bench.dispose();
device.destroy();
