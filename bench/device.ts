// The device that a benchmark runs on, as its command line says.

import type { Device } from "../src/gpu/device.ts";
import { openNodeDevice } from "../src/node-device.ts";

/** For `parseArgs`. `fast`: Dawn checks neither bounds nor calls. */
export const DEVICE_FLAGS = { toggles: { type: "string", default: "safe" } } as const;

export function openDevice({ toggles }: { readonly toggles: string }): Promise<Device> {
  if (toggles !== "safe" && toggles !== "fast") throw new Error(`--toggles ${toggles}: safe or fast`);
  return openNodeDevice({ toggles });
}
