// Integer execution of quantized products: what is quantized sums integers and is rounded once, bit for bit as plain integer
// arithmetic gives it, whichever tactic runs it.

import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Candidate } from "../../src/autotuner/candidates.ts";
import { candidatesOf } from "../../src/autotuner/candidates.ts";
import { Engine } from "../../src/engine/engine.ts";
import type { Device } from "../../src/gpu/device.ts";
import { importModel } from "../../src/importer/import.ts";
import { roundEven } from "../../src/ir/interpret.ts";
import { isKernelTask, type KernelTask, type Program } from "../../src/ir/task.ts";
import { numbersOf, scalarTensor, type Tensor, tensor } from "../../src/ir/tensor.ts";
import type { DType } from "../../src/ir/types.ts";
import { fuse } from "../../src/lowering/fuse.ts";
import { sumIntegers } from "../../src/lowering/integers.ts";
import { chooseLayouts } from "../../src/lowering/layout.ts";
import { lowerGraph } from "../../src/lowering/lower.ts";
import { foldScales } from "../../src/lowering/scales.ts";
import { decideStorage } from "../../src/lowering/storage.ts";
import { runPasses } from "../../src/passes/index.ts";
import { makePlan } from "../../src/plan/plan.ts";
import { realDevice } from "../gpu/open.ts";
import { model, type NodeSpec } from "../support/onnx-model.ts";
import { filled, generator } from "../support/random.ts";

let device: Device | undefined;
/** The same with all that it offers, where it multiplies subgroup matrices of bytes. */
let tensorDevice: Device | undefined;
beforeAll(async () => {
  device = await realDevice({ portable: true });
  const whole = await realDevice();
  if (whole?.caps.matrix.some(({ component }) => component === "i8")) tensorDevice = whole;
  else whole?.destroy();
});
afterAll(() => {
  device?.destroy();
  tensorDevice?.destroy();
});

interface Network {
  readonly inputs: Readonly<Record<string, Tensor>>;
  readonly constants: Readonly<Record<string, Tensor>>;
  readonly nodes: readonly NodeSpec[];
}

function programOf({ inputs, constants, nodes }: Network, { caps }: Device): Program {
  const onnx = model({
    opset: 13,
    nodes,
    outputs: ["y"],
    initializers: constants,
    inputs: Object.fromEntries(Object.entries(inputs).map(([name, { dtype, shape }]) => [name, { dtype, shape }])),
  });
  const lowered = sumIntegers(lowerGraph(runPasses(importModel(onnx))));
  const program = foldScales(fuse(lowered, caps, { enabled: true, take: () => true, disable: [] }));
  chooseLayouts(program);
  decideStorage(program.tasks);
  return program;
}

/**
 * The output by each tactic that can run the network's first product; of dot4 both with and without the device's instruction,
 * of subgroup matrices by every configuration.
 */
async function resultsOf(network: Network, device: Device, only = /./): Promise<{ tactic: string; values: number[] }[]> {
  const program = programOf(network, device);
  const tasks = program.tasks.filter(isKernelTask);
  expect(tasks.length).toBe(program.tasks.length);
  const withDot4 = { caps: { ...device.caps, dot4: true } };
  const product = tasks.find(({ kind }) => kind === "conv" || kind === "gemm")!;
  expect((product as { acc: { type: string } }).acc.type).toBe("i32");
  // Of each tactic the candidate with the shortest text: a software driver compiles for seconds.
  const size = ({ kernel }: Candidate): number => kernel.steps.reduce((sum, { wgsl }) => sum + wgsl.length, 0);
  const shortest = new Map<string, Candidate>();
  for (const [device_, word] of [
    [device, ""],
    [withDot4, " in hardware"],
  ] as const)
    for (const candidate of candidatesOf(product, device_)) {
      const { tactic, config } = candidate;
      if (!only.test(tactic)) continue;
      const more = tactic.includes("dot4") ? word : tactic.includes("matrix") ? ` ${JSON.stringify(config)}` : "";
      const name = `${tactic}${more}`;
      const best = shortest.get(name);
      if (!best || size(candidate) < size(best)) shortest.set(name, candidate);
    }
  const results = [];
  for (const [tactic, candidate] of shortest) {
    const choices = new Map<KernelTask, Candidate>(
      tasks.map((task) => [task, task === product ? candidate : [...candidatesOf(task, device)][0]!]),
    );
    const { plan, weights } = makePlan(program, [choices], { caps: device.caps, profiles: [], notes: [] });
    const engine = await Engine.load(device, plan, weights, () => undefined);
    const { y } = await engine.createExecutionContext().execute(network.inputs);
    results.push({ tactic, values: numbersOf(y!) });
    engine.dispose();
  }
  device.check();
  return results;
}

function exact(name: string, make: () => { network: Network; expected: readonly number[] }): void {
  it(name, async (task) => {
    if (!device) return task.skip("no GPU adapter");
    const { network, expected } = make();
    const results = await resultsOf(network, device);
    expect(results.length).toBeGreaterThan(1);
    if (tensorDevice) results.push(...(await resultsOf(network, tensorDevice, /matrix-bytes/)));
    for (const { tactic, values } of results) expect(values, tactic).toEqual(expected);
  });
}

const clamp = (value: number, dtype: DType): number =>
  dtype === "u8" ? Math.min(255, Math.max(0, value)) : Math.min(127, Math.max(-128, value));
const vector = (dtype: DType, values: readonly number[]): Tensor => tensor(dtype, [values.length], values);
const scalar = (value: number): Tensor => scalarTensor("f32", value);

interface ConvCase {
  readonly type: "i8" | "u8";
  readonly zero: number;
  readonly outZero: number;
  readonly groups: number;
  readonly stride: number;
  readonly dilation: number;
  readonly pad: number;
  readonly kernel: number;
  readonly channels: readonly [number, number];
  readonly bias: boolean;
  readonly relu: boolean;
  /** Quantizes a float input, and ends with a pool: what the convolution reads and writes are values of the network's own. */
  readonly inside: boolean;
  /** Adds bytes of another scale before it rounds. */
  readonly residual: boolean;
  readonly seed: number;
}

/** DequantizeLinear of x and w → Conv → Add → Relu → QuantizeLinear, and what integers make of it. */
function convNetwork({
  type,
  zero,
  outZero,
  groups,
  stride,
  dilation,
  pad,
  kernel,
  channels: [ic, oc],
  bias,
  relu,
  inside,
  residual,
  seed,
}: ConvCase): { network: Network; expected: number[] } {
  const next = generator(seed);
  const size = 9;
  const perGroup = ic / groups;
  const [low, high] = type === "u8" ? [0, 255] : [-128, 127];
  const x = filled(type, [2, ic, size, size], next, low, high);
  const w = filled("i8", [oc, perGroup, kernel, kernel], next, -127, 127);
  const b = filled("i32", [oc], next, -4000, 4000);
  const [sx, sy, sd] = [Math.fround(0.0371), Math.fround(0.91), Math.fround(0.53)];
  const sw = Array.from({ length: oc }, () => Math.fround(0.001 + 0.01 * next()));
  const unit = sw.map((scale) => Math.fround(sx * scale));
  const out = Math.floor((size + 2 * pad - ((kernel - 1) * dilation + 1)) / stride) + 1;
  const d = residual ? filled(type, [2, oc, out, out], next, low, high) : undefined;
  const network: Network = {
    inputs: inside
      ? {
          xr: tensor(
            "f32",
            x.shape,
            numbersOf(x).map((value) => sx * (value - zero)),
          ),
        }
      : { x, ...(d ? { d } : {}) },
    constants: {
      sx: scalar(sx),
      zx: scalarTensor(type, zero),
      sd: scalar(sd),
      sy: scalar(sy),
      zy: scalarTensor(type, outZero),
      w,
      sw: vector("f32", sw),
      zw: vector(
        "i8",
        sw.map(() => 0),
      ),
      ...(bias
        ? {
            b,
            sb: vector("f32", unit),
            zb: vector(
              "i32",
              sw.map(() => 0),
            ),
          }
        : {}),
    },
    nodes: [
      ...(inside ? [{ op: "QuantizeLinear", inputs: ["xr", "sx", "zx"], outputs: ["x"] }] : []),
      { op: "DequantizeLinear", inputs: ["x", "sx", "zx"], outputs: ["xf"] },
      { op: "DequantizeLinear", inputs: ["w", "sw", "zw"], outputs: ["wf"], attributes: { axis: 0 } },
      ...(bias ? [{ op: "DequantizeLinear", inputs: ["b", "sb", "zb"], outputs: ["bf"], attributes: { axis: 0 } }] : []),
      {
        op: "Conv",
        inputs: ["xf", "wf", ...(bias ? ["bf"] : [])],
        outputs: ["c"],
        attributes: { group: groups, strides: [stride, stride], dilations: [dilation, dilation], pads: [pad, pad, pad, pad] },
      },
      ...(d
        ? [
            { op: "DequantizeLinear", inputs: ["d", "sd", "zx"], outputs: ["df"] },
            { op: "Add", inputs: ["c", "df"], outputs: ["s"] },
          ]
        : []),
      ...(relu ? [{ op: "Relu", inputs: [d ? "s" : "c"], outputs: ["r"] }] : []),
      { op: "QuantizeLinear", inputs: [relu ? "r" : d ? "s" : "c", "sy", "zy"], outputs: [inside ? "q" : "y"] },
      ...(inside ? [{ op: "MaxPool", inputs: ["q"], outputs: ["y"], attributes: { kernel_shape: [2, 2] } }] : []),
    ],
  };
  const [xs, ws, bs] = [x, w, b].map(numbersOf) as [number[], number[], number[]];
  const ds = d ? numbersOf(d) : undefined;
  const expected: number[] = [];
  for (let n = 0; n < 2; n++)
    for (let o = 0; o < oc; o++)
      for (let i = 0; i < out; i++)
        for (let j = 0; j < out; j++) {
          let sum = bias ? bs[o]! : 0;
          for (let c = 0; c < perGroup; c++)
            for (let p = 0; p < kernel; p++)
              for (let q = 0; q < kernel; q++) {
                const [row, column] = [i * stride + p * dilation - pad, j * stride + q * dilation - pad];
                if (row < 0 || column < 0 || row >= size || column >= size) continue;
                const channel = Math.floor(o / (oc / groups)) * perGroup + c;
                sum +=
                  (xs[((n * ic + channel) * size + row) * size + column]! - zero) *
                  ws[((o * perGroup + c) * kernel + p) * kernel + q]!;
              }
          const product = Math.fround(Math.fround(sum) * Math.fround(unit[o]! / sy));
          const added = ds ? Math.fround((ds[expected.length]! - zero) * Math.fround(sd / sy)) : 0;
          const real = Math.fround(product + added);
          expected.push(clamp(roundEven(relu ? Math.max(0, real) : real) + outZero, type));
        }
  return { network, expected: inside ? pooled(expected, out) : expected };
}

/** The largest of each 2 x 2 of every plane. */
function pooled(values: readonly number[], size: number): number[] {
  const results: number[] = [];
  for (let plane = 0; plane < values.length; plane += size * size)
    for (let i = 0; i + 1 < size; i++)
      for (let j = 0; j + 1 < size; j++)
        results.push(Math.max(...[0, 1, size, size + 1].map((step) => values[plane + i * size + j + step]!)));
  return results;
}

describe("convolution", () => {
  const base: ConvCase = {
    inside: false,
    residual: false,
    seed: 1,
    type: "i8",
    zero: 0,
    outZero: 0,
    groups: 1,
    stride: 1,
    dilation: 1,
    pad: 1,
    kernel: 3,
    channels: [4, 8],
    bias: true,
    relu: true,
  };
  const cases: Readonly<Record<string, Partial<ConvCase>>> = {
    "i8, bias, relu": {},
    "u8 with zero points": { type: "u8", zero: 117, outZero: 9, relu: false },
    "u8, strided, no bias": { type: "u8", zero: 0, stride: 2, bias: false },
    "grouped, dilated": { groups: 2, dilation: 2, pad: 2, channels: [6, 4] },
    depthwise: { groups: 6, channels: [6, 6], type: "u8", zero: 3, outZero: 128 },
    "1 x 1": { kernel: 1, pad: 0, channels: [13, 5] },
    "a residual of another scale": { residual: true, channels: [8, 8] },
    "a residual of u8 with a zero point": { residual: true, channels: [8, 8], type: "u8", zero: 117, outZero: 9, bias: false },
    "words of channels": { inside: true, channels: [16, 8] },
    "words of channels, depthwise": { inside: true, groups: 8, channels: [8, 8], type: "u8", zero: 7 },
  };
  for (const [name, change] of Object.entries(cases)) exact(name, () => convNetwork({ ...base, ...change }));

  for (const [name, change] of Object.entries({
    "many channels": { channels: [64, 40] },
    "many channels, u8 with zero points, strided": { channels: [48, 64], type: "u8", zero: 117, outZero: 9, stride: 2 },
    "1 x 1": { channels: [144, 64], kernel: 1, pad: 0 },
    "few channels": { channels: [3, 16], kernel: 7, pad: 3, stride: 2 },
  } as const))
    it(`on subgroup matrices of bytes: ${name}`, async (task) => {
      if (!tensorDevice) return task.skip("no adapter multiplies subgroup matrices of bytes");
      const { network, expected } = convNetwork({ ...base, inside: true, ...change });
      const results = await resultsOf(network, tensorDevice, /matrix-bytes/);
      expect(results.length).toBeGreaterThan(4);
      for (const { tactic, values } of results) expect(values, tactic).toEqual(expected);
    });

  it("stores whole words of channels inside of a network", async (task) => {
    if (!device) return task.skip("no GPU adapter");
    const { network } = convNetwork({ ...base, inside: true, channels: [16, 8] });
    const tactics = (await resultsOf(network, device)).map(({ tactic }) => tactic);
    expect(tactics.sort()).toEqual([
      "conv.direct",
      "conv.dot4",
      "conv.dot4 in hardware",
      "conv.dot4-blocked",
      "conv.dot4-blocked in hardware",
    ]);
  });

  it("at random", async (task) => {
    if (!device) return task.skip("no GPU adapter");
    const open = device;
    const drawn: fc.Arbitrary<ConvCase> = fc
      .record({
        type: fc.constantFrom("i8", "u8"),
        zero: fc.integer({ min: 0, max: 127 }),
        outZero: fc.integer({ min: 0, max: 127 }),
        groups: fc.constantFrom(1, 2, 4),
        perGroup: fc.tuple(fc.constantFrom(1, 3, 4, 8), fc.constantFrom(1, 2, 4, 6)),
        stride: fc.constantFrom(1, 2),
        dilation: fc.constantFrom(1, 2),
        pad: fc.constantFrom(0, 1),
        kernel: fc.constantFrom(1, 2, 3),
        bias: fc.boolean(),
        relu: fc.boolean(),
        inside: fc.boolean(),
        residual: fc.boolean(),
        seed: fc.nat(),
      })
      .map(({ perGroup: [ic, oc], groups, residual, ...rest }) => ({
        ...rest,
        groups,
        channels: [groups * ic, groups * oc],
        // With all of them a kernel would need more bindings than every device has: factors are buffers here.
        residual: residual && !rest.inside && !rest.bias,
      }));
    await fc.assert(
      fc.asyncProperty(drawn, async (made) => {
        const { network, expected } = convNetwork(made);
        for (const { tactic, values } of await resultsOf(network, open, /direct|dot4|depthwise/))
          expect(values, tactic).toEqual(expected);
      }),
      { numRuns: 4, endOnFailure: true },
    );
  }, 240_000);
});

describe("matrix product", () => {
  const next = generator(5);
  const [m, k, n] = [6, 37, 9];
  const pair = (name: string, scale: string): NodeSpec => ({
    op: "DequantizeLinear",
    inputs: [name, scale],
    outputs: [`${name}f`],
  });

  exact("of two activations, one of them transposed, per tensor", () => {
    const a = filled("i8", [2, m, k], next, -128, 127);
    const b = filled("i8", [2, n, k], next, -128, 127);
    const [sa, sb, sy] = [0.013, 0.029, 0.7].map(Math.fround) as [number, number, number];
    const [as, bs] = [numbersOf(a), numbersOf(b)];
    const factor = Math.fround(Math.fround(sa * sb) / sy);
    const expected: number[] = [];
    for (let batch = 0; batch < 2; batch++)
      for (let i = 0; i < m; i++)
        for (let j = 0; j < n; j++) {
          let sum = 0;
          for (let at = 0; at < k; at++) sum += as[(batch * m + i) * k + at]! * bs[(batch * n + j) * k + at]!;
          expected.push(clamp(roundEven(Math.fround(sum * factor)), "i8"));
        }
    return {
      network: {
        inputs: { a, b },
        constants: { sa: scalar(sa), sb: scalar(sb), sy: scalar(sy), zy: scalarTensor("i8", 0) },
        nodes: [
          pair("a", "sa"),
          pair("b", "sb"),
          { op: "Transpose", inputs: ["bf"], outputs: ["bt"], attributes: { perm: [0, 2, 1] } },
          { op: "MatMul", inputs: ["af", "bt"], outputs: ["c"] },
          { op: "QuantizeLinear", inputs: ["c", "sy", "zy"], outputs: ["y"] },
        ],
      },
      expected,
    };
  });

  exact("Gemm with weights by channel and a bias, then a residual addition of the same scale", () => {
    const a = filled("i8", [m, k], next, -128, 127);
    const r = filled("i8", [m, n], next, -128, 127);
    const w = filled("i8", [n, k], next, -127, 127);
    const bias = filled("i32", [n], next, -5000, 5000);
    const [sa, sc, sy] = [0.02, 0.31, 0.4].map(Math.fround) as [number, number, number];
    const sw = Array.from({ length: n }, (_, c) => Math.fround(0.01 + 0.003 * c));
    const unit = sw.map((scale) => Math.fround(sa * scale));
    const [as, ws, bs, rs] = [a, w, bias, r].map(numbersOf) as [number[], number[], number[], number[]];
    const expected: number[] = [];
    for (let i = 0; i < m; i++)
      for (let j = 0; j < n; j++) {
        let sum = bs[j]!;
        for (let at = 0; at < k; at++) sum += as[i * k + at]! * ws[j * k + at]!;
        const branch = clamp(roundEven(Math.fround(sum * Math.fround(unit[j]! / sc))), "i8");
        expected.push(clamp(roundEven(Math.max(0, Math.fround((branch + rs[i * n + j]!) * Math.fround(sc / sy)))), "i8"));
      }
    return {
      network: {
        inputs: { a, r },
        constants: {
          sa: scalar(sa),
          sc: scalar(sc),
          sy: scalar(sy),
          z: scalarTensor("i8", 0),
          w,
          sw: vector("f32", sw),
          bias,
          sb: vector("f32", unit),
        },
        nodes: [
          pair("a", "sa"),
          { op: "DequantizeLinear", inputs: ["w", "sw"], outputs: ["wf"], attributes: { axis: 0 } },
          { op: "DequantizeLinear", inputs: ["bias", "sb"], outputs: ["biasf"], attributes: { axis: 0 } },
          { op: "Gemm", inputs: ["af", "wf", "biasf"], outputs: ["c"], attributes: { transB: 1 } },
          { op: "QuantizeLinear", inputs: ["c", "sc", "z"], outputs: ["cq"] },
          pair("cq", "sc"),
          pair("r", "sc"),
          { op: "Add", inputs: ["cqf", "rf"], outputs: ["s"] },
          { op: "Relu", inputs: ["s"], outputs: ["t"] },
          { op: "QuantizeLinear", inputs: ["t", "sy", "z"], outputs: ["y"] },
        ],
      },
      expected,
    };
  });
});

it("stays in float where only one operand is quantized, or a scale differs between the terms of a sum", async (task) => {
  if (!device) return task.skip("no GPU adapter");
  const next = generator(3);
  const weights = { w: filled("i8", [5, 3], next, -127, 127), sw: vector("f32", [1, 2, 3, 4, 5]), s: scalar(0.5) };
  const accOf = (nodes: readonly NodeSpec[], x: Tensor): string => {
    const product = programOf({ inputs: { x }, constants: weights, nodes }, device!).tasks.find(({ kind }) => kind === "gemm");
    return (product as { acc: { type: string } }).acc.type;
  };
  const float = filled("f32", [4, 5], next);
  const bytes = filled("i8", [4, 5], next, -128, 127);
  const product: NodeSpec = { op: "MatMul", inputs: ["xf", "wf"], outputs: ["y"] };
  const dequantize = (inputs: readonly string[], output: string, axis = 1): NodeSpec => ({
    op: "DequantizeLinear",
    inputs,
    outputs: [output],
    attributes: { axis },
  });
  expect(accOf([dequantize(["w", "s"], "wf"), { ...product, inputs: ["x", "wf"] }], float)).toBe("f32");
  expect(accOf([dequantize(["x", "s"], "xf"), dequantize(["w", "sw"], "wf", 0), product], bytes)).toBe("f32");
  expect(accOf([dequantize(["x", "s"], "xf"), dequantize(["w", "s"], "wf"), product], bytes)).toBe("i32");
});
