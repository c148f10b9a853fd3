// Square matrix products: every candidate of a few tactics timed, the best beside PyTorch's (where --torch names a script that
// measures it) in the same run.
//
//   node bench/run.mjs gemm [--sizes 1024,4096] [--types f16,i8,f32] [--tactics RE] [--seconds 30] [--toggles safe|fast]
//     [--show 8] [--torch torch_peers.py] [--json FILE]

import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import type { Measured } from "../src/autotuner/measure.ts";
import { columns } from "../src/cli/print.ts";
import { deviceName } from "../src/gpu/fingerprint.ts";
import { DEVICE_FLAGS, openDevice } from "./device.ts";
import { productOf, race } from "./products.ts";

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

const device = await openDevice(flags);
console.log(`${deviceName(device.fingerprint)}, toggles ${flags.toggles}`);

const rows: { size: number; type: string; teraOps: number; torchTeraOps?: number; tactic: string; config: object }[] = [];
for (const size of flags.sizes.split(",").map(Number)) {
  for (const type of flags.types.split(",") as ("f32" | "f16" | "i8")[]) {
    const times = await race(device, productOf(type, size, size, size), new RegExp(flags.tactics), Number(flags.seconds));
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
