// What a device's fingerprint is of, line by line.

import type { Device } from "../../../src/runtime.ts";
import type { DeviceReport } from "../protocol.ts";

const mebibytes = (bytes: number): string => `${(bytes / 2 ** 20).toLocaleString("en")} MiB`;

export function factsOf({ caps, fingerprint }: Device): DeviceReport["facts"] {
  const { vendor, architecture, device, description, features } = fingerprint;
  const { limits } = caps;
  const facts: [string, string][] = [
    ["Vendor", vendor],
    ["Architecture", architecture],
    ["Device", device],
    ["Driver", description],
    ["Subgroups", caps.subgroups ? `${caps.subgroupMinSize} to ${caps.subgroupMaxSize} invocations` : "none"],
    ["Half precision", caps.f16 ? "yes" : "no"],
    ["Byte products", caps.dot4 ? "dot4I8Packed" : "no"],
    [
      "Tensor cores",
      caps.matrix.map(({ component, result, m, n, k }) => `${component}→${result} ${m}×${n}×${k}`).join(", ") || "none",
    ],
    ["Timestamps", caps.timestamps ? "yes" : "no"],
    ["Workgroup memory", `${limits.maxComputeWorkgroupStorageSize / 1024} KiB`],
    ["Invocations a workgroup", String(limits.maxComputeInvocationsPerWorkgroup)],
    ["Largest binding", mebibytes(limits.maxStorageBufferBindingSize)],
    ["Features", features.join(", ")],
  ];
  return facts.filter(([, value]) => value !== "");
}
