// Devices that are not here, for tests that build or compile for them: the tiers of design/gpu.md, put over the limits of the
// null device.

import { type Caps, coreLimits } from "../../src/util/caps.ts";

/** WebGPU's core and nothing else. */
export const coreTier = (caps: Caps): Caps => ({
  ...caps,
  tier: "core",
  f16: false,
  subgroups: false,
  matrix: [],
  matrixDialect: "none",
  limits: { ...caps.limits, ...coreLimits },
});

/** Dawn on a GPU with tensor cores, as an H200 describes itself; `limits` over those of the null device. */
export const tensorTier = (caps: Caps, limits: Partial<Caps["limits"]> = {}): Caps => ({
  ...caps,
  tier: "tensor",
  f16: true,
  subgroups: true,
  subgroupMinSize: 32,
  subgroupMaxSize: 32,
  dot4: true,
  matrixDialect: "template",
  matrix: [
    { component: "f16", result: "f32", m: 16, n: 16, k: 16 },
    { component: "i8", result: "i32", m: 16, n: 16, k: 32 },
  ],
  limits: { ...caps.limits, ...limits },
});

/** What an H200 allows a workgroup. */
export const largeWorkgroups: Partial<Caps["limits"]> = {
  maxComputeWorkgroupStorageSize: 49152,
  maxComputeInvocationsPerWorkgroup: 1024,
  maxComputeWorkgroupSizeX: 1024,
  maxComputeWorkgroupSizeY: 1024,
};
