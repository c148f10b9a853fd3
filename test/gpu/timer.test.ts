// The timer tells long work from short, by timestamps and by the clock on the wall.

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Memory } from "../../src/gpu/buffers.ts";
import type { Device } from "../../src/gpu/device.ts";
import { PipelineCache } from "../../src/gpu/pipelines.ts";
import { type EncodeWork, median, Timer } from "../../src/gpu/timer.ts";
import { nullDevice, realDevice } from "./open.ts";

const wgsl = `@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  var v = x[id.x];
  for (var i = 0u; i < 64u; i++) { v = v * 0.5 + 1.0; }
  x[id.x] = v;
}
`;

const work = async (device: Device, memory: Memory, workgroups: number): Promise<EncodeWork> => {
  const buffer = await memory.create({ label: "x", bytes: workgroups * 256 });
  const { pipeline, layout } = await new PipelineCache(device).compile({ label: "work", wgsl, bindings: ["write"] });
  const group = device.device.createBindGroup({ layout, entries: [{ binding: 0, resource: { buffer } }] });
  return (pass, count) => {
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, group);
    for (let i = 0; i < count; i++) pass.dispatchWorkgroups(workgroups);
  };
};

describe.each([
  ["timestamps", "timestamp"],
  ["the wall clock", "wall"],
] as const)("Timer by %s", (_, method) => {
  let device: Device | undefined;
  beforeAll(async () => {
    device = await realDevice(method === "wall" ? { features: [] } : {});
  });
  afterAll(() => {
    device?.destroy();
  });

  it("gives more for more work", { retry: 3 }, async (context) => {
    if (device === undefined || (method === "timestamp" && !device.caps.timestamps))
      return context.skip("no GPU adapter, or one without timestamps");
    const memory = new Memory(device);
    const timer = new Timer(device, memory);
    const small = await timer.measure(await work(device, memory, 16));
    const large = await timer.measure(await work(device, memory, 16384), { repeats: 5 });
    expect([small.method, large.method]).toEqual([method, method]);
    // The least of the samples: a busy machine only ever adds to a time.
    expect(Math.min(...large.samples)).toBeGreaterThan(Math.min(...small.samples));
    expect(large.ns).toBe(median(large.samples));
    expect(small.count).toBeGreaterThanOrEqual(1);
    timer.dispose();
    memory.dispose();
    expect(memory.live).toBe(0);
  });

  it("gives up on what is too slow, and flushes when asked", { retry: 3 }, async (context) => {
    if (device === undefined || (method === "timestamp" && !device.caps.timestamps))
      return context.skip("no GPU adapter, or one without timestamps");
    const memory = new Memory(device);
    const timer = new Timer(device, memory);
    const encode = await work(device, memory, 16384);
    const gaveUp = await timer.measure(encode, { giveUpNs: 1 });
    expect([gaveUp.gaveUp, gaveUp.count, gaveUp.samples.length]).toEqual([true, 1, 1]);
    const cold = await timer.measure(encode, { flush: true, repeats: 3 });
    expect([cold.gaveUp, cold.count]).toEqual([false, 1]);
    expect(cold.ns).toBeGreaterThan(0);
    timer.dispose();
    memory.dispose();
    device.check();
  });
});

describe("Timer", () => {
  it("ends on a device that runs nothing", async () => {
    const device = await nullDevice();
    const memory = new Memory(device);
    const timing = await new Timer(device, memory).measure(await work(device, memory, 16));
    expect(timing.ns).toBeGreaterThanOrEqual(0); // what it stamps is meaningless
    device.destroy();
  });

  it("takes medians", () => expect([median([3, 1, 2]), median([4, 1, 2, 3]), median([7])]).toEqual([2, 2.5, 7]));
});
