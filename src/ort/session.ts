// One inference session: ONNX Runtime's feeds and fetches around the engines of a model.

import type { InferenceSession, InferenceSessionHandler, Tensor as OrtTensor } from "onnxruntime-common";
import type { Builder, BuildOptions } from "../builder.ts";
import type { Destination, Input, MixedOutputs } from "../engine/ends.ts";
import type { Engine } from "../engine/engine.ts";
import { Profiler } from "../engine/profiler.ts";
import { importModel } from "../importer/import.ts";
import { type Declared, readSignature, type Undeclared } from "../importer/signature.ts";
import { isStaticShape } from "../ir/dims.ts";
import { isHostLayout } from "../ir/storage.ts";
import type { Tensor } from "../ir/tensor.ts";
import { disposedEngine, fetchMismatch, KilnError, missingInput, unknownInputs, unsupportedLocation } from "../util/errors.ts";
import { Engines } from "./engines.ts";
import { GpuTensors } from "./gpu.ts";
import { checkType, fromOrt, metadataOf, ortType, toOrt } from "./values.ts";

type Feeds = Readonly<Record<string, OrtTensor>>;
type Fetches = Readonly<Record<string, OrtTensor | null>>;

export interface SessionParts {
  readonly builder: Builder;
  readonly onnx: Uint8Array;
  /** Names the model in messages. */
  readonly file: string;
  readonly build: BuildOptions;
  readonly maxEngines: number;
  readonly options: InferenceSession.SessionOptions;
  /** The class of the caller's own ONNX Runtime. */
  readonly Tensor: typeof OrtTensor;
}

export class Session implements InferenceSessionHandler {
  readonly inputNames: readonly string[];
  readonly outputNames: readonly string[];
  readonly inputMetadata: readonly InferenceSession.ValueMetadata[];
  readonly outputMetadata: readonly InferenceSession.ValueMetadata[];
  private readonly engines: Engines;
  private readonly gpu: GpuTensors;
  private readonly dtypes: ReadonlyMap<string, Declared>;
  private queue: Promise<unknown> = Promise.resolve();
  private isProfiling: boolean;
  private isReleased = false;

  /**
   * Reads the model; one of fixed shapes is compiled at once, another is checked and compiled for the shapes of its first run.
   * Errors: those of `Builder.build`; K620 for a location of outputs.
   */
  static async open(parts: SessionParts): Promise<Session> {
    const { onnx, file, build } = parts;
    const { inputs, outputs } = readSignature(onnx, file, build.sizes ?? {});
    try {
      const graph = importModel(onnx, { ...build, file });
      const session = new Session(
        parts,
        inputs,
        graph.outputs.map(({ name, value }) => ({ ...value, name })),
      );
      if (inputs.every(({ shape }) => isStaticShape(shape)))
        await session.engines.for(new Map(inputs.map(({ name, shape }) => [name, { shape: shape as readonly number[] }])));
      return session;
    } catch (failure) {
      // Shapes that depend on what inputs hold (K302) are known at the first run.
      if (failure instanceof KilnError && failure.code === "K302") return new Session(parts, inputs, outputs);
      throw failure;
    }
  }

  private constructor(
    private readonly parts: SessionParts,
    inputs: readonly Declared[],
    outputs: readonly (Declared | Undeclared)[],
  ) {
    const { builder, onnx, build, maxEngines, options, Tensor } = parts;
    this.dtypes = new Map(inputs.map((input) => [input.name, input]));
    this.inputNames = inputs.map(({ name }) => name);
    this.outputNames = outputs.map(({ name }) => name);
    this.inputMetadata = inputs.map((input) => metadataOf(input, "input"));
    this.outputMetadata = outputs.map((output) => metadataOf(output, "output"));
    this.engines = new Engines(builder, onnx, build, inputs, maxEngines, (engine) => this.sayWhatIsLowered(engine));
    this.gpu = new GpuTensors(builder.device, Tensor);
    this.isProfiling = options.enableProfiling ?? false;
    for (const name of this.outputNames) this.locationOf(name);
  }

  /** Calls queue up. Errors: K602–K608 and K620 for feeds, K621 for fetches, those of `Builder.build`, K408, K610 released. */
  run(feeds: Feeds, fetches: Fetches): Promise<Record<string, OrtTensor>> {
    const result = this.queue.then(() => this.runOnce(feeds, fetches));
    this.queue = result.catch(() => undefined);
    return result;
  }

  /** Frees the engines when the runs asked for have ended; tensors that runs gave live on. */
  async dispose(): Promise<void> {
    this.isReleased = true;
    await this.queue;
    this.engines.dispose();
  }

  /** From now on a line of times is printed for every run. */
  startProfiling(): void {
    this.isProfiling = true;
  }

  endProfiling(): void {
    this.isProfiling = false;
  }

  private async runOnce(feeds: Feeds, fetches: Fetches): Promise<Record<string, OrtTensor>> {
    if (this.isReleased) throw disposedEngine();
    const onHost = this.checked(feeds);
    const shapes = this.inputNames.map((name) => [name, onHost.get(name) ?? { shape: feeds[name]!.dims }] as const);
    const { engine, context } = await this.engines.for(new Map(shapes));
    const profiler = this.isProfiling ? new Profiler(this.parts.builder.device) : undefined;
    context.profiler = profiler;
    try {
      const inputs: Record<string, Input> = {};
      for (const { name, storage } of engine.inputs)
        inputs[name] = onHost.get(name) ?? (await this.gpu.input(feeds[name]!, name, this.dtypes.get(name)!.dtype, storage));
      const destinations = engine.outputs.map(({ name, dtype, storage }): [string, Destination] => [
        name,
        this.destination(name, fetches[name], isHostLayout(dtype, storage)),
      ]);
      const outputs = await context.enqueue(inputs, { outputs: Object.fromEntries(destinations) });
      if (profiler) await this.report(profiler);
      const results: Record<string, OrtTensor> = {};
      for (const [name, result] of Object.entries(outputs)) {
        const wanted = fetches[name];
        if (wanted !== undefined) results[name] = await this.deliver(result, name, wanted);
        else if ("buffer" in result) result.buffer.destroy();
      }
      return results;
    } finally {
      profiler?.dispose();
    }
  }

  // --- feeds -------------------------------------------------------------------------------------------------------------

  /** Checks all feeds; those in host memory as tensors, by name. */
  private checked(feeds: Feeds): Map<string, Tensor> {
    const unknown = Object.keys(feeds).filter((name) => !this.dtypes.has(name));
    if (unknown.length > 0) throw unknownInputs(unknown, this.inputNames);
    const onHost = new Map<string, Tensor>();
    for (const [name, { dtype }] of this.dtypes) {
      const given = feeds[name];
      if (!given) throw missingInput(name, dtype);
      checkType(name, given, dtype);
      if (given.location !== "gpu-buffer") onHost.set(name, fromOrt(given, `input "${name}"`, dtype));
    }
    return onHost;
  }

  // --- fetches -----------------------------------------------------------------------------------------------------------

  private locationOf(output: string): OrtTensor.DataLocation {
    const { preferredOutputLocation: preferred } = this.parts.options;
    const location = (typeof preferred === "object" ? preferred[output] : preferred) ?? "cpu";
    if (location === "cpu" || location === "cpu-pinned" || location === "gpu-buffer") return location;
    throw unsupportedLocation(`output "${output}"`, location);
  }

  /** Where the engine is to leave an output. `isShared`: its elements lie on the GPU as ONNX Runtime's do. */
  private destination(name: string, wanted: OrtTensor | null | undefined, isShared: boolean): Destination {
    if (wanted === undefined) return "gpu"; // not asked for: spares the way to the host
    if (!isShared) return "host";
    if (wanted?.location === "gpu-buffer") return wanted.gpuBuffer as GPUBuffer;
    return !wanted && this.locationOf(name) === "gpu-buffer" ? "gpu" : "host";
  }

  /** The result where the caller wants it: in the tensor given for it, or in a new one. */
  private async deliver(result: MixedOutputs[string], name: string, wanted: OrtTensor | null): Promise<OrtTensor> {
    if (!wanted) {
      if ("buffer" in result) return this.gpu.own(result, name);
      const isOnHost = this.locationOf(name) !== "gpu-buffer";
      return isOnHost ? toOrt(this.parts.Tensor, result, name) : this.gpu.place(result, name);
    }
    const type = ortType(result.dtype, `output "${name}"`);
    if (wanted.type !== type || wanted.dims.join() !== result.shape.join())
      throw fetchMismatch(name, `${wanted.type}[${wanted.dims.join(", ")}]`, `${type}[${result.shape.join(", ")}]`);
    if (!("buffer" in result)) {
      if (wanted.location === "gpu-buffer") await this.gpu.write(wanted.gpuBuffer as GPUBuffer, result, name);
      else (fromOrt(wanted, `output "${name}"`, result.dtype).data as Float32Array).set(result.data as Float32Array);
    }
    return wanted;
  }

  // --- what is said ------------------------------------------------------------------------------------------------------

  /** Warnings, unless the session's log level leaves them out. */
  private sayWhatIsLowered({ plan }: Engine): void {
    if ((this.parts.options.logSeverityLevel ?? 2) > 2) return;
    const { file } = this.parts;
    for (const { node, op, reason } of plan.hostLayers)
      console.warn(`kiln: ${file}: ${op} "${node}" runs on the host: ${reason}`);
    for (const note of plan.notes) console.warn(`kiln: ${file}: ${note}`);
  }

  private async report(profiler: Profiler): Promise<void> {
    const { h2dMs, enqueueMs, gpuMs, d2hMs } = await profiler.read();
    const ms = Object.entries({ inputs: h2dMs, enqueue: enqueueMs, gpu: gpuMs, outputs: d2hMs });
    console.log(`kiln: ${this.parts.file}: ${ms.map(([phase, time]) => `${phase} ${time.toFixed(3)} ms`).join(", ")}`);
  }
}
