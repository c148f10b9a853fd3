// Opening and losing devices, what they say they can do, and where their errors go.

import { afterEach, describe, expect, it } from "vitest";
import type { Device } from "../../src/gpu/device.ts";
import { openNodeDevice } from "../../src/node-device.ts";
import { coreCaps } from "../../src/util/caps.ts";
import type { KilnError } from "../../src/util/errors.ts";
import { nullDevice, realDevice, rejection } from "./open.ts";

const opened: Device[] = [];
const keep = <D extends Device | undefined>(device: D): D => {
  if (device !== undefined) opened.push(device);
  return device;
};
afterEach(() => {
  for (const device of opened.splice(0)) device.destroy();
});

describe("openNodeDevice", () => {
  it("opens two devices that work side by side and outlive each other", async () => {
    const [a, b] = await Promise.all([nullDevice(), nullDevice()]);
    keep(b);
    expect(a.device).not.toBe(b.device);
    a.destroy();
    await a.lost;
    expect(b.lostBy).toBeUndefined();
    b.device.createBuffer({ size: 4, usage: 8 }).destroy();
    await b.queue.onSubmittedWorkDone();
    b.check();
  });

  it("gives caps that survive JSON", async () => {
    for (const device of [keep(await nullDevice()), keep(await realDevice())]) {
      if (device === undefined) continue;
      expect(JSON.parse(JSON.stringify(device.caps))).toEqual(device.caps);
      expect(device.caps.limits.maxComputeInvocationsPerWorkgroup).toBeGreaterThanOrEqual(128);
      expect(device.caps.subgroupMaxSize).toBeGreaterThanOrEqual(device.caps.subgroupMinSize);
      expect(device.caps.f16).toBe(device.device.features.has("shader-f16"));
    }
  });

  it("knows which dialect of subgroup matrices the compiler takes", async () => {
    const device = keep(await nullDevice());
    expect(device.caps.matrixDialect).toBe("template");
    expect(device.caps.matrix).toEqual([]);
    expect(device.caps.tier).not.toBe("tensor");
  });

  it("opens with core limits and no features when portable", async () => {
    const device = keep(await nullDevice({ portable: true }));
    expect(device.caps).toEqual(coreCaps);
    expect(device.device.features.has("shader-f16")).toBe(false);
  });

  it("opens with a reduced list of features", async () => {
    const device = keep(await nullDevice({ features: ["subgroups"] }));
    expect([device.caps.f16, device.caps.subgroups, device.caps.timestamps]).toEqual([false, true, false]);
  });

  it("refuses a feature that the adapter lacks", async () => {
    const error = await rejection(nullDevice({ features: ["shader-f64"] }));
    expect(error.message).toBe('K403 missing-feature  WebGPU: the device has no feature "shader-f64"');
    expect(error.why).toContain("shader-f16");
  });

  it("says what to do when there is no adapter", async () => {
    const error = await rejection(openNodeDevice({ backend: "null", adapterName: "Voodoo 2" }));
    expect(error.code).toBe("K401");
    expect(error.why).toContain("no adapter with backend 'null' and name 'Voodoo 2' found");
    expect(error.hint).toContain("npm run setup");
  });
});

describe("Device", () => {
  it("resolves `lost` when destroyed, and says so at once", async () => {
    const device = await nullDevice();
    device.destroy();
    expect(device.lostBy?.code).toBe("K408");
    const loss = await device.lost;
    expect(loss.message).toBe("K408 device-lost  WebGPU: the device was destroyed");
    expect(() => device.check()).toThrow(loss);
    device.destroy();
  });

  it("keeps the first uncaught error and reports each", async () => {
    const seen: KilnError[] = [];
    const device = keep(await nullDevice({ onUncapturedError: (error) => seen.push(error) }));
    device.device.createBuffer({ size: 1e12, usage: 8 });
    device.device.createBuffer({ size: 4, usage: 0 });
    await device.queue.onSubmittedWorkDone();
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(seen.map((error) => error.code)).toEqual(["K409", "K409"]);
    expect(device.firstError).toBe(seen[0]);
    expect(device.firstError?.why).toContain("1000000000000");
    expect(() => device.check()).toThrow("K409");
  });
});
