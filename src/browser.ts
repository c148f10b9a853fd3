// Builder and Runtime over the page's own WebGPU, `navigator.gpu`, and timing caches in the page's IndexedDB.

import { TimingCache } from "./autotuner/cache.ts";
import { Builder as Compiler } from "./builder.ts";
import { type Device, type DeviceOptions, openDevice } from "./gpu/device.ts";
import { hostOperatorsWith } from "./ops/host.ts";
import type { Picture } from "./ops/image-decoder.ts";
import { Runtime as LeanRuntime, type RuntimeOptions } from "./runtime.ts";
import { noAdapter } from "./util/errors.ts";

/** A device that is open already, a `GPU` to ask for one, or how to ask `navigator.gpu`. */
type Where = Device | GPU | DeviceOptions;

async function deviceFrom(where: Where): Promise<Device> {
  if ("fingerprint" in where) return where;
  return "requestAdapter" in where ? openDevice(where) : openDevice(pageGpu(), where);
}

/** The page's `GPU`. Error K401 where there is none. */
export function pageGpu(): GPU {
  const gpu: GPU | undefined = globalThis.navigator?.gpu;
  if (!gpu) throw noAdapter("navigator.gpu", "this browser has no WebGPU, or the page is not served over HTTPS");
  return gpu;
}

/** Decodes what the browser does: JPEG, PNG, WebP, GIF, BMP, AVIF. */
async function decodePicture(file: Uint8Array): Promise<Picture> {
  const bitmap = await createImageBitmap(new Blob([file.slice()]), { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  const { width, height } = bitmap;
  const canvas = new OffscreenCanvas(width, height).getContext("2d")!;
  canvas.drawImage(bitmap, 0, 0);
  const { data } = canvas.getImageData(0, 0, width, height);
  return { width, height, rgba: new Uint8Array(data.buffer) };
}
const hostOperators = hostOperatorsWith(decodePicture);

export class Builder extends Compiler {
  constructor(device: Device) {
    super(device, hostOperators);
  }

  /** A builder on the page's GPU. Errors: K401 no adapter, K402 the adapter gave no device. */
  static async create(where: Where = {}): Promise<Builder> {
    return new Builder(await deviceFrom(where));
  }
}

/** Loads engines, those with host layers too; `kiln-webgpu/runtime` has a smaller one without. */
export class Runtime extends LeanRuntime {
  /** A runtime on the page's GPU. Errors: K401 no adapter, K402 the adapter gave no device. */
  static override async create(where: Where = {}, options: RuntimeOptions = {}): Promise<Runtime> {
    return new Runtime(await deviceFrom(where), { hostOperators, ...options });
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
