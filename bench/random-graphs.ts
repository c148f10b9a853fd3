// Whether this machine's GPU computes what it should: random networks, fused and not, against onnxruntime-node on the CPU. The same
// networks are tests where there is vitest; this runs where there is only Node.
//
//   node bench/run.mjs random-graphs [--from 0] [--count 300] [--level 0] [--toggles safe|fast]

import { parseArgs } from "node:util";
import { Builder } from "../src/builder.ts";
import { deviationOf } from "../src/cli/compare.ts";
import { deviceName } from "../src/gpu/fingerprint.ts";
import { runOnnxRuntime } from "../test/support/onnxruntime.ts";
import { type RandomGraph, randomGraph } from "../test/support/random-graph.ts";
import { DEVICE_FLAGS, openDevice } from "./device.ts";

const { values: flags } = parseArgs({
  options: {
    from: { type: "string", default: "0" },
    count: { type: "string", default: "300" },
    level: { type: "string", default: "0" },
    ...DEVICE_FLAGS,
  },
});
const [from, count] = [Number(flags.from), Number(flags.count)];
const device = await openDevice(flags);
console.log(`${deviceName(device.fingerprint)}, tier ${device.caps.tier}, toggles ${flags.toggles}, level ${flags.level}`);

let runs = 0;

/** What differs, or why there is nothing to compare; empty where all is well. */
async function faultsOf(graph: RandomGraph, fusion: boolean): Promise<string[]> {
  const shapesOf = (batch: number): Record<string, readonly number[]> =>
    Object.fromEntries(Object.entries(graph.inputs(batch)).map(([name, { shape }]) => [name, shape]));
  const batches = graph.isDynamic ? [graph.batch, graph.batch + 1] : [graph.batch];
  const [min, max] = [shapesOf(1), shapesOf(batches.at(-1)!)];
  const bounds = Object.keys(max).map((name) => [name, { min: min[name]!, opt: max[name]!, max: max[name]! }] as const);
  const faults: string[] = [];
  try {
    const engine = await new Builder(device).build(graph.bytes, {
      optimizationLevel: Number(flags.level) as 0,
      fusion,
      profiles: graph.isDynamic ? [Object.fromEntries(bounds)] : [],
    });
    const context = engine.createExecutionContext();
    for (const batch of batches) {
      const inputs = graph.inputs(batch);
      const actual = await context.execute(inputs);
      runs++;
      for (const [name, expected] of Object.entries(await runOnnxRuntime(graph.bytes, inputs))) {
        const { ok, relRms } = deviationOf(actual[name]!, expected);
        if (!ok) faults.push(`batch ${batch}: "${name}" differs by ${relRms.toExponential(1)} (relative RMS)`);
      }
    }
    engine.dispose();
  } catch (failure) {
    faults.push((failure as Error).message);
  }
  return faults;
}

let good = 0;
for (let seed = from; seed < from + count; seed++) {
  const graph = randomGraph(seed);
  const faults: string[] = [];
  for (const fusion of [true, false])
    for (const fault of await faultsOf(graph, fusion)) faults.push(`${fusion ? "fused" : "unfused"}, ${fault}`);
  if (faults.length === 0) good++;
  else console.log(`seed ${seed}: ${graph.text}\n  ${faults.join("\n  ")}`);
}
const seeds = `seeds ${from} to ${from + count - 1}`;
console.log(`${good} of ${count} random graphs (${seeds}), ${runs} runs: fused and unfused agree with ONNX Runtime`);
process.exit(good === count ? 0 : 1);
