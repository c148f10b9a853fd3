// Measures candidates of one task: each must give what the plainest kernel gives, then the field is halved round by round, the
// better half being timed longer. Inputs are random, so that nothing is measured on zeros.

import { Memory } from "../gpu/buffers.ts";
import type { Device } from "../gpu/device.ts";
import type { PipelineCache } from "../gpu/pipelines.ts";
import { Timer } from "../gpu/timer.ts";
import { Warmth } from "../gpu/warmth.ts";
import type { Bindings } from "../ir/dims.ts";
import type { KernelTask } from "../ir/task.ts";
import type { Kernel } from "../kernels/tactic.ts";
import { KilnError } from "../util/errors.ts";
import { budgetOf, deviationOf, isWithin } from "./accuracy.ts";
import { compileStep, type Ready, Rig } from "./rig.ts";

export interface Measured {
  /** Nanoseconds; infinity where it was rejected. */
  readonly ns: number;
  readonly rejected?: string;
  /** Relative root mean square error against the plainest kernel. */
  readonly error?: number;
}

/** What each round spends on a candidate, and how many of the best go on to the next. */
const ROUNDS = [
  { repeats: 1, budgetNs: 2e6, keep: 0.5 },
  { repeats: 5, budgetNs: 20e6, keep: 0.34 },
  { repeats: 9, budgetNs: 100e6, keep: 0 },
] as const;
/** A candidate this many times slower than the best is out at its first run. */
const HOPELESS = 4;
/** How near to the best a round's loser may be and still go on. */
const CLOSE = 1.05;
/** Bytes at either end of each result that are compared. */
const COMPARED_BYTES = 1 << 15;

export class Bench {
  private readonly memory: Memory;
  private readonly timer: Timer;
  private readonly warmth: Warmth;

  constructor(
    private readonly device: Device,
    private readonly pipelines: PipelineCache,
    private readonly bindings: Bindings,
  ) {
    this.memory = new Memory(device);
    this.timer = new Timer(device, this.memory);
    this.warmth = new Warmth(device, this.memory);
  }

  dispose(): void {
    this.warmth.dispose();
    this.timer.dispose();
    this.memory.dispose();
  }

  /** Starts compiling kernels; `field` finds them done or waits for them. */
  compileAhead(kernels: readonly Kernel[]): void {
    for (const { steps } of kernels) for (const step of steps) compileStep(this.pipelines, step).catch(() => undefined);
  }

  /** A field of candidates for one task, with the results that they must give. Errors: those of the plainest kernel. */
  async field(task: KernelTask, plain: Kernel): Promise<Field> {
    const rig = new Rig(this.device, this.memory, this.pipelines, this.bindings, task);
    try {
      const ready = await rig.prepare(plain);
      const expected = await rig.run(ready, COMPARED_BYTES);
      ready.dispose();
      return new Field(
        rig,
        this.timer,
        this.warmth,
        expected,
        budgetOf(task),
        this.device.caps.tier !== "core" && rig.isOfWeights(),
      );
    } catch (failure) {
      rig.dispose();
      throw failure;
    }
  }
}

export class Field {
  constructor(
    private readonly rig: Rig,
    private readonly timer: Timer,
    private readonly warmth: Warmth,
    private readonly expected: readonly (readonly number[])[],
    private readonly budget: number,
    /** Whether caches are emptied before each measurement. */
    private readonly flush: boolean,
  ) {}

  dispose(): void {
    this.rig.dispose();
  }

  /**
   * Times by successive halving. `goOn` is asked before each candidate, so that a deadline can end it: what was not reached has
   * no time. `see` hears of each result as it stands; the last one counts. `best`: what there is to beat, in nanoseconds.
   */
  async race<C extends { readonly kernel: Kernel }>(
    candidates: readonly C[],
    best: number,
    goOn: () => boolean,
    see: (candidate: C, measured: Measured) => void,
  ): Promise<void> {
    let least = best;
    let running: Runner<C>[] = candidates.map((candidate) => ({ candidate, error: undefined, ns: Number.POSITIVE_INFINITY }));
    for (const [number, round] of ROUNDS.entries()) {
      for (const runner of running) {
        if (!goOn()) return;
        const measured = await this.time(runner, round, least);
        [runner.ns, runner.error] = [measured.ns, measured.error];
        least = Math.min(least, measured.ns);
        see(runner.candidate, measured);
      }
      if (number + 1 < ROUNDS.length) running = half(running, round.keep, least);
    }
  }

  /** One measurement; the first one of a candidate compiles it and checks what it computes. */
  private async time<C extends { readonly kernel: Kernel }>(
    { candidate, error: known }: Runner<C>,
    { repeats, budgetNs }: { readonly repeats: number; readonly budgetNs: number },
    least: number,
  ): Promise<Measured> {
    const reject = (rejected: string): Measured => ({ ns: Number.POSITIVE_INFINITY, rejected });
    let ready: Ready;
    try {
      ready = await this.rig.prepare(candidate.kernel);
    } catch (failure) {
      if (failure instanceof KilnError && failure.code !== "K408") return reject(failure.message);
      throw failure;
    }
    try {
      let error = known;
      if (error === undefined) {
        const deviation = deviationOf(await this.rig.run(ready, COMPARED_BYTES), this.expected);
        error = Math.min(deviation.rms, Number.MAX_VALUE);
        if (!isWithin(deviation, this.budget))
          return { ...reject(`error ${error.toExponential(1)} is over the budget of ${this.budget.toExponential(1)}`), error };
      }
      const giveUpNs = Number.isFinite(least) ? HOPELESS * least : Number.POSITIVE_INFINITY;
      await this.warmth.steady();
      const { ns } = await this.timer.measure(ready.encode, { repeats, budgetNs, giveUpNs, flush: this.flush });
      return { ns, error };
    } finally {
      ready.dispose();
    }
  }
}

interface Runner<C> {
  readonly candidate: C;
  /** Undefined before it was checked. */
  error: number | undefined;
  ns: number;
}

/** The part of a field that goes on, the fastest first, and whatever is about as fast. */
function half<R extends { readonly ns: number }>(running: readonly R[], keep: number, least: number): R[] {
  const sorted = running.filter(({ ns }) => Number.isFinite(ns)).sort((a, b) => a.ns - b.ns);
  return sorted.filter(({ ns }, i) => i < Math.ceil(sorted.length * keep) || ns <= CLOSE * least);
}
