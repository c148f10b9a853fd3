// Engines as the builder makes them: written, loaded by the lean runtime, run with dynamic shapes, described.

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Builder } from "../../src/builder.ts";
import type { Device } from "../../src/gpu/device.ts";
import { type Tensor, tensor } from "../../src/ir/tensor.ts";
import { hostOperator } from "../../src/ops/host.ts";
import { Runtime } from "../../src/runtime.ts";
import { realDevice, rejection } from "../gpu/open.ts";
import { model } from "../support/onnx-model.ts";

let device: Device | undefined;
beforeAll(async () => {
  device = await realDevice();
});
afterAll(() => device?.destroy());

const wave = (shape: readonly number[]): Tensor =>
  tensor(
    "f32",
    shape,
    Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => Math.sin(i * 0.7)),
  );

const classifier = model({
  opset: 17,
  inputs: { x: { dtype: "f32", shape: ["batch size", 20] } },
  outputs: ["y"],
  nodes: [
    { op: "MatMul", inputs: ["x", "w"], outputs: ["m"], name: "/fc" },
    { op: "Relu", inputs: ["m"], outputs: ["r"], name: "/relu" },
    { op: "Softmax", inputs: ["r"], outputs: ["y"], name: "/softmax", attributes: { axis: -1 } },
  ],
  initializers: { w: wave([20, 7]) },
});
const profiles = [{ x: { min: [1, 20], opt: [4, 20], max: [64, 20] } }];

describe("what 32 bits cannot hold", () => {
  it("stays on the host at full width, constants and file included, and is said", async (task) => {
    if (!device) return task.skip("no GPU adapter");
    const doubles = (...values: number[]): Tensor => tensor("f64", [values.length], values);
    const bytes = model({
      opset: 17,
      inputs: { x: { dtype: "f64", shape: ["n"] }, id: { dtype: "i64", shape: [2] }, z: { dtype: "f32", shape: [1] } },
      outputs: ["y", "id", "sum"],
      nodes: [
        { op: "Mul", inputs: ["x", "c"], outputs: ["p"], name: "/scale" },
        { op: "Add", inputs: ["p", "x"], outputs: ["y"], name: "/shift" },
        { op: "Cast", inputs: ["x"], outputs: ["single"], name: "/cast", attributes: { to: 1 } },
        { op: "Add", inputs: ["single", "z"], outputs: ["sum"], name: "/sum" },
      ],
      initializers: { c: doubles(1e200) },
    });
    const built = await new Builder(device).build(bytes, { optimizationLevel: 0 });
    expect(built.plan.hostLayers.map(({ op }) => op)).toEqual(["Mul", "Add", "Cast"]);
    const loaded = await new Runtime(device, { hostOperators: hostOperator }).deserialize(built.serialize());
    const id: Tensor = { dtype: "i64", shape: [2], data: BigInt64Array.of(2n ** 62n, -1n) };
    for (const engine of [built, loaded]) {
      const x = doubles(1.5, -0.1, 2 ** -40);
      const outputs = await engine.createExecutionContext().execute({ x, id, z: tensor("f32", [1], [1]) });
      expect(outputs.y!.data).toEqual(Float64Array.of(1.5e200 + 1.5, -0.1 * 1e200 - 0.1, 2 ** -40 * 1e200 + 2 ** -40));
      expect(outputs.id).toEqual(id);
      expect(outputs.sum!.data).toEqual(Float32Array.of(2.5, 1 + Math.fround(-0.1), 1));
      engine.dispose();
    }
  });

  it("says where doubles within a model are computed as f32", async (task) => {
    if (!device) return task.skip("no GPU adapter");
    const bytes = model({
      opset: 17,
      inputs: { x: { dtype: "f32", shape: [2] } },
      outputs: ["y"],
      nodes: [
        { op: "Cast", inputs: ["x"], outputs: ["wide"], name: "/up", attributes: { to: 11 } },
        { op: "Exp", inputs: ["wide"], outputs: ["e"], name: "/exp" },
        { op: "Cast", inputs: ["e"], outputs: ["y"], name: "/down", attributes: { to: 1 } },
      ],
      initializers: {},
    });
    const engine = await new Builder(device).build(bytes, { optimizationLevel: 0, fusion: false });
    expect(engine.plan.notes).toEqual(["float64: computed as float32 in /up, /exp, /down"]);
    expect(engine.plan.hostLayers).toEqual([]);
    engine.dispose();
  });
});

describe("a built engine", () => {
  it("runs the same once it was written and loaded by the lean runtime", async (task) => {
    if (!device) return task.skip("no GPU adapter");
    const built = await new Builder(device).build(classifier, { optimizationLevel: 0, profiles });
    const loaded = await new Runtime(device).deserialize(built.serialize());
    const contexts = [built.createExecutionContext(), loaded.createExecutionContext()] as const;
    for (const n of [4, 64, 1]) {
      const [a, b] = await Promise.all(contexts.map((context) => context.execute({ x: wave([n, 20]) })));
      expect(a!.y).toEqual(b!.y);
      expect(a!.y!.shape).toEqual([n, 7]);
      const sums = Array.from({ length: n }, (_, row) =>
        (a!.y!.data as Float32Array).subarray(row * 7, row * 7 + 7).reduce((total, value) => total + value, 0),
      );
      for (const sum of sums) expect(sum).toBeCloseTo(1, 5);
    }
    const error = await rejection(contexts[1].execute({ x: wave([65, 20]) }));
    expect(error.message).toBe('K605 outside-profile  input "x" dimension 0: 65 is outside of [1, 64] of profile "profile 0"');
    built.dispose();
    loaded.dispose();
    device.check();
  });

  it("describes itself in numbers when a profile bounds its shapes", async (task) => {
    if (!device) return task.skip("no GPU adapter");
    const engine = await new Builder(device).build(classifier, { optimizationLevel: 0, profiles });
    const { kernels, memory, precision } = engine.describe();
    expect(precision).toBe("fp32");
    expect(new Set(kernels.flatMap(({ nodes }) => nodes))).toEqual(new Set(["/fc", "/relu", "/softmax"]));
    for (const { workgroups, wgsl, outputs } of kernels) {
      expect(workgroups.every((count) => typeof count === "number" && count > 0)).toBe(true);
      expect(wgsl).toContain("@compute");
      expect(outputs[0]!.shape[0]).toBe(64);
    }
    expect(memory.weights).toBeGreaterThanOrEqual(20 * 7 * 4);
    expect(memory.activations).toBeGreaterThanOrEqual(memory.activationsLowerBound as number);
    expect(memory.staging).toBe(64 * (20 + 7) * 4);
    expect(engine.deviceMemory()).toBe((memory.activations as number) + (memory.staging as number));
    engine.dispose();
  });

  it("with a host layer needs the operators that the lean runtime has not", async (task) => {
    if (!device) return task.skip("no GPU adapter");
    const nonZero = model({
      opset: 13,
      inputs: { x: { dtype: "f32", shape: ["N"] } },
      outputs: ["y"],
      nodes: [{ op: "NonZero", inputs: ["x"], outputs: ["y"], name: "/nz" }],
    });
    const built = await new Builder(device).build(nonZero, { optimizationLevel: 0 });
    const file = built.serialize();
    expect(built.describe().hostLayers).toMatchObject([{ node: "/nz", op: "NonZero" }]);
    expect((await rejection(new Runtime(device).deserialize(file))).code).toBe("K508");
    const loaded = await new Runtime(device, { hostOperators: hostOperator }).deserialize(file);
    const { y } = await loaded.createExecutionContext().execute({ x: tensor("f32", [5], [0, 2, 0, 0, -1]) });
    expect(y).toEqual(tensor("i64", [1, 2], [1, 4]));
    built.dispose();
    loaded.dispose();
    device.check();
  });
});
