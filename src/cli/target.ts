// --target: a device that is not here, as `kiln devices --json` printed it where it is.

import type { Target } from "../autotuner/tune.ts";
import { limitNames } from "../util/caps.ts";
import { cannotRead } from "../util/errors.ts";
import { readBytes } from "./files.ts";

const HINT = "write it with `kiln devices --json` on the device";

/** Reads a device's description: one, or the first of a list. Errors: K003. */
export function readTarget(file: string): Target {
  const bytes = readBytes(file, "device description");
  let parsed: unknown;
  try {
    parsed = JSON.parse(new TextDecoder().decode(bytes));
  } catch (failure) {
    throw cannotRead(file, `it is not JSON: ${(failure as Error).message}`, HINT);
  }
  const { caps, fingerprint } = ((Array.isArray(parsed) ? parsed[0] : parsed) ?? {}) as Partial<Target>;
  const isWhole =
    caps !== undefined &&
    fingerprint !== undefined &&
    [caps.features, caps.matrix, fingerprint.features, fingerprint.toggles, fingerprint.matrix].every(Array.isArray) &&
    [caps, fingerprint].every(({ limits }) => limitNames.every((name) => typeof limits?.[name] === "number"));
  if (!isWhole) throw cannotRead(file, "it does not describe a device", HINT);
  return { caps, fingerprint };
}
