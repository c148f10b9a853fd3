// An engine on a device: its weights uploaded, its pipelines compiled. Contexts run it; several share one engine.

import { Memory, roundUp4 } from "../gpu/buffers.ts";
import type { Device } from "../gpu/device.ts";
import type { Fingerprint } from "../gpu/fingerprint.ts";
import { type CompiledPipeline, PipelineCache } from "../gpu/pipelines.ts";
import { type Storage, toDevice } from "../ir/storage.ts";
import type { HostAttributes } from "../ir/task.ts";
import { arrayOfBytes, sizeOf, type Tensor } from "../ir/tensor.ts";
import type { DType } from "../ir/types.ts";
import { BINDING_ALIGNMENT } from "../util/caps.ts";
import { digestOf } from "../util/digest.ts";
import { cannotRefit, disposedEngine, noHostOperator } from "../util/errors.ts";
import { type ContextOptions, ExecutionContext } from "./context.ts";
import { contextBytes, type Description, describe, slotBytes } from "./describe.ts";
import { serialize } from "./format.ts";
import { dispatchesOf } from "./lifetimes.ts";
import type { Place } from "./places.ts";
import { type DispatchStep, type Plan, type PlanBuffer, type PlanOutput, schedulesOf } from "./plan.ts";

type HostHome = Extract<PlanBuffer["home"], { readonly kind: "host" }>;

/** Runs an operator on the host; the runtime is given those that an engine's host layers need. */
export type HostOperator = (
  inputs: readonly (Tensor | undefined)[],
  attrs: HostAttributes,
) => readonly Tensor[] | Promise<readonly Tensor[]>;
export type HostOperators = (op: string) => HostOperator | undefined;

type WeightHome = Extract<Plan["buffers"][number]["home"], { kind: "weight" }>;

/** An input or output; dimensions are numbers or symbols as text. */
export interface EndDescription {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly string[];
  readonly storage: Storage;
}

/** A compiled network on a device. Make it with `Builder.build` or `Runtime.deserialize`. */
export class Engine {
  private readonly contexts = new Set<ExecutionContext>();
  private disposed = false;
  private refitting = Promise.resolve();

  private constructor(
    readonly device: Device,
    readonly plan: Plan,
    /** As the engine file holds them, in one block. A stripped engine is loaded with them. */
    public weights: Uint8Array,
    /** What `digestOf` says of them. */
    public digest: string,
    readonly memory: Memory,
    /** Where weights lie, by buffer number. */
    readonly weightPlaces: ReadonlyMap<number, Place>,
    readonly pipelines: ReadonlyMap<DispatchStep, CompiledPipeline>,
    readonly hostOperators: HostOperators,
    /** The device that the engine was built for. */
    private readonly builtFor: Fingerprint,
  ) {}

  /**
   * Uploads weights while pipelines compile. `arrived` resolves when so many bytes of `weights` are there. Errors: K404–K408 of the
   * device, K508 for a host layer that this runtime lacks.
   */
  static async load(
    device: Device,
    plan: Plan,
    weights: Uint8Array,
    hostOperators: HostOperators,
    cache: PipelineCache = new PipelineCache(device),
    builtFor: Fingerprint = device.fingerprint,
    arrived: (bytes: number) => Promise<void> = async () => {},
  ): Promise<Engine> {
    for (const { node, op } of plan.hostLayers) if (!hostOperators(op)) throw noHostOperator(node, op);
    const memory = new Memory(device);
    const compiling = compileAll(plan, cache);
    // What this thread has to do with texts comes first: others compile them while it moves weights.
    const uploading = cache.textsRead().then(() => uploadWeights(device, memory, plan, weights, arrived));
    const digesting = cache.textsRead().then(() => digestOf(weights, arrived));
    try {
      const [pipelines, places, digest] = await Promise.all([compiling, uploading, digesting]);
      return new Engine(device, plan, weights, digest, memory, places, pipelines, hostOperators, builtFor);
    } catch (failure) {
      await uploading.catch(() => undefined);
      memory.dispose();
      throw failure;
    }
  }

  /** Inputs, in the model's order; `storage`: how elements lie in a GPUBuffer. */
  get inputs(): readonly EndDescription[] {
    return this.plan.inputs.map((input) => this.describeEnd(input));
  }

  /** Outputs, likewise. */
  get outputs(): readonly EndDescription[] {
    return this.plan.outputs.map((output) => this.describeEnd(output));
  }

  private describeEnd({ name, dtype, shape, buffer }: PlanOutput): EndDescription {
    return { name, dtype, shape, storage: this.plan.buffers[buffer]!.storage };
  }

  /** A context of its own memory; several may run at the same time. Error K610 when the engine was disposed of. */
  createExecutionContext(options: ContextOptions = {}): ExecutionContext {
    if (this.disposed) throw disposedEngine();
    const onFree = (): void => {
      this.contexts.delete(context);
      if (this.disposed && this.contexts.size === 0) this.memory.dispose();
    };
    const context = new ExecutionContext(this, onFree, options);
    this.contexts.add(context);
    return context;
  }

  /** A constant that only host layers read. */
  hostConstant({ offset = 0, length = 0 }: HostHome, dtype: DType, shape: readonly number[]): Tensor {
    return { dtype, shape, data: arrayOfBytes(dtype, this.weights.subarray(offset, offset + length)) };
  }

  /**
   * Bytes of GPU memory that a context needs at the largest shapes of a profile (by its number), known before it allocates
   * any; weights are not among them. Errors: K606 where no profile bounds the shapes, K612 no such profile.
   */
  deviceMemory(profile = 0): number {
    return contextBytes(this.plan, profile);
  }

  /** Bytes of each buffer that a context needs for activations at the largest shapes of a profile: see ContextOptions. Errors: K606, K612. */
  activationMemory(profile = 0): readonly number[] {
    return slotBytes(this.plan, profile);
  }

  /**
   * Changes weights of an engine built with `refit: true` in place, by their names in the model; all of them or, when one does
   * not fit, none. Runs that are asked for later use them. Errors: K616.
   */
  async refit(tensors: Readonly<Record<string, Tensor>>): Promise<void> {
    if (this.disposed) throw disposedEngine();
    const known = this.plan.refit ?? [];
    const changes = Object.entries(tensors).map(([name, tensor]) => {
      const weight = known.find((one) => one.name === name);
      const names = known.map((one) => one.name);
      if (!weight) throw cannotRefit(name, "the engine has no such weight to refit", names);
      const [given, expected] = [tensor, weight].map(({ dtype, shape }) => `${dtype}[${shape.join(", ")}]`);
      if (given !== expected || tensor.data.length !== sizeOf(weight.shape))
        throw cannotRefit(name, `it is ${expected}, ${given} of ${tensor.data.length} elements was given`, names);
      const { home, storage } = this.plan.buffers[weight.buffer]!;
      return { buffer: weight.buffer, home: home as WeightHome, bytes: toDevice(tensor, storage, `weight "${name}"`) };
    });
    const changing = this.refitting.then(async () => {
      // The block may be the caller's file.
      const weights = this.weights.slice();
      for (const { home, bytes } of changes) weights.set(bytes, home.offset);
      const digest = await digestOf(weights);
      for (const { buffer, bytes } of changes) {
        const place = this.weightPlaces.get(buffer)!;
        await this.memory.upload(place.buffer, bytes, place.offset);
      }
      [this.weights, this.digest] = [weights, digest];
    });
    this.refitting = changing.catch(() => undefined);
    return changing;
  }

  /** The engine file's bytes. `weights: false` leaves the weights out, to be kept apart: see `weights`. */
  serialize({ weights = true }: { readonly weights?: boolean } = {}): Uint8Array<ArrayBuffer> {
    return serialize(this.plan, this.weights, this.digest, this.builtFor, !weights);
  }

  /** Kernels, memory, tactics and host layers of a profile (by its number): what `kiln inspect --json` prints. Error K612. */
  describe(profile = 0): Description {
    return describe(this.plan, this.device, profile);
  }

  /** Disposes of the contexts, and frees the weights when the last run has ended: at once if there is none. */
  dispose(): void {
    this.disposed = true;
    for (const context of this.contexts) context.dispose();
    if (this.contexts.size === 0) this.memory.dispose();
  }
}

async function compileAll(plan: Plan, cache: PipelineCache): Promise<Map<DispatchStep, CompiledPipeline>> {
  const textOf = ({ shader }: DispatchStep): string => plan.shaders[shader]!;
  const compiled = await Promise.all(
    schedulesOf(plan)
      .flatMap(({ steps }) => dispatchesOf(steps))
      // Long ones first: they compile while others are read.
      .sort((a, b) => textOf(b).length - textOf(a).length)
      .map(async (step): Promise<[DispatchStep, CompiledPipeline]> => {
        const bindings = [
          ...step.bindings.map(({ access, shared }) => (shared ? "write" : access)),
          ...(step.params.length > 0 ? (["uniform"] as const) : []),
        ];
        return [step, await cache.compile({ label: step.label, wgsl: textOf(step), bindings })];
      }),
  );
  return new Map(compiled);
}

interface Weight {
  readonly number: number;
  readonly name: string;
  /** In the engine's weights. */
  readonly offset: number;
  readonly length: number;
}

/** Weights lie together in buffers of at most this size, where none is larger: a driver takes longer to make one than to fill it. */
const BLOCK_BYTES = 64 << 20;

async function uploadWeights(
  { caps: { limits } }: Device,
  memory: Memory,
  plan: Plan,
  weights: Uint8Array,
  arrived: (bytes: number) => Promise<void>,
): Promise<Map<number, Place>> {
  const largest = Math.min(BLOCK_BYTES, limits.maxStorageBufferBindingSize, limits.maxBufferSize);
  const blocks: { bytes: number; readonly weights: (Weight & { readonly at: number })[] }[] = [];
  const all = plan.buffers.flatMap(({ home, name }, number) => (home.kind === "weight" ? [{ number, name, ...home }] : []));
  for (const weight of all.sort((a, b) => a.offset - b.offset)) {
    const last = blocks.at(-1);
    const at = Math.ceil((last?.bytes ?? 0) / BINDING_ALIGNMENT) * BINDING_ALIGNMENT;
    const bytes = at + roundUp4(weight.length);
    if (last && bytes <= largest) {
      last.bytes = bytes;
      last.weights.push({ ...weight, at });
    } else blocks.push({ bytes: roundUp4(weight.length), weights: [{ ...weight, at: 0 }] });
  }
  const making = blocks.map(({ bytes, weights: [first, ...others] }) =>
    memory.create({ label: others.length === 0 ? first!.name : "weights", bytes, boundInParts: others.length > 0 }),
  );
  await Promise.allSettled(making);
  const places = new Map<number, Place>();
  for (const [i, block] of blocks.entries()) {
    const buffer = await making[i]!;
    for (const { number, offset, length, at } of block.weights) {
      await arrived(offset + length);
      await memory.upload(buffer, weights.subarray(offset, offset + length), at);
      places.set(number, { buffer, offset: at });
    }
  }
  return places;
}
