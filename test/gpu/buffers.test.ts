// Making buffers, filling them and reading them back, on the null backend and on the machine's adapter.

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Memory } from "../../src/gpu/buffers.ts";
import { BufferUsage } from "../../src/gpu/constants.ts";
import type { Device } from "../../src/gpu/device.ts";
import { nullDevice, realDevice, rejection } from "./open.ts";

const numbered = (length: number, seed = 1): Uint8Array<ArrayBuffer> => {
  const bytes = new Uint8Array(length);
  let x = seed;
  for (let i = 0; i < length; i++) {
    x = (Math.imul(x, 1664525) + 1013904223) | 0;
    bytes[i] = x >>> 24;
  }
  return bytes;
};
const same = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0;

// The null backend goes through the motions but moves no bytes.
const devices = [
  ["the null backend", nullDevice, false],
  ["the machine's adapter", realDevice, true],
] as const;

describe.each(devices)("Memory on %s", (_, open, movesBytes) => {
  let device: Device | undefined;
  beforeAll(async () => {
    device = await open();
  });
  afterAll(() => {
    device?.destroy();
  });

  it.each([0, 1, 3, 4, 5, 1000, 5_000_001, 40_000_003])("brings back %i bytes", async (length) => {
    if (device === undefined) return;
    const memory = new Memory(device);
    const buffer = await memory.create({ label: "round trip", bytes: length });
    expect(buffer.size).toBe(Math.max(4, Math.ceil(length / 4) * 4));
    expect(memory.live).toBe(buffer.size);
    const data = numbered(length);
    await memory.upload(buffer, data);
    const back = await memory.download(buffer, 0, length);
    expect(back.length).toBe(length);
    if (movesBytes) expect(same(back, data)).toBe(true);
    memory.dispose();
    expect([memory.live, memory.staging]).toEqual([0, 0]);
    device.check();
  });

  it("reads any range and writes at any word", async () => {
    if (device === undefined) return;
    const memory = new Memory(device);
    const buffer = await memory.create({ label: "ranges", bytes: 64 });
    const data = numbered(64);
    memory.write(buffer, data);
    expect(() => memory.write(buffer, data, 4)).toThrow("K900");
    expect(() => memory.write(buffer, new Uint8Array(4), 2)).toThrow("not a multiple of 4");
    if (!movesBytes) return;
    expect([...(await memory.download(buffer, 3, 7))]).toEqual([...data.subarray(3, 10)]);
    expect([...(await memory.download(buffer, 61))]).toEqual([...data.subarray(61)]);
    memory.write(buffer, new Uint8Array([9, 8, 7, 6, 5]), 8);
    const expected = data.slice();
    expected.set([9, 8, 7, 6, 5, 0, 0, 0], 8);
    expect([...(await memory.download(buffer))]).toEqual([...expected]);
    const target = new Uint8Array(4);
    expect(await memory.download(buffer, 8, 4, target)).toBe(target);
    expect([...target]).toEqual([9, 8, 7, 6]);
    memory.dispose();
  });

  it("keeps uploads that run at the same time apart", async () => {
    if (device === undefined) return;
    const memory = new Memory(device);
    const datas = [1, 2, 3].map((seed) => numbered(20_000_000, seed));
    const buffers = await Promise.all(datas.map((data) => memory.create({ label: "many", bytes: data.length })));
    await Promise.all(buffers.map((buffer, i) => memory.upload(buffer, datas[i]!)));
    const back = await Promise.all(buffers.map((buffer) => memory.download(buffer)));
    if (movesBytes) expect(back.map((bytes, i) => same(bytes, datas[i]!))).toEqual([true, true, true]);
    memory.dispose();
    expect(memory.staging).toBe(0);
  });

  it("reuses its staging", async () => {
    if (device === undefined) return;
    const memory = new Memory(device);
    const data = numbered(5_000_000);
    const buffer = await memory.create({ label: "reuse", bytes: data.length });
    const held: number[] = [];
    for (let i = 0; i < 4; i++) {
      await memory.upload(buffer, data);
      await memory.download(buffer);
      held.push(memory.staging);
    }
    expect(held[3]).toBe(held[0]);
    const encoder = device.device.createCommandEncoder();
    memory.readback(encoder, buffer, 0, 5_000_000).cancel();
    expect(memory.staging).toBe(held[0]);
    memory.dispose();
  });

  it("refuses what the device does not allow, by name", async () => {
    if (device === undefined) return;
    const memory = new Memory(device);
    const { maxBufferSize, maxStorageBufferBindingSize, maxUniformBufferBindingSize } = device.caps.limits;
    const huge = await rejection(memory.create({ label: "huge", bytes: 1e13 }));
    expect(huge.message).toContain(`buffer "huge": needs maxBufferSize = 10000000000000, the device allows ${maxBufferSize}`);
    if (maxStorageBufferBindingSize < maxBufferSize) {
      const wide = await rejection(memory.create({ label: "wide", bytes: maxStorageBufferBindingSize + 4 }));
      expect(wide.message).toContain("needs maxStorageBufferBindingSize");
    }
    const usage = BufferUsage.UNIFORM;
    const uniform = await rejection(memory.create({ label: "dims", bytes: maxUniformBufferBindingSize + 4, usage }));
    expect(uniform.message).toContain("needs maxUniformBufferBindingSize");
    expect(memory.live).toBe(0);
    device.check();
  });
});

describe("Memory", () => {
  it("names the buffer there was no room for, and frees it", async () => {
    const device = await nullDevice(); // the null backend pretends to have 512 MiB
    const memory = new Memory(device);
    const made = await memory.create({ label: "first", bytes: 2 ** 28, boundInParts: true });
    const more = [1, 2].map((i) => memory.create({ label: `more ${i}`, bytes: 2 ** 28, boundInParts: true }));
    const results = await Promise.allSettled(more);
    expect(results.map(({ status }) => status)).toEqual(["fulfilled", "rejected"]);
    const error = await rejection(more[1]!);
    expect(error.format()).toContain('K407 out-of-memory  buffer "more 2": the device has no room for 268435456 bytes');
    expect(memory.live).toBe(2 ** 29);
    memory.destroy(made);
    memory.destroy(made);
    expect(memory.live).toBe(2 ** 28);
    memory.dispose();
    device.check();
    device.destroy();
  });

  it("fails in Kiln's words on a device that is gone", async () => {
    const device = await nullDevice();
    const memory = new Memory(device);
    const buffer = await memory.create({ label: "gone", bytes: 4 << 20 });
    const reading = rejection(memory.download(buffer));
    device.destroy();
    expect((await reading).code).toBe("K408");
    expect((await rejection(memory.upload(buffer, new Uint8Array(4 << 20)))).code).toBe("K408");
    expect((await rejection(memory.create({ label: "late", bytes: 4 }))).code).toBe("K408");
  });
});
