// Several profiles in one engine, and shapes that a network cannot have: beside ONNX Runtime, which must refuse them too.

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Builder } from "../../src/builder.ts";
import type { Device } from "../../src/gpu/device.ts";
import { type Tensor, tensor } from "../../src/ir/tensor.ts";
import { Runtime } from "../../src/runtime.ts";
import { realDevice, rejection } from "../gpu/open.ts";
import { model, type NodeSpec } from "../support/onnx-model.ts";
import { runOnnxRuntime } from "../support/onnxruntime.ts";

let device: Device | undefined;
beforeAll(async () => {
  device = await realDevice();
});
afterAll(() => device?.destroy());

const wave = (...shape: number[]): Tensor =>
  tensor(
    "f32",
    shape,
    Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => Math.sin(i * 0.7)),
  );

const classifier = model({
  opset: 17,
  inputs: { x: { dtype: "f32", shape: ["N", 20] } },
  outputs: ["y"],
  nodes: [
    { op: "MatMul", inputs: ["x", "w"], outputs: ["m"] },
    { op: "Softmax", inputs: ["m"], outputs: ["s"], attributes: { axis: -1 } },
    { op: "MatMul", inputs: ["s", "v"], outputs: ["y"] },
  ],
  initializers: { w: wave(20, 64), v: wave(64, 7) },
});
const range = (min: number, opt: number, max: number) => ({ x: { min: [min, 20], opt: [opt, 20], max: [max, 20] } });

describe("an engine of several profiles", () => {
  it("runs what any of them holds, written and loaded too, as ONNX Runtime does", async ({ skip }) => {
    if (!device) return skip("no GPU adapter");
    const built = await new Builder(device).build(classifier, {
      optimizationLevel: 0,
      profiles: [range(1, 1, 4), range(8, 64, 64)],
    });
    const loaded = await new Runtime(device).deserialize(built.serialize());
    expect(loaded.plan).toEqual(built.plan);
    const context = loaded.createExecutionContext();
    // Back and forth, so that memory grows while what was bound to it is still known.
    for (const n of [2, 64, 4, 8, 1, 33, 2]) {
      const x = wave(n, 20);
      const [actual, expected] = [await context.execute({ x }), await runOnnxRuntime(classifier, { x })];
      const values = expected.y!.data as Float32Array;
      (actual.y!.data as Float32Array).forEach((value, i) => expect(value).toBeCloseTo(values[i]!, 4));
    }
    for (const n of [0, 5, 7, 65]) expect((await rejection(context.execute({ x: wave(n, 20) }))).code).toBe("K605");
    // One memory for both, and parameters of each shape.
    expect(context.deviceMemory).toBeLessThan(built.deviceMemory(1) + built.deviceMemory(0));
    expect(built.deviceMemory(0)).toBeLessThan(built.deviceMemory(1));
    expect(built.activationMemory(1).length).toBe(built.plan.profiles[1]!.schedule!.slots.length);
    for (const engine of [built, loaded]) engine.dispose();
    device.check();
  });

  it("keeps to the one that was set", async ({ skip }) => {
    if (!device) return skip("no GPU adapter");
    const engine = await new Builder(device).build(classifier, {
      optimizationLevel: 0,
      profiles: [range(1, 1, 64), range(8, 64, 64)],
    });
    const context = engine.createExecutionContext();
    const [y] = [(await context.execute({ x: wave(32, 20) })).y];
    context.setOptimizationProfile(1);
    expect(await context.execute({ x: wave(32, 20) })).toEqual({ y });
    const narrow = 'K605 outside-profile  input "x" dimension 0: 4 is outside of [8, 64] of profile "profile 1"';
    expect((await rejection(context.execute({ x: wave(4, 20) }))).message).toBe(narrow);
    expect(() => context.setInputShape("x", [4, 20])).toThrow(narrow);
    context.setOptimizationProfile(0);
    context.setInputShape("x", [4, 20]);
    expect(context.inferShapes()).toEqual({ missing: [], outputs: { y: [4, 7] } });
    expect((await context.execute({ x: wave(4, 20) })).y!.shape).toEqual([4, 7]);
    expect(() => context.setOptimizationProfile(2)).toThrow("K612 bad-profile  profile 2: the engine has 2, counted from 0");
    engine.dispose();
    device.check();
  });

  it("refuses another size where the profiles leave one, and says whose it is", async ({ skip }) => {
    if (!device) return skip("no GPU adapter");
    const engine = await new Builder(device).build(classifier, { optimizationLevel: 0, profiles: [{ x: { opt: [3, 20] } }] });
    expect(engine.plan.notes).toEqual(['profile 0 gives input "x" no min and no max: it takes min [3, 20], max [3, 20]']);
    const context = (await new Runtime(device).deserialize(engine.serialize())).createExecutionContext();
    const said = 'K605 outside-profile  input "x" dimension 0: 4 is outside of [3, 3] of profile "profile 0"';
    expect((await rejection(context.execute({ x: wave(4, 20) }))).message).toBe(said);
    expect(() => context.setInputShape("x", [4, 20])).toThrow(said);
    expect((await rejection(context.execute({ x: wave(3, 21) }))).message).toContain("K604");
    expect((await context.execute({ x: wave(3, 20).data })).y!.shape).toEqual([3, 7]);
    engine.dispose();
  });
});

describe("shapes that do not fit together", () => {
  const dim = (shape: readonly (number | string)[]) => ({ dtype: "f32" as const, shape });
  const ints = (...values: number[]): Tensor => ({
    dtype: "i64",
    shape: [values.length],
    data: BigInt64Array.from(values, BigInt),
  });
  /** Half the size, then twice that: an odd size does not come back. */
  const halved: NodeSpec[] = [
    { op: "MaxPool", inputs: ["x"], outputs: ["half"], attributes: { kernel_shape: [2, 2], strides: [2, 2] } },
    { op: "Resize", inputs: ["half", "", "scales"], outputs: ["twice"], attributes: { mode: "nearest" } },
  ];
  const scales = tensor("f32", [4], [1, 1, 2, 2]);

  it.for<[string, NodeSpec[], Record<string, Tensor>, string]>([
    [
      "an addition",
      [...halved, { op: "Add", inputs: ["x", "twice"], outputs: ["y"], name: "/skip" }],
      { scales },
      'K618 inconsistent-sizes  Add "/skip": [1, 1, 7, 8] and [1, 1, 6, 8] do not broadcast: 7 against 6',
    ],
    [
      "a concatenation",
      [...halved, { op: "Concat", inputs: ["twice", "x"], outputs: ["y"], name: "/cat", attributes: { axis: 1 } }],
      { scales },
      'K618 inconsistent-sizes  Concat "/cat": [1, 1, 6, 8] and [1, 1, 7, 8] do not concatenate: 7 against 6',
    ],
    [
      "a reshape",
      [{ op: "Reshape", inputs: ["x", "s"], outputs: ["y"], name: "/r" }],
      { s: ints(-1, 16) },
      'K618 inconsistent-sizes  Reshape "/r": [1, 1, 7, 8] and [3, 16] do not hold as many elements: 56 against 48',
    ],
    [
      "a product",
      [
        { op: "Transpose", inputs: ["half"], outputs: ["t"], attributes: { perm: [0, 1, 3, 2] } },
        ...halved,
        { op: "MatMul", inputs: ["t", "x"], outputs: ["y"], name: "/mul" },
      ],
      { scales },
      "K618 inconsistent-sizes  MatMul",
    ],
  ])("%s", async ([, nodes, initializers, words], { skip }) => {
    if (!device) return skip("no GPU adapter");
    const onnx = model({ opset: 17, inputs: { x: dim([1, 1, "H", "W"]) }, outputs: ["y"], nodes, initializers });
    const engine = await new Builder(device).build(onnx, { optimizationLevel: 0 });
    const context = engine.createExecutionContext();
    const error = await rejection(context.execute({ x: wave(1, 1, 7, 8) }));
    expect(error.message).toContain(words);
    expect(error.hint).toBeTruthy();
    context.setInputShape("x", [1, 1, 7, 8]);
    expect(() => context.inferShapes()).toThrow(words);
    await expect(runOnnxRuntime(onnx, { x: wave(1, 1, 7, 8) })).rejects.toThrow();
    engine.dispose();
  });
});
