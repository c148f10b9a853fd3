// An engine on a device: its weights uploaded, its pipelines compiled. Contexts run it; several share one engine.

import type { HostAttributes } from "../ir/task.ts";
import type { Tensor } from "../ir/tensor.ts";
import { Memory } from "../gpu/buffers.ts";
import type { Device } from "../gpu/device.ts";
import { type CompiledPipeline, PipelineCache } from "../gpu/pipelines.ts";
import { noHostOperator } from "../util/errors.ts";
import { ExecutionContext } from "./context.ts";
import { type Description, describe } from "./describe.ts";
import { serialize } from "./format.ts";
import { dispatchesOf } from "./lifetimes.ts";
import type { DispatchStep, Plan } from "./plan.ts";

/** Runs an operator on the host; the runtime is given those that an engine's host layers need. */
export type HostOperator = (inputs: readonly (Tensor | undefined)[], attrs: HostAttributes) => readonly Tensor[];
export type HostOperators = (op: string) => HostOperator | undefined;

/** A compiled network on a device. Make it with `Builder.build` or `Runtime.deserialize`. */
export class Engine {
  private constructor(
    readonly device: Device,
    readonly plan: Plan,
    private readonly weights: Uint8Array,
    readonly memory: Memory,
    /** One a weight buffer, by buffer number. */
    readonly weightBuffers: ReadonlyMap<number, GPUBuffer>,
    readonly pipelines: ReadonlyMap<DispatchStep, CompiledPipeline>,
    readonly hostOperators: HostOperators,
  ) {}

  /** Uploads weights while pipelines compile. Errors: K404–K408 of the device, K508 for a host layer that this runtime lacks. */
  static async load(device: Device, plan: Plan, weights: Uint8Array, hostOperators: HostOperators, cache: PipelineCache = new PipelineCache(device)): Promise<Engine> {
    for (const { node, op } of plan.hostLayers) if (!hostOperators(op)) throw noHostOperator(node, op);
    const memory = new Memory(device);
    const [pipelines, buffers] = await Promise.all([compileAll(plan, cache), uploadWeights(memory, plan, weights)]);
    return new Engine(device, plan, weights, memory, buffers, pipelines, hostOperators);
  }

  createExecutionContext(): ExecutionContext {
    return new ExecutionContext(this);
  }

  /** The engine file's bytes. */
  serialize(): Uint8Array {
    return serialize(this.plan, this.weights, this.device.fingerprint);
  }

  /** Kernels, memory, tactics and host layers: what `kiln inspect --json` prints. */
  describe(): Description {
    return describe(this.plan, this.device);
  }

  /** Frees the weights. Contexts that still live fail afterwards. */
  dispose(): void {
    this.memory.dispose();
  }
}

async function compileAll(plan: Plan, cache: PipelineCache): Promise<Map<DispatchStep, CompiledPipeline>> {
  const compiled = await Promise.all(
    dispatchesOf(plan.steps).map(async (step): Promise<[DispatchStep, CompiledPipeline]> => {
      const bindings = [...step.bindings.map(({ access }) => access), ...(step.params.length > 0 ? (["uniform"] as const) : [])];
      return [step, await cache.compile({ label: step.label, wgsl: plan.shaders[step.shader]!, bindings })];
    }),
  );
  return new Map(compiled);
}

async function uploadWeights(memory: Memory, plan: Plan, weights: Uint8Array): Promise<Map<number, GPUBuffer>> {
  const buffers = new Map<number, GPUBuffer>();
  for (const [number, { home, name }] of plan.buffers.entries()) {
    if (home.kind !== "weight") continue;
    const buffer = await memory.create({ label: name, bytes: home.length });
    await memory.upload(buffer, weights.subarray(home.offset, home.offset + home.length));
    buffers.set(number, buffer);
  }
  return buffers;
}
