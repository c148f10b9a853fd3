// kiln devices: the adapters that WebGPU offers here, and what each can do.

import type { Command } from "commander";
import type { Device } from "../gpu/device.ts";
import { deviceName, type Fingerprint, key } from "../gpu/fingerprint.ts";
import { type NodeDeviceOptions, openNodeDevice } from "../node-device.ts";
import type { Caps } from "../util/caps.ts";
import { KilnError } from "../util/errors.ts";
import { bytesText, columns, say } from "./print.ts";

interface DeviceReport {
  readonly name: string;
  /** Hash of the fingerprint: engines and timing caches go by it. */
  readonly key: string;
  readonly fingerprint: Fingerprint;
  readonly caps: Caps;
}

export function addDevices(program: Command): void {
  program
    .command("devices")
    .description("list adapters with their features, limits, fingerprint and tier")
    .option("--json", "print a JSON array")
    .option("--quiet", "no progress")
    .action(devices);
}

async function devices(flags: { readonly json?: boolean }): Promise<void> {
  const found = await listDevices();
  say(flags.json ? JSON.stringify(found, undefined, 2) : found.map(textOf).join("\n\n"));
}

/** WebGPU gives one adapter an ask: asks for each kind and keeps those that differ. Error K401 when there is none at all. */
async function listDevices(): Promise<DeviceReport[]> {
  const asks: readonly NodeDeviceOptions[] = [
    { powerPreference: "high-performance" },
    { powerPreference: "low-power" },
    { forceFallback: true },
  ];
  const found = new Map<string, DeviceReport>();
  let refusal: unknown;
  for (const ask of asks) {
    let device: Device;
    try {
      device = await openNodeDevice(ask);
    } catch (failure) {
      if (!(failure instanceof KilnError)) throw failure;
      refusal ??= failure;
      continue;
    }
    const { fingerprint, caps } = device;
    found.set(key(fingerprint), { name: deviceName(fingerprint), key: key(fingerprint), fingerprint, caps });
    device.destroy();
  }
  if (found.size === 0) throw refusal;
  return [...found.values()];
}

function textOf({ name, key: hash, fingerprint, caps }: DeviceReport): string {
  const { limits } = caps;
  const matrix = caps.matrix.map(({ component, result, m, n, k }) => `${component}→${result} ${m}x${n}x${k}`).join(", ");
  const rows = [
    ["device", name],
    ["driver", fingerprint.description],
    ["WebGPU", `${fingerprint.implementation} (${fingerprint.toggles.join(", ")})`],
    ["fingerprint", hash],
    ["tier", caps.tier],
    ["f16", caps.f16 ? "yes" : "no"],
    ["subgroups", caps.subgroups ? `${caps.subgroupMinSize} to ${caps.subgroupMaxSize}` : "no"],
    ["subgroup matrices", matrix || "no"],
    ["8-bit dot products", caps.dot4 ? "yes" : "no"],
    ["GPU timestamps", caps.timestamps ? "yes" : "no"],
    ["largest buffer", bytesText(limits.maxBufferSize)],
    ["largest binding", bytesText(limits.maxStorageBufferBindingSize)],
    ["workgroup memory", bytesText(limits.maxComputeWorkgroupStorageSize)],
    ["workgroup size", String(limits.maxComputeInvocationsPerWorkgroup)],
    ["storage buffers", String(limits.maxStorageBuffersPerShaderStage)],
    ["features", caps.features.join(", ")],
  ];
  return columns(rows, [0, 1]);
}
