// Builder and Runtime over the page's own WebGPU, `navigator.gpu`, and timing caches in the page's IndexedDB.

import { TimingCache } from "./autotuner/cache.ts";
import { Builder as Compiler } from "./builder.ts";
import { type Device, type DeviceOptions, openDevice } from "./gpu/device.ts";
import { hostOperator } from "./ops/registry.ts";
import { Runtime as LeanRuntime, type RuntimeOptions } from "./runtime.ts";
import { noAdapter } from "./util/errors.ts";

/** A device that is open already, a `GPU` to ask for one, or how to ask `navigator.gpu`. */
type Where = Device | GPU | DeviceOptions;

async function deviceFrom(where: Where): Promise<Device> {
  if ("fingerprint" in where) return where;
  if ("requestAdapter" in where) return openDevice(where);
  const gpu: GPU | undefined = globalThis.navigator?.gpu;
  if (!gpu) throw noAdapter("navigator.gpu", "this browser has no WebGPU, or the page is not served over HTTPS");
  return openDevice(gpu, where);
}

export class Builder extends Compiler {
  /** A builder on the page's GPU. Errors: K401 no adapter, K402 the adapter gave no device. */
  static async create(where: Where = {}): Promise<Builder> {
    return new Builder(await deviceFrom(where));
  }
}

/** Loads engines, those with host layers too; `kiln-webgpu/runtime` has a smaller one without. */
export class Runtime extends LeanRuntime {
  /** A runtime on the page's GPU. Errors: K401 no adapter, K402 the adapter gave no device. */
  static override async create(where: Where = {}, options: RuntimeOptions = {}): Promise<Runtime> {
    return new Runtime(await deviceFrom(where), { hostOperators: hostOperator, ...options });
  }
}

const DATABASE = "kiln";
const STORE = "timing-caches";

/** The timing cache of this name in the page's IndexedDB; an empty one where there is none. `warn` hears of damage. */
export async function loadTimingCache(name: string, warn: (message: string) => void = console.warn): Promise<TimingCache> {
  const database = await openDatabase();
  try {
    return parse(await settled(database.transaction(STORE).objectStore(STORE).get(name)), (message) =>
      warn(`${name}: ${message}`),
    );
  } finally {
    database.close();
  }
}

/** Stores the cache under a name, together with what other pages stored there meanwhile: all in one transaction. */
export async function saveTimingCache(cache: TimingCache, name: string): Promise<void> {
  const database = await openDatabase();
  try {
    const store = database.transaction(STORE, "readwrite").objectStore(STORE);
    cache.merge(parse(await settled(store.get(name)), () => {}));
    await settled(store.put(cache.serialize(), name));
  } finally {
    database.close();
  }
}

const parse = (text: unknown, warn: (message: string) => void): TimingCache =>
  typeof text === "string" ? TimingCache.parse(text, warn) : new TimingCache();

const openDatabase = (): Promise<IDBDatabase> => {
  const request = indexedDB.open(DATABASE, 1);
  request.onupgradeneeded = () => request.result.createObjectStore(STORE);
  return settled(request);
};

const settled = <T>(request: IDBRequest<T>): Promise<T> =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
