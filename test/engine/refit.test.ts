// Refitting: the engine gives what the model with the new weights gives, and says which weights it cannot change.

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Builder } from "../../src/builder.ts";
import type { Device } from "../../src/gpu/device.ts";
import { numbersOf, type Tensor, tensor } from "../../src/ir/tensor.ts";
import { Runtime } from "../../src/runtime.ts";
import { realDevice, rejection } from "../gpu/open.ts";
import { model } from "../support/onnx-model.ts";
import { runOnnxRuntime } from "../support/onnxruntime.ts";
import { filled, generator } from "../support/random.ts";

let device: Device | undefined;
beforeAll(async () => {
  device = await realDevice();
});
afterAll(() => device?.destroy());

const next = generator(7);
const weightsOf = (): Record<string, Tensor> => ({
  w: filled("f32", [4, 3, 3, 3], next),
  scale: filled("f32", [4], next, 0.5, 2),
  bias: filled("f32", [4], next),
  mean: filled("f32", [4], next),
  variance: filled("f32", [4], next, 0.5, 2),
  fc: filled("f32", [4, 5], next),
});
/** A network in which everything could be folded: convolution, batch normalization, a transposed weight, a scale. */
const network = (weights: Record<string, Tensor>): Uint8Array =>
  model({
    opset: 17,
    inputs: { x: { dtype: "f32", shape: ["N", 3, 6, 6] } },
    outputs: ["y"],
    nodes: [
      { op: "Conv", inputs: ["x", "w"], outputs: ["c"], attributes: { pads: [1, 1, 1, 1] } },
      { op: "BatchNormalization", inputs: ["c", "scale", "bias", "mean", "variance"], outputs: ["b"] },
      { op: "Relu", inputs: ["b"], outputs: ["r"] },
      { op: "GlobalAveragePool", inputs: ["r"], outputs: ["g"] },
      { op: "Flatten", inputs: ["g"], outputs: ["f"] },
      { op: "MatMul", inputs: ["f", "fc"], outputs: ["m"] },
      { op: "Clip", inputs: ["m", "low", "high"], outputs: ["y"] },
    ],
    initializers: { ...weights, low: tensor("f32", [], [-3]), high: tensor("f32", [], [3]) },
  });

describe("Engine.refit", () => {
  it("gives what the model with the new weights gives, after loading too", async (task) => {
    if (!device) return task.skip("no GPU adapter");
    const [first, second] = [weightsOf(), weightsOf()];
    const x = filled("f32", [2, 3, 6, 6], next);
    const built = await new Builder(device).build(network(first), { optimizationLevel: 0, refit: true });
    expect(built.plan.inputs.map(({ name }) => name)).toEqual(["x"]);
    const file = built.serialize();
    const loaded = await new Runtime(device).deserialize(file);
    for (const engine of [built, loaded]) {
      const context = engine.createExecutionContext();
      const compare = async (weights: Record<string, Tensor>): Promise<void> => {
        const { y } = await context.execute({ x });
        const expected = (await runOnnxRuntime(network(weights), { x })).y!;
        numbersOf(expected).forEach((value, i) => expect(numbersOf(y!)[i]).toBeCloseTo(value, 4));
      };
      await compare(first);
      const { fc, w, ...norm } = second;
      await engine.refit({ w: w!, fc: fc! });
      await compare({ ...first, w: w!, fc: fc! });
      await engine.refit(norm);
      await compare(second);
    }
    expect(loaded.serialize()).toEqual(built.serialize());
    expect(loaded.serialize()).not.toEqual(file);
    const again = await new Builder(device).build(network(second), { optimizationLevel: 0, refit: true });
    expect(again.weights).toEqual(loaded.weights);
    for (const engine of [built, loaded, again]) engine.dispose();
    device.check();
  });

  it("refuses what does not fit and changes nothing then", async (task) => {
    if (!device) return task.skip("no GPU adapter");
    const weights = weightsOf();
    const engine = await new Builder(device).build(network(weights), { optimizationLevel: 0, refit: true });
    const before = engine.serialize();
    for (const [tensors, words] of [
      [{ w: weightsOf().w!, q: weights.w! }, 'K616 cannot-refit  weight "q": the engine has no such weight to refit'],
      [{ w: weightsOf().w!, low: tensor("f32", [], [0]) }, 'weight "low": the engine has no such weight'],
      [{ fc: filled("f32", [5, 4], next) }, "it is f32[4, 5], f32[5, 4] of 20 elements was given"],
      [{ fc: filled("i32", [4, 5], next) }, "it is f32[4, 5], i32[4, 5] of 20 elements was given"],
    ] as const) {
      const error = await rejection(engine.refit(tensors));
      expect(error.message).toContain(words);
      expect(error.why).toContain('it can refit "w"');
    }
    expect(engine.serialize()).toEqual(before);
    const folded = await new Builder(device).build(network(weights), { optimizationLevel: 0 });
    expect((await rejection(folded.refit({ w: weights.w! }))).hint).toContain("build it again with `refit: true`");
    engine.dispose();
    folded.dispose();
    device.check();
  });
});
