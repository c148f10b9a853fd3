// Building with 8-bit integers from start to end: which layers, by which scales, and which stay in float when accuracy asks
// for it; the engine and the exported model say the same.

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Builder } from "../../src/builder.ts";
import type { Sample } from "../../src/calibrator/collect.ts";
import type { Int8Options, Int8Report } from "../../src/calibrator/quantize.ts";
import { CALIBRATORS } from "../../src/calibrator/thresholds.ts";
import type { Device } from "../../src/gpu/device.ts";
import { numbersOf, type Tensor, tensor } from "../../src/ir/tensor.ts";
import { realDevice, rejection } from "../gpu/open.ts";
import { runInterpreted } from "../support/interpret-model.ts";
import { model } from "../support/onnx-model.ts";
import { runOnnxRuntime } from "../support/onnxruntime.ts";
import { filled, generator } from "../support/random.ts";
import { normals } from "./histograms.ts";

let device: Device | undefined;
beforeAll(async () => {
  device = await realDevice({ portable: true });
});
afterAll(() => device?.destroy());

const onDevice = (name: string, body: (builder: Builder) => Promise<void>): void =>
  it(name, async (task) => {
    if (!device) return task.skip("no GPU adapter");
    await body(new Builder(device));
    device.check();
  });

const weights = (seed: number): Tensor => {
  const normal = normals(seed);
  return tensor(
    "f32",
    [6, 6],
    Array.from({ length: 36 }, () => 0.4 * normal()),
  );
};

/** Three layers in a row; what the second reads has one channel 1000 times the others, which 8 bits cannot tell apart then. */
const network = model({
  opset: 13,
  inputs: { x: { dtype: "f32", shape: ["N", 6] }, up: { dtype: "f32", shape: [6] } },
  outputs: ["y"],
  initializers: {
    w1: weights(1),
    w2: tensor(
      "f32",
      [6, 6],
      numbersOf(weights(2)).map((value, i) => (i >= 30 ? value / 1000 : value)),
    ),
    w3: weights(3),
  },
  nodes: [
    { op: "MatMul", name: "one", inputs: ["x", "w1"], outputs: ["a"] },
    { op: "Sigmoid", inputs: ["a"], outputs: ["s"] },
    { op: "Mul", inputs: ["s", "up"], outputs: ["b"] },
    { op: "MatMul", name: "two", inputs: ["b", "w2"], outputs: ["c"] },
    { op: "Sigmoid", inputs: ["c"], outputs: ["d"] },
    { op: "MatMul", name: "three", inputs: ["d", "w3"], outputs: ["y"] },
  ],
});

const sample = (seed: number): { x: Tensor; up: Tensor } => ({
  x: filled("f32", [8, 6], generator(seed), -2, 2),
  up: tensor("f32", [6], [1, 1, 1, 1, 1, 1000]),
});
const samples = (count: number): Sample[] => Array.from({ length: count }, (_, seed) => sample(seed));

async function build(
  builder: Builder,
  options: Partial<Int8Options>,
): Promise<{ report: Int8Report; notes: readonly string[]; error: number }> {
  let report: Int8Report | undefined;
  const engine = await builder.build(network, {
    optimizationLevel: 0,
    int8: {
      calibration: samples(12),
      onReport: (made) => {
        report = made;
      },
      ...options,
    },
  });
  const given = sample(99);
  const [actual, expected] = [(await engine.createExecutionContext().execute(given)).y!, runInterpreted(network, given).y!].map(
    numbersOf,
  ) as [number[], number[]];
  const notes = engine.plan.notes;
  engine.dispose();
  const square = (values: readonly number[]): number => values.reduce((sum, value) => sum + value * value, 0);
  return {
    report: report!,
    notes,
    error: Math.sqrt(square(actual.map((value, i) => value - expected[i]!)) / square(expected)),
  };
}

describe("which layers", () => {
  onDevice("all of them unless asked otherwise, and the report says by what", async (builder) => {
    const { report, notes } = await build(builder, {});
    expect(report.layers).toEqual(["one", "two", "three"]);
    expect(report).toMatchObject({ calibrator: "entropy", samples: 12, kept: [] });
    expect(report.cache.split("\n")).toHaveLength(5);
    expect(notes[0]).toBe("int8: 3 layers (entropy, 12 samples)");
  });

  onDevice("those named, first and last stay in float", async (builder) => {
    const named = await build(builder, { keep: ["two"] });
    expect(named.report.layers).toEqual(["one", "three"]);
    expect(named.report.kept).toEqual([{ layer: "two", why: "as was asked" }]);
    expect((await build(builder, { firstLayers: false, lastLayers: false })).report.layers).toEqual(["two"]);
  });

  onDevice("sensitivity ranks the layer that 8 bits harm first, and keepWorst leaves it in float", async (builder) => {
    const { report, notes, error } = await build(builder, { calibrator: "minmax", keepWorst: 1 });
    expect(report.sensitivity![0]!.layer).toBe("two");
    expect(report.sensitivity![0]!.error).toBeGreaterThan(3 * report.sensitivity![1]!.error);
    expect(report.layers).toEqual(["one", "three"]);
    expect(notes.some((note) => /"two" stays in float: it contributes .*, number 1 of 3/.test(note))).toBe(true);
    const everything = await build(builder, { calibrator: "minmax", sensitivity: true });
    expect(everything.report.layers).toHaveLength(3);
    expect(error).toBeLessThan(everything.error / 2);
    // What was measured with switches is what the engines then give.
    expect(report.error! / error).toBeGreaterThan(0.3);
    expect(report.error! / error).toBeLessThan(3);
  });

  onDevice("an error bound leaves as many in float as it takes", async (builder) => {
    const kept = async (maxError: number): Promise<number> =>
      (await build(builder, { calibrator: "minmax", maxError })).report.kept.length;
    expect([await kept(1), await kept(0.03), await kept(0)]).toEqual([0, 1, 3]);
  });

  onDevice("a network with none says so", async (builder) => {
    const plain = model({
      opset: 13,
      inputs: { x: { dtype: "f32", shape: [3] } },
      outputs: ["y"],
      nodes: [{ op: "Exp", inputs: ["x"], outputs: ["y"] }],
    });
    const engine = await builder.build(plain, { optimizationLevel: 0, int8: { calibration: [] } });
    expect(engine.plan.notes).toContain("int8: no layer of this network can be of integers");
    engine.dispose();
  });
});

describe("by which scales", () => {
  onDevice("auto takes the calibrator of least error, and the report has all of them", async (builder) => {
    const { report } = await build(builder, { calibrator: "auto" });
    const errors = CALIBRATORS.map(({ name }) =>
      Number(
        report.notes
          .find((note) => note.startsWith(`${name}: relative RMS error`))!
          .split(" ")
          .at(-1),
      ),
    );
    expect(errors[CALIBRATORS.findIndex(({ name }) => name === report.calibrator)]).toBe(Math.min(...errors));
    expect(report.cache).toMatch(/^Kiln-[\d.]+-AutoCalibration\n/);
  });

  onDevice("a cache gives what calibrating gave, without data", async (builder) => {
    const first = await build(builder, { calibrator: "mse" });
    const second = await builder.build(network, { optimizationLevel: 0, int8: { cache: first.report.cache } });
    expect(second.plan.notes[0]).toBe("int8: 3 layers (scales of a calibration cache)");
    second.dispose();
    expect((await build(builder, { cache: first.report.cache })).error).toBe(first.error);
  });

  onDevice("neither data nor a cache is refused, so is a bound that nothing can be measured on", async (builder) => {
    expect((await rejection(builder.build(network, { int8: {} }))).code).toBe("K702");
    const { report } = await build(builder, {});
    expect((await rejection(builder.build(network, { int8: { cache: report.cache, maxError: 0.1 } }))).code).toBe("K702");
    expect((await rejection(builder.build(network, { int8: { calibration: samples(1), calibrator: "best" } }))).code).toBe(
      "K707",
    );
  });
});

onDevice("the exported model gives what the engine gives, in ONNX Runtime too", async (builder) => {
  const bytes = await builder.quantize(network, { int8: { calibration: samples(12) } });
  const engine = await builder.build(bytes, { optimizationLevel: 0 });
  const given = sample(99);
  const [mine, theirs] = [
    (await engine.createExecutionContext().execute(given)).y!,
    (await runOnnxRuntime(bytes, given)).y!,
  ].map(numbersOf) as [number[], number[]];
  const size = Math.max(...theirs.map(Math.abs));
  mine.forEach((value, i) => expect(Math.abs(value - theirs[i]!)).toBeLessThan(0.02 * size));
  engine.dispose();
});
