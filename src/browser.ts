// Builder and Runtime over the page's own WebGPU, `navigator.gpu`.

import { Builder as Compiler } from "./builder.ts";
import { type Device, type DeviceOptions, openDevice } from "./gpu/device.ts";
import { hostOperator } from "./ops/registry.ts";
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
