// The lean runtime: loads engines and runs them. No importer, no compiler, no operators: a page that only runs engines
// needs this file's bundle and nothing else.

import { Engine, type HostOperators } from "./engine/engine.ts";
import { checkDevice, type Manifest, otherWeights, readManifest, weightsOf, wholeHeader } from "./engine/format.ts";
import { Incoming, type OnLoadProgress } from "./engine/incoming.ts";
import { type Device, openDevice } from "./gpu/device.ts";
import { PipelineCache } from "./gpu/pipelines.ts";
import { cannotFetch } from "./util/errors.ts";

export * from "./engine/public.ts";
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

export interface LoadOptions {
  /** Names the engine in errors. */
  readonly file?: string;
  /** Of a stripped engine. */
  readonly weights?: Uint8Array;
  /** Told as the file arrives. */
  readonly onProgress?: OnLoadProgress;
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
   * Loads an engine file. The bytes must stay as they are while the engine lives.
   * Errors: K501–K504, K506 and K507 for the file, K505 built for another device, K508 a host layer without its operator,
   * K404–K408.
   */
  async deserialize(bytes: Uint8Array | ArrayBuffer, options: string | LoadOptions = {}): Promise<Engine> {
    const { file = "engine", weights } = typeof options === "string" ? { file: options } : options;
    const all = bytes instanceof Uint8Array ? bytes : new Uint8Array(bytes);
    const header = wholeHeader(all, file);
    return this.start(readManifest(all, header, file), all.subarray(header.weightsAt), { file, weights });
  }

  /**
   * Loads an engine file from an address, a response or a stream: kernels compile and weights are uploaded while the rest is on
   * its way. Errors as of `deserialize`, and K509.
   */
  async load(source: Source, { file = nameOf(source), weights, onProgress }: LoadOptions = {}): Promise<Engine> {
    const incoming = await Incoming.open(await streamOf(source, file), file, onProgress);
    const { weightsAt } = incoming.header;
    try {
      await incoming.upTo(weightsAt);
      const manifest = readManifest(incoming.from(0), incoming.header, file);
      const arrived = (bytes: number): Promise<void> => incoming.upTo(weightsAt + bytes);
      return await this.start(manifest, incoming.from(weightsAt), { file, weights }, arrived);
    } catch (failure) {
      incoming.cancel();
      throw failure;
    }
  }

  /** `arrived` resolves when so many bytes of the weights `inFile` are there. */
  private async start(
    manifest: Manifest,
    inFile: Uint8Array,
    { file, weights: given }: { readonly file: string; readonly weights: Uint8Array | undefined },
    arrived?: (bytes: number) => Promise<void>,
  ): Promise<Engine> {
    const { hostOperators = () => undefined, onWarning = (message) => console.warn(message) } = this.options;
    const { plan, fingerprint } = manifest;
    for (const warning of checkDevice(fingerprint, this.device.fingerprint, file)) onWarning(warning);
    const weights = weightsOf(manifest, inFile, given, file);
    const isGiven = weights === given;
    const waiting = isGiven ? undefined : arrived;
    const engine = await Engine.load(this.device, plan, weights, hostOperators, this.pipelines, fingerprint, waiting);
    // What cannot be as the manifest has it was damaged on its way; its kernels may not run.
    if (engine.digest === manifest.weights.digest) return engine;
    engine.dispose();
    throw otherWeights(file, isGiven);
  }
}

type Source = string | URL | Response | ReadableStream<Uint8Array>;
const isResponse = (source: Source): source is Response => typeof source === "object" && "body" in source;
const isAddress = (source: Source): source is string | URL => typeof source === "string" || source instanceof URL;
const nameOf = (source: Source): string =>
  isAddress(source) ? String(source) : (isResponse(source) && source.url) || "engine";

async function streamOf(source: Source, file: string): Promise<ReadableStream<Uint8Array>> {
  if (!isAddress(source) && !isResponse(source)) return source;
  const response = isResponse(source)
    ? source
    : await fetch(source).catch((failure: Error) => {
        throw cannotFetch(file, String(failure.cause ?? failure.message));
      });
  if (!response.ok || !response.body)
    throw cannotFetch(file, `the server said ${response.status} ${response.statusText}`.trim());
  return response.body;
}
