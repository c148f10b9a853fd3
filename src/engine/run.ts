// What one run carries: where its ends lie and the commands that are encoded and not submitted yet.

import type { Device } from "../gpu/device.ts";
import type { Tensor } from "../ir/tensor.ts";
import { type KilnError, runRefused } from "../util/errors.ts";
import type { End } from "./ends.ts";
import type { Profiler } from "./profiler.ts";

/** Commands, and whether a run with them has ended well. */
export interface Trial {
  accepted: boolean;
}

export class Run {
  /** Values that stay on the host, by buffer number. */
  readonly hosted = new Map<number, Tensor>();
  private encoder: GPUCommandEncoder | undefined;
  /** Encoded before the run began; they come before what the encoder holds. */
  private prepared: GPUCommandBuffer[] = [];
  private readonly refusals: Promise<KilnError | undefined>[] = [];
  /** What this run is the first to use. */
  private readonly trials: Trial[] = [];
  private readonly errorBefore: KilnError | undefined;
  /** Whether anything was submitted without a guard. */
  private isBare = false;

  constructor(
    private readonly device: Device,
    /** Ends that are not the context's own, by buffer number. */
    readonly ends: Map<number, End>,
    readonly signal: AbortSignal | undefined,
    readonly profiler: Profiler | undefined,
    /** Kernels after which the first submit goes out, each later one after twice as many: an idle GPU begins while more is encoded. */
    readonly firstSubmit: number,
    /** Whether all its buffers are the context's own: WebGPU cannot refuse then what it accepted before. */
    private isKnown: boolean,
  ) {
    this.errorBefore = device.lastError;
  }

  get commands(): GPUCommandEncoder {
    this.encoder ??= this.device.device.createCommandEncoder();
    return this.encoder;
  }

  /** Adds commands that were encoded before. */
  add(commands: GPUCommandBuffer): void {
    if (this.encoder) this.submit();
    this.prepared.push(commands);
  }

  /** Uses what WebGPU may refuse, unless it was accepted in an earlier run. */
  tries(trial: Trial): void {
    if (trial.accepted) return;
    this.isKnown = false;
    this.trials.push(trial);
  }

  /** Submits what is encoded; a refusal is this run's own (see `settled`). */
  submit(): void {
    const { encoder, prepared } = this;
    if (!encoder && prepared.length === 0) return;
    this.encoder = undefined;
    this.prepared = [];
    const submit = (): void => this.device.queue.submit(encoder ? [...prepared, encoder.finish()] : prepared);
    if (this.isKnown) {
      this.isBare = true;
      submit();
    } else this.guard(submit);
  }

  /** Ends a phase of a run that is timed. */
  async endPhase(): Promise<void> {
    if (!this.profiler) return;
    this.submit();
    await this.profiler.phase();
  }

  /** Does WebGPU calls, none of which may wait, so that what WebGPU says against them fails this run and no other. */
  guard<T>(calls: () => T): T {
    const { device } = this.device;
    device.pushErrorScope("validation");
    device.pushErrorScope("out-of-memory");
    try {
      return calls();
    } finally {
      for (let scope = 0; scope < 2; scope++)
        this.refusals.push(
          device.popErrorScope().then(
            (error) => (error ? runRefused(error.message) : undefined),
            () => this.device.lostBy,
          ),
        );
    }
  }

  /**
   * Resolves when WebGPU has accepted all that was submitted. Throws its first refusal, or the device's loss. Where something was
   * not guarded, any error that the device told of meanwhile counts.
   */
  async settled(): Promise<void> {
    const { device, trials } = this;
    for (const refusal of await Promise.all(this.refusals)) if (refusal) throw refusal;
    if (device.lostBy) throw device.lostBy;
    if (this.isBare && device.lastError && device.lastError !== this.errorBefore) throw runRefused(device.lastError.message);
    for (const trial of trials) trial.accepted = true;
  }
}
