// A residual network in 8 bits is bytes from its first kernel to its last: convolutions, pools, additions and concatenations
// read and write words of four, and nothing stands between them to convert.

import { expect, it } from "vitest";
import { Builder } from "../../src/builder.ts";
import { writeCache } from "../../src/calibrator/cache.ts";
import { findSites } from "../../src/calibrator/sites.ts";
import { importModel } from "../../src/importer/import.ts";
import { isKernelTask, type Program, readsOf } from "../../src/ir/task.ts";
import { numbersOf, type Tensor } from "../../src/ir/tensor.ts";
import { runPasses } from "../../src/passes/index.ts";
import { nullDevice, realDevice } from "../gpu/open.ts";
import { model, type NodeSpec } from "../support/onnx-model.ts";
import { runOnnxRuntime } from "../support/onnxruntime.ts";
import { filled, generator } from "../support/random.ts";

const next = generator(21);
const initializers: Record<string, Tensor> = {};
const weight = (shape: readonly number[]): string => {
  const name = `w${Object.keys(initializers).length}`;
  const fan = shape.slice(1).reduce((a, b) => a * b, 1);
  initializers[name] = filled("f32", [...shape], next, -1.7 / Math.sqrt(fan), 1.7 / Math.sqrt(fan));
  return name;
};
const conv = (x: string, y: string, ic: number, oc: number, kernel: number, stride = 1): NodeSpec => ({
  op: "Conv",
  name: y,
  inputs: [x, weight([oc, ic, kernel, kernel]), weight([oc])],
  outputs: [y],
  attributes: { strides: [stride, stride], pads: new Array<number>(4).fill(kernel >> 1) },
});
const relu = (x: string, y: string): NodeSpec => ({ op: "Relu", inputs: [x], outputs: [y] });

/** A stem and its pool, a block that goes down with a side branch, a block with none, two branches side by side, a classifier. */
const nodes: readonly NodeSpec[] = [
  conv("x", "stem", 3, 8, 7, 2),
  relu("stem", "s"),
  { op: "MaxPool", inputs: ["s"], outputs: ["p"], attributes: { kernel_shape: [3, 3], strides: [2, 2], pads: [1, 1, 1, 1] } },
  conv("p", "narrow", 8, 8, 1),
  relu("narrow", "n"),
  conv("n", "middle", 8, 8, 3, 2),
  relu("middle", "m"),
  conv("m", "wide", 8, 16, 1),
  conv("p", "side", 8, 16, 1, 2),
  { op: "Add", inputs: ["wide", "side"], outputs: ["sum"] },
  relu("sum", "a"),
  conv("a", "again", 16, 16, 3),
  { op: "Add", inputs: ["again", "a"], outputs: ["sum2"] },
  relu("sum2", "b"),
  conv("b", "left", 16, 8, 1),
  relu("left", "l"),
  conv("b", "right", 16, 12, 1),
  relu("right", "r"),
  { op: "Concat", inputs: ["l", "r"], outputs: ["c"], attributes: { axis: 1 } },
  conv("c", "last", 20, 16, 1),
  relu("last", "z"),
  { op: "GlobalAveragePool", inputs: ["z"], outputs: ["g"] },
  { op: "Flatten", inputs: ["g"], outputs: ["f"] },
  { op: "Gemm", name: "classes", inputs: ["f", weight([10, 16]), weight([10])], outputs: ["y"], attributes: { transB: 1 } },
];
const onnx = model({ opset: 13, inputs: { x: { dtype: "f32", shape: [1, 3, 32, 32] } }, outputs: ["y"], initializers, nodes });

/** Scales that suit values of about 1. */
const scales = new Map(
  findSites(runPasses(importModel(onnx))).groups.flatMap(({ values }) => values.map(({ name }) => [name, 0.03])),
);
const int8 = { cache: writeCache({ algorithm: "EntropyCalibration2", scales }) };

it("all kernels but the first and the last read and write bytes in words", async () => {
  const device = await nullDevice();
  let program: Program | undefined;
  await new Builder(device).buildFor(device, onnx, {
    int8,
    optimizationLevel: 0,
    onStage: (stage, form) => {
      if (stage === "fuse") program = form as Program;
    },
  });
  device.destroy();
  const tasks = program!.tasks.filter(isKernelTask);
  expect(tasks).toHaveLength(program!.tasks.length);
  // The image's quantization; nine convolutions, two of them as one, the additions and the concatenation in them; two pools; a product.
  expect(tasks.map(({ kind }) => kind).sort()).toEqual([...new Array(8).fill("conv"), "gemm", "map", "reduce", "reduce"]);
  // A pixel of three channels is a word.
  expect(tasks[0]!.stores[0]!.value.shape).toEqual([1, 4, 32, 32]);
  for (const each of tasks) if (each.kind === "conv" || each.kind === "gemm") expect(each.acc.type, each.name).toBe("i32");
  for (const each of tasks.slice(0, -1))
    for (const { value } of each.stores) expect([value.dtype, value.wide ?? false], each.name).toEqual(["i8", false]);
  for (const each of tasks.slice(1))
    for (const value of readsOf(each)) if (!value.data) expect(value.dtype, each.name).toBe("i8");
});

it("gives what ONNX Runtime gives, in f16 too, which leaves scales as they are", { timeout: 240_000 }, async (task) => {
  const device = await realDevice();
  if (!device) return task.skip("no GPU adapter");
  const builder = new Builder(device);
  const given = { x: filled("f32", [1, 3, 32, 32], next, -1, 1) };
  const run = async (fp16: boolean): Promise<number[]> => {
    const engine = await builder.build(onnx, { int8, fp16, optimizationLevel: 0 });
    const { y } = await engine.createExecutionContext().execute(given);
    engine.dispose();
    return numbersOf(y!);
  };
  const expected = numbersOf((await runOnnxRuntime(await builder.quantize(onnx, { int8 }), given)).y!);
  const [single, half] = [await run(false), await run(true)];
  device.destroy();
  // Sums that fall between two bytes may be rounded to either.
  const size = Math.max(...expected.map(Math.abs));
  for (const [i, value] of expected.entries()) expect(Math.abs(single[i]! - value)).toBeLessThan(0.02 * size);
  expect(half).toEqual(single);
});
