// A row times a matrix that no cache holds: how much of the speed at which this device copies memory its weights are read at.
//
//   node bench/run.mjs gemv [--size 8192] [--types f32,f16] [--seconds 10] [--toggles safe|fast] [--json FILE]

import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { columns } from "../src/cli/print.ts";
import { Memory } from "../src/gpu/buffers.ts";
import { deviceName } from "../src/gpu/fingerprint.ts";
import { median } from "../src/gpu/timer.ts";
import { DEVICE_FLAGS, openDevice } from "./device.ts";
import { productOf, race } from "./products.ts";
import { timesOf, verdict } from "./subject.ts";

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

/** GB/s, read and written, of copies of so many bytes: of twenty what they take longer than ten. */
async function copyRate(bytes: number): Promise<number> {
  const memory = new Memory(device);
  const [from, to] = [
    await memory.create({ label: "from", bytes, boundInParts: true }),
    await memory.create({ label: "to", bytes, boundInParts: true }),
  ];
  const copies = (count: number) => async (): Promise<void> => {
    const encoder = device.device.createCommandEncoder();
    for (let i = 0; i < count; i++) encoder.copyBufferToBuffer(from, 0, to, 0, bytes);
    device.queue.submit([encoder.finish()]);
    await device.queue.onSubmittedWorkDone();
  };
  const [ten, twenty] = [median(await timesOf(copies(10), 500)), median(await timesOf(copies(20), 500))];
  memory.dispose();
  return (20 * bytes) / (twenty - ten) / 1e6;
}

const copied = await copyRate(4 * size * size);
console.log(`${deviceName(device.fingerprint)}, toggles ${flags.toggles}: copies at ${copied.toFixed(0)} GB/s`);
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
