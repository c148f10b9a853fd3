// Times an execution context's runs: the phases by the clock, each waited for; GPU work by timestamp queries. Give one to
// `ExecutionContext.profiler`, run, then `read`.

import { Memory } from "../gpu/buffers.ts";
import { BufferUsage } from "../gpu/constants.ts";
import type { Device } from "../gpu/device.ts";
import type { DispatchStep } from "./plan.ts";

/** Milliseconds of one run. */
export interface RunProfile {
  /** Inputs to the GPU. */
  readonly h2dMs: number;
  /** The host's work to encode and submit. */
  readonly enqueueMs: number;
  /** From the first kernel's start to the last one's end, without what the host does between submissions. */
  readonly gpuMs: number;
  /** Outputs to the host. */
  readonly d2hMs: number;
  /** Of each dispatch, the turns of loops added up; empty unless asked for, and where the device has no timestamps. */
  readonly kernels: ReadonlyMap<DispatchStep, number>;
}

const QUERIES_PER_SET = 4096;

export class Profiler {
  private readonly memory: Memory;
  private readonly sets: GPUQuerySet[] = [];
  /** What ran before each stamp of this run; undefined where a stretch begins. */
  private stamps: (DispatchStep | "work" | undefined)[] = [];
  private marks: number[] = [];
  private enqueued = 0;

  /** `everyKernel`: a pass for each dispatch, whose times then include the gaps between passes. */
  constructor(
    private readonly device: Device,
    readonly everyKernel = false,
  ) {
    this.memory = new Memory(device);
  }

  /** Begins a run. */
  begin(): void {
    this.stamps = [];
    this.marks = [performance.now()];
  }

  /** Ends a phase, of three: inputs, kernels, outputs. */
  async phase(): Promise<void> {
    this.enqueued = this.marks.length === 2 ? performance.now() - this.marks[1]! : this.enqueued;
    await this.device.queue.onSubmittedWorkDone();
    this.marks.push(performance.now());
  }

  /** Stamps the beginning of a stretch of passes. */
  open(encoder: GPUCommandEncoder): void {
    encoder.beginComputePass(this.pass(undefined)).end();
  }

  /** How to begin the pass that `step` is the first of. Its end is stamped: beginnings may be, before earlier work has ended. */
  pass(step: DispatchStep | undefined): GPUComputePassDescriptor {
    if (!this.device.caps.timestamps) return {};
    const number = this.stamps.push(this.everyKernel || !step ? step : "work") - 1;
    const set = Math.floor(number / QUERIES_PER_SET);
    const querySet = this.sets[set] ?? this.device.device.createQuerySet({ type: "timestamp", count: QUERIES_PER_SET });
    this.sets[set] = querySet;
    return { timestampWrites: { querySet, endOfPassWriteIndex: number % QUERIES_PER_SET } };
  }

  /** The last run's times. */
  async read(): Promise<RunProfile> {
    const [begin, uploaded, computed, downloaded] = this.marks as [number, number, number, number];
    const times = await this.times();
    const kernels = new Map<DispatchStep, number>();
    let gpuMs = 0;
    this.stamps.forEach((step, i) => {
      if (step === undefined) return;
      const ms = Math.max(0, Number(times[i]! - times[i - 1]!) / 1e6);
      gpuMs += ms;
      if (step !== "work") kernels.set(step, (kernels.get(step) ?? 0) + ms);
    });
    return {
      h2dMs: uploaded - begin,
      enqueueMs: this.enqueued,
      gpuMs: this.stamps.length > 0 ? gpuMs : computed - uploaded,
      d2hMs: downloaded - computed,
      kernels,
    };
  }

  dispose(): void {
    for (const set of this.sets) set.destroy();
    this.memory.dispose();
  }

  /** Nanoseconds of each stamp. */
  private async times(): Promise<BigUint64Array> {
    const count = this.stamps.length;
    if (count === 0) return new BigUint64Array();
    const resolved = await this.memory.create({
      label: "timestamps",
      bytes: this.sets.length * QUERIES_PER_SET * 8,
      usage: BufferUsage.QUERY_RESOLVE | BufferUsage.COPY_SRC,
    });
    const encoder = this.device.device.createCommandEncoder();
    for (let from = 0; from < count; from += QUERIES_PER_SET) {
      encoder.resolveQuerySet(
        this.sets[from / QUERIES_PER_SET]!,
        0,
        Math.min(QUERIES_PER_SET, count - from),
        resolved,
        from * 8,
      );
    }
    const readback = this.memory.readback(encoder, resolved, 0, count * 8);
    this.device.queue.submit([encoder.finish()]);
    const bytes = await readback.read();
    this.memory.destroy(resolved);
    return new BigUint64Array(bytes.buffer, bytes.byteOffset, count);
  }
}
