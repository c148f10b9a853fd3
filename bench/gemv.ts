// A row times a matrix that no cache holds: how much of the speed at which this device copies memory its weights are read at.
//
//   node bench/run.mjs gemv [--size 8192] [--types f32,f16] [--seconds 10] [--toggles safe|fast] [--json FILE]

import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { columns } from "../src/cli/print.ts";
import { deviceName } from "../src/gpu/fingerprint.ts";
import { load } from "../src/ir/expr.ts";
import { Lowering } from "../src/ir/lower.ts";
import type { KernelTask } from "../src/ir/task.ts";
import { makeValue } from "../src/ir/value.ts";
import { DEVICE_FLAGS, openDevice } from "./device.ts";
import { productOf, race } from "./products.ts";
import { verdict } from "./subject.ts";

const { values: flags } = parseArgs({
  options: {
    size: { type: "string", default: "8192" },
    types: { type: "string", default: "f32,f16" },
    seconds: { type: "string", default: "10" },
    ...DEVICE_FLAGS,
    json: { type: "string" },
  },
});

const size = Number(flags.size);
const device = await openDevice(flags);

/** Nanoseconds of the fastest kernel that copies so many numbers of f32. */
async function copying(numbers: number): Promise<number> {
  const b = new Lowering("copy");
  const from = makeValue("from", "f32", [numbers]);
  b.map("f32", [numbers], (index) => load(from, index));
  const [best] = await race(device, b.tasks[0] as KernelTask, /./, Number(flags.seconds));
  return best![1].ns;
}

const copied = (2 * 4 * size * size) / (await copying(size * size));
console.log(`${deviceName(device.fingerprint)}, toggles ${flags.toggles}: copies ${copied.toFixed(0)} GB/s, read and written`);
const rows = [];
for (const type of flags.types.split(",") as ("f32" | "f16")[]) {
  const [best] = await race(device, productOf(type, 1, size, size), /./, Number(flags.seconds));
  const [{ tactic, config }, { ns }] = best!;
  const rate = ((type === "f16" ? 2 : 4) * size * size) / ns;
  rows.push({ type, microseconds: ns / 1e3, rate, ofCopy: rate / copied, tactic, config });
}
console.log(
  columns(
    [
      ["type", "µs", "GB/s", "of copying", "tactic"],
      ...rows.map(({ type, microseconds, rate, ofCopy, tactic, config }) => [
        type,
        microseconds.toFixed(1),
        rate.toFixed(0),
        `${(100 * ofCopy).toFixed(0)} %, at least 75 is ${verdict(ofCopy >= 0.75)}`,
        `${tactic} ${JSON.stringify(config)}`,
      ]),
    ],
    [0, 4],
  ),
);
if (flags.json)
  writeFileSync(flags.json, `${JSON.stringify({ device: device.fingerprint, size, copied, rows }, undefined, 2)}\n`);
process.exit(0);
