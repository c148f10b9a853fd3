// Which layers stay in float for time's sake: by times made up for each kind of kernel, over programs that are real.

import { describe, expect, it } from "vitest";
import { costsOf, fastest, type Timed } from "../../src/autotuner/layers.ts";
import { type Quantized, quantize } from "../../src/calibrator/quantize.ts";
import { importModel } from "../../src/importer/import.ts";
import { type BlockTask, type KernelTask, type Program, settledTasks } from "../../src/ir/task.ts";
import { formBlocks } from "../../src/lowering/blocks.ts";
import { fuse } from "../../src/lowering/fuse.ts";
import { sumIntegers } from "../../src/lowering/integers.ts";
import { lowerGraph } from "../../src/lowering/lower.ts";
import { foldScales } from "../../src/lowering/scales.ts";
import { runPasses } from "../../src/passes/index.ts";
import { coreCaps } from "../../src/util/caps.ts";
import { model } from "../support/onnx-model.ts";
import { filled, generator } from "../support/random.ts";

const next = generator(4);
/**
 * Three products in a row. The first reads the network's input, which takes a kernel to quantize; so does what the third reads
 * where the second is in float, for its kernels do not make bytes.
 */
const network = model({
  opset: 13,
  inputs: { x: { dtype: "f32", shape: [1024, 64] } },
  outputs: ["y"],
  initializers: { u: filled("f32", [64, 8], next), v: filled("f32", [8, 64], next), w: filled("f32", [64, 64], next) },
  nodes: [
    { op: "MatMul", name: "one", inputs: ["x", "u"], outputs: ["a"] },
    { op: "Sigmoid", inputs: ["a"], outputs: ["b"] },
    { op: "MatMul", name: "two", inputs: ["b", "v"], outputs: ["c"] },
    { op: "Relu", inputs: ["c"], outputs: ["d"] },
    { op: "MatMul", name: "three", inputs: ["d", "w"], outputs: ["y"] },
  ],
});

const graph = runPasses(importModel(network));
const scale = "3c000000";
const cache = `Kiln-0-EntropyCalibration2\n${["x", "b", "d"].map((name) => `${name}: ${scale}`).join("\n")}\n`;
const noRunner = (): never => {
  throw new Error("a cache needs no runs");
};
const quantized = (): Promise<Quantized> => quantize(graph, { cache }, new Set(["x", "b", "d"]), noRunner);

const programOf = (form: ReturnType<Quantized["without"]>): Program =>
  foldScales(fuse(sumIntegers(lowerGraph(form.graph)), coreCaps, { enabled: true, take: () => true, disable: [] }));

/** Microseconds of products in 8 bits and in float, by layer, and of everything else. */
interface Prices {
  readonly bytes: Readonly<Record<string, number>>;
  readonly float: Readonly<Record<string, number>>;
  readonly rest: number;
}

function priced(task: KernelTask, { bytes, float, rest }: Prices): number {
  if (task.kind !== "gemm") return 1000 * rest;
  const layer = task.origins.find((name) => name in bytes)!;
  return 1000 * (task.acc.type === "i32" ? bytes : float)[layer]!;
}

/** The layers in 8 bits that the times lead to, and what is said of the others. */
async function chosen(prices: Prices): Promise<{ bytes: string[]; notes: readonly string[]; timed: number }> {
  const form = await quantized();
  let timed = 0;
  const best = await fastest(form, async (candidate): Promise<Timed> => {
    timed++;
    return { program: programOf(candidate), nsOf: (task) => priced(task, prices) };
  });
  const bytes = programOf(best).tasks.flatMap((task) =>
    task.kind === "gemm" && task.acc.type === "i32" ? task.origins.filter((name) => name in prices.bytes) : [],
  );
  return { bytes, notes: best.notes.slice(1), timed };
}

const all = (us: number): Record<string, number> => ({ one: us, two: us, three: us });

describe("layers by time", () => {
  it("are all in 8 bits where that is faster", async () => {
    expect(await chosen({ bytes: all(1), float: all(5), rest: 1 })).toEqual({
      bytes: ["one", "two", "three"],
      notes: [],
      timed: 2,
    });
  });

  it("stay in float where that is faster, each with both times", async () => {
    const { bytes, notes } = await chosen({
      bytes: { one: 1, two: 9, three: 1 },
      float: { one: 20, two: 4, three: 20 },
      rest: 0,
    });
    expect(bytes).toEqual(["one", "three"]);
    expect(notes).toEqual(['int8: "two" stays in float: 4.00 µs with what it reads, 9.00 µs in 8 bits']);
  });

  it("bear what it costs to convert what they read", async () => {
    const float = { one: 2.5, two: 4, three: 4 };
    const { bytes, notes } = await chosen({ bytes: all(2), float, rest: 3 });
    expect(bytes).toEqual(["two", "three"]);
    expect(notes).toEqual(['int8: "one" stays in float: 2.50 µs with what it reads, 5.00 µs in 8 bits']);
  });

  it("stay in 8 bits where the conversions behind them would cost more than they gain", async () => {
    const [bytes, float] = [
      { one: 2, two: 3, three: 2 },
      { one: 9, two: 2, three: 9 },
    ];
    expect(await chosen({ bytes, float, rest: 3 })).toEqual({ bytes: ["one", "two", "three"], notes: [], timed: 3 });
  });

  it("are all in float where single ones do not pay for their conversions", async () => {
    const float = { one: 1, two: 1, three: 8.5 };
    const { bytes, notes, timed } = await chosen({ bytes: { one: 2, two: 2, three: 8 }, float, rest: 5 });
    expect(bytes).toEqual([]);
    expect(timed).toBe(3);
    expect(notes).toContain(
      'int8: "three" stays in float: the network takes 10.5 µs in float, 15.0 µs with the faster layers in 8 bits',
    );
  });

  it("stay in 8 bits while a kernel has not been measured", async () => {
    const form = await quantized();
    const best = await fastest(form, async (candidate) => ({ program: programOf(candidate), nsOf: () => undefined }));
    expect(best).toBe(form.without([]));
  });
});

it("the times of a program add up, and so do its layers'", async () => {
  const form = await quantized();
  const program = programOf(form.without([]));
  const costs = costsOf({ program, nsOf: () => 7 }, form.layers)!;
  expect(costs.total).toBe(7 * program.tasks.length);
  expect([...costs.ofLayer.values()].reduce((sum, ns) => sum + ns, 0)).toBeCloseTo(costs.total);
});

describe("the times of a block", () => {
  const blocked = model({
    opset: 13,
    inputs: { x: { dtype: "f32", shape: [1, 8, 6, 6] } },
    outputs: ["y"],
    initializers: { v: filled("f32", [8, 1, 3, 3], next), w: filled("f32", [8, 8, 1, 1], next) },
    nodes: [
      { op: "Conv", name: "depthwise", inputs: ["x", "v"], outputs: ["a"], attributes: { group: 8, pads: [1, 1, 1, 1] } },
      { op: "Conv", name: "pointwise", inputs: ["a", "w"], outputs: ["y"] },
    ],
  });
  const { tasks, ...rest } = lowerGraph(runPasses(importModel(blocked)));
  const blocks = formBlocks(tasks, new Set(rest.outputs.map(({ value }) => value)), () => true);
  const [block] = blocks as [BlockTask];
  const ns = new Map<KernelTask, number>([[block, 4], ...block.parts.map((part, i) => [part, 5 + i] as const)]);
  const costs = (chosen: readonly KernelTask[]): Record<string, number> => {
    const program = { ...rest, tasks: settledTasks(blocks, new Set(chosen)) };
    const { total, ofLayer } = costsOf({ program, nsOf: (task) => ns.get(task) }, ["depthwise", "pointwise"])!;
    return { total, ...Object.fromEntries(ofLayer) };
  };

  it("are those of its kernel where it has one", () => {
    expect(costs([block, ...block.parts])).toEqual({ total: 4, depthwise: 2, pointwise: 2 });
  });

  it("are its parts' where they run apart", () => {
    expect(costs(block.parts)).toEqual({ total: 11, depthwise: 5, pointwise: 6 });
  });
});
