// What tuning is worth: networks built at level 0 and at another, latency of both from typed array to typed array, and whether
// their outputs agree.
//
//   node bench/run.mjs levels [NETWORK|MODEL.onnx]… [--level 3] [--tune S] [--seconds S] [--json FILE]

import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { Builder } from "../src/builder.ts";
import { columns } from "../src/cli/print.ts";
import { median } from "../src/gpu/timer.ts";
import { importModel } from "../src/importer/import.ts";
import { isStatic } from "../src/ir/dims.ts";
import { reader, type Tensor, tensor } from "../src/ir/tensor.ts";
import { openNodeDevice } from "../src/node-device.ts";
import { NETWORKS } from "./networks/index.ts";

const { positionals, values: flags } = parseArgs({
  allowPositionals: true,
  options: {
    level: { type: "string", default: "3" },
    tune: { type: "string", default: "120" },
    seconds: { type: "string", default: "3" },
    json: { type: "string" },
  },
});

type Level = 0 | 1 | 2 | 3 | 4 | 5;
const device = await openNodeDevice();
const builder = new Builder(device);
const rows = [];
for (const name of positionals.length > 0 ? positionals : ["mobilenetv2", "resnet50", "densenet121"]) {
  const model = existsSync(name) ? readFileSync(name) : NETWORKS[name]!({ batch: 1 });
  // Sizes that the model leaves open are 1.
  const ends = importModel(model).inputs.map(({ name: input, dtype, shape }) => {
    return { name: input, dtype, shape: shape.map((dim) => (isStatic(dim) ? dim : 1)), isOpen: !shape.every(isStatic) };
  });
  const profile = Object.fromEntries(ends.map(({ name: input, shape }) => [input, { min: shape, opt: shape, max: shape }]));
  const profiles = ends.some(({ isOpen }) => isOpen) ? [profile] : [];
  let inputs: Record<string, Tensor> | undefined;
  let plain: Readonly<Record<string, Tensor>> | undefined;
  const times: number[] = [];
  let error = 0;
  let buildSeconds = 0;
  for (const optimizationLevel of [0, Number(flags.level)] as Level[]) {
    const from = performance.now();
    const engine = await builder.build(model, { optimizationLevel, maxTuneTime: Number(flags.tune), profiles });
    buildSeconds = (performance.now() - from) / 1000;
    inputs ??= Object.fromEntries(
      ends.map(({ name: input, dtype, shape }) => {
        const length = shape.reduce((a, b) => a * b, 1);
        return [
          input,
          tensor(
            dtype,
            shape,
            Float32Array.from({ length }, (_, i) => ((i * 7919) % 1009) / 1009),
          ),
        ];
      }),
    );
    const context = engine.createExecutionContext();
    const outputs = await context.execute(inputs);
    if (plain) error = relativeRms(outputs, plain);
    plain ??= outputs;
    times.push(await latency(() => context.execute(inputs!)));
    context.dispose();
    engine.dispose();
  }
  const [before, after] = times as [number, number];
  rows.push({ network: name, level0Ms: before, tunedMs: after, ratio: before / after, error, buildSeconds });
  console.error(`${name}: ${(before / after).toFixed(2)}`);
}
console.log(
  columns([
    ["network", "level 0, ms", `level ${flags.level}, ms`, "faster", "difference", "build, s"],
    ...rows.map(({ network, level0Ms, tunedMs, ratio, error, buildSeconds }) => [
      network,
      level0Ms.toFixed(2),
      tunedMs.toFixed(2),
      `${ratio.toFixed(2)}x`,
      error.toExponential(1),
      buildSeconds.toFixed(1),
    ]),
  ]),
);
if (flags.json) writeFileSync(flags.json, `${JSON.stringify({ device: device.fingerprint, rows }, undefined, 2)}\n`);
device.destroy();

async function latency(run: () => Promise<unknown>): Promise<number> {
  await run();
  const times: number[] = [];
  for (const until = performance.now() + 1000 * Number(flags.seconds); times.length < 3 || performance.now() < until; ) {
    const from = performance.now();
    await run();
    times.push(performance.now() - from);
  }
  return median(times);
}

function relativeRms(actual: Readonly<Record<string, Tensor>>, expected: Readonly<Record<string, Tensor>>): number {
  let [error, size] = [0, 0];
  for (const [name, value] of Object.entries(expected)) {
    const [read, want] = [reader(actual[name]!), reader(value)];
    for (let i = 0; i < value.data.length; i++) {
      error += (read(i) - want(i)) ** 2;
      size += want(i) ** 2;
    }
  }
  return Math.sqrt(error / Math.max(size, 1e-30));
}
