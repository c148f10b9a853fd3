// What comes first where nothing has been measured: for a large GPU the tactics that won there (bench/H200.md), by expected time.

import { expect, it } from "vitest";
import { LAYERS, taskOf } from "../../bench/layers.ts";
import { candidatesOf, take } from "../../src/autotuner/candidates.ts";
import { coreCaps } from "../../src/util/caps.ts";
import { largeWorkgroups, tensorTier } from "../support/tiers.ts";

const large = tensorTier(coreCaps, {
  ...largeWorkgroups,
  maxBufferSize: 2 ** 31,
  maxStorageBufferBindingSize: 2 ** 31,
});

/** Layers, f32 at batch 1, and the tactic that an exhaustive search on an H200 ended with. */
const WINNERS: readonly (readonly [string, string])[] = [
  ["resnet50 1x1 64 56", "conv.vector"],
  ["resnet50 3x3 64 56", "conv.winograd"],
  ["resnet50 3x3/2 256 28", "conv.split-k"],
  ["resnet50 3x3 512 7", "conv.winograd"],
  ["vgg16 3x3 3>64 224", "conv.blocked"],
  ["vgg16 3x3 64 224", "conv.winograd"],
  ["mobilenetv2 dw 3x3 32 112", "conv.depthwise-window"],
  ["large 7x7 64 56", "conv.fft"],
  ["large 11x11 32 112", "conv.fft"],
  ["large 31x31 32 56", "conv.split-k"],
];

it.each(WINNERS)("%s: %s is among the first five", (name, winner) => {
  const task = taskOf(LAYERS.find((layer) => layer.name === name)!, 1, "f32");
  const first = take(candidatesOf(task, { caps: large }), 5);
  expect(first.map(({ tactic }) => tactic)).toContain(winner);
});

it("tensor cores come first for f16, and what cannot win comes last", () => {
  const task = taskOf(LAYERS.find(({ name }) => name === "resnet50 3x3 256 14")!, 1, "f16");
  const order = [...candidatesOf(task, { caps: large })].map(({ tactic }) => tactic);
  expect(order[0]).toBe("conv.matrix");
  expect(order.indexOf("conv.direct")).toBeGreaterThan(10);
});
