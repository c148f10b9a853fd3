// The lean runtime: loads engines and runs them. No importer, no compiler, no operators: a page that only runs engines
// needs this file's bundle and nothing else.

import { Engine, type HostOperators } from "./engine/engine.ts";
import { checkDevice, parseEngine } from "./engine/format.ts";
import { type Device, openDevice } from "./gpu/device.ts";
import { PipelineCache } from "./gpu/pipelines.ts";

export { type ContextOptions, ExecutionContext } from "./engine/context.ts";
export type { Description, KernelDescription, MemoryDescription } from "./engine/describe.ts";
export type {
  Destination,
  GpuTensor,
  HostRunOptions,
  Input,
  Inputs,
  MixedOutputs,
  Outputs,
  RunOptions,
} from "./engine/ends.ts";
export { Engine, type HostOperator, type HostOperators } from "./engine/engine.ts";
export { type ImageOptions, type ImageSource, image, type Picture, type Pixels } from "./engine/image.ts";
export { type Device, type DeviceOptions, openDevice } from "./gpu/device.ts";
export type { Tensor, TypedArray } from "./ir/tensor.ts";
export type { DType } from "./ir/types.ts";
export { KilnError } from "./util/errors.ts";
export { VERSION } from "./util/version.ts";

export interface RuntimeOptions {
  /** Operators for engines with host layers; none unless told. */
  readonly hostOperators?: HostOperators;
  /** Told when an engine was built with another version of the driver; the console unless told. */
  readonly onWarning?: (message: string) => void;
}

/** Loads engines onto one device. Engines that share kernels share their compiled form. */
export class Runtime {
  private readonly pipelines: PipelineCache;

  constructor(
    readonly device: Device,
    private readonly options: RuntimeOptions = {},
  ) {
    this.pipelines = new PipelineCache(device);
  }

  /** A runtime on a device already open, or on one that `gpu` gives: `Runtime.create(navigator.gpu)`. Errors: K401, K402. */
  static async create(gpu: GPU | Device, options: RuntimeOptions = {}): Promise<Runtime> {
    return new Runtime("fingerprint" in gpu ? gpu : await openDevice(gpu), options);
  }

  /**
   * Loads an engine file; `file` names it in errors. The bytes must stay as they are while the engine lives.
   * Errors: K501–K504 and K506 for the file, K505 built for another device, K508 a host layer without its operator, K404–K408.
   */
  async deserialize(bytes: Uint8Array | ArrayBuffer, file = "engine"): Promise<Engine> {
    const { plan, weights, fingerprint } = parseEngine(bytes instanceof Uint8Array ? bytes : new Uint8Array(bytes), file);
    const { hostOperators = () => undefined, onWarning = (message) => console.warn(message) } = this.options;
    for (const warning of checkDevice(fingerprint, this.device.fingerprint, file)) onWarning(warning);
    return Engine.load(this.device, plan, weights, hostOperators, this.pipelines, fingerprint);
  }
}
