// Square matrix products: every candidate of a few tactics timed, the best beside PyTorch's (where --torch names a script that
// measures it) in the same run.
//
//   node bench/run.mjs gemm [--sizes 1024,4096] [--types f16,i8,f32] [--tactics RE] [--seconds 30] [--toggles safe|fast]
//     [--show 8] [--torch torch_peers.py] [--json FILE]

import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { type Candidate, candidatesOf, plainest } from "../src/autotuner/candidates.ts";
import { Bench, type Measured } from "../src/autotuner/measure.ts";
import { columns } from "../src/cli/print.ts";
import { deviceName } from "../src/gpu/fingerprint.ts";
import { PipelineCache } from "../src/gpu/pipelines.ts";
import { load } from "../src/ir/expr.ts";
import { Lowering } from "../src/ir/lower.ts";
import type { GemmTask } from "../src/ir/task.ts";
import type { DType } from "../src/ir/types.ts";
import { makeValue } from "../src/ir/value.ts";
import { DEVICE_FLAGS, openDevice } from "./device.ts";

const { values: flags } = parseArgs({
  options: {
    sizes: { type: "string", default: "1024,4096" },
    types: { type: "string", default: "f16,i8,f32" },
    tactics: { type: "string", default: "matrix|vector$|split-k" },
    seconds: { type: "string", default: "30" },
    ...DEVICE_FLAGS,
    show: { type: "string", default: "8" },
    torch: { type: "string" },
    json: { type: "string" },
  },
});

/** What the script that measures PyTorch calls the types. */
const TORCH_TYPES: Readonly<Record<string, string>> = { f16: "float16", i8: "int8", f32: "float32" };

/** a·b of m × k by k × n; bytes are summed in i32 and lie along k. */
function taskOf(type: "f32" | "f16" | "i8", m: number, n: number, k: number): GemmTask {
  const b = new Lowering("gemm");
  const isBytes = type === "i8";
  const left = makeValue("a", type as DType, [m, k]);
  const right = makeValue("b", type as DType, isBytes ? [n, k] : [k, n]);
  b.gemm(
    isBytes ? "i32" : type,
    { batch: [], m, n, k },
    (_, mm, kk) => load(left, [mm, kk]),
    (_, kk, nn) => load(right, isBytes ? [nn, kk] : [kk, nn]),
  );
  return b.tasks[0] as GemmTask;
}

const device = await openDevice(flags);
const pipelines = new PipelineCache(device);
console.log(`${deviceName(device.fingerprint)}, toggles ${flags.toggles}`);

async function race(task: GemmTask, tactics: RegExp): Promise<[Candidate, Measured][]> {
  const bench = new Bench(device, pipelines, new Map());
  const field = await bench.field(task, plainest(task, device));
  const candidates = [...candidatesOf(task, device)].filter(({ tactic }) => tactics.test(tactic));
  bench.compileAhead(candidates.map(({ kernel }) => kernel));
  const until = performance.now() + 1000 * Number(flags.seconds);
  const times = new Map<Candidate, Measured>();
  await field.race(
    candidates,
    Number.POSITIVE_INFINITY,
    () => performance.now() < until,
    (candidate, measured) => void times.set(candidate, measured),
  );
  field.dispose();
  bench.dispose();
  if (times.size < candidates.length)
    console.log(`${candidates.length - times.size} of ${candidates.length} candidates were not reached`);
  return [...times].sort(([, a], [, b]) => a.ns - b.ns);
}

const rows: { size: number; type: string; teraOps: number; torchTeraOps?: number; tactic: string; config: object }[] = [];
for (const size of flags.sizes.split(",").map(Number)) {
  for (const type of flags.types.split(",") as ("f32" | "f16" | "i8")[]) {
    const times = await race(taskOf(type, size, size, size), new RegExp(flags.tactics));
    const rate = ({ ns }: Measured): number => (2 * size ** 3) / ns / 1e3;
    console.log(`\n${size} ${type}`);
    console.log(
      columns(
        times
          .slice(0, Number(flags.show))
          .map(([{ tactic, config }, measured]) => [
            measured.rejected ?? `${rate(measured).toFixed(1)} T/s`,
            tactic,
            JSON.stringify(config),
          ]),
        [0, 1, 2],
      ),
    );
    const [best] = times;
    if (best) rows.push({ size, type, teraOps: rate(best[1]), tactic: best[0].tactic, config: best[0].config });
  }
}

if (flags.torch) {
  const run = spawnSync("python3", [flags.torch, "gemm", ...flags.sizes.split(",")], { encoding: "utf8" });
  const peers = run.stdout
    .trim()
    .split("\n")
    .filter((line) => line.startsWith("{"))
    .map((line) => JSON.parse(line) as { gemm: number; dtype: string; teraOps: number });
  for (const row of rows) {
    const peer = peers.find(({ gemm, dtype }) => gemm === row.size && dtype === TORCH_TYPES[row.type]);
    if (peer) row.torchTeraOps = peer.teraOps;
  }
}
console.log(
  `\n${columns(
    [
      ["size", "type", "Kiln T/s", "PyTorch T/s", "of it", "tactic"],
      ...rows.map(({ size, type, teraOps, torchTeraOps, tactic, config }) => [
        String(size),
        type,
        teraOps.toFixed(1),
        torchTeraOps?.toFixed(1) ?? "",
        torchTeraOps ? `${((100 * teraOps) / torchTeraOps).toFixed(0)} %` : "",
        `${tactic} ${JSON.stringify(config)}`,
      ]),
    ],
    [1, 5],
  )}`,
);
if (flags.json) writeFileSync(flags.json, `${JSON.stringify(rows, undefined, 2)}\n`);
process.exit(0);
