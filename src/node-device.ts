// Opens a WebGPU device in Node, through the npm package `webgpu` (Dawn). This file and the other rims are the only ones that
// know where a `GPU` comes from.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { adoptDevice, type Device, type DeviceOptions, openDevice } from "./gpu/device.ts";
import { restBetweenPolls } from "./node-polls.ts";
import { noAdapter } from "./util/errors.ts";

export interface NodeDeviceOptions extends Omit<DeviceOptions, "toggles" | "implementation"> {
  /**
   * Dawn's switches. "safe" (the default) gives all features and exact timestamps. "fast" also leaves out bounds checks,
   * validation and zeroing: for engines that are trusted. A list names toggles one by one, a leading "-" disables.
   */
  readonly toggles?: "safe" | "fast" | readonly string[];
  /** "null" runs no kernel but compiles and checks them on any machine. */
  readonly backend?: "vulkan" | "d3d12" | "metal" | "opengl" | "null";
  /** Part of the adapter's name. */
  readonly adapterName?: string;
}

// Names are Dawn's: https://dawn.googlesource.com/dawn/+/refs/heads/main/src/dawn/native/Toggles.cpp
const safe = ["allow_unsafe_apis", "vulkan_enable_f16_on_nvidia", "-timestamp_quantization"];
const fast = [
  ...safe,
  "disable_robustness",
  "skip_validation",
  "disable_workgroup_init",
  "disable_polyfills_on_integer_div_and_mod",
  "-lazy_clear_resource_on_first_use",
  "-enable_spirv_validation",
];

// Dawn crashes when the object that create() returned is collected while something made of it lives: the set holds it as
// long as a device works, the map as long as a device can still be reached.
const working = new Set<GPU>();
const behind = new WeakMap<GPUDevice, GPU>();

/**
 * Opens a device; each call gives a new one, and an instance of Dawn of its own. Call `destroy` when done.
 * Errors: as `openDevice`; K401 also for an unknown backend or adapter name.
 */
export const openNodeDevice = async (options: NodeDeviceOptions = {}): Promise<Device> => {
  const { toggles: choice = "safe", backend, adapterName, ...rest } = options;
  const toggles = choice === "safe" ? safe : choice === "fast" ? fast : choice;
  const gpu = await createGpu(toggles, backend, adapterName);
  working.add(gpu);
  try {
    const opened = await openDevice(gpu, { ...rest, toggles, implementation: `dawn.node ${webgpuVersion()}` });
    behind.set(opened.device, gpu);
    if (opened.device.adapterInfo.isFallbackAdapter) restBetweenPolls();
    void opened.lost.then(() => working.delete(gpu));
    return opened;
  } catch (failure) {
    working.delete(gpu);
    throw failure;
  }
};

/** A device of Dawn that the caller opened and keeps. */
export const adoptNodeDevice = async (device: GPUDevice): Promise<Device> =>
  adoptDevice(await createGpu(safe, undefined, undefined), device, { implementation: `dawn.node ${webgpuVersion()}` });

const createGpu = async (toggles: readonly string[], backend: string | undefined, name: string | undefined): Promise<GPU> => {
  const on = toggles.filter((toggle) => !toggle.startsWith("-"));
  const off = toggles.filter((toggle) => toggle.startsWith("-")).map((toggle) => toggle.slice(1));
  const flags = [
    ...(on.length > 0 ? [`enable-dawn-features=${on.join(",")}`] : []),
    ...(off.length > 0 ? [`disable-dawn-features=${off.join(",")}`] : []),
    ...(backend === undefined ? [] : [`backend=${backend}`]),
    ...(name === undefined ? [] : [`adapter=${name}`]),
  ];
  try {
    const { create } = await import("webgpu");
    return create(flags);
  } catch (failure) {
    throw noAdapter("webgpu (Dawn)", failure instanceof Error ? failure.message : String(failure));
  }
};

const webgpuVersion = (): string => {
  const require = createRequire(import.meta.url);
  const manifest: unknown = JSON.parse(readFileSync(require.resolve("webgpu/package.json"), "utf8"));
  return (manifest as { readonly version: string }).version;
};
