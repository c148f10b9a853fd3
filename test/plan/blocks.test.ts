// Blocks of convolutions: what the tuner measures them against, what it settles on, and that results stay.

import { afterAll, beforeAll, expect, it } from "vitest";
import { TimingCache } from "../../src/autotuner/cache.ts";
import { Builder, type BuildOptions } from "../../src/builder.ts";
import { deviationOf } from "../../src/cli/compare.ts";
import type { Device } from "../../src/gpu/device.ts";
import { realDevice } from "../gpu/open.ts";
import { model, type NodeSpec } from "../support/onnx-model.ts";
import { runOnnxRuntime } from "../support/onnxruntime.ts";
import { filled, generator } from "../support/random.ts";

let device: Device | undefined;
beforeAll(async () => {
  device = await realDevice();
});
afterAll(() => device?.destroy());

const next = generator(1);
const conv = (input: string, weights: string, output: string, attributes: NodeSpec["attributes"]): NodeSpec => ({
  op: "Conv",
  inputs: [input, weights],
  outputs: [output],
  name: output,
  ...(attributes ? { attributes } : {}),
});

/** x + project(depthwise(expand(x))), with Relu after the first two. */
const bytes = model({
  opset: 17,
  inputs: { x: { dtype: "f32", shape: [1, 4, 5, 6] } },
  outputs: ["y"],
  nodes: [
    conv("x", "w0", "expand", {}),
    { op: "Relu", inputs: ["expand"], outputs: ["a"], name: "relu0" },
    conv("a", "w1", "depthwise", { group: 8, pads: [1, 1, 1, 1] }),
    { op: "Relu", inputs: ["depthwise"], outputs: ["b"], name: "relu1" },
    conv("b", "w2", "project", {}),
    { op: "Add", inputs: ["project", "x"], outputs: ["y"], name: "residual" },
  ],
  initializers: {
    w0: filled("f32", [8, 4, 1, 1], next, -0.5, 0.5),
    w1: filled("f32", [8, 1, 3, 3], next, -0.5, 0.5),
    w2: filled("f32", [4, 8, 1, 1], next, -0.5, 0.5),
  },
});
const inputs = { x: filled("f32", [1, 4, 5, 6], generator(2), -1, 1) };

/** The tactics of an engine whose results are as they should be. */
async function tacticsOf(options: BuildOptions): Promise<string[]> {
  const engine = await new Builder(device!).build(bytes, options);
  const [outputs, expected] = [await engine.createExecutionContext().execute(inputs), await runOnnxRuntime(bytes, inputs)];
  const { ok, ...deviation } = deviationOf(outputs.y!, expected.y!);
  if (!ok) expect.fail(JSON.stringify(deviation));
  const tactics = engine.describe().kernels.map(({ tactic }) => tactic);
  engine.dispose();
  device!.check();
  return tactics;
}

const LONG = { timeout: 300_000 };

it("is one kernel where it must not be parted, three where it must not be formed", LONG, async ({ skip }) => {
  if (!device) return skip("no GPU adapter");
  expect(await tacticsOf({ optimizationLevel: 0, disable: ["part-block"] })).toEqual(["block.tiled"]);
  expect(await tacticsOf({ optimizationLevel: 0, disable: ["fuse-block"] })).toHaveLength(3);
});

it("is what was measured to be faster, and a second build measures nothing", LONG, async ({ skip }) => {
  if (!device) return skip("no GPU adapter");
  const timingCache = new TimingCache();
  const first = await tacticsOf({ optimizationLevel: 1, timingCache });
  const raced = timingCache.list().filter(([, { tactic }]) => tactic.startsWith("block."));
  expect(new Set(raced.map(([, { tactic }]) => tactic))).toEqual(new Set(["block.apart", "block.tiled"]));
  const [, best] = raced.reduce((a, b) => (b[1].ns < a[1].ns ? b : a));
  expect(first.length === 1).toBe(best.tactic === "block.tiled");
  const size = timingCache.size;
  expect(await tacticsOf({ optimizationLevel: 1, timingCache })).toEqual(first);
  expect(timingCache.size).toBe(size);
});
