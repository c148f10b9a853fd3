// From an engine's bytes to its first result, against building it with a warm timing cache and against onnxruntime-node's WebGPU
// provider (session creation and first run), each on a device of its own in one process. Drivers keep compiled shaders on disk:
// what runs first warms that for all, so each is done --times times and the median is told.
//
//   node bench/run.mjs load MODEL.onnx [INPUT=1x3x224x224,…] [--level 3] [--times 5] [--fp16] [--json FILE]

import { readFileSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { TimingCache } from "../src/autotuner/cache.ts";
import { Builder, type BuildOptions } from "../src/builder.ts";
import { randomTensor } from "../src/cli/random.ts";
import type { Engine } from "../src/engine/engine.ts";
import type { Device } from "../src/gpu/device.ts";
import { deviceName } from "../src/gpu/fingerprint.ts";
import { median } from "../src/gpu/timer.ts";
import type { Tensor } from "../src/ir/tensor.ts";
import { openNodeDevice } from "../src/node-device.ts";
import { hostOperator } from "../src/ops/host.ts";
import { Runtime } from "../src/runtime.ts";
import { shapesOf } from "./shapes.ts";

const { positionals, values: flags } = parseArgs({
  allowPositionals: true,
  options: {
    level: { type: "string", default: "3" },
    times: { type: "string", default: "5" },
    fp16: { type: "boolean", default: false },
    json: { type: "string" },
  },
});
const [file, shapesText] = positionals;
if (file === undefined) throw new Error("usage: node bench/run.mjs load MODEL.onnx [INPUT=1x3x224x224,…]");
const shapes = shapesOf(shapesText);
const model = readFileSync(file);
const options: BuildOptions = {
  file,
  fp16: flags.fp16,
  optimizationLevel: Number(flags.level) as 0 | 1 | 2 | 3 | 4 | 5,
  timingCache: new TimingCache(),
  profiles:
    Object.keys(shapes).length > 0
      ? [Object.fromEntries(Object.entries(shapes).map(([name, shape]) => [name, { min: shape, opt: shape, max: shape }]))]
      : [],
};
let inputs: Record<string, Tensor> = {};

/** Milliseconds from a device to the first result of the engine that `make` makes on it. */
async function firstResult(make: (device: Device) => Promise<Engine>, then?: (engine: Engine) => void): Promise<number> {
  const device = await openNodeDevice();
  const from = performance.now();
  const engine = await make(device);
  if (Object.keys(inputs).length === 0)
    inputs = Object.fromEntries(
      engine.inputs.map(({ name, dtype, shape }) => [name, randomTensor(dtype, shapes[name] ?? shape.map(Number), 1)]),
    );
  await engine.createExecutionContext().execute(inputs);
  const taken = performance.now() - from;
  then?.(engine);
  engine.dispose();
  device.destroy();
  return taken;
}

let bytes = new Uint8Array(0);
let name = "";
const cold = await firstResult(
  (device) => new Builder(device).build(model, options),
  (engine) => {
    bytes = engine.serialize();
    name = deviceName(engine.device.fingerprint);
  },
);

/** As of onnxruntime-node's own names. */
async function peer(): Promise<number> {
  const ort = (await import("onnxruntime-node")).default;
  const from = performance.now();
  const session = await ort.InferenceSession.create(file!, { executionProviders: ["webgpu"], logSeverityLevel: 3 });
  const type = { f32: "float32", i64: "int64", i32: "int32", u8: "uint8", bool: "bool", f16: "float16" } as Record<
    string,
    string
  >;
  const feeds = Object.entries(inputs).map(([input, { dtype, data, shape }]) => [
    input,
    new ort.Tensor(type[dtype] as "float32", data as Float32Array, [...shape]),
  ]);
  await session.run(Object.fromEntries(feeds));
  const taken = performance.now() - from;
  await session.release();
  return taken;
}

const times = { warm: [] as number[], load: [] as number[], peer: [] as number[] };
let refusal: string | undefined;
for (let i = 0; i < Number(flags.times); i++) {
  times.load.push(await firstResult((device) => new Runtime(device, { hostOperators: hostOperator }).deserialize(bytes)));
  times.warm.push(await firstResult((device) => new Builder(device).build(model, options)));
  if (refusal === undefined)
    await peer().then(
      (taken) => times.peer.push(taken),
      (failure: Error) => {
        refusal = failure.message.split("\n")[0];
      },
    );
}
const [load, warm] = [median(times.load), median(times.warm)];
const other = times.peer.length > 0 ? median(times.peer) : undefined;
console.log(`device: ${name}, engine ${(bytes.length / 1e6).toFixed(1)} MB`);
console.log(`to the first result: built cold ${cold.toFixed(0)} ms, built with a warm cache ${warm.toFixed(0)} ms`);
console.log(`loaded ${load.toFixed(0)} ms: ${((100 * load) / warm).toFixed(1)} % of the warm build`);
if (other === undefined) console.log(`onnxruntime-node webgpu: ${refusal}`);
else console.log(`onnxruntime-node webgpu ${other.toFixed(0)} ms: ${(other / load).toFixed(2)} times as long as loading`);
if (flags.json !== undefined)
  writeFileSync(flags.json, JSON.stringify({ device: name, coldMs: cold, warmMs: warm, loadMs: load, onnxruntimeMs: other }));
process.exit(0);
