// Kernels that do not wait for each other in one dispatch: what is brought together, what is not, and that results stay.

import { afterAll, beforeAll, expect, it } from "vitest";
import { Builder, type BuildOptions } from "../../src/builder.ts";
import { deviationOf } from "../../src/cli/compare.ts";
import type { Device } from "../../src/gpu/device.ts";
import { evaluateConstant } from "../../src/kernels/constants.ts";
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
const conv = (input: string, weights: string, output: string, pad: number): NodeSpec => ({
  op: "Conv",
  inputs: [input, weights],
  outputs: [output],
  name: output,
  attributes: { kernel_shape: [1 + 2 * pad, 1 + 2 * pad], pads: [pad, pad, pad, pad] },
});

const weights = { w3: filled("f32", [8, 8, 3, 3], next, -0.2, 0.2), w1: filled("f32", [5, 8, 1, 1], next, -0.5, 0.5) };

/** Two branches of x, and one that waits for the first of them. */
const branches = (batch: number | string): Uint8Array =>
  model({
    opset: 17,
    inputs: { x: { dtype: "f32", shape: [batch, 8, 9, 9] } },
    outputs: ["wide", "pool", "late"],
    nodes: [
      conv("x", "w3", "wide", 1),
      {
        op: "MaxPool",
        inputs: ["x"],
        outputs: ["pool"],
        name: "pool",
        attributes: { kernel_shape: [3, 3], pads: [1, 1, 1, 1] },
      },
      conv("wide", "w1", "late", 0),
    ],
    initializers: weights,
  });

/** The nodes of each kernel, once the results for these batches are as they should be. */
async function nodesOf(options: BuildOptions, batches: readonly number[] = [1]): Promise<string[][]> {
  const bytes = branches(batches.length === 1 ? 1 : "N");
  const engine = await new Builder(device!).build(bytes, { optimizationLevel: 0, ...options });
  const context = engine.createExecutionContext();
  for (const batch of batches) {
    const inputs = { x: filled("f32", [batch, 8, 9, 9], generator(2), -1, 1) };
    const [outputs, expected] = [await context.execute(inputs), await runOnnxRuntime(bytes, inputs)];
    for (const [name, reference] of Object.entries(expected)) {
      const { ok, ...deviation } = deviationOf(outputs[name]!, reference);
      if (!ok) expect.fail(`batch ${batch}, ${name}: ${JSON.stringify(deviation)}`);
    }
  }
  const nodes = engine.describe().kernels.map((kernel) => [...kernel.nodes]);
  engine.dispose();
  device!.check();
  return nodes;
}

it("branches of one value run in one dispatch, what waits for one of them does not", async ({ skip }) => {
  if (!device) return skip("no GPU adapter");
  expect(await nodesOf({})).toEqual([["wide", "pool"], ["late"]]);
});

it("sizes may be left to the run", async ({ skip }) => {
  if (!device) return skip("no GPU adapter");
  expect(await nodesOf({}, [3, 1, 5])).toEqual([["wide", "pool"], ["late"]]);
});

it("is switched off by name and by a limit of rewrites", async ({ skip }) => {
  if (!device) return skip("no GPU adapter");
  const apart = [["wide"], ["pool"], ["late"]];
  expect(await nodesOf({ disable: ["bundle-kernels"] })).toEqual(apart);
  expect(await nodesOf({ maxRewrites: 0 })).toEqual(apart);
});

it("reads the constants that size a workgroup", () => {
  const constants = new Map([
    ["TILE", "64u"],
    ["THREADS", "(TILE / 4u) * LANES + 2u"],
    ["LANES", "TILE / 16u - 1u"],
  ]);
  expect(evaluateConstant("THREADS", constants)).toBe(16 * 3 + 2);
  expect(evaluateConstant("128", constants)).toBe(128);
  for (const unknown of ["OTHER", "1.5", "(2", "min(1, 2)", ""])
    expect(evaluateConstant(unknown, constants), unknown).toBeNaN();
});
