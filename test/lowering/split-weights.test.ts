// Constants larger than a binding: cut into parts that fit, and read as if they were whole.

import { expect, it } from "vitest";
import { importModel } from "../../src/importer/import.ts";
import { loadsOf } from "../../src/ir/expr.ts";
import { interpret } from "../../src/ir/interpret.ts";
import { bytesOf, storageOf } from "../../src/ir/storage.ts";
import { expressionsOf, isKernelTask } from "../../src/ir/task.ts";
import type { Tensor } from "../../src/ir/tensor.ts";
import type { Value } from "../../src/ir/value.ts";
import { lowerGraph } from "../../src/lowering/lower.ts";
import { splitWeights } from "../../src/lowering/split-weights.ts";
import { runPasses } from "../../src/passes/index.ts";
import { coreCaps } from "../../src/util/caps.ts";
import { model } from "../support/onnx-model.ts";
import { runOnnxRuntime } from "../support/onnxruntime.ts";
import { filled, generator } from "../support/random.ts";

const next = generator(7);
const table = filled("f32", [37, 6], next);
const wide = filled("f32", [6, 41], next);
const kernel = filled("f32", [10, 3, 3, 3], next);
const bytes = model({
  opset: 13,
  inputs: { id: { dtype: "i64", shape: [5] }, x: { dtype: "f32", shape: [1, 3, 6, 5] } },
  outputs: ["y", "z"],
  nodes: [
    { op: "Gather", inputs: ["table", "id"], outputs: ["rows"] },
    { op: "MatMul", inputs: ["rows", "wide"], outputs: ["y"] },
    { op: "Conv", inputs: ["x", "kernel"], outputs: ["z"] },
  ],
  initializers: { table, wide, kernel },
});
const inputs: Record<string, Tensor> = {
  id: { dtype: "i64", shape: [5], data: BigInt64Array.of(0n, 36n, 12n, 13n, 25n) },
  x: filled("f32", [1, 3, 6, 5], next),
};

it.each([700, 400, 260])("reads as a whole what lies in parts of at most %i bytes", async (limit) => {
  const caps = { ...coreCaps, limits: { ...coreCaps.limits, maxStorageBufferBindingSize: limit } };
  const program = lowerGraph(runPasses(importModel(bytes)));
  const tasks = splitWeights(program.tasks, caps);
  const read = new Set(tasks.filter(isKernelTask).flatMap((task) => loadsOf(expressionsOf(task)).map(({ value }) => value)));
  const sizes = [...read].flatMap((value) => (value.data ? [bytesOf(value, storageOf(value, caps)) as number] : []));
  expect(sizes.length).toBeGreaterThan(3);
  expect(Math.max(...sizes)).toBeLessThanOrEqual(limit);
  expect(sizes.reduce((sum, size) => sum + size)).toBe(4 * (37 * 6 + 6 * 41 + 10 * 27));
  const tensors = new Map<Value, Tensor>(program.inputs.map((value) => [value, inputs[value.name]!]));
  interpret(tasks, tensors, new Map(), () => []);
  const expected = await runOnnxRuntime(bytes, inputs);
  for (const { name, value } of program.outputs) {
    const actual = Array.from(tensors.get(value)!.data as Float32Array);
    Array.from(expected[name]!.data as Float32Array).forEach((y, i) => expect(actual[i]).toBeCloseTo(y, 4));
  }
});

it("leaves alone what fits, and kernels without a binding to spare", () => {
  const { tasks } = lowerGraph(runPasses(importModel(bytes)));
  expect(splitWeights(tasks, coreCaps)).toEqual(tasks);
  const limits = { ...coreCaps.limits, maxStorageBufferBindingSize: 260, maxStorageBuffersPerShaderStage: 3 };
  expect(splitWeights(tasks, { ...coreCaps, limits })).toEqual(tasks);
});
