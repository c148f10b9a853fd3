// Opens devices for the tests here: the machine's adapter where there is one, and Dawn's null backend, which is everywhere.

import type { Device } from "../../src/gpu/device.ts";
import { type NodeDeviceOptions, openNodeDevice } from "../../src/node-device.ts";
import { KilnError } from "../../src/util/errors.ts";

export const nullDevice = (options: NodeDeviceOptions = {}): Promise<Device> => openNodeDevice({ ...options, backend: "null" });

/** The machine's device, or undefined where it has no adapter. */
export const realDevice = async (options: NodeDeviceOptions = {}): Promise<Device | undefined> => {
  try {
    return await openNodeDevice(options);
  } catch (failure) {
    if (failure instanceof KilnError && failure.code === "K401") return undefined;
    throw failure;
  }
};

/** What a promise is rejected with; fails if that is no KilnError. */
export const rejection = async (promise: Promise<unknown>): Promise<KilnError> => {
  const failure: unknown = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (failure instanceof KilnError) return failure;
  throw new Error(`expected a KilnError, got ${String(failure)}`);
};
