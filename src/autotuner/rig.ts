// Runs kernels of one task alone on the device: gives every value a buffer, random where a task reads it, and reads back what
// a kernel wrote.

import type { Memory } from "../gpu/buffers.ts";
import { BufferUsage } from "../gpu/constants.ts";
import type { Device } from "../gpu/device.ts";
import type { CompiledPipeline, PipelineCache } from "../gpu/pipelines.ts";
import type { EncodeWork } from "../gpu/timer.ts";
import { type Bindings, evaluate } from "../ir/dims.ts";
import { bytesOf, constantBytes, fromDevice, type Storage, storageOf } from "../ir/storage.ts";
import { type KernelTask, readsOf, writesOf } from "../ir/task.ts";
import { reader, type Tensor } from "../ir/tensor.ts";
import type { Value } from "../ir/value.ts";
import type { Kernel, KernelStep } from "../kernels/tactic.ts";
import { toHalf } from "../util/f16.ts";

/** A kernel with its pipelines and bind groups. */
export interface Ready {
  readonly encode: EncodeWork;
  dispose(): void;
}

/** Starts or awaits a step's compilation. Errors: K404 to K406. */
export const compileStep = (pipelines: PipelineCache, { wgsl, bindings, params }: KernelStep): Promise<CompiledPipeline> =>
  pipelines.compile({
    label: "candidate",
    wgsl,
    bindings: [...bindings.map(({ access }) => access), ...(params.length > 0 ? (["uniform"] as const) : [])],
  });

const MANY_BYTES = 1 << 19;

export class Rig {
  private readonly buffers = new Map<Value, GPUBuffer>();
  private readonly reads: ReadonlySet<Value>;

  /** `given`: what values that the task reads hold, instead of random numbers in [-0.5, 0.5). */
  constructor(
    private readonly device: Device,
    private readonly memory: Memory,
    private readonly pipelines: PipelineCache,
    private readonly bindings: Bindings,
    private readonly task: KernelTask,
    private readonly given: ReadonlyMap<Value, Tensor> = new Map(),
  ) {
    this.reads = new Set(readsOf(task));
  }

  /**
   * True when most of what the task reads are weights, and many: in a network they come from memory, as those of the layers in
   * between have passed through the caches since.
   */
  isOfWeights(): boolean {
    let [weights, others] = [0, 0];
    for (const value of this.reads) {
      const bytes = this.bytesOf(value, storageOf(value, this.device.caps));
      if (value.data) weights += bytes;
      else others += bytes;
    }
    return weights >= MANY_BYTES && weights > others;
  }

  /** Lets go of all buffers. */
  dispose(): void {
    for (const buffer of this.buffers.values()) this.memory.destroy(buffer);
    this.buffers.clear();
  }

  /** Errors: K404 to K407 for a kernel that this device cannot run. */
  async prepare(kernel: Kernel): Promise<Ready> {
    const own: GPUBuffer[] = [];
    const dispose = (): void => {
      for (const buffer of own) this.memory.destroy(buffer);
      for (const value of kernel.scratch) {
        const buffer = this.buffers.get(value);
        if (buffer) this.memory.destroy(buffer);
        this.buffers.delete(value);
      }
    };
    try {
      const compiled = await Promise.all(kernel.steps.map((step) => compileStep(this.pipelines, step)));
      const packed = new Map(kernel.packed.map(({ value, pack }) => [value, pack]));
      const dispatches: { pipeline: GPUComputePipeline; group: GPUBindGroup; counts: [number, number, number] }[] = [];
      for (const [i, { bindings, params, workgroups }] of kernel.steps.entries()) {
        const { pipeline, layout } = compiled[i]!;
        const entries: GPUBindGroupEntry[] = [];
        for (const { value } of bindings)
          entries.push({ binding: entries.length, resource: { buffer: await this.bufferOf(value, packed.get(value)) } });
        if (params.length > 0) {
          const uniform = await this.uniform(params.map((dim) => this.sizeOf(dim)));
          own.push(uniform);
          entries.push({ binding: entries.length, resource: { buffer: uniform } });
        }
        dispatches.push({
          pipeline,
          group: this.device.device.createBindGroup({ layout, entries }),
          counts: workgroups.map((dim) => this.sizeOf(dim)) as [number, number, number],
        });
      }
      return { encode: (pass, count) => repeat(pass, dispatches, count), dispose };
    } catch (failure) {
      dispose();
      throw failure;
    }
  }

  /** Runs once, over outputs of zeros; elements of each value that the task writes, in memory order: of long ones the first and last `limit` bytes. */
  async run({ encode }: Ready, limit = Number.POSITIVE_INFINITY): Promise<number[][]> {
    const { device } = this.device;
    const written = writesOf(this.task).map((value) => ({ value, storage: storageOf(value, this.device.caps) }));
    const encoder = device.createCommandEncoder();
    for (const { value } of written) encoder.clearBuffer(await this.bufferOf(value));
    const pass = encoder.beginComputePass();
    encode(pass, 1);
    pass.end();
    device.queue.submit([encoder.finish()]);
    const results: number[][] = [];
    for (const { value, storage } of written) {
      const bytes = this.bytesOf(value, storage);
      const ranges: readonly [number, number][] =
        bytes <= 2 * limit
          ? [[0, bytes]]
          : [
              [0, limit],
              [bytes - limit, limit],
            ];
      const elements: number[] = [];
      for (const [from, length] of ranges) {
        if (length === 0) continue;
        const data = await this.memory.download(this.buffers.get(value)!, from, length);
        const count = (length / itemBytes(storage)) * storage.lanes;
        const read = reader(fromDevice(data, value.dtype, [count], storage));
        for (let i = 0; i < count; i++) elements.push(read(i));
      }
      results.push(elements);
    }
    return results;
  }

  private sizeOf(dim: Parameters<typeof evaluate>[0]): number {
    return evaluate(dim, this.bindings) ?? 1;
  }

  private bytesOf(value: Value, storage: Storage): number {
    return this.sizeOf(bytesOf(value, storage));
  }

  private async uniform(values: readonly number[]): Promise<GPUBuffer> {
    const words = Int32Array.from({ length: Math.ceil(values.length / 4) * 4 }, (_, i) => values[i] ?? 0);
    const usage = BufferUsage.UNIFORM | BufferUsage.COPY_DST;
    const uniform = await this.memory.create({ label: "params", bytes: words.byteLength, usage });
    this.memory.write(uniform, words);
    return uniform;
  }

  private async bufferOf(value: Value, pack?: () => Tensor): Promise<GPUBuffer> {
    const known = this.buffers.get(value);
    if (known) return known;
    const storage = storageOf(value, this.device.caps);
    const bytes = Math.max(4, this.bytesOf(value, storage));
    const buffer = await this.memory.create({ label: value.name, bytes });
    this.buffers.set(value, buffer);
    const data = value.data ?? this.given.get(value) ?? pack?.();
    if (data) await this.memory.upload(buffer, constantBytes(value, data, storage));
    else if (this.reads.has(value) && storage.item === "f32")
      await this.memory.upload(buffer, randomNumbers(new Float32Array(bytes / 4)));
    else if (this.reads.has(value) && storage.item === "f16")
      await this.memory.upload(buffer, randomNumbers(new Uint16Array(bytes / 2), toHalf));
    else if (this.reads.has(value) && (value.dtype === "i8" || value.dtype === "u8"))
      await this.memory.upload(buffer, randomBytes(value.dtype, bytes / 4, storage.lanes));
    return buffer;
  }
}

const itemBytes = ({ item }: Storage): number => (item === "f16" ? 2 : 4);

/** Words of four random bytes, or of one as 32 bits. */
function randomBytes(dtype: "i8" | "u8", words: number, lanes: number): Uint32Array {
  const [low, count] = lanes > 1 ? [0, 2 ** 32] : [dtype === "i8" ? -128 : 0, 256];
  return Uint32Array.from({ length: words }, () => low + Math.floor(count * Math.random()));
}

function randomNumbers<T extends Float32Array | Uint16Array>(target: T, round = (x: number): number => x): T {
  for (let i = 0; i < target.length; i++) target[i] = round(Math.random() - 0.5);
  return target;
}

function repeat(
  pass: GPUComputePassEncoder,
  dispatches: readonly { pipeline: GPUComputePipeline; group: GPUBindGroup; counts: [number, number, number] }[],
  count: number,
): void {
  for (let i = 0; i < count; i++) {
    for (const { pipeline, group, counts } of dispatches) {
      pass.setPipeline(pipeline);
      pass.setBindGroup(0, group);
      pass.dispatchWorkgroups(...counts);
    }
  }
}
