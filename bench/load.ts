// From an engine's bytes to its first result, against building it with a warm timing cache and against onnxruntime-node's WebGPU
// provider (session creation and first run), in one process; Kiln has a new device each time. Drivers keep compiled shaders on
// disk: what runs first warms that for all, so they take turns and the medians are told.
//
//   node bench/run.mjs load MODEL [INPUT=1x3x224x224,…] [--times 3] [--level 3] [--tune 30] [--timingCacheFile F] [--fp16]
//     [--toggles safe|fast] [--json FILE]
//
// MODEL is a file or one of bench/networks.

import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { Builder } from "../src/builder.ts";
import type { Engine } from "../src/engine/engine.ts";
import type { Device } from "../src/gpu/device.ts";
import { deviceName } from "../src/gpu/fingerprint.ts";
import { median } from "../src/gpu/timer.ts";
import type { Tensor } from "../src/ir/tensor.ts";
import { saveTimingCache } from "../src/node.ts";
import { hostOperator } from "../src/ops/host.ts";
import { Runtime } from "../src/runtime.ts";
import { DEVICE_FLAGS, openDevice } from "./device.ts";
import { openPeer } from "./peer.ts";
import { SUBJECT_FLAGS, subjectOf, verdict } from "./subject.ts";

const { positionals, values: flags } = parseArgs({
  allowPositionals: true,
  options: { ...SUBJECT_FLAGS, ...DEVICE_FLAGS, times: { type: "string", default: "3" }, json: { type: "string" } },
});
if (positionals[0] === undefined) throw new Error("usage: node bench/run.mjs load MODEL [INPUT=1x3x224x224,…]");
const subject = subjectOf(positionals[0], positionals[1], flags);
let inputs: Readonly<Record<string, Tensor>> = {};

/** Milliseconds from a device to the first result of the engine that `make` makes on it. */
async function firstResult(make: (device: Device) => Promise<Engine>, then?: (engine: Engine) => void): Promise<number> {
  const device = await openDevice(flags);
  const from = performance.now();
  const engine = await make(device);
  if (Object.keys(inputs).length === 0) inputs = subject.inputsOf(engine);
  await engine.createExecutionContext().execute(inputs);
  const taken = performance.now() - from;
  then?.(engine);
  engine.dispose();
  device.destroy();
  return taken;
}

const build = (device: Device): Promise<Engine> => new Builder(device).build(subject.onnx, subject.options);

async function peer(): Promise<number> {
  const from = performance.now();
  const session = await openPeer(subject.onnx, inputs);
  await session.run();
  const taken = performance.now() - from;
  await session.close();
  return taken;
}

let [bytes, name] = [new Uint8Array(0), ""];
const cold = await firstResult(build, (engine) => {
  bytes = engine.serialize();
  name = deviceName(engine.device.fingerprint);
});
console.log(
  `${subject.name} on ${name}: engine of ${(bytes.length / 1e6).toFixed(1)} MB, first built in ${cold.toFixed(0)} ms`,
);

const times = { load: [] as number[], warm: [] as number[], peer: [] as number[] };
let refusal: string | undefined;
let cached = subject.options.timingCache.serialize();
let measuring = 0;
for (let i = 0; i < Number(flags.times); i++) {
  times.load.push(await firstResult((device) => new Runtime(device, { hostOperators: hostOperator }).deserialize(bytes)));
  const warm = await firstResult(build);
  const now = subject.options.timingCache.serialize();
  if (now === cached) times.warm.push(warm);
  else measuring++;
  cached = now;
  if (refusal !== undefined) continue;
  await peer().then(
    (taken) => times.peer.push(taken),
    (failure: Error) => {
      refusal = failure.message.split("\n")[0];
    },
  );
}
if (flags.timingCacheFile !== undefined) saveTimingCache(subject.options.timingCache, flags.timingCacheFile);
const [load, warm] = [median(times.load), median(times.warm)];
const other = refusal === undefined ? median(times.peer) : undefined;
const all = (values: readonly number[]): string => values.map((value) => value.toFixed(0)).join(", ");
console.log(`to the first result: loaded ${load.toFixed(0)} ms (${all(times.load)})`);
if (measuring > 0)
  console.log(`${measuring} builds measured kernels still and do not count: give them --tune more seconds, or a file`);
if (times.warm.length > 0) {
  console.log(`built with a warm timing cache ${warm.toFixed(0)} ms (${all(times.warm)})`);
  console.log(`loading takes ${((100 * load) / warm).toFixed(1)} % of that: at most 10 % is ${verdict(load <= warm / 10)}`);
}
if (other === undefined) console.log(`onnxruntime-node webgpu: ${refusal}`);
else {
  console.log(`onnxruntime-node webgpu ${other.toFixed(0)} ms (${all(times.peer)})`);
  console.log(`that is ${(other / load).toFixed(2)} times as long as loading: faster is ${verdict(load < other)}`);
}
if (flags.json !== undefined)
  writeFileSync(
    flags.json,
    JSON.stringify({ name: subject.name, device: name, cold, warm, measuring, load, onnxruntime: other, times }),
  );
process.exit(0);
