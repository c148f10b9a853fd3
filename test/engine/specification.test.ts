// docs/engine-format.md is enough to read, run and write engines: a loader and a writer that follow it and share nothing with
// src/engine, MurmurHash3 and dimensions included.

import { createHash } from "node:crypto";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Builder } from "../../src/builder.ts";
import { BufferUsage, MapMode, ShaderStage } from "../../src/gpu/constants.ts";
import type { Device } from "../../src/gpu/device.ts";
import { numbersOf, type Tensor } from "../../src/ir/tensor.ts";
import { Runtime } from "../../src/runtime.ts";
import { realDevice } from "../gpu/open.ts";
import { model } from "../support/onnx-model.ts";
import { runOnnxRuntime } from "../support/onnxruntime.ts";
import { filled, generator } from "../support/random.ts";

let device: Device | undefined;
beforeAll(async () => {
  device = await realDevice();
});
afterAll(() => device?.destroy());

// --- the page, in code -----------------------------------------------------------------------------------------------------

/** MurmurHash3_x86_128, seed 0, after Austin Appleby's reference. */
function murmur(bytes: Uint8Array): number[] {
  const c = [0x239b961b, 0xab0e9789, 0x38b34ae5, 0xa1e38b93] as const;
  const rotate = (x: number, r: number): number => ((x << r) | (x >>> (32 - r))) >>> 0;
  const h = [0, 0, 0, 0];
  const word = (at: number): number =>
    ((bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8) | ((bytes[at + 2] ?? 0) << 16) | ((bytes[at + 3] ?? 0) << 24)) >>> 0;
  const mixed = (k: number, i: number): number => Math.imul(rotate(Math.imul(k, c[i]!) >>> 0, 15 + i), c[(i + 1) % 4]!);
  const turns = [19, 17, 15, 13];
  const adds = [0x561ccd1b, 0x0bcaa747, 0x96cd1c35, 0x32ac3b17];
  const whole = bytes.length - (bytes.length % 16);
  for (let at = 0; at < whole; at += 16) {
    for (let i = 0; i < 4; i++) {
      h[i] = rotate((h[i]! ^ mixed(word(at + 4 * i), i)) >>> 0, turns[i]!);
      h[i] = (Math.imul((h[i]! + h[(i + 1) % 4]!) | 0, 5) + adds[i]!) >>> 0;
    }
  }
  for (let i = 0; i < 4; i++) h[i] = (h[i]! ^ mixed(word(whole + 4 * i), i) ^ bytes.length) >>> 0;
  const spread = (): void => {
    h[0] = (h[0]! + h[1]! + h[2]! + h[3]!) >>> 0;
    for (let i = 1; i < 4; i++) h[i] = (h[i]! + h[0]!) >>> 0;
  };
  spread();
  for (let i = 0; i < 4; i++) {
    let x = h[i]!;
    x = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
    x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
    h[i] = (x ^ (x >>> 16)) >>> 0;
  }
  spread();
  return h;
}

/** Where the weights begin. */
const weightsAt = (manifestBytes: number): number => Math.ceil((64 + manifestBytes) / 256) * 256;

const checksumOf = (head: Uint8Array): Uint8Array => {
  const rest = new Uint8Array(head.length - 16);
  rest.set(head.subarray(0, 16));
  rest.set(head.subarray(32), 16);
  const result = new DataView(new ArrayBuffer(16));
  murmur(rest).forEach((word, i) => result.setUint32(4 * i, word));
  return new Uint8Array(result.buffer);
};

/** SHA-256 of the SHA-256s of pieces of 4 MiB. */
const digestOf = (weights: Uint8Array): string => {
  const all = createHash("sha256");
  for (let at = 0; at < weights.length; at += 2 ** 22)
    all.update(
      createHash("sha256")
        .update(weights.subarray(at, at + 2 ** 22))
        .digest(),
    );
  return all.digest("hex");
};

interface Plan {
  readonly inputs: readonly { readonly name: string; readonly shape: readonly string[]; readonly buffer: number }[];
  readonly outputs: Plan["inputs"];
  readonly buffers: readonly {
    readonly bytes: string;
    readonly home: { readonly kind: string; readonly offset: number & string; readonly length: number; readonly slot: number };
  }[];
  readonly shaders: readonly string[];
  readonly slots: readonly { readonly bytes: readonly string[] }[];
  readonly steps: readonly {
    readonly kind: string;
    readonly shader: number;
    readonly bindings: readonly { readonly buffer: number; readonly access: string; readonly shared?: boolean }[];
    readonly params: readonly string[];
    readonly workgroups: readonly string[];
    readonly from: number;
    readonly to: number;
  }[];
}

function read(file: Uint8Array): { plan: Plan; weights: Uint8Array } {
  const header = new DataView(file.buffer, file.byteOffset);
  expect(String.fromCharCode(...file.subarray(0, 4))).toBe("KILN");
  expect(header.getUint32(4, true)).toBe(2);
  expect(header.getBigUint64(8, true)).toBe(BigInt(file.length));
  const length = Number(header.getBigUint64(32, true));
  expect(file.subarray(16, 32)).toEqual(checksumOf(file.subarray(0, weightsAt(length))));
  const manifest = JSON.parse(new TextDecoder().decode(file.subarray(64, 64 + length))) as {
    plan: Plan;
    weights: { bytes: number; digest: string };
  };
  const weights = file.subarray(weightsAt(length));
  expect(manifest.weights).toEqual({ bytes: weights.length, digest: digestOf(weights) });
  return { plan: manifest.plan, weights };
}

/** A dimension's value: JavaScript's own arithmetic, with division and remainder rounding down. */
function evaluate(text: string, symbols: ReadonlyMap<string, number>): number {
  const tokens = text.match(/"(?:[^"\\]|\\.)*"|[\w.]+|[-+*/%(),]/g)!;
  const operators: Record<string, (a: number, b: number) => number> = {
    "+": (a, b) => a + b,
    "-": (a, b) => a - b,
    "*": (a, b) => a * b,
    "/": (a, b) => Math.floor(a / b),
    "%": (a, b) => a - b * Math.floor(a / b),
  };
  const atom = (): number => {
    const token = tokens.shift()!;
    if (token === "-") return -atom();
    if (token === "(" || ((token === "max" || token === "min") && tokens[0] === "(")) {
      if (token !== "(") tokens.shift();
      const values = [level(0)];
      while (tokens.shift() === ",") values.push(level(0));
      return token === "min" ? Math.min(...values) : Math.max(...values);
    }
    return /^\d+$/.test(token) ? Number(token) : symbols.get(token.startsWith('"') ? (JSON.parse(token) as string) : token)!;
  };
  const level = (depth: number): number => {
    const next = (): number => (depth === 0 ? level(1) : atom());
    let value = next();
    while (tokens[0] !== undefined && (depth === 0 ? "+-" : "*/%").includes(tokens[0]))
      value = operators[tokens.shift()!]!(value, next());
    return value;
  };
  return level(0);
}

/** Runs dispatches and copies of a plan with plain WebGPU, f32 in and out. */
async function run(gpu: GPUDevice, { plan, weights }: ReturnType<typeof read>, inputs: Readonly<Record<string, Tensor>>) {
  const symbols = new Map<string, number>();
  for (const { name, shape } of plan.inputs)
    shape.forEach((text, axis) => {
      if (!/^\d+$/.test(text))
        symbols.set(text.startsWith('"') ? (JSON.parse(text) as string) : text, inputs[name]!.shape[axis]!);
    });
  const value = (text: string): number => evaluate(text, symbols);
  const usage = BufferUsage.STORAGE | BufferUsage.COPY_SRC | BufferUsage.COPY_DST;
  const buffer = (bytes: number, how = usage): GPUBuffer =>
    gpu.createBuffer({ size: Math.max(4, Math.ceil(bytes / 4) * 4), usage: how });
  const slots = plan.slots.map(({ bytes }) => buffer(Math.max(...bytes.map(value))));
  const places = plan.buffers.map(({ bytes, home }) => {
    if (home.kind === "activation")
      return { buffer: slots[home.slot]!, offset: home.offset === undefined ? 0 : value(home.offset) };
    const made = buffer(value(bytes));
    if (home.kind === "weight") gpu.queue.writeBuffer(made, 0, weights.slice(home.offset, home.offset + home.length));
    return { buffer: made, offset: 0 };
  });
  for (const input of plan.inputs)
    gpu.queue.writeBuffer(places[input.buffer]!.buffer, 0, inputs[input.name]!.data as Float32Array<ArrayBuffer>);
  const encoder = gpu.createCommandEncoder();
  for (const step of plan.steps) {
    if (step.kind === "copy") {
      const [from, to] = [places[step.from]!, places[step.to]!];
      encoder.copyBufferToBuffer(from.buffer, from.offset, to.buffer, to.offset, value(plan.buffers[step.from]!.bytes));
      continue;
    }
    expect(step.kind).toBe("dispatch");
    const types: GPUBufferBindingType[] = step.bindings.map(({ access, shared }) =>
      access === "read" && !shared ? "read-only-storage" : "storage",
    );
    const resources: GPUBufferBinding[] = step.bindings.map((binding) => ({
      ...places[binding.buffer]!,
      size: Math.max(4, value(plan.buffers[binding.buffer]!.bytes)),
    }));
    if (step.params.length > 0) {
      const params = buffer(Math.ceil(step.params.length / 4) * 16, BufferUsage.UNIFORM | BufferUsage.COPY_DST);
      gpu.queue.writeBuffer(params, 0, Int32Array.from(step.params, value));
      types.push("uniform");
      resources.push({ buffer: params });
    }
    const layout = gpu.createBindGroupLayout({
      entries: types.map((type, binding) => ({ binding, visibility: ShaderStage.COMPUTE, buffer: { type } })),
    });
    const module = gpu.createShaderModule({ code: plan.shaders[step.shader]! });
    const pass = encoder.beginComputePass();
    pass.setPipeline(
      gpu.createComputePipeline({
        layout: gpu.createPipelineLayout({ bindGroupLayouts: [layout] }),
        compute: { module, entryPoint: "main" },
      }),
    );
    pass.setBindGroup(
      0,
      gpu.createBindGroup({ layout, entries: resources.map((resource, binding) => ({ binding, resource })) }),
    );
    const [x, y, z] = step.workgroups.map(value);
    if (x! * y! * z! > 0) pass.dispatchWorkgroups(x!, y, z);
    pass.end();
  }
  const results = plan.outputs.map(({ name, buffer: number, shape }) => {
    const bytes = value(plan.buffers[number]!.bytes);
    const staging = buffer(bytes, BufferUsage.MAP_READ | BufferUsage.COPY_DST);
    encoder.copyBufferToBuffer(places[number]!.buffer, places[number]!.offset, staging, 0, bytes);
    return { name, shape: shape.map(value), staging };
  });
  gpu.queue.submit([encoder.finish()]);
  const outputs: Record<string, { shape: number[]; values: number[] }> = {};
  for (const { name, shape, staging } of results) {
    await staging.mapAsync(MapMode.READ);
    const count = shape.reduce((a, b) => a * b, 1);
    outputs[name] = { shape, values: [...new Float32Array(staging.getMappedRange()).subarray(0, count)] };
  }
  return outputs;
}

// --- the tests -------------------------------------------------------------------------------------------------------------

const next = generator(3);
const network = model({
  opset: 17,
  inputs: { x: { dtype: "f32", shape: ["batch size", 3, "H", "W"] } },
  outputs: ["y", "r"],
  nodes: [
    { op: "Conv", inputs: ["x", "w", "b"], outputs: ["c"], attributes: { pads: [1, 1, 1, 1], strides: [2, 2] } },
    { op: "Relu", inputs: ["c"], outputs: ["r"] },
    { op: "MaxPool", inputs: ["r"], outputs: ["p"], attributes: { kernel_shape: [3, 3], pads: [1, 1, 1, 1] } },
    { op: "ReduceMean", inputs: ["p"], outputs: ["m"], attributes: { axes: [2, 3], keepdims: 0 } },
    { op: "Gemm", inputs: ["m", "fc"], outputs: ["g"] },
    { op: "Softmax", inputs: ["g"], outputs: ["y"] },
  ],
  initializers: {
    w: filled("f32", [8, 3, 3, 3], next),
    b: filled("f32", [8], next),
    fc: filled("f32", [8, 5], next),
  },
});

describe("docs/engine-format.md", () => {
  it("is enough to read and run what the builder wrote", async (task) => {
    if (!device) return task.skip("no GPU adapter");
    const engine = await new Builder(device).build(network, { optimizationLevel: 0 });
    const file = read(engine.serialize());
    engine.dispose();
    for (const shape of [
      [1, 3, 8, 8],
      [3, 3, 7, 12],
      [2, 3, 5, 1],
    ]) {
      const x = filled("f32", shape, next);
      const [actual, expected] = [await run(device.device, file, { x }), await runOnnxRuntime(network, { x })];
      for (const name of ["y", "r"]) {
        expect(actual[name]!.shape).toEqual([...expected[name]!.shape]);
        numbersOf(expected[name]!).forEach((value, i) => expect(actual[name]!.values[i]).toBeCloseTo(value, 4));
      }
    }
    device.check();
  });

  it("is enough to write what the runtime loads and runs", async (task) => {
    if (!device) return task.skip("no GPU adapter");
    const storage = { item: "f32", lanes: 1 };
    const floats = (name: string, shape: string[], bytes: string, home: object) => ({
      name,
      dtype: "f32",
      shape,
      storage,
      bytes,
      home,
    });
    const read =
      "@group(0) @binding(0) var<storage, read> x: array<f32>; @group(0) @binding(1) var<storage, read> w: array<f32>;";
    const plan = {
      inputs: [{ name: "x", dtype: "f32", shape: ["N"], buffer: 0 }],
      outputs: [{ name: "y", dtype: "f32", shape: ["N"], buffer: 2 }],
      buffers: [
        floats("x", ["N"], "N*4", { kind: "input" }),
        floats("w", ["3"], "12", { kind: "weight", offset: 256, length: 12 }),
        floats("y", ["N"], "N*4", { kind: "output" }),
      ],
      shaders: [
        `${read} @group(0) @binding(2) var<storage, read_write> y: array<f32>; @group(0) @binding(3) var<uniform> n: vec4i;
        @compute @workgroup_size(4) fn main(@builtin(global_invocation_id) id: vec3u) {
          if (i32(id.x) < n.x) { y[id.x] = x[id.x] * w[id.x % 3u]; }
        }`,
      ],
      steps: [
        {
          kind: "dispatch",
          nodes: [],
          label: "times",
          tactic: "by hand",
          config: {},
          shader: 0,
          bindings: [
            { buffer: 0, access: "read" },
            { buffer: 1, access: "read" },
            { buffer: 2, access: "write" },
          ],
          params: ["N"],
          workgroups: ["(N+3)/4", "1", "1"],
        },
      ],
      slots: [],
      profiles: [{ name: "all", symbols: { N: { min: 1, opt: 4, max: 100 } } }],
      hostLayers: [],
      notes: [],
    };
    const weights = new Uint8Array(268);
    [2, 3, 5].forEach((value, i) => new DataView(weights.buffer).setFloat32(256 + 4 * i, value, true));
    const needs = { bytes: 268, digest: digestOf(weights) };
    const manifest = new TextEncoder().encode(JSON.stringify({ fingerprint: device.fingerprint, plan, weights: needs }));
    const at = weightsAt(manifest.length);
    const file = new Uint8Array(at + 268);
    const header = new DataView(file.buffer);
    file.set(new TextEncoder().encode("KILN"));
    header.setUint32(4, 2, true);
    header.setBigUint64(8, BigInt(file.length), true);
    header.setBigUint64(32, BigInt(manifest.length), true);
    file.set(new TextEncoder().encode("0.1.0"), 40);
    file.set(manifest, 64);
    file.set(weights, at);
    file.set(checksumOf(file.subarray(0, at)), 16);
    const engine = await new Runtime(device).deserialize(file);
    const x: Tensor = { dtype: "f32", shape: [7], data: Float32Array.of(1, 2, 3, 4, 5, 6, 7) };
    const { y } = await engine.createExecutionContext().execute({ x });
    expect(numbersOf(y!)).toEqual([2, 6, 15, 8, 15, 30, 14]);
    engine.dispose();
    device.check();
  });
});
