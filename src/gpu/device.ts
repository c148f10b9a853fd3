// Opens a WebGPU device with all that its adapter offers, or less on request, and reads what it can do.
// Where the `GPU` object comes from is the business of the rims, node-device.ts and the browser.

import { type Caps, coreCaps } from "../util/caps.ts";
import {
  deviceLost,
  deviceRefused,
  gpuInvalid,
  type KilnError,
  missingFeature,
  noAdapter,
  outOfMemory,
} from "../util/errors.ts";
import { readCaps } from "./caps.ts";
import { type Fingerprint, fingerprintOf } from "./fingerprint.ts";

export interface DeviceOptions {
  readonly powerPreference?: GPUPowerPreference;
  /** Ask for the implementation's fallback (software) adapter. */
  readonly forceFallback?: boolean;
  /** Open with WebGPU's core limits and no optional feature, so that what runs here runs anywhere. */
  readonly portable?: boolean;
  /** Ask for exactly these features instead of all, to test as a lesser device. Limits stay all that there are. */
  readonly features?: readonly string[];
  /** Switches the WebGPU implementation was started with: part of the fingerprint, nothing more. */
  readonly toggles?: readonly string[];
  /** Name and version of the WebGPU implementation, for the fingerprint. */
  readonly implementation?: string;
  /** Told of every WebGPU error that no error scope caught. */
  readonly onUncapturedError?: (error: KilnError) => void;
  readonly label?: string;
}

export interface Device {
  readonly device: GPUDevice;
  readonly queue: GPUQueue;
  readonly caps: Caps;
  readonly fingerprint: Fingerprint;
  /** Resolves, never rejects, when the device is gone: by `destroy` or by its driver. */
  readonly lost: Promise<KilnError>;
  /** The loss, once there was one. */
  readonly lostBy: KilnError | undefined;
  /** The first WebGPU error that no error scope caught. WebGPU tells of it some time after the call that was wrong. */
  readonly firstError: KilnError | undefined;
  /** The latest of them. */
  readonly lastError: KilnError | undefined;
  /** Throws the loss or the first uncaught error, if there is one. */
  check(): void;
  /** Frees the device and all that was made on it. Safe to call twice. */
  destroy(): void;
}

/**
 * Opens a device; each call gives a new one.
 * Errors: K401 no adapter, K402 the adapter gave no device, K403 a feature of `options.features` is not offered.
 */
export const openDevice = async (gpu: GPU, options: DeviceOptions = {}): Promise<Device> => {
  const place = options.label ?? "WebGPU";
  const adapter = await requestAdapter(gpu, options, place);
  const features = chooseFeatures(adapter, options, place);
  const device = await requestDevice(adapter, features, options, place);
  return watch(gpu, adapter.info, device, options, place);
};

/** A device that was opened elsewhere, with what it was opened with; `gpu` tells the features of its WGSL. */
export const adoptDevice = (gpu: GPU, device: GPUDevice, options: DeviceOptions = {}): Promise<Device> =>
  watch(gpu, device.adapterInfo, device, options, options.label ?? "WebGPU");

const requestAdapter = async (gpu: GPU, options: DeviceOptions, place: string): Promise<GPUAdapter> => {
  let cause: string | undefined;
  try {
    const adapter = await gpu.requestAdapter({
      powerPreference: options.powerPreference ?? "high-performance",
      forceFallbackAdapter: options.forceFallback ?? false,
    });
    if (adapter !== null) return adapter;
  } catch (refusal) {
    cause = refusal instanceof Error ? refusal.message : String(refusal);
  }
  throw noAdapter(place, cause);
};

const chooseFeatures = (adapter: GPUAdapter, options: DeviceOptions, place: string): readonly string[] => {
  if (options.portable) return [];
  const offered = [...adapter.features] as readonly string[];
  for (const feature of options.features ?? []) {
    if (!offered.includes(feature)) throw missingFeature(place, feature, offered);
  }
  return options.features ?? offered;
};

const requestDevice = async (
  adapter: GPUAdapter,
  features: readonly string[],
  options: DeviceOptions,
  place: string,
): Promise<GPUDevice> => {
  const requiredLimits: Record<string, number> = {};
  if (!options.portable) {
    // Limits are accessors of the prototype: only `for in` finds them.
    for (const name in adapter.limits) {
      const value = adapter.limits[name as keyof GPUSupportedLimits];
      if (typeof value === "number") requiredLimits[name] = value;
    }
  }
  try {
    return await adapter.requestDevice({
      label: options.label ?? "kiln",
      requiredFeatures: features as readonly GPUFeatureName[] as GPUFeatureName[],
      requiredLimits,
    });
  } catch (refusal) {
    throw deviceRefused(place, refusal instanceof Error ? refusal.message : String(refusal));
  }
};

const watch = async (
  gpu: GPU,
  info: GPUAdapterInfo,
  device: GPUDevice,
  options: DeviceOptions,
  place: string,
): Promise<Device> => {
  let firstError: KilnError | undefined;
  let lastError: KilnError | undefined;
  let lostBy: KilnError | undefined;
  const lost = device.lost.then((loss) => {
    lostBy ??= deviceLost(place, loss.reason ?? "unknown", loss.message);
    return lostBy;
  });
  device.addEventListener("uncapturederror", (event) => {
    const error = fromGpuError((event as GPUUncapturedErrorEvent).error, place);
    firstError ??= error;
    lastError = error;
    options.onUncapturedError?.(error);
  });
  const caps = await readCaps(gpu, info, device, options.portable ?? false);
  const fingerprint = fingerprintOf(info, caps, options.toggles ?? [], options.implementation ?? "");
  return {
    device,
    queue: device.queue,
    caps,
    fingerprint,
    lost,
    get lostBy() {
      return lostBy;
    },
    get firstError() {
      return firstError;
    },
    get lastError() {
      return lastError;
    },
    check: () => {
      const error = lostBy ?? firstError;
      if (error !== undefined) throw error;
    },
    destroy: () => {
      lostBy ??= deviceLost(place, "destroyed", "by Device.destroy");
      device.destroy();
    },
  };
};

/** The same device, used as if it had WebGPU's core and nothing else (GPU timestamps apart, which no kernel notices). */
export const asPortable = (device: Device): Device => {
  const caps: Caps = { ...coreCaps, timestamps: device.caps.timestamps };
  const fingerprint = fingerprintOf(device.fingerprint, caps, device.fingerprint.toggles, device.fingerprint.implementation);
  return Object.create(device, { caps: { value: caps }, fingerprint: { value: fingerprint } }) as Device;
};

/** WebGPU's own error object in Kiln's form. `bytes`: what was asked for, where an out-of-memory error can name it. */
export const fromGpuError = (error: GPUError, place: string, bytes = 0, live = 0): KilnError =>
  error.constructor.name === "GPUOutOfMemoryError" ? outOfMemory(place, bytes, live) : gpuInvalid(place, error.message);
