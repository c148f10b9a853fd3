// Kiln as an execution provider: the same calls with "kiln" and with onnxruntime-web's "wasm", on models made here.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import * as common from "onnxruntime-common";
import * as ortNode from "onnxruntime-node";
import * as ort from "onnxruntime-web";
import { afterAll, beforeAll, expect, it, vi } from "vitest";
import { create } from "webgpu";
import { BufferUsage } from "../../src/gpu/constants.ts";
import { decodeModel, encodeModel } from "../../src/importer/proto.ts";
import { tensor } from "../../src/ir/tensor.ts";
import { type KilnExecutionProvider, register } from "../../src/ort-node.ts";
import { toHalf } from "../../src/util/f16.ts";
import { realDevice } from "../gpu/open.ts";
import { model } from "../support/onnx-model.ts";

type Options = ort.InferenceSession.SessionOptions;
type Feeds = Record<string, ort.Tensor>;

const device = await realDevice();
if (!device) console.log("skipped: this machine has no GPU adapter");
device?.destroy();
const test = it.skipIf(!device);

const folder = mkdtempSync(join(tmpdir(), "kiln-ort-"));
beforeAll(() => {
  register(ort);
  register(ort);
});
afterAll(() => rmSync(folder, { recursive: true }));

/** y = x·w + b and its sign, for any number of rows */
const rows = model({
  opset: 17,
  inputs: { x: { dtype: "f32", shape: ["rows", 3] } },
  outputs: ["y", "isPositive"],
  nodes: [
    { op: "Gemm", inputs: ["x", "w", "b"], outputs: ["y"] },
    { op: "Greater", inputs: ["y", "zero"], outputs: ["isPositive"] },
  ],
  initializers: {
    w: tensor("f32", [3, 2], [1, -2, 0.5, 3, -1, 0.25]),
    b: tensor("f32", [2], [0.1, -0.1]),
    zero: tensor("f32", [], [0]),
  },
});
const rowsOf = (count: number): ort.Tensor =>
  new ort.Tensor(
    "float32",
    Float32Array.from({ length: count * 3 }, (_, i) => Math.sin(i + 1)),
    [count, 3],
  );

const open = (bytes: Uint8Array, options: Options = {}): Promise<ort.InferenceSession> =>
  ort.InferenceSession.create(bytes, { executionProviders: ["kiln"], ...options });

/** The script: everything that one run gives, as plain data. */
async function script(provider: string, bytes: Uint8Array, feeds: Feeds, options: Options = {}) {
  const session = await ort.InferenceSession.create(bytes, { executionProviders: [provider], ...options });
  const results = await session.run(feeds);
  const outputs = Object.entries(results).map(([name, result]) => ({
    name,
    type: result.type,
    dims: [...result.dims],
    location: result.location,
    data: Array.from(result.data as Float32Array, Number),
  }));
  const { inputNames, outputNames, inputMetadata } = session;
  await session.release();
  return { outputs, inputNames: [...inputNames], outputNames: [...outputNames], inputMetadata: [...inputMetadata] };
}

/** A provider that counts the engines that it builds. */
function counting(): { readonly provider: KilnExecutionProvider; readonly builds: () => number } {
  let builds = 0;
  const onProgress: KilnExecutionProvider["onProgress"] = ({ stage }) => {
    if (stage === "import") builds++;
  };
  return { provider: { name: "kiln", onProgress }, builds: () => builds };
}

test("gives what wasm gives: names, metadata, types, shapes, values", async () => {
  const [kiln, wasm] = [await script("kiln", rows, { x: rowsOf(4) }), await script("wasm", rows, { x: rowsOf(4) })];
  const rounded = (result: typeof kiln) => ({
    ...result,
    outputs: result.outputs.map((output) => ({ ...output, data: output.data.map((value) => Number(value.toFixed(4))) })),
  });
  expect(rounded(kiln)).toEqual(rounded(wasm));
  expect(kiln.outputs[1]).toMatchObject({ type: "bool", data: kiln.outputs[0]!.data.map((value) => Number(value > 0)) });
});

test("passes every element type through", async () => {
  const cases = {
    float32: Float32Array.of(-1.5, 0, 7),
    float16: Uint16Array.from([-1.5, 0, 7], toHalf),
    float64: Float64Array.of(-1.5, 0, 7),
    int8: Int8Array.of(-128, 0, 127),
    uint8: Uint8Array.of(0, 1, 255),
    int16: Int16Array.of(-32768, 0, 32767),
    uint16: Uint16Array.of(0, 1, 65535),
    int32: Int32Array.of(-(2 ** 31), 0, 2 ** 31 - 1),
    uint32: Uint32Array.of(0, 1, 2 ** 32 - 1),
    int64: BigInt64Array.of(-5n, 0n, 2n ** 31n - 1n),
    uint64: BigUint64Array.of(0n, 1n, 2n ** 32n - 1n),
    bool: Uint8Array.of(0, 1, 1),
  };
  const names = Object.keys(cases) as (keyof typeof cases)[];
  const dtypes = { float: "f", uint: "u", int: "i" };
  const bytes = model({
    opset: 17,
    inputs: Object.fromEntries(
      names.map((name) => [
        name,
        { dtype: name.replace(/^float|^uint|^int/, (kind) => dtypes[kind as "int"]) as "f32", shape: ["n"] },
      ]),
    ),
    outputs: names.map((name) => `${name}_out`),
    nodes: names.map((name) => ({ op: "Identity", inputs: [name], outputs: [`${name}_out`] })),
  });
  const session = await open(bytes);
  const results = await session.run(
    Object.fromEntries(names.map((name) => [name, new ort.Tensor(name as "float32", cases[name] as Float32Array)])),
  );
  for (const name of names) {
    expect(results[`${name}_out`]!.type).toBe(name);
    expect(Array.from(results[`${name}_out`]!.data as Float32Array), name).toEqual(
      Array.from(new ort.Tensor(name as "float32", cases[name] as Float32Array).data as Float32Array),
    );
  }
  await session.release();
});

test("builds for the first shape, then for a range that grows, and keeps a bounded number", async () => {
  const { provider, builds } = counting();
  const session = await open(rows, { executionProviders: [provider] });
  expect(builds()).toBe(0);
  const counts = [4, 4, 7, 5, 8, 1, 4, 9, 16, 3, 17, 30];
  const built: number[] = [];
  for (const count of counts) {
    const { y } = await session.run({ x: rowsOf(count) });
    expect(y!.dims).toEqual([count, 2]);
    expect(y!.data[0]).toBeCloseTo(Math.sin(1) + 0.5 * Math.sin(2) - Math.sin(3) + 0.1, 4);
    built.push(builds());
  }
  expect(built).toEqual([1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 3, 3]);
  await session.release();
});

test("freeDimensionOverrides fix a dimension, and the engine is built with the session", async () => {
  const { provider, builds } = counting();
  const session = await open(rows, { executionProviders: [provider], freeDimensionOverrides: { rows: 2 } });
  expect(builds()).toBe(1);
  expect(session.inputMetadata).toEqual([{ name: "x", isTensor: true, type: "float32", shape: [2, 3] }]);
  expect((await session.run({ x: rowsOf(2) })).y!.dims).toEqual([2, 2]);
  await expect(session.run({ x: rowsOf(3) })).rejects.toThrow(/K604 .*"x".*\[3, 3\]/);
  expect(builds()).toBe(1);
  await session.release();
});

test("fetches: a part of the outputs, or tensors to fill", async () => {
  const session = await open(rows);
  const x = rowsOf(2);
  const { y } = await session.run({ x });
  expect(Object.keys(await session.run({ x }, ["isPositive"]))).toEqual(["isPositive"]);
  const target = new ort.Tensor("float32", new Float32Array(4), [2, 2]);
  const filled = await session.run({ x }, { y: target });
  expect(Object.keys(filled)).toEqual(["y"]);
  expect(filled.y).toBe(target);
  expect(target.data).toEqual(y!.data);
  await expect(session.run({ x }, { y: new ort.Tensor("float32", new Float32Array(2), [1, 2]) })).rejects.toThrow(
    /K621 .*\[1, 2\]/,
  );
  await session.release();
});

test("tensors on the GPU: in, out, preferred and preallocated", async () => {
  const session = await open(rows, { preferredOutputLocation: { y: "gpu-buffer" } });
  const gpu = await ort.env.webgpu.device;
  const x = rowsOf(2);
  const buffer = gpu.createBuffer({
    size: 24,
    usage: BufferUsage.STORAGE | BufferUsage.COPY_SRC | BufferUsage.COPY_DST,
  });
  gpu.queue.writeBuffer(buffer, 0, x.data as Float32Array<ArrayBuffer>);
  const onGpu = ort.Tensor.fromGpuBuffer(buffer, { dataType: "float32", dims: [2, 3] });
  const { y, isPositive } = await session.run({ x: onGpu });
  expect([y!.location, isPositive!.location]).toEqual(["gpu-buffer", "cpu"]);
  const again = await session.run({ x }, { y: ort.Tensor.fromGpuBuffer(y!.gpuBuffer, { dataType: "float32", dims: [2, 2] }) });
  expect(again.y!.gpuBuffer).toBe(y!.gpuBuffer);
  const data = (await y!.getData(true)) as Float32Array;
  expect(y!.location).toBe("cpu");
  expect(Array.from(data, (value) => Number(value > 0))).toEqual(Array.from(isPositive!.data as Uint8Array));
  const plain = await open(rows);
  expect(data).toEqual((await plain.run({ x })).y!.data);
  for (const each of [session, plain]) await each.release();
});

test("a 64-bit tensor on the GPU has 64-bit elements there", async () => {
  const bytes = model({
    opset: 17,
    inputs: { x: { dtype: "i64", shape: [3] } },
    outputs: ["y"],
    nodes: [{ op: "Neg", inputs: ["x"], outputs: ["y"] }],
  });
  const session = await open(bytes, { preferredOutputLocation: "gpu-buffer" });
  const first = await session.run({ x: new ort.Tensor("int64", [1n, -2n, 3n]) });
  expect(first.y!.gpuBuffer.size).toBe(24);
  const second = await session.run({ x: first.y! });
  expect(await second.y!.getData()).toEqual(BigInt64Array.of(1n, -2n, 3n));
  expect(await first.y!.getData()).toEqual(BigInt64Array.of(-1n, 2n, -3n));
  await session.release();
});

test("a state that stays on the GPU from run to run gives what one on the host gives", async () => {
  const bytes = model({
    opset: 17,
    inputs: { x: { dtype: "f32", shape: ["n"] }, state: { dtype: "f32", shape: ["n"] } },
    outputs: ["next", "seen"],
    nodes: [
      { op: "Add", inputs: ["x", "state"], outputs: ["sum"] },
      { op: "Tanh", inputs: ["sum"], outputs: ["next"] },
      { op: "ReduceSum", inputs: ["next"], outputs: ["seen"] },
    ],
  });
  const x = new ort.Tensor("float32", Float32Array.of(0.1, -0.2, 0.3, 0.4, -0.5));
  const told: number[][] = [];
  for (const location of ["cpu", "gpu-buffer"] as const) {
    const session = await open(bytes, { preferredOutputLocation: { next: location } });
    let state: ort.Tensor = new ort.Tensor("float32", new Float32Array(5));
    const seen: number[] = [];
    for (let turn = 0; turn < 6; turn++) {
      const results = await session.run({ x, state });
      expect(results.next!.location).toBe(location);
      state.dispose();
      state = results.next!;
      seen.push((results.seen!.data as Float32Array)[0]!);
    }
    told.push([...seen, ...((await state.getData()) as Float32Array)]);
    await session.release();
  }
  expect(told[0]).toHaveLength(11);
  expect(told[1]).toEqual(told[0]);
});

test("models by path and by file address, with external data beside them or listed", async () => {
  const proto = decodeModel(rows, "rows");
  const [w] = proto.graph!.initializer!;
  const weights = w!.rawData!;
  w!.rawData = new Uint8Array(0);
  w!.dataLocation = 1;
  w!.externalData = [{ key: "location", value: "weights.bin" }];
  const bytes = encodeModel(proto);
  const path = join(folder, "rows.onnx");
  writeFileSync(path, bytes);
  writeFileSync(join(folder, "weights.bin"), weights);
  const expected = (await script("kiln", rows, { x: rowsOf(1) })).outputs;
  const variants: (readonly [string | Uint8Array, Options["externalData"]])[] = [
    [path, undefined],
    [pathToFileURL(path).href, undefined],
    [`data:application/octet-stream;base64,${Buffer.from(rows).toString("base64")}`, undefined],
    [bytes, [{ path: "./weights.bin", data: weights }]],
    [bytes, [{ path: "weights.bin", data: new Blob([new Uint8Array(weights)]) }]],
    [bytes, [join(folder, "weights.bin")]],
  ];
  for (const [source, externalData] of variants) {
    const session = await ort.InferenceSession.create(source as string, {
      executionProviders: ["kiln"],
      ...(externalData ? { externalData } : {}),
    });
    const { y } = await session.run({ x: rowsOf(1) });
    expect(Array.from(y!.data as Float32Array)).toEqual(expected[0]!.data);
    await session.release();
  }
  await expect(open(bytes)).rejects.toThrow(/K104 .*weights\.bin/);
  await expect(ort.InferenceSession.create(join(folder, "none.onnx"), { executionProviders: ["kiln"] })).rejects.toThrow(
    "ENOENT",
  );
});

test("runs on the caller's device, with its buffers", async () => {
  const dawn = create([]);
  const gpu = await (await dawn.requestAdapter())!.requestDevice();
  const session = await open(rows, { executionProviders: [{ name: "kiln", device: gpu }] });
  const buffer = gpu.createBuffer({ size: 12, usage: BufferUsage.STORAGE | BufferUsage.COPY_DST });
  gpu.queue.writeBuffer(buffer, 0, Float32Array.of(1, 0, 0));
  const { y } = await session.run({ x: ort.Tensor.fromGpuBuffer(buffer, { dataType: "float32", dims: [1, 3] }) });
  expect(Array.from(y!.data as Float32Array, (value) => Number(value.toFixed(4)))).toEqual([1.1, -2.1]);
  await session.release();
  const elsewhere = await open(rows);
  expect(await ort.env.webgpu.device).not.toBe(gpu);
  await elsewhere.release();
  gpu.destroy();
  expect(dawn).toBeDefined(); // Dawn crashes when it is collected before its devices
});

test("while profiling, a line of times for every run", async () => {
  const log = vi.spyOn(console, "log").mockImplementation(() => {});
  const session = await open(rows);
  session.startProfiling();
  await session.run({ x: rowsOf(1) });
  session.endProfiling();
  await session.run({ x: rowsOf(1) });
  const lines = log.mock.calls.map(([line]) => String(line));
  log.mockRestore();
  expect(lines).toEqual([expect.stringMatching(/^kiln: model: inputs .* ms, enqueue .* ms, gpu .* ms, outputs .* ms$/)]);
  await session.release();
});

test("shapes that depend on what an input holds: an engine for the contents", async () => {
  const bytes = model({
    opset: 17,
    inputs: { x: { dtype: "f32", shape: ["n"] }, shape: { dtype: "i64", shape: [2] } },
    outputs: ["y"],
    nodes: [{ op: "Reshape", inputs: ["x", "shape"], outputs: ["y"] }],
  });
  const { provider, builds } = counting();
  const session = await open(bytes, { executionProviders: [provider] });
  const x = new ort.Tensor("float32", Float32Array.of(1, 2, 3, 4, 5, 6));
  for (const shape of [
    [2, 3],
    [3, 2],
    [2, 3],
  ]) {
    const { y } = await session.run({ x, shape: new ort.Tensor("int64", shape.map(BigInt)) });
    expect([y!.dims, y!.data]).toEqual([shape, x.data]);
  }
  expect(builds()).toBe(2);
  await session.release();
});

test("what is wrong is said by name", async () => {
  const session = await open(rows);
  const x = rowsOf(1);
  await expect(session.run({ x, z: x })).rejects.toThrow(/K603 .*"z"/);
  await expect(session.run({})).rejects.toThrow("input 'x' is missing");
  await expect(session.run({ x: new ort.Tensor("int32", [1, 2, 3], [1, 3]) })).rejects.toThrow(/K608 .*"x".*int32.*float32/);
  await expect(session.run({ x: new ort.Tensor("string", ["a", "b", "c"], [1, 3]) })).rejects.toThrow(/K202 .*"x".*string/);
  await expect(session.run({ x: new ort.Tensor("float32", [1, 2], [1, 2]) })).rejects.toThrow(/K604 .*"x"/);
  await expect(open(rows, { preferredOutputLocation: "ml-tensor" })).rejects.toThrow(/K620 .*"ml-tensor"/);
  await expect(open(rows, { executionProviders: [{ name: "kiln", fp61: true } as { name: string }] })).rejects.toThrow(
    /K622 .*fp61/,
  );
  await expect(open(new TextEncoder().encode("<html>"))).rejects.toThrow("K101");
  await session.release();
  await expect(session.run({ x })).rejects.toThrow("K610");
});

test("runs asked for at once give their own results", async () => {
  const session = await open(rows);
  const counts = [1, 3, 2, 5, 1, 4];
  const results = await Promise.all(counts.map((count) => session.run({ x: rowsOf(count) })));
  expect(results.map(({ y }) => y!.dims[0])).toEqual(counts);
  await session.release();
});

test("after its device is lost a session says so, and a new one has a new device", async () => {
  const session = await open(rows);
  const lost = await ort.env.webgpu.device;
  lost.destroy();
  await lost.lost;
  await expect(session.run({ x: rowsOf(1) })).rejects.toThrow("K408");
  const next = await open(rows);
  expect(await ort.env.webgpu.device).not.toBe(lost);
  expect((await next.run({ x: rowsOf(1) })).y!.dims).toEqual([1, 2]);
  await next.release();
});

test("works with onnxruntime-common alone and with onnxruntime-node", async () => {
  for (const api of [common, ortNode]) {
    register(api);
    const session = await api.InferenceSession.create(rows, { executionProviders: ["kiln"] });
    const { y } = await session.run({ x: new api.Tensor("float32", [1, 0, 0], [1, 3]) });
    expect(y).toBeInstanceOf(api.Tensor);
    expect(Array.from(y!.data as Float32Array, (value) => Number(value.toFixed(4)))).toEqual([1.1, -2.1]);
    await session.release();
  }
});
