// Kiln as an execution provider of ONNX Runtime's JavaScript API: registers "kiln" with a copy of that API, opens the device
// and makes sessions.

import type { Backend, InferenceSession, InferenceSessionHandler, registerBackend, Tensor } from "onnxruntime-common";
import { TimingCache } from "../autotuner/cache.ts";
import { Builder } from "../builder.ts";
import type { Device } from "../gpu/device.ts";
import type { ReadExternal } from "../importer/tensors.ts";
import { readerOf } from "./files.ts";
import { buildOptionsOf, providerOf } from "./options.ts";
import { Session } from "./session.ts";

/** What is used of onnxruntime-common, onnxruntime-web or onnxruntime-node. */
export interface OnnxRuntime {
  readonly registerBackend: typeof registerBackend;
  readonly Tensor: typeof Tensor;
  readonly env: { readonly webgpu: { device: unknown } };
}

/** Where devices and files come from. */
export interface Platform {
  readonly openDevice: () => Promise<Device>;
  /** A device that the caller opened. */
  readonly adoptDevice: (device: GPUDevice) => Promise<Device>;
  readonly readFile: (path: string) => Promise<Uint8Array>;
  /** Reads what lies beside a model file, where the platform can. */
  readonly readBeside: (path: string) => ReadExternal | undefined;
}

const registered = new WeakSet<typeof registerBackend>();

/** Makes "kiln" known as an execution provider; one that is used only where it is asked for. Twice does no harm. */
export function registerWith(ort: OnnxRuntime, platform: Platform): void {
  if (registered.has(ort.registerBackend)) return;
  ort.registerBackend("kiln", new KilnBackend(ort, platform), -1);
  registered.add(ort.registerBackend);
}

class KilnBackend implements Backend {
  private readonly devices = new Map<GPUDevice, Promise<Device>>();
  /** Of all sessions: models share many kernels. */
  private readonly timingCache = new TimingCache();

  constructor(
    private readonly ort: OnnxRuntime,
    private readonly platform: Platform,
  ) {}

  /** Errors: K401 and K402 where there is no GPU. */
  async init(): Promise<void> {
    await this.deviceFor(undefined);
  }

  async createInferenceSessionHandler(
    model: string | Uint8Array,
    options: InferenceSession.SessionOptions = {},
  ): Promise<InferenceSessionHandler> {
    const { platform } = this;
    const provider = providerOf(options);
    const isPath = typeof model === "string";
    const beside = isPath ? platform.readBeside(model) : undefined;
    return Session.open({
      builder: new Builder(await this.deviceFor(provider.device)),
      onnx: isPath ? await platform.readFile(model) : model,
      file: isPath ? model : "model",
      build: {
        timingCache: this.timingCache,
        ...buildOptionsOf(provider, options),
        readExternal: await readerOf(options.externalData, platform.readFile, beside),
      },
      maxEngines: provider.maxEngines ?? 2,
      options,
      Tensor: this.ort.Tensor,
    });
  }

  /** The caller's device, the one that all backends of this ONNX Runtime share, or a new one, which is then shared. */
  private async deviceFor(wanted: GPUDevice | undefined): Promise<Device> {
    const { webgpu } = this.ort.env;
    const shared = wanted ?? ((await webgpu.device) as GPUDevice | undefined);
    if (shared) {
      const known = this.devices.get(shared) ?? this.platform.adoptDevice(shared);
      this.devices.set(shared, known);
      const device = await known;
      if (wanted || !device.lostBy) return device;
    }
    const opened = await this.platform.openDevice();
    this.devices.set(opened.device, Promise.resolve(opened));
    webgpu.device = opened.device;
    return opened;
  }
}
