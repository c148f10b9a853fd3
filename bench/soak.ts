// Does memory stay flat? Runs of random shapes in every way there is (waited for, in flight, outputs on the GPU, aborted), each
// result compared with the first of its shape; then engines created and disposed of. Prints memory at intervals.
//
//   node bench/run.mjs soak [--runs 20000] [--cycles 200] [--seed 1]

import { execFileSync } from "node:child_process";
import { parseArgs } from "node:util";
import { Builder } from "../src/builder.ts";
import { bytesText } from "../src/cli/print.ts";
import { randomNumbers, randomTensor } from "../src/cli/random.ts";
import type { ExecutionContext } from "../src/engine/context.ts";
import type { Tensor } from "../src/ir/tensor.ts";
import { openNodeDevice } from "../src/node-device.ts";
import { Runtime } from "../src/runtime.ts";
import { model } from "../test/support/onnx-model.ts";
import { verdict } from "./subject.ts";

const { values: flags } = parseArgs({
  options: {
    runs: { type: "string", default: "20000" },
    cycles: { type: "string", default: "200" },
    seed: { type: "string", default: "1" },
  },
});
const [runs, cycles] = [Number(flags.runs), Number(flags.cycles)];
const next = randomNumbers(Number(flags.seed));
const network = model({
  opset: 17,
  inputs: { x: { dtype: "f32", shape: ["N", 3, "H", "W"] } },
  outputs: ["y", "r"],
  nodes: [
    { op: "Conv", inputs: ["x", "w"], outputs: ["c"], attributes: { pads: [1, 1, 1, 1] } },
    { op: "Relu", inputs: ["c"], outputs: ["r"] },
    { op: "GlobalAveragePool", inputs: ["r"], outputs: ["p"] },
    { op: "Flatten", inputs: ["p"], outputs: ["f"] },
    { op: "Gemm", inputs: ["f", "fc"], outputs: ["g"] },
    { op: "Softmax", inputs: ["g"], outputs: ["y"] },
  ],
  initializers: { w: randomTensor("f32", [8, 3, 3, 3], 1), fc: randomTensor("f32", [8, 10], 2) },
});
const MAX = [2, 12, 12] as const;
const profiles = [{ x: { min: [1, 3, 1, 1], opt: [1, 3, 8, 8], max: [MAX[0], 3, MAX[1], MAX[2]] } }];

/** What one input gives, the first time and ever after. */
const known = new Map<string, { readonly x: Tensor; readonly sum: number }>();
const sumOf = (values: ArrayLike<number>): number =>
  Array.from(values).reduce((sum, value, i) => sum + value * (1 + (i % 7)), 0);

/** Used by this process on an NVIDIA GPU; elsewhere nobody says. */
function gpuMemory(): string {
  try {
    const query = ["--query-compute-apps=pid,used_memory", "--format=csv,noheader"];
    const lines = execFileSync("nvidia-smi", query, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).split("\n");
    return (
      lines
        .find((line) => line.startsWith(`${process.pid},`))
        ?.split(",")[1]
        ?.trim() ?? "-"
    );
  } catch {
    return "-";
  }
}
const line = (cells: readonly string[]): void => console.log(cells.map((cell) => cell.padEnd(16)).join(""));
line(["after", "resident", "JS heap", "array buffers", "Kiln's buffers", "nvidia-smi"]);
/** Prints a line; gives what the process holds. */
function note(after: string, buffers: number): number {
  const { rss, heapUsed, arrayBuffers } = process.memoryUsage();
  line([after, bytesText(rss), bytesText(heapUsed), bytesText(arrayBuffers), bytesText(buffers), gpuMemory()]);
  return rss;
}

/** Bytes that a process may come to hold without holding more and more: its allocator's own unrest. */
const UNREST = 16e6;
function judge(what: string, held: readonly number[]): void {
  const more = Math.max(0, held.at(-1)! - held[held.length >> 1]!);
  console.log(`${what}: ${bytesText(more)} more at the end than half-way: flat is ${verdict(more <= UNREST)}`);
}

function drawn(): { readonly key: string; readonly x: Tensor } {
  const shape = [1 + Math.floor(next() * MAX[0]), 3, 1 + Math.floor(next() * MAX[1]), 1 + Math.floor(next() * MAX[2])];
  const key = shape.join("x");
  return { key, x: known.get(key)?.x ?? randomTensor("f32", shape, 3) };
}

let checked = 0;
async function run(context: ExecutionContext): Promise<void> {
  const { key, x } = drawn();
  const how = next();
  if (how < 0.05) {
    const controller = new AbortController();
    const aborted = context.enqueue({ x }, { signal: controller.signal, outputs: "gpu" });
    controller.abort();
    await aborted.then(
      (outputs) => Object.values(outputs).forEach((output) => "buffer" in output && output.buffer.destroy()),
      () => undefined,
    );
    return;
  }
  const { y, r } = how < 0.3 ? await context.enqueue({ x }, { outputs: { r: "gpu" } }) : await context.execute({ x });
  if ("buffer" in r!) r.buffer.destroy();
  const sum = sumOf((y as Tensor).data as Float32Array);
  const before = known.get(key)?.sum ?? sum;
  if (Math.abs(sum - before) > 1e-4) throw new Error(`${key}: ${sum}, the first time ${before}`);
  known.set(key, { x, sum: before });
  checked++;
}

const device = await openNodeDevice();
const engine = await new Builder(device).build(network, { optimizationLevel: 0, profiles });
const bytes = engine.serialize();
const context = engine.createExecutionContext();
const live = (): number => engine.memory.live + context.deviceMemory;
note("build", live());
const AT_ONCE = 4;
const held = { runs: [] as number[], cycles: [] as number[] };
for (let done = 0; done < runs; ) {
  const until = Math.min(runs, done + Math.ceil(runs / 20));
  for (; done < until; done += AT_ONCE) await Promise.all(Array.from({ length: AT_ONCE }, () => run(context)));
  held.runs.push(note(`${done} runs`, live()));
}
context.dispose();
engine.dispose();
note("dispose", live());
const runtime = new Runtime(device);
for (let done = 0; done < cycles; ) {
  for (const until = Math.min(cycles, done + Math.ceil(cycles / 10)); done < until; done++) {
    const loaded = await runtime.deserialize(bytes);
    const contexts = [loaded.createExecutionContext(), loaded.createExecutionContext()];
    for (const one of contexts) await run(one);
    loaded.dispose();
    // An aborted run may still be on the GPU.
    const left = (): number => contexts.reduce((bytes, one) => bytes + one.deviceMemory, loaded.memory.live);
    for (let tick = 0; left() > 0; tick++) {
      if (tick === 1000) throw new Error(`${left()} bytes are left`);
      await new Promise((resolve) => setTimeout(resolve));
    }
  }
  held.cycles.push(note(`${done} cycles`, 0));
}
device.check();
judge(`${runs} runs`, held.runs);
judge(`${cycles} cycles`, held.cycles);
console.log(`${checked} results were right, of ${known.size} shapes`);
device.destroy();
process.exit(0);
