// What the plans of whole networks take, on WebGPU's core in f32 and on tensor cores in f16: kernels, activation
// memory beside its lower bound, copies. Nothing is measured or run. Models of ../shared are skipped where they are not there.

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { NETWORKS } from "../../bench/networks/index.ts";
import { Builder, type BuildOptions } from "../../src/builder.ts";
import { randomizeWeights } from "../../src/cli/random-weights.ts";
import { type Description, describe as describeEngine } from "../../src/engine/describe.ts";
import type { Device } from "../../src/gpu/device.ts";
import { importModel } from "../../src/importer/import.ts";
import { decodeModel, encodeModel } from "../../src/importer/proto.ts";
import type { Caps } from "../../src/util/caps.ts";
import { nullDevice } from "../gpu/open.ts";
import { isThere, modelBytes } from "../models/networks.ts";
import { coreTier, largeWorkgroups, tensorTier } from "../support/tiers.ts";

let device: Device;
beforeAll(async () => {
  device = await nullDevice();
});
afterAll(() => device.destroy());

/** A model of ../shared that came without weights gets random ones. */
function shared(path: string): Uint8Array {
  const bytes = modelBytes(path);
  if (!path.startsWith("light/")) return bytes;
  return encodeModel(randomizeWeights(decodeModel(bytes, path), 1, () => expect.fail(`${path}: external data`)));
}

interface Target {
  readonly caps: Caps;
  readonly options: BuildOptions;
}
const targets = (): Readonly<Record<string, Target>> => ({
  core: { caps: coreTier(device.caps), options: {} },
  "tensor cores, fp16": { caps: tensorTier(device.caps, largeWorkgroups), options: { fp16: true } },
});

async function inspect(bytes: Uint8Array, { caps, options }: Target): Promise<Description> {
  const target = { caps, fingerprint: device.fingerprint };
  const { plan } = await new Builder(device).buildFor(target, bytes, { optimizationLevel: 0, ...options });
  return describeEngine(plan, device);
}

/** Kernels that only move what is concatenated. */
function copiesIn(bytes: Uint8Array, { kernels }: Description): readonly string[] {
  const joins = new Set(importModel(bytes).nodes.flatMap(({ op, name }) => (op === "Concat" ? [name] : [])));
  expect(joins.size).toBeGreaterThan(0);
  return kernels.filter(({ nodes }) => nodes.length > 0 && nodes.every((node) => joins.has(node))).map(({ name }) => name);
}

function expectNearBound({ memory: { activations, activationsLowerBound } }: Description): void {
  expect(activations).toBeGreaterThanOrEqual(activationsLowerBound as number);
  expect(activations).toBeLessThanOrEqual(1.1 * (activationsLowerBound as number));
}

/** Most kernels at batch 1, and whether a concatenation may be copied. */
const OWN = {
  resnet50: { kernels: 56 },
  mobilenetv2: { kernels: 54 },
  inceptionv3: { kernels: 58, joins: true },
  densenet121: { kernels: 128, joins: true },
  bert: { kernels: 88 },
  vit: { kernels: 90 },
  gpt: { kernels: 56 },
  yolo: { kernels: 64 },
} as const;

const SHARED = {
  "light/light_inception_v1.onnx": { kernels: Math.floor(0.75 * (57 + 14)), joins: true },
  "light/light_squeezenet.onnx": { kernels: 30, joins: true },
  "light/light_densenet121.onnx": { kernels: 128, joins: true },
  "squeezenet-fp16/squeezenet_fp32_opset13.onnx": { kernels: 30, joins: true },
  "yolox-nano/yolox_nano.onnx": { kernels: 100 },
  "yunet/yunet_n_320_320.onnx": { kernels: 56 },
  "style-transfer/candy_std.onnx": { kernels: 32 },
  "stories260k/stories260k_step_static.onnx": { kernels: 72 },
  "dtln/model_1.onnx": { kernels: 5 },
  "dtln/model_2.onnx": { kernels: 10 },
} as const;

interface Expected {
  readonly kernels: number;
  readonly joins?: boolean;
}

async function check(bytes: Uint8Array, { kernels, joins }: Expected): Promise<void> {
  for (const [name, target] of Object.entries(targets())) {
    const description = await inspect(bytes, target);
    expect(description.hostLayers, name).toEqual([]);
    expect(description.kernels.length, name).toBeLessThanOrEqual(kernels);
    expectNearBound(description);
    if (joins) expect(copiesIn(bytes, description), name).toEqual([]);
  }
}

describe("networks of bench/networks", () => {
  it.for(Object.entries(OWN))("%s", { timeout: 180_000 }, ([name, expected]) => check(NETWORKS[name]!(), expected));
});

it("MobileNetV2 is a kernel a block where blocks stay whole", { timeout: 180_000 }, async () => {
  for (const { caps, options } of Object.values(targets())) {
    const { kernels } = await inspect(NETWORKS.mobilenetv2!(), { caps, options: { ...options, disable: ["part-block"] } });
    expect(kernels.length).toBeLessThanOrEqual(24);
  }
});

describe.skipIf(!isThere)("models of ../shared", () => {
  it.for(Object.entries(SHARED))("%s", { timeout: 180_000 }, ([path, expected]) => check(shared(path), expected));
});
