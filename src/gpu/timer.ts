// Times GPU work for the autotuner: nanoseconds of one dispatch inside a chain of dependent ones. Which kernels to time, and
// what to make of the numbers, is decided elsewhere.

import type { Memory } from "./buffers.ts";
import { BufferUsage } from "./constants.ts";
import type { Device } from "./device.ts";
import { Flusher } from "./flush.ts";

/**
 * Encodes the work `count` times in a row into the pass. Each time must depend on the one before (by writing a buffer that
 * the next one reads or writes, most simply the same output), or the GPU runs them side by side.
 */
export type EncodeWork = (pass: GPUComputePassEncoder, count: number) => void;

export interface TimerOptions {
  /** Samples to take the median of; fewer where `budgetNs` ends sooner. Default 9. */
  readonly repeats?: number;
  /** GPU time that one measurement may take, about. Default 100 ms. At least one sample is taken. */
  readonly budgetNs?: number;
  /** Stop after the first sample when one execution takes longer than this. */
  readonly giveUpNs?: number;
  /** Evict the L2 cache before every sample, which then has one execution. */
  readonly flush?: boolean;
}

export interface Timing {
  /** Nanoseconds of one execution: the median of the samples. Never negative. */
  readonly ns: number;
  /** Of one execution each, baseline subtracted, in order of time. */
  readonly samples: readonly number[];
  /** Executions in one sample. */
  readonly count: number;
  readonly method: "timestamp" | "wall";
  /** True when it stopped at `giveUpNs`. */
  readonly gaveUp: boolean;
}

const maxSamples = 256;
/** What a sample should last, so that clock steps and noise stay below about a percent. */
const sampleNs = { fine: 200_000, coarse: 8_000_000, wall: 10_000_000 };
const maxCount = 1000;

/** Of one device; measurements must not overlap. */
export class Timer {
  private readonly device: Device;
  private readonly memory: Memory;
  private readonly flusher: Flusher;
  private readonly baselines = new Map<boolean, number>();
  private queries: { readonly set: GPUQuerySet; readonly resolved: GPUBuffer } | undefined;
  private method: "timestamp" | "wall";
  /** Nanoseconds between two ticks of a coarse clock (browsers quantize), 0 for a fine one. */
  private quantum = 0;

  constructor(device: Device, memory: Memory) {
    this.device = device;
    this.memory = memory;
    this.flusher = new Flusher(device, memory);
    this.method = device.caps.timestamps ? "timestamp" : "wall";
  }

  /** Errors: those of WebGPU while it runs (`Device.check`), K407 no room for the flush buffer, K408. */
  async measure(encode: EncodeWork, options: TimerOptions = {}): Promise<Timing> {
    const { repeats = 9, budgetNs = 100e6, giveUpNs = Number.POSITIVE_INFINITY, flush = false } = options;
    if (flush) await this.flusher.prepare();
    const baseline = await this.baseline(flush);
    const first = (await this.sample(encode, 1, 1, flush))[0]! - baseline;
    if (first > giveUpNs) return { ns: first, samples: [first], count: 1, method: this.method, gaveUp: true };
    const estimate = Math.max(1, first < budgetNs / 20 ? median(await this.sample(encode, 1, 3, flush)) - baseline : first);
    const wanted = this.method === "wall" ? sampleNs.wall : this.quantum > 0 ? sampleNs.coarse : sampleNs.fine;
    const count = flush ? 1 : clamp(Math.ceil(Math.min(wanted, budgetNs / repeats) / estimate), 1, maxCount);
    const affordable = clamp(Math.floor(budgetNs / (estimate * count)), 1, Math.min(repeats, maxSamples));
    const samples = (await this.sample(encode, count, affordable, flush)).map((ns) => Math.max(0, (ns - baseline) / count));
    this.device.check();
    return { ns: median(samples), samples, count, method: this.method, gaveUp: false };
  }

  dispose(): void {
    this.queries?.set.destroy();
    if (this.queries !== undefined) this.memory.destroy(this.queries.resolved);
    this.queries = undefined;
    this.flusher.dispose();
  }

  /** What a sample with nothing in it takes, in nanoseconds. */
  private async baseline(flush: boolean): Promise<number> {
    const known = this.baselines.get(flush);
    if (known !== undefined) return known;
    const value = median(await this.sample(() => {}, 0, 15, flush));
    this.baselines.set(flush, value);
    return value;
  }

  private async sample(encode: EncodeWork, count: number, repeats: number, flush: boolean): Promise<readonly number[]> {
    if (this.device.lostBy !== undefined) throw this.device.lostBy;
    if (this.method === "timestamp") {
      const samples = await this.byTimestamp(encode, count, repeats, flush);
      if (samples.length > 0) return samples;
      // A device may offer the feature and write no times.
      this.method = "wall";
      this.baselines.clear();
    }
    return this.byWall(encode, count, repeats, flush);
  }

  /**
   * Samples are differences between the ends of successive passes in one submit: a pass's begin may be stamped before the work
   * ahead of it has drained, its end may not. The first pass warms up.
   */
  private async byTimestamp(encode: EncodeWork, count: number, repeats: number, flush: boolean): Promise<readonly number[]> {
    const { device, queue } = this.device;
    const { set, resolved } = await this.prepareQueries();
    const encoder = device.createCommandEncoder({ label: "timer" });
    for (let i = 0; i <= repeats; i++) {
      if (flush) this.flusher.encode(encoder, { querySet: set, endOfPassWriteIndex: 2 * i });
      const pass = encoder.beginComputePass({ timestampWrites: { querySet: set, endOfPassWriteIndex: 2 * i + 1 } });
      encode(pass, count);
      pass.end();
    }
    const stamps = 2 * (repeats + 1);
    encoder.resolveQuerySet(set, 0, stamps, resolved, 0);
    const readback = this.memory.readback(encoder, resolved, 0, stamps * 8);
    queue.submit([encoder.finish()]);
    const times = new BigUint64Array((await readback.read()).buffer);
    const ends: { readonly from: bigint; readonly to: bigint }[] = [];
    for (let i = 1; i <= repeats; i++) ends.push({ from: times[flush ? 2 * i : 2 * i - 1]!, to: times[2 * i + 1]! });
    this.quantum = quantumOf(ends.flatMap(({ from, to }) => [from, to]));
    return ends.filter(({ from, to }) => from > 0n && to >= from).map(({ from, to }) => Number(to - from));
  }

  private async byWall(encode: EncodeWork, count: number, repeats: number, flush: boolean): Promise<readonly number[]> {
    const { device, queue } = this.device;
    const samples: number[] = [];
    for (let i = 0; i <= repeats; i++) {
      if (flush) {
        const flushing = device.createCommandEncoder();
        this.flusher.encode(flushing);
        queue.submit([flushing.finish()]);
        await queue.onSubmittedWorkDone();
      }
      const encoder = device.createCommandEncoder({ label: "timer" });
      const pass = encoder.beginComputePass();
      encode(pass, count);
      pass.end();
      const commands = encoder.finish();
      const from = performance.now();
      queue.submit([commands]);
      await queue.onSubmittedWorkDone();
      if (i > 0) samples.push((performance.now() - from) * 1e6);
    }
    return samples;
  }

  private async prepareQueries(): Promise<{ readonly set: GPUQuerySet; readonly resolved: GPUBuffer }> {
    if (this.queries !== undefined) return this.queries;
    const count = 2 * (maxSamples + 1);
    const resolved = await this.memory.create({
      label: "timestamps",
      bytes: count * 8,
      usage: BufferUsage.QUERY_RESOLVE | BufferUsage.COPY_SRC,
    });
    this.queries = { set: this.device.device.createQuerySet({ type: "timestamp", count }), resolved };
    return this.queries;
  }
}

const clamp = (x: number, low: number, high: number): number => Math.min(Math.max(x, low), high);

/** Of at least one number; the mean of the middle two where their count is even. */
export const median = (values: readonly number[]): number => {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
};

/** The steps that browsers are known to round timestamps to: Dawn 2^16 ns, Chrome and Safari 100 µs. */
export const quantumOf = (stamps: readonly bigint[]): number =>
  [65_536, 100_000].find((step) => stamps.length > 0 && stamps.every((stamp) => stamp % BigInt(step) === 0n)) ?? 0;
