// Runs candidates on the device: each must give what the first one gives, then it is timed. Inputs are random, so that
// nothing is measured on zeros.

import { Memory } from "../gpu/buffers.ts";
import { BufferUsage } from "../gpu/constants.ts";
import type { Device } from "../gpu/device.ts";
import type { CompiledPipeline, PipelineCache } from "../gpu/pipelines.ts";
import { Timer } from "../gpu/timer.ts";
import { type Bindings, evaluate } from "../ir/dims.ts";
import { bytesOf, constantBytes, fromDevice, storageOf } from "../ir/storage.ts";
import { type KernelTask, writesOf } from "../ir/task.ts";
import { reader } from "../ir/tensor.ts";
import { dtypeFacts, isFloat } from "../ir/types.ts";
import type { Value } from "../ir/value.ts";
import type { Kernel, KernelStep } from "../kernels/tactic.ts";
import { toHalf } from "../util/f16.ts";

export interface Keyed<C> {
  readonly candidate: C;
  readonly key: string;
}

/** Relative error (to the largest magnitude) up to which two kernels count as equal. */
const TOLERANCE = 2e-3;
/** Outputs are compared up to this many bytes. */
const COMPARED_BYTES = 1 << 20;

export class Bench {
  private readonly memory: Memory;
  private readonly timer: Timer;

  constructor(
    private readonly device: Device,
    private readonly pipelines: PipelineCache,
    private readonly bindings: Bindings,
  ) {
    this.memory = new Memory(device);
    this.timer = new Timer(device, this.memory);
  }

  dispose(): void {
    this.timer.dispose();
    this.memory.dispose();
  }

  /** Starts compiling kernels; `compare` finds them done or waits for them. */
  compileAhead(kernels: readonly Kernel[]): void {
    for (const { steps } of kernels) for (const step of steps) this.compile(step).catch(() => undefined);
  }

  private compile({ wgsl, bindings, params }: KernelStep): Promise<CompiledPipeline> {
    return this.pipelines.compile({
      label: "candidate",
      wgsl,
      bindings: [...bindings.map(({ access }) => access), ...(params.length > 0 ? (["uniform"] as const) : [])],
    });
  }

  /** Times candidates of one task; one that does not compile or whose result differs from that of `plain` gets infinity. */
  async compare<C extends { readonly kernel: Kernel }>(
    task: KernelTask,
    plain: Kernel,
    candidates: readonly Keyed<C>[],
  ): Promise<(Keyed<C> & { readonly ns: number })[]> {
    const buffers = new Map<Value, GPUBuffer>();
    try {
      const results: (Keyed<C> & { readonly ns: number })[] = [];
      const reference = await this.prepare(plain, buffers);
      const expected = await this.resultOf(task, reference.encode, buffers);
      reference.dispose();
      let best = Number.POSITIVE_INFINITY;
      for (const keyed of candidates) {
        const run = await this.prepare(keyed.candidate.kernel, buffers).catch(() => undefined);
        let ns = Number.POSITIVE_INFINITY;
        if (run) {
          const actual = await this.resultOf(task, run.encode, buffers);
          if (close(actual, expected)) {
            const timing = await this.timer.measure(run.encode, Number.isFinite(best) ? { giveUpNs: 4 * best } : {});
            ns = timing.gaveUp ? Math.max(timing.ns, 4 * best) : timing.ns;
            best = Math.min(best, ns);
          }
          run.dispose();
        }
        results.push({ ...keyed, ns });
      }
      return results;
    } finally {
      for (const buffer of buffers.values()) this.memory.destroy(buffer);
    }
  }

  private async prepare(
    kernel: Kernel,
    buffers: Map<Value, GPUBuffer>,
  ): Promise<{ encode: (pass: GPUComputePassEncoder, count: number) => void; dispose: () => void }> {
    const uniforms: GPUBuffer[] = [];
    const packed = new Map(kernel.packed.map(({ value, pack }) => [value, pack]));
    const steps = await Promise.all(
      kernel.steps.map(async (step) => {
        const { bindings, params, workgroups } = step;
        const compiled = await this.compile(step);
        return {
          ...compiled,
          bindings,
          params,
          counts: workgroups.map((dim) => evaluate(dim, this.bindings) ?? 1) as [number, number, number],
        };
      }),
    );
    const ready: { pipeline: GPUComputePipeline; group: GPUBindGroup; counts: [number, number, number] }[] = [];
    for (const { pipeline, layout, bindings, params, counts } of steps) {
      const entries: GPUBindGroupEntry[] = [];
      for (const { value } of bindings)
        entries.push({
          binding: entries.length,
          resource: { buffer: await this.bufferOf(value, packed.get(value)?.(), buffers) },
        });
      if (params.length > 0) {
        const words = Int32Array.from({ length: Math.ceil(params.length / 4) * 4 }, (_, i) =>
          params[i] === undefined ? 0 : (evaluate(params[i], this.bindings) ?? 0),
        );
        const uniform = await this.memory.create({
          label: "params",
          bytes: words.byteLength,
          usage: BufferUsage.UNIFORM | BufferUsage.COPY_DST,
        });
        this.memory.write(uniform, words);
        uniforms.push(uniform);
        entries.push({ binding: entries.length, resource: { buffer: uniform } });
      }
      ready.push({ pipeline, group: this.device.device.createBindGroup({ layout, entries }), counts });
    }
    return {
      encode: (pass, count) => {
        for (let i = 0; i < count; i++) {
          for (const { pipeline, group, counts } of ready) {
            pass.setPipeline(pipeline);
            pass.setBindGroup(0, group);
            pass.dispatchWorkgroups(...counts);
          }
        }
      },
      dispose: () => {
        for (const uniform of uniforms) this.memory.destroy(uniform);
      },
    };
  }

  private async bufferOf(value: Value, packed: Value["data"], buffers: Map<Value, GPUBuffer>): Promise<GPUBuffer> {
    const known = buffers.get(value);
    if (known) return known;
    const storage = storageOf(value, this.device.caps);
    const bytes = evaluate(bytesOf(value, storage), this.bindings) ?? 4;
    const buffer = await this.memory.create({ label: value.name, bytes: Math.max(4, bytes) });
    buffers.set(value, buffer);
    const data = value.data ?? packed;
    if (data) await this.memory.upload(buffer, constantBytes(value, data, storage));
    else if (storage.item === "f32")
      await this.memory.upload(
        buffer,
        Float32Array.from({ length: bytes / 4 }, () => Math.random() - 0.5),
      );
    else if (storage.item === "f16")
      await this.memory.upload(
        buffer,
        Uint16Array.from({ length: bytes / 2 }, () => toHalf(Math.random() - 0.5)),
      );
    else if (isByte(value)) {
      const [low, count] = storage.lanes > 1 ? [0, 2 ** 32] : [dtypeFacts[value.dtype].signed ? -128 : 0, 256];
      const words = Uint32Array.from({ length: bytes / 4 }, () => low + Math.floor(count * Math.random()));
      await this.memory.upload(buffer, words);
    }
    return buffer;
  }

  private async resultOf(
    task: KernelTask,
    encode: (pass: GPUComputePassEncoder, count: number) => void,
    buffers: ReadonlyMap<Value, GPUBuffer>,
  ): Promise<Result[]> {
    const { device } = this.device;
    const encoder = device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    encode(pass, 1);
    pass.end();
    device.queue.submit([encoder.finish()]);
    const results: Result[] = [];
    for (const value of writesOf(task)) {
      if (!isFloat(value.dtype) && !isByte(value)) continue;
      const storage = storageOf(value, this.device.caps);
      const bytes = Math.min(COMPARED_BYTES, evaluate(bytesOf(value, storage), this.bindings) ?? 0);
      if (bytes === 0) continue;
      const data = await this.memory.download(buffers.get(value)!, 0, bytes);
      const length = Math.floor((bytes * storage.lanes) / (storage.item === "f16" ? 2 : 4));
      const read = reader(fromDevice(data, value.dtype, [length], storage));
      results.push({ values: Array.from({ length }, (_, i) => read(i)), slack: isByte(value) ? 1 : 1e-6 });
    }
    return results;
  }
}

interface Result {
  readonly values: readonly number[];
  /** How far equal results may be apart whatever their size: a byte between two integers may be rounded to either. */
  readonly slack: number;
}

const isByte = ({ dtype }: Value): boolean => dtype === "i8" || dtype === "u8";

function close(actual: readonly Result[], expected: readonly Result[]): boolean {
  return expected.every(({ values, slack }, i) => {
    const largest = values.reduce((most, value) => (Number.isFinite(value) ? Math.max(most, Math.abs(value)) : most), 0);
    return values.every(
      (value, j) => !Number.isFinite(value) || Math.abs(actual[i]!.values[j]! - value) <= TOLERANCE * largest + slack,
    );
  });
}
