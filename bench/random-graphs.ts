// Whether this machine's GPU computes what it should: random networks, fused and not, against onnxruntime-node on the CPU. The same
// networks are tests where there is vitest; this runs where there is only Node.
//
//   node bench/run.mjs random-graphs [--from 0] [--count 300] [--level 0] [--toggles safe|fast]

import { parseArgs } from "node:util";
import { deviceName } from "../src/gpu/fingerprint.ts";
import { batchesOf, faultsOf } from "../test/support/random-agreement.ts";
import { randomGraph } from "../test/support/random-graph.ts";
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

let [good, runs] = [0, 0];
for (let seed = from; seed < from + count; seed++) {
  const graph = randomGraph(seed);
  const faults = await faultsOf(device, graph, Number(flags.level) as 0);
  runs += 2 * batchesOf(graph).length;
  if (faults.length === 0) good++;
  else console.log(`seed ${seed}: ${graph.text}\n  ${faults.join("\n  ")}`);
}
const seeds = `seeds ${from} to ${from + count - 1}`;
console.log(`${good} of ${count} random graphs (${seeds}), ${runs} runs: fused and unfused agree with ONNX Runtime`);
process.exit(good === count ? 0 : 1);
