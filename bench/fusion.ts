// What fusion is worth: each network unfused and fused, in one run. Kernels and the dispatches that they are, activation bytes
// beside their lower bound, build time, latency from typed array to typed array, and onnxruntime-node's WebGPU provider.
//
//   node bench/run.mjs fusion [--networks resnet50,bert,FILE.onnx] [--variants unfused,fused,no-bundles,no-blocks] [--fp16]
//     [--level 3] [--tune SECONDS a build] [--seconds 2] [--toggles safe|fast] [--no-peer] [--json FILE]
//     [--plan] plans only, on Dawn's null backend: no latency, no GPU needed; files of no weights get random ones

import { readFileSync, writeFileSync } from "node:fs";
import { basename } from "node:path";
import { parseArgs } from "node:util";
import { InferenceSession, Tensor as OrtTensor } from "onnxruntime-node";
import { TimingCache } from "../src/autotuner/cache.ts";
import { Builder, type BuildOptions } from "../src/builder.ts";
import { deviationOf } from "../src/cli/compare.ts";
import { prepareInputs } from "../src/cli/inputs.ts";
import { columns } from "../src/cli/print.ts";
import { randomizeWeights } from "../src/cli/random-weights.ts";
import type { Device } from "../src/gpu/device.ts";
import { decodeModel, encodeModel } from "../src/importer/proto.ts";
import type { Tensor } from "../src/ir/tensor.ts";
import { dtypeFacts } from "../src/ir/types.ts";
import { openNodeDevice } from "../src/node-device.ts";
import { DEVICE_FLAGS, openDevice } from "./device.ts";
import { NETWORKS } from "./networks/index.ts";
import { settle } from "./subject.ts";

const { values: flags } = parseArgs({
  options: {
    networks: { type: "string", default: Object.keys(NETWORKS).join() },
    variants: { type: "string", default: "unfused,fused" },
    fp16: { type: "boolean", default: false },
    level: { type: "string", default: "3" },
    tune: { type: "string", default: "60" },
    seconds: { type: "string", default: "2" },
    ...DEVICE_FLAGS,
    json: { type: "string" },
    plan: { type: "boolean", default: false },
    "no-peer": { type: "boolean", default: false },
  },
});

type Tensors = Readonly<Record<string, Tensor>>;

interface Row {
  readonly network: string;
  readonly variant: string;
  readonly kernels?: number;
  /** A kernel of several steps is as many dispatches. */
  readonly dispatches?: number;
  /** Bytes; text where they depend on a size that no profile bounds. */
  readonly activations?: number | string;
  readonly lowerBound?: number | string;
  readonly weights?: number;
  readonly staging?: number | string;
  readonly buildSeconds?: number;
  readonly latencyMs?: number;
  /** Latency as a part of the first variant's. */
  readonly ratio?: number;
  /** Relative RMS of the outputs against those of the first variant. */
  readonly relativeRms?: number;
  readonly failure?: string;
}

const VARIANTS: Readonly<Record<string, BuildOptions>> = {
  unfused: { fusion: false },
  fused: {},
  "no-bundles": { disable: ["bundle-kernels"] },
  "no-blocks": { disable: ["fuse-block"] },
};
const chosen = flags.variants.split(",");
for (const name of chosen) {
  if (name in VARIANTS) continue;
  console.error(`--variants: no variant is called ${name}: ${Object.keys(VARIANTS).join(", ")}`);
  process.exit(2);
}

const modelOf = (name: string): Uint8Array => {
  const own = NETWORKS[name];
  if (own) return own();
  const read = new Uint8Array(readFileSync(name));
  if (!name.includes("light_")) return read;
  const external = (): never => {
    throw new Error(`${name}: weights in other files`);
  };
  return encodeModel(randomizeWeights(decodeModel(read, name), 1, external));
};

async function median(run: () => Promise<unknown>): Promise<number> {
  const times: number[] = [];
  const seconds = Number(flags.seconds);
  for (let warm = 0; warm < 3; warm++) await run();
  for (const until = performance.now() + 1000 * seconds; times.length < 3 || performance.now() < until; ) {
    const start = performance.now();
    await run();
    times.push(performance.now() - start);
  }
  return times.sort((a, b) => a - b)[times.length >> 1]!;
}

const worst = (actual: Tensors, expected: Tensors): number =>
  Math.max(...Object.entries(expected).map(([name, tensor]) => deviationOf(actual[name]!, tensor).relRms));

/** Names of a kernel's steps after the first. */
const LATER_STEP = / \((?!1\/)\d+\/\d+\)$/;

async function kilnRows(network: string, bytes: Uint8Array, device: Device): Promise<{ rows: Row[]; inputs: Tensors }> {
  const rows: Row[] = [];
  const timingCache = new TimingCache();
  let [inputs, reference, firstMs]: [Tensors, Tensors | undefined, number | undefined] = [{}, undefined, undefined];
  for (const variant of chosen) {
    const started = performance.now();
    const engine = await new Builder(device).build(bytes, {
      file: network,
      optimizationLevel: flags.plan ? 0 : (Number(flags.level) as 3),
      maxTuneTime: Number(flags.tune),
      timingCache,
      fp16: flags.fp16,
      ...VARIANTS[variant],
    });
    const buildSeconds = (performance.now() - started) / 1000;
    const { kernels, memory } = engine.describe();
    const row: Row = {
      network,
      variant,
      kernels: kernels.filter(({ name }) => !LATER_STEP.test(name)).length,
      dispatches: kernels.length,
      activations: memory.activations,
      lowerBound: memory.activationsLowerBound,
      weights: memory.weights,
      staging: memory.staging,
      buildSeconds,
    };
    if (flags.plan) rows.push(row);
    else {
      inputs = prepareInputs(engine.plan, {}).tensors;
      const context = engine.createExecutionContext();
      const outputs = await context.execute(inputs);
      reference ??= outputs;
      await settle(() => context.execute(inputs));
      const latencyMs = await median(() => context.execute(inputs));
      firstMs ??= latencyMs;
      rows.push({ ...row, latencyMs, ratio: latencyMs / firstMs, relativeRms: worst(outputs, reference) });
    }
    engine.dispose();
  }
  return { rows, inputs };
}

async function peerRow(network: string, bytes: Uint8Array, inputs: Tensors, firstMs: number): Promise<Row> {
  const variant = "onnxruntime webgpu";
  try {
    const session = await InferenceSession.create(bytes, { executionProviders: ["webgpu"], logSeverityLevel: 4 });
    const feeds = Object.fromEntries(
      Object.entries(inputs).map(([name, { dtype, shape, data }]) => [
        name,
        new OrtTensor((dtype === "f32" ? "float32" : dtypeFacts[dtype].onnxName) as "float32", data as Float32Array, [
          ...shape,
        ]),
      ]),
    );
    const latencyMs = await median(() => session.run(feeds));
    await session.release();
    return { network, variant, latencyMs, ratio: latencyMs / firstMs };
  } catch (error) {
    return { network, variant, failure: (error as Error).message.split("\n")[0]! };
  }
}

const MEGA = 2 ** 20;
const mega = (bytes: number | string | undefined): string =>
  typeof bytes === "number" ? (bytes / MEGA).toFixed(2) : bytes === undefined ? "" : "any";

function cells(row: Row): string[] {
  const { activations, lowerBound } = row;
  const overBound =
    typeof activations === "number" && typeof lowerBound === "number" ? (activations / Math.max(1, lowerBound)).toFixed(3) : "";
  return [
    basename(row.network),
    row.variant,
    String(row.kernels ?? ""),
    String(row.dispatches ?? ""),
    mega(activations),
    overBound,
    mega(row.weights),
    mega(row.staging),
    row.buildSeconds?.toFixed(1) ?? "",
    row.latencyMs?.toFixed(3) ?? row.failure ?? "",
    row.ratio?.toFixed(2) ?? "",
    row.relativeRms?.toExponential(1) ?? "",
  ];
}

const HEAD = ["network", "variant", "kernels", "dispatches", "activations MiB", "/ bound", "weights MiB", "staging MiB"];
const device = await (flags.plan ? openNodeDevice({ backend: "null" }) : openDevice(flags));
const rows: Row[] = [];
for (const network of flags.networks.split(",")) {
  const bytes = modelOf(network);
  const { rows: own, inputs } = await kilnRows(network, bytes, device);
  const peer = flags.plan || flags["no-peer"] ? [] : [await peerRow(network, bytes, inputs, own[0]!.latencyMs!)];
  rows.push(...own, ...peer);
  for (const row of [...own, ...peer]) console.log(cells(row).filter(Boolean).join("  "));
  if (flags.json) writeFileSync(flags.json, `${JSON.stringify(rows, null, 2)}\n`);
}
console.log(`\n${columns([[...HEAD, "build s", "latency ms", "ratio", "rms"], ...rows.map(cells)])}`);
process.exit(0);
