// Chooses a kernel for every task: candidates in waves by promise → compiled → checked → raced → remembered. Equal tasks are
// searched once; a task that was settled before is not searched at all.

import type { Device } from "../gpu/device.ts";
import { key as fingerprintKey } from "../gpu/fingerprint.ts";
import type { PipelineCache } from "../gpu/pipelines.ts";
import type { Bindings } from "../ir/dims.ts";
import type { KernelTask, Program } from "../ir/task.ts";
import { blockApart } from "../kernels/block.ts";
import { interrupted } from "../util/errors.ts";
import { TimingCache, type TimingEntry } from "./cache.ts";
import {
  apartOf,
  type Candidate,
  candidateOf,
  candidatesOf,
  firstOf,
  firstOfBlock,
  kernelTasksOf,
  keyOf,
  learnedFrom,
  plainest,
  take,
  taskKeyOf,
  withFirst,
} from "./candidates.ts";
import { Bench, type Field } from "./measure.ts";

/** What a build is for: a device, or what is known of one that is not here. */
export type Target = Pick<Device, "caps" | "fingerprint">;
/** A device that can measure. */
interface Here {
  readonly device: Device;
  readonly pipelines: PipelineCache;
}

/** A candidate that was chosen; its nanoseconds where they were measured. */
export interface Choice extends Candidate {
  readonly ns?: number;
}
/** A block without one has a kernel a part. */
export type Choices = ReadonlyMap<KernelTask, Choice>;

export interface TuneOptions {
  readonly optimizationLevel?: 0 | 1 | 2 | 3 | 4 | 5;
  readonly timingCache?: TimingCache;
  /** Seconds that measuring may take. */
  readonly maxTuneTime?: number;
  /** Ends tuning with an error; what was measured is in the cache. */
  readonly signal?: AbortSignal;
  /** Asked before a block gets a kernel a part. */
  readonly mayPart?: (block: KernelTask) => boolean;
  /** Measures tasks of one candidate too, whose time decides nothing here. */
  readonly timeAll?: boolean;
  /** Told of a task of several candidates of which none has been measured, when no device is there to measure. */
  readonly onUnmeasured?: (task: KernelTask) => void;
  readonly onProgress?: (progress: {
    readonly stage: "tune";
    readonly done: number;
    readonly total: number;
    readonly what: string;
  }) => void;
}

/**
 * TensorRT's levels: 0 takes the first kernel that runs; 1 and 2 measure few; 3 searches until a wave of candidates brings
 * nothing; 4 is more patient; 5 measures everything. `most` candidates in waves of `wave`, the last `patience` waves for nothing.
 */
const LEVELS = [
  { most: 0, wave: 1, patience: 0 },
  { most: 3, wave: 3, patience: 1 },
  { most: 8, wave: 4, patience: 1 },
  { most: 20, wave: 5, patience: 1 },
  { most: 64, wave: 12, patience: 2 },
  { most: Number.POSITIVE_INFINITY, wave: 16, patience: Number.POSITIVE_INFINITY },
] as const;
/** What a wave must gain to have brought something. */
const GAIN = 0.98;
/** How many times its even share of the time left a task may take. */
const SHARE = 3;

/** Nanoseconds of a launch that is saved where a kernel joins another's. */
const LAUNCH = 1500;

/** Nanoseconds of the host's time that a launch takes, at the least of what was measured: a kernel of two must gain more. */
const ENCODING = 2500;

/** Tasks whose first wave compiles while another is measured. */
const LOOKAHEAD = 2;

interface Keyed extends Candidate {
  readonly key: string;
}

/** A task's candidates, the first wave taken from them and compiling. */
interface Search {
  readonly name: string;
  readonly rest: Iterator<Candidate>;
  readonly first: readonly Keyed[];
}

/**
 * Chooses kernels for all tasks of a program. `opt` binds symbols to the sizes to tune at; others count as 16. Where the target
 * is not `here` nothing is measured: what the timing cache knows of it decides. Errors: K613 interrupted.
 */
export async function tune(
  program: Program,
  target: Target,
  here: Here | undefined,
  opt: Bindings,
  options: TuneOptions,
): Promise<Choices> {
  const level = options.optimizationLevel ?? 3;
  const tasks = kernelTasksOf(program.tasks);
  const choices = new Map<KernelTask, Choice>();
  if (level === 0) {
    for (const task of tasks) {
      const chosen = unmeasured(task, target, options);
      if (chosen) choices.set(task, chosen);
    }
    return choices;
  }
  const tuner = new Tuner(target, here, withDefaults(opt), options.timingCache ?? new TimingCache(), level, options);
  try {
    for (const [done, task] of tasks.entries()) {
      if (options.signal?.aborted) throw interrupted(done, tasks.length);
      for (const next of tasks.slice(done + 1, done + 1 + LOOKAHEAD)) tuner.lookAhead(next);
      const chosen = await tuner.choose(task, choices, done, tasks.length);
      if (chosen) choices.set(task, chosen);
    }
  } finally {
    tuner.dispose();
  }
  return choices;
}

/** What is likely best; undefined for a block that is likely better apart. */
const unmeasured = (task: KernelTask, target: Target, { mayPart }: TuneOptions): Candidate | undefined =>
  task.kind === "block" ? firstOfBlock(task, target, () => mayPart?.(task) === false) : firstOf(task, target);

class Tuner {
  /** Undefined where the target is not here. */
  private readonly bench: Bench | undefined;
  private readonly deviceKey: string;
  private readonly learned: ReadonlyMap<string, number>;
  private readonly deadline: number;
  private readonly searches = new Map<KernelTask, Search>();

  constructor(
    private readonly target: Target,
    here: Here | undefined,
    private readonly sizes: Bindings,
    private readonly cache: TimingCache,
    private readonly level: 1 | 2 | 3 | 4 | 5,
    private readonly options: TuneOptions,
  ) {
    this.bench = here && new Bench(here.device, here.pipelines, sizes);
    this.deviceKey = fingerprintKey(target.fingerprint);
    this.learned = learnedFrom(cache);
    const { maxTuneTime } = options;
    this.deadline = maxTuneTime === undefined ? Number.POSITIVE_INFINITY : performance.now() + maxTuneTime * 1000;
  }

  dispose(): void {
    this.bench?.dispose();
  }

  /** Begins to compile what a later task will be searched among. */
  lookAhead(task: KernelTask): void {
    if (!this.bench || task.kind === "block" || this.searches.has(task) || performance.now() >= this.deadline) return;
    const name = this.nameOf(task);
    if (!this.settled(task, name)) this.searches.set(task, this.begin(task, name));
  }

  /** The kernel of task number `done` of `total`; undefined for a block that is best apart. `choices`: those of earlier tasks. */
  async choose(task: KernelTask, choices: Choices, done: number, total: number): Promise<Choice | undefined> {
    const { signal, onProgress } = this.options;
    const report = (what: string): void =>
      onProgress?.({ stage: "tune", done, total, what: `${task.kind} ${task.name}${what}` });
    report("");
    const name = this.searches.get(task)?.name ?? this.nameOf(task);
    const apart =
      task.kind === "block"
        ? apartOf(
            task,
            task.parts.map((part) => choices.get(part)!.kernel),
          )
        : undefined;
    const settled = this.settled(task, name, apart);
    if (settled) return this.whole(task, name, settled);
    const now = performance.now();
    const end = Math.min(this.deadline, now + (SHARE * (this.deadline - now)) / (total - done));
    const goOn = (): boolean => !signal?.aborted && performance.now() < end;
    const bench = this.bench;
    if (bench && goOn()) await this.search(bench, task, this.searches.get(task) ?? this.begin(task, name, apart), goOn, report);
    this.searches.delete(task);
    if (signal?.aborted) throw interrupted(done, total);
    const best = this.cache.bestOf(name);
    if (!bench && !best && take(candidatesOf(task, this.target), 2).length > 1) this.options.onUnmeasured?.(task);
    const found = this.chosen(task, best, apart);
    return found ? this.whole(task, name, found) : unmeasured(task, this.target, this.options);
  }

  /** What was timed, if the task still has it; `apart` is that of a block's parts. */
  private chosen(task: KernelTask, entry: TimingEntry | undefined, apart?: Candidate): Choice | undefined {
    const candidate =
      entry && (entry.tactic === apart?.tactic ? apart : candidateOf(task, entry.tactic, entry.config, this.target));
    return candidate && { ...candidate, ns: entry.ns };
  }

  /** The candidate; undefined for a block's parts, where it may come apart. */
  private whole(task: KernelTask, name: string, found: Choice): Choice | undefined {
    if (found.tactic !== blockApart.name) return { ...found, others: () => this.closeTo(task, name) };
    if (this.options.mayPart?.(task) !== false) return undefined;
    return this.chosen(task, this.cache.bestOf(name, found.tactic)) ?? unmeasured(task, this.target, this.options);
  }

  /** What was measured to be no more than a launch slower than the best, the fastest first. */
  private closeTo(task: KernelTask, name: string): Candidate[] {
    const limit = (this.cache.bestOf(name)?.ns ?? 0) + LAUNCH;
    return this.cache
      .list()
      .flatMap(([, entry]) => (entry.task === name && entry.ns <= limit ? [entry] : []))
      .sort((a, b) => a.ns - b.ns)
      .flatMap(({ tactic, config }) => candidateOf(task, tactic, config, this.target) ?? []);
  }

  private nameOf(task: KernelTask): string {
    return taskKeyOf(task, this.target, this.deviceKey, this.sizes);
  }

  /** What an earlier search ended with, unless the tactic has changed since: then the same configuration is another kernel. */
  private settled(task: KernelTask, name: string, apart?: Candidate): Choice | undefined {
    const decision = this.cache.decision(name, this.level);
    const candidate = this.chosen(task, decision?.entry, apart);
    return candidate && keyOf(candidate.kernel, this.deviceKey, this.sizes) === decision?.key ? candidate : undefined;
  }

  private begin(task: KernelTask, name: string, apart?: Candidate): Search {
    const { wave, most } = LEVELS[this.level];
    const rest = withFirst(apart, candidatesOf(task, this.target, this.learned, most === Number.POSITIVE_INFINITY));
    return { name, rest, first: this.takeWave(rest, Math.min(wave, most)) };
  }

  /** The next candidates; those that were never measured begin to compile. */
  private takeWave(rest: Iterator<Candidate>, size: number): Keyed[] {
    const wave = take(rest, size).map((each) => ({ ...each, key: keyOf(each.kernel, this.deviceKey, this.sizes) }));
    this.bench?.compileAhead(wave.filter(({ key }) => !this.cache.get(key)).map(({ kernel }) => kernel));
    return wave;
  }

  /** Measures waves into the cache until they bring nothing, there are none, or `goOn` says no. */
  private async search(
    bench: Bench,
    task: KernelTask,
    { name, rest, first }: Search,
    goOn: () => boolean,
    report: (what: string) => void,
  ): Promise<void> {
    const { most, wave: size, patience } = LEVELS[this.level];
    let field: Field | undefined;
    let best: { candidate: Keyed; ns: number } | undefined;
    try {
      let [wave, tried, idle] = [first, first.length, 0];
      // A choice of one is none; a block's only one is its parts, which have been measured.
      if (tried < 2 && (task.kind === "block" || !this.options.timeAll)) return;
      while (wave.length > 0) {
        const takeNext = (): readonly Keyed[] => this.takeWave(rest, Math.min(size, most - tried));
        // The next wave compiles while this one is measured, unless the device is a processor that would compute meanwhile.
        const next = this.target.caps.tier === "core" ? undefined : takeNext();
        const before: number = best?.ns ?? Number.POSITIVE_INFINITY;
        const unknown = wave.filter(({ key }) => !this.cache.get(key));
        if (unknown.length > 0) field ??= await bench.field(task, plainest(task, this.target));
        await field?.race(unknown, before, goOn, (candidate, measured) => {
          const { tactic, config, key } = candidate;
          this.cache.set(key, { tactic, config, task: name, ...measured });
          report(` ${tactic}${best ? `, best ${best.candidate.tactic} ${(best.ns / 1e6).toPrecision(3)} ms` : ""}`);
        });
        if (!goOn()) return;
        for (const candidate of wave) {
          const measured = this.cache.get(candidate.key)?.ns ?? Number.POSITIVE_INFINITY;
          const ns = measured + ENCODING * (candidate.kernel.steps.length - 1);
          if (ns < (best?.ns ?? Number.POSITIVE_INFINITY)) best = { candidate, ns };
        }
        idle = best && best.ns > GAIN * before ? idle + 1 : 0;
        wave = idle >= patience ? [] : (next ?? takeNext());
        tried += wave.length;
      }
      if (best) this.cache.decide(name, { level: this.level, key: best.candidate.key });
    } finally {
      field?.dispose();
    }
  }
}

/** Sizes for symbols that no profile bounds. */
export const withDefaults = (opt: Bindings): Bindings => ({ get: (name: string) => opt.get(name) ?? 16 }) as Bindings;
