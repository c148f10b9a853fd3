// The public API in Node: that of index.ts over a device of the npm package `webgpu`, and what Node has besides: files.

import {
  closeSync,
  existsSync,
  fstatSync,
  openSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { readFile } from "node:fs/promises";
import { dirname, isAbsolute, join, normalize } from "node:path";
import { TimingCache } from "./autotuner/cache.ts";
import { type BuildOptions, Builder as Compiler } from "./builder.ts";
import type { Engine } from "./engine/engine.ts";
import { type Device, openDevice } from "./gpu/device.ts";
import type { ReadExternal } from "./importer/tensors.ts";
import { type NodeDeviceOptions, openNodeDevice } from "./node-device.ts";
import { decodePicture } from "./node-pictures.ts";
import { hostOperatorsWith } from "./ops/host.ts";
import { Runtime as LeanRuntime, type RuntimeOptions } from "./runtime.ts";

export * from "./api.ts";
export { type NodeDeviceOptions, openNodeDevice } from "./node-device.ts";

/** A device that is open already, a `GPU` to ask for one, or how to open one. */
type Where = Device | GPU | NodeDeviceOptions;

const deviceFrom = async (where: Where): Promise<Device> =>
  "fingerprint" in where ? where : "requestAdapter" in where ? openDevice(where) : openNodeDevice(where);

const hostOperators = hostOperatorsWith(decodePicture);

export class Builder extends Compiler {
  constructor(device: Device) {
    super(device, hostOperators);
  }

  /** A builder on this machine's GPU. Errors: K401 no adapter, K402 the adapter gave no device. */
  static async create(where: Where = {}): Promise<Builder> {
    return new Builder(await deviceFrom(where));
  }

  /** `build` of a model file; tensor data that lies beside it is found. */
  async buildFile(file: string, options: BuildOptions = {}): Promise<Engine> {
    return this.build(await readFile(file), { file, readExternal: readBeside(file), ...options });
  }
}

/** Loads engines, those with host layers too; `kiln-webgpu/runtime` has a smaller one without. */
export class Runtime extends LeanRuntime {
  /** A runtime on this machine's GPU. Errors: K401 no adapter, K402 the adapter gave no device. */
  static override async create(where: Where = {}, options: RuntimeOptions = {}): Promise<Runtime> {
    return new Runtime(await deviceFrom(where), { hostOperators, ...options });
  }

  /** `deserialize` of an engine file. */
  async deserializeFile(file: string): Promise<Engine> {
    return this.deserialize(await readFile(file), file);
  }
}

/** Reads external tensor data from the folder of a model. Refuses what lies outside of it, as ONNX's own checker does. */
export function readBeside(model: string): ReadExternal {
  return (name, offset, length) => {
    const inside = normalize(name);
    if (isAbsolute(inside) || /^\.\.([\\/]|$)/.test(inside)) throw new Error("it lies outside of the model's folder");
    const file = openSync(join(dirname(model), inside), "r");
    try {
      const bytes = new Uint8Array(Math.max(0, Math.min(length ?? Number.POSITIVE_INFINITY, fstatSync(file).size - offset)));
      for (let at = 0; at < bytes.length; ) {
        const read = readSync(file, bytes, at, Math.min(bytes.length - at, 2 ** 30), offset + at);
        if (read === 0) break;
        at += read;
      }
      return bytes;
    } finally {
      closeSync(file);
    }
  };
}

/** The timing cache in a file; an empty one where there is none. `warn` hears of damage. */
export function loadTimingCache(file: string, warn: (message: string) => void = console.warn): TimingCache {
  return existsSync(file)
    ? TimingCache.parse(readFileSync(file, "utf8"), (message) => warn(`${file}: ${message}`))
    : new TimingCache();
}

/**
 * Writes the cache, together with what other processes wrote into the file meanwhile: they take turns by a lock beside it, and
 * nobody ever reads half a file.
 */
export function saveTimingCache(cache: TimingCache, file: string): void {
  const partial = `${file}.${process.pid}.tmp`;
  const lock = `${file}.lock`;
  takeLock(lock);
  try {
    cache.merge(loadTimingCache(file, () => {}));
    writeFileSync(partial, cache.serialize());
    renameSync(partial, file);
  } finally {
    rmSync(partial, { force: true });
    rmSync(lock, { force: true });
  }
}

/** How old a lock may be before its owner counts as dead: a save takes milliseconds. */
const STALE_MS = 5000;

function takeLock(lock: string): void {
  const wait = new Int32Array(new SharedArrayBuffer(4));
  for (;;) {
    try {
      closeSync(openSync(lock, "wx"));
      return;
    } catch (failure) {
      if ((failure as NodeJS.ErrnoException).code !== "EEXIST") throw failure;
    }
    const held = statSync(lock, { throwIfNoEntry: false });
    if (held && Date.now() - held.mtimeMs > STALE_MS) rmSync(lock, { force: true });
    else Atomics.wait(wait, 0, 0, 10);
  }
}
