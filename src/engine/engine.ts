// An engine on a device: its weights uploaded, its pipelines compiled. Contexts run it; several share one engine.

import { Memory } from "../gpu/buffers.ts";
import type { Device } from "../gpu/device.ts";
import type { Fingerprint } from "../gpu/fingerprint.ts";
import { type CompiledPipeline, PipelineCache } from "../gpu/pipelines.ts";
import { type Storage, toDevice } from "../ir/storage.ts";
import type { HostAttributes } from "../ir/task.ts";
import { arrayOfBytes, sizeOf, type Tensor } from "../ir/tensor.ts";
import type { DType } from "../ir/types.ts";
import { cannotRefit, disposedEngine, noHostOperator } from "../util/errors.ts";
import { type ContextOptions, ExecutionContext } from "./context.ts";
import { contextBytes, type Description, describe, slotBytes } from "./describe.ts";
import { serialize } from "./format.ts";
import { dispatchesOf } from "./lifetimes.ts";
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

  private constructor(
    readonly device: Device,
    readonly plan: Plan,
    /** As the engine file holds them, in one block. A stripped engine is loaded with them. */
    public weights: Uint8Array,
    readonly memory: Memory,
    /** One a weight buffer, by buffer number. */
    readonly weightBuffers: ReadonlyMap<number, GPUBuffer>,
    readonly pipelines: ReadonlyMap<DispatchStep, CompiledPipeline>,
    readonly hostOperators: HostOperators,
    /** The device that the engine was built for. */
    private readonly builtFor: Fingerprint,
  ) {}

  /**
   * Uploads weights while pipelines compile. `arrived` resolves when so many bytes of `weights` are there. Errors: K404–K408 of the device, K508 for a host layer that this runtime
   * lacks.
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
    const uploading = uploadWeights(memory, plan, weights, arrived);
    try {
      const [pipelines, buffers] = await Promise.all([compileAll(plan, cache), uploading]);
      return new Engine(device, plan, weights, memory, buffers, pipelines, hostOperators, builtFor);
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
    // The block may be the caller's file.
    this.weights = this.weights.slice();
    for (const { buffer, home, bytes } of changes) {
      this.weights.set(bytes, home.offset);
      await this.memory.upload(this.weightBuffers.get(buffer)!, bytes);
    }
  }

  /** The engine file's bytes. `weights: false` leaves the weights out, to be kept apart: see `weights`. */
  serialize({ weights = true }: { readonly weights?: boolean } = {}): Uint8Array<ArrayBuffer> {
    return serialize(this.plan, this.weights, this.builtFor, !weights);
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
  const compiled = await Promise.all(
    schedulesOf(plan)
      .flatMap(({ steps }) => dispatchesOf(steps))
      .map(async (step): Promise<[DispatchStep, CompiledPipeline]> => {
        const bindings = [
          ...step.bindings.map(({ access, shared }) => (shared ? "write" : access)),
          ...(step.params.length > 0 ? (["uniform"] as const) : []),
        ];
        return [step, await cache.compile({ label: step.label, wgsl: plan.shaders[step.shader]!, bindings })];
      }),
  );
  return new Map(compiled);
}

async function uploadWeights(
  memory: Memory,
  plan: Plan,
  weights: Uint8Array,
  arrived: (bytes: number) => Promise<void>,
): Promise<Map<number, GPUBuffer>> {
  const parts = plan.buffers.flatMap(({ home, name }, number) =>
    home.kind === "weight" ? [{ number, ...home, made: memory.create({ label: name, bytes: home.length }) }] : [],
  );
  await Promise.allSettled(parts.map(({ made }) => made));
  const buffers = new Map<number, GPUBuffer>();
  for (const { number, offset, length, made } of parts.sort((a, b) => a.offset - b.offset)) {
    await arrived(offset + length);
    await memory.upload(await made, weights.subarray(offset, offset + length));
    buffers.set(number, await made);
  }
  return buffers;
}
