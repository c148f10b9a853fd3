// Fingerprints are stable, and comparing them says in words what differs.

import { describe, expect, it } from "vitest";
import { compare, type Fingerprint, fingerprintOf, key } from "../../src/gpu/fingerprint.ts";
import { type Caps, coreCaps } from "../../src/util/caps.ts";
import { nullDevice } from "./open.ts";

const caps: Caps = {
  ...coreCaps,
  tier: "tensor",
  features: ["bgra8unorm-storage", "shader-f16", "subgroups", "timestamp-query"],
  f16: true,
  subgroups: true,
  subgroupMinSize: 32,
  subgroupMaxSize: 32,
  matrix: [{ component: "f16", result: "f32", m: 16, n: 16, k: 16 }],
  matrixDialect: "template",
};
const info = { vendor: "nvidia", architecture: "", device: "NVIDIA H200", description: "NVIDIA: 580.65.06 580.65.6.0" };
const h200 = fingerprintOf(info, caps, ["b", "a"], "dawn.node 0.6.2");
const differ = (other: Partial<Fingerprint>) => compare(h200, { ...h200, ...other });

describe("fingerprint", () => {
  it("holds what a kernel can notice", () => {
    expect(h200.features).toEqual(["shader-f16", "subgroups"]);
    expect(h200.toggles).toEqual(["a", "b"]);
  });

  it("is the same for two openings of one adapter", async () => {
    const [a, b] = await Promise.all([nullDevice(), nullDevice()]);
    expect(JSON.stringify(a.fingerprint)).toBe(JSON.stringify(b.fingerprint));
    expect(compare(a.fingerprint, b.fingerprint)).toEqual({ verdict: "same" });
    const fast = await nullDevice({ toggles: "fast" });
    expect(key(fast.fingerprint)).not.toBe(key(a.fingerprint));
    for (const device of [a, b, fast]) device.destroy();
  });

  it("has a key that does not depend on the order of fields", () => {
    const turned = Object.fromEntries(Object.entries(h200).reverse()) as unknown as Fingerprint;
    expect(key(turned)).toBe(key(JSON.parse(JSON.stringify(h200))));
    expect(key(h200)).toMatch(/^[0-9a-f]{32}$/);
    expect(key({ ...h200, subgroupMaxSize: 64 })).not.toBe(key(h200));
  });
});

describe("compare", () => {
  it("lets a driver or an implementation be newer", () => {
    expect(differ({ description: "NVIDIA: 590.11.2 590.11.2.0" })).toEqual({
      verdict: "driver",
      differences: ['driver: built for "NVIDIA: 580.65.06 580.65.6.0", here "NVIDIA: 590.11.2 590.11.2.0"'],
    });
    expect(differ({ implementation: "dawn.node 0.7.0" }).verdict).toBe("driver");
  });

  it("knows Mesa's version numbers", () => {
    const mesa = { ...h200, description: "llvmpipe: Mesa 25.0.7-2~bpo12+1 (LLVM 15.0.6) 0.0.1" };
    expect(compare(mesa, { ...mesa, description: "llvmpipe: Mesa 25.2.0 (LLVM 19.1.7) 0.0.1" }).verdict).toBe("driver");
  });

  it.each<[Partial<Fingerprint>, string]>([
    [{ device: "NVIDIA H100" }, 'device: built for "NVIDIA H200", here "NVIDIA H100"'],
    [{ description: "Mesa 25.0.7" }, 'driver: built for "NVIDIA: 580.65.06 580.65.6.0", here "Mesa 25.0.7"'],
    [{ implementation: "Chrome 142" }, 'WebGPU implementation: built for "dawn.node 0.6.2", here "Chrome 142"'],
    [{ architecture: "hopper" }, 'architecture: built for an unnamed one, here "hopper"'],
    [{ features: ["subgroups"] }, 'feature "shader-f16": built with it, not here'],
    [{ toggles: ["a", "b", "c"] }, 'toggle "c": built without it, on here'],
    [{ subgroupMaxSize: 64 }, "subgroupMaxSize: built for 32, here 64"],
    [{ limits: { ...caps.limits, maxBufferSize: 1 } }, "limit maxBufferSize: built for 268435456, here 1"],
    [{ matrix: [] }, "subgroup matrix f16→f32 16×16×16: built with it, not here"],
    [{ matrixDialect: "legacy" }, "matrixDialect: built for template, here legacy"],
  ])("calls %j different", (other, words) => {
    expect(differ(other)).toEqual({ verdict: "different", differences: [words] });
  });
});
