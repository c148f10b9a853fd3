// How the time to compile grows with the nodes of a network: seconds a stage, nothing measured, on Dawn's null backend; and the
// processor's seconds, which other programs do not lengthen. Two families of small layers: tokens (products, residuals,
// normalizations) and pictures (branches, joins).
//
//   node bench/run.mjs scaling [--nodes 1000,5000,20000] [--json FILE]

import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { Builder, type Stage } from "../src/builder.ts";
import { columns } from "../src/cli/print.ts";
import { openNodeDevice } from "../src/node-device.ts";
import { NetworkWriter } from "./networks/writer.ts";

const { values: flags } = parseArgs({
  options: { nodes: { type: "string", default: "1000,5000,20000" }, json: { type: "string" } },
});

const SIZE = 16;

/** Grows a network by some nodes. */
type Grow = (net: NetworkWriter, x: string) => string;

const FAMILIES: Readonly<Record<string, { readonly shape: readonly number[]; readonly nodes: number; readonly grow: Grow }>> = {
  tokens: {
    shape: [8, SIZE],
    nodes: 6,
    grow: (net, x) => {
      const hidden = net.relu(net.linear(net.layerNorm(x, SIZE), SIZE, SIZE));
      return net.add(x, net.node("MatMul", [hidden, net.weight([SIZE, SIZE], 0.1)]));
    },
  },
  pictures: {
    shape: [SIZE, 8, 8],
    nodes: 7,
    grow: (net, x) => {
      const branch = (kernel: number): string => net.relu(net.conv(x, SIZE, SIZE / 2, kernel));
      return net.conv(net.concat([branch(1), branch(3)]), SIZE, SIZE, 1, { gain: 1 });
    },
  },
};

function networkOf({ shape, nodes, grow }: (typeof FAMILIES)[string], count: number): Uint8Array {
  const net = new NetworkWriter("scaling", {});
  let x = net.input("x", "f32", [1, ...shape]);
  for (let made = 0; made < count; made += nodes) x = grow(net, x);
  net.output("y", x);
  return net.bytes();
}

/** What begins when the builder shows a stage's result. */
const NEXT: Readonly<Record<Stage, string>> = {
  import: "passes",
  passes: "lower",
  calibrate: "lower",
  lower: "fuse",
  fuse: "choose",
  tune: "plan",
};

interface Row {
  readonly family: string;
  readonly nodes: number;
  readonly kernels: number;
  readonly seconds: number;
  readonly cpuSeconds: number;
  /** Seconds until the next stage began. */
  readonly stages: Readonly<Record<string, number>>;
}

const device = await openNodeDevice({ backend: "null" });
const rows: Row[] = [];
for (const [family, how] of Object.entries(FAMILIES)) {
  for (const nodes of flags.nodes.split(",").map(Number)) {
    const bytes = networkOf(how, nodes);
    const before = process.cpuUsage();
    const marks: { readonly stage: string; readonly at: number }[] = [{ stage: "import", at: performance.now() }];
    const engine = await new Builder(device).build(bytes, {
      optimizationLevel: 0,
      // A stage is told of when it is done.
      onStage: (stage) => marks.push({ stage: NEXT[stage], at: performance.now() }),
    });
    const end = performance.now();
    const stages = Object.fromEntries(marks.map(({ stage, at }, i) => [stage, ((marks[i + 1]?.at ?? end) - at) / 1000]));
    const { user, system } = process.cpuUsage(before);
    const [seconds, cpuSeconds] = [(end - marks[0]!.at) / 1000, (user + system) / 1e6];
    rows.push({ family, nodes, kernels: engine.describe().kernels.length, seconds, cpuSeconds, stages });
    engine.dispose();
    console.log(JSON.stringify(rows.at(-1)));
  }
}
const stages = Object.keys(rows[0]!.stages);
const cells = rows.map((row) => [
  row.family,
  String(row.nodes),
  String(row.kernels),
  row.seconds.toFixed(2),
  row.cpuSeconds.toFixed(2),
  ((1e6 * row.cpuSeconds) / row.nodes).toFixed(0),
  ...stages.map((stage) => row.stages[stage]!.toFixed(2)),
]);
console.log(`\n${columns([["family", "nodes", "kernels", "seconds", "cpu seconds", "cpu µs / node", ...stages], ...cells])}`);
if (flags.json) writeFileSync(flags.json, `${JSON.stringify(rows, null, 2)}\n`);
process.exit(0);
