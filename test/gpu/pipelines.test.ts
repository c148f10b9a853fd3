// Compiling good and bad WGSL: on the null backend, which runs the real compiler, and on the machine's adapter.

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Memory } from "../../src/gpu/buffers.ts";
import type { Device } from "../../src/gpu/device.ts";
import { excerpt } from "../../src/gpu/excerpt.ts";
import { PipelineCache } from "../../src/gpu/pipelines.ts";
import { nullDevice, realDevice, rejection } from "./open.ts";

const addOne = `@group(0) @binding(0) var<storage, read_write> x: array<u32>;
@group(0) @binding(1) var<storage, read> y: array<u32>;
@compute @workgroup_size(4)
fn main(@builtin(global_invocation_id) id: vec3u) {
  x[id.x] = y[id.x] + 1u;
}
`;
const good = { label: "add one", wgsl: addOne, bindings: ["write", "read"] } as const;

describe("PipelineCache", () => {
  let device: Device;
  let cache: PipelineCache;
  beforeAll(async () => {
    device = await nullDevice();
    cache = new PipelineCache(device);
  });
  afterAll(() => device.destroy());

  it("compiles a text once, whatever its label", async () => {
    const [a, b] = await Promise.all([cache.compile(good), cache.compile({ ...good, label: "other" })]);
    expect(b.pipeline).toBe(a.pipeline);
    expect(cache.size).toBe(1);
  });

  it("tells entry points and bindings apart, and shares layouts", async () => {
    const wgsl = `${addOne}@compute @workgroup_size(1) fn second() { x[0] = y[0]; }`;
    const [a, b] = await Promise.all([
      cache.compile({ ...good, wgsl }),
      cache.compile({ ...good, wgsl, entryPoint: "second" }),
    ]);
    expect(b.pipeline).not.toBe(a.pipeline);
    expect(b.layout).toBe(a.layout);
    const c = await cache.compile({ ...good, wgsl, bindings: ["write", "read", "uniform"] });
    expect(c.layout).not.toBe(a.layout);
    expect(c.pipeline).not.toBe(a.pipeline);
  });

  it("shows the line that does not compile, and forgets the failure", async () => {
    const before = cache.size;
    const bad = { ...good, wgsl: addOne.replace("+ 1u", "+ one") };
    const error = await rejection(cache.compile(bad));
    expect(error.format()).toMatchInlineSnapshot(`
      "K405 shader-invalid  kernel "add one" line 5: unresolved value 'one'
        2 | @group(0) @binding(1) var<storage, read> y: array<u32>;
        3 | @compute @workgroup_size(4)
        4 | fn main(@builtin(global_invocation_id) id: vec3u) {
        5 |   x[id.x] = y[id.x] + one;
          |                       ^^^
        6 | }
        7 | 
        hint: this is a defect in Kiln or in the browser's compiler: please report it with the text above"
    `);
    expect(cache.size).toBe(before);
  });

  it("passes on what pipeline creation says", async () => {
    const wide = await rejection(cache.compile({ ...good, wgsl: addOne.replace("size(4)", "size(4096)") }));
    expect(wide.code).toBe("K406");
    expect(wide.why).toContain("4096");
    const unbound = await rejection(cache.compile({ ...good, bindings: ["write"] }));
    expect(unbound.code).toBe("K406");
    expect(unbound.why).toContain("@binding(1)");
  });

  it("counts bindings before WebGPU does", async () => {
    const limit = device.caps.limits.maxStorageBuffersPerShaderStage;
    const error = await rejection(cache.compile({ ...good, bindings: new Array(limit + 1).fill("read") }));
    expect(error.message).toContain(`needs maxStorageBuffersPerShaderStage = ${limit + 1}, the device allows ${limit}`);
  });

  it("leaves no error uncaught", () => expect(device.firstError).toBeUndefined());

  it("refuses on a device that is gone", async () => {
    const gone = await nullDevice();
    gone.destroy();
    expect((await rejection(new PipelineCache(gone).compile(good))).code).toBe("K408");
  });

  it("survives bad WGSL on a device without validation", async () => {
    const fast = await nullDevice({ toggles: "fast" });
    const error = await rejection(new PipelineCache(fast).compile({ ...good, wgsl: "fn main( {" }));
    expect(error.code).toBe("K405");
    fast.destroy();
  });

  it("makes pipelines that run", async (context) => {
    const real = await realDevice();
    if (real === undefined) return context.skip("no GPU adapter");
    const memory = new Memory(real);
    const [x, y] = await Promise.all([memory.create({ label: "x", bytes: 16 }), memory.create({ label: "y", bytes: 16 })]);
    await memory.upload(y, new Uint32Array([1, 2, 3, 4]));
    const { pipeline, layout } = await new PipelineCache(real).compile(good);
    const entries = [x, y].map((buffer, binding) => ({ binding, resource: { buffer } }));
    const encoder = real.device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, real.device.createBindGroup({ layout, entries }));
    pass.dispatchWorkgroups(1);
    pass.end();
    const readback = memory.readback(encoder, x, 4, 8);
    real.queue.submit([encoder.finish()]);
    expect([...new Uint32Array((await readback.read()).buffer)]).toEqual([3, 4]);
    real.check();
    real.destroy();
  });
});

describe("excerpt", () => {
  it("cuts long lines around the place", () => {
    const shown = excerpt(`${"a".repeat(500)}HERE${"b".repeat(500)}`, 1, 501, 4).split("\n");
    expect(shown.every((line) => line.length < 170)).toBe(true);
    const at = shown[1]!.indexOf("^");
    expect(shown[0]!.slice(at, at + 4)).toBe("HERE");
  });

  it("stays inside the text", () => {
    expect(excerpt("only", 1, 5, 0)).toBe("1 | only\n  |     ^");
    expect(excerpt("", 1, 1, 0)).toBe("1 | \n  | ^");
  });
});
