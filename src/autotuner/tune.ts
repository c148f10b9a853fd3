// Chooses a kernel for every task: candidates of all tactics → compiled → checked against the plainest one → measured →
// remembered. Level 0 measures nothing and takes what is likely best.

import type { Device } from "../gpu/device.ts";
import { key as fingerprintKey } from "../gpu/fingerprint.ts";
import type { PipelineCache } from "../gpu/pipelines.ts";
import { type Bindings, evaluate } from "../ir/dims.ts";
import { isKernelTask, type KernelTask, type Program, type Task } from "../ir/task.ts";
import { tacticsFor } from "../kernels/index.ts";
import type { Config, Kernel } from "../kernels/tactic.ts";
import { internal } from "../util/errors.ts";
import { TimingCache } from "./cache.ts";
import { Bench, type Keyed } from "./measure.ts";

/** A tactic with a configuration, emitted. */
export interface Candidate {
  readonly tactic: string;
  readonly config: Config;
  readonly kernel: Kernel;
}
export type Choices = ReadonlyMap<KernelTask, Candidate>;
/** What a build is for: a device, or what is known of one that is not here. */
export type Target = Pick<Device, "caps" | "fingerprint">;

export interface TuneOptions {
  readonly optimizationLevel?: 0 | 1 | 2 | 3 | 4 | 5;
  readonly timingCache?: TimingCache;
  readonly maxTuneTime?: number;
  /** Told of a task of several candidates of which none has been measured, when no device is there to measure. */
  readonly onUnmeasured?: (task: KernelTask) => void;
  readonly onProgress?: (progress: {
    readonly stage: "tune";
    readonly done: number;
    readonly total: number;
    readonly what: string;
  }) => void;
}

/** How many candidates of a task each level measures. */
const CANDIDATES = [0, 3, 6, 14, 40, Number.POSITIVE_INFINITY] as const;

/** Kernel tasks, those inside loops and branches included. */
export const kernelTasksOf = (tasks: readonly Task[]): readonly KernelTask[] =>
  tasks.flatMap((task) =>
    isKernelTask(task)
      ? [task]
      : task.kind === "loop"
        ? kernelTasksOf(task.body)
        : task.kind === "if"
          ? [...kernelTasksOf(task.then), ...kernelTasksOf(task.else)]
          : [],
  );

/** What a tactic's next configuration is worth trying, relative to the one before. */
const DECAY = 0.85;

/** All candidates, the most promising first: a tactic's likelihood, less for each of its configurations that came before. */
export function* candidatesOf(task: KernelTask, device: Pick<Target, "caps">): Generator<Candidate> {
  const { caps } = device;
  const sources = tacticsFor(task, caps).map((tactic) => ({
    tactic,
    worth: tactic.likelihood(task, caps),
    configs: tactic.candidates(task, caps)[Symbol.iterator](),
  }));
  while (sources.length > 0) {
    const best = sources.reduce((a, b) => (b.worth > a.worth ? b : a));
    const next = best.configs.next();
    if (next.done) sources.splice(sources.indexOf(best), 1);
    else yield { tactic: best.tactic.name, config: next.value, kernel: best.tactic.emit(task, next.value, caps) };
    best.worth *= DECAY;
  }
}

/**
 * Chooses kernels for all tasks of a program. `opt` binds symbols to the sizes to tune at; others count as 16. Where the target
 * is not `here` nothing is measured: what the timing cache knows of it decides.
 */
export async function tune(
  program: Program,
  device: Target,
  here: { readonly device: Device; readonly pipelines: PipelineCache } | undefined,
  opt: Bindings,
  options: TuneOptions,
): Promise<Choices> {
  const level = options.optimizationLevel ?? 3;
  const tasks = kernelTasksOf(program.tasks);
  const choices = new Map<KernelTask, Candidate>();
  if (level === 0) {
    for (const task of tasks) choices.set(task, firstOf(task, device));
    return choices;
  }
  const cache = options.timingCache ?? new TimingCache();
  const bench = here && new Bench(here.device, here.pipelines, withDefaults(opt));
  const deadline =
    options.maxTuneTime === undefined ? Number.POSITIVE_INFINITY : performance.now() + options.maxTuneTime * 1000;
  const deviceKey = fingerprintKey(device.fingerprint);
  const sizes = withDefaults(opt);
  const keyed = (task: KernelTask): Keyed<Candidate>[] =>
    take(candidatesOf(task, device), CANDIDATES[level]!).map((candidate) => ({
      candidate,
      key: TimingCache.key(
        deviceKey,
        candidate.kernel.steps.map(({ wgsl, workgroups }) => ({
          wgsl,
          workgroups: workgroups.map((dim) => evaluate(dim, sizes) ?? 1),
        })),
      ),
    }));
  const inTime = (): boolean => performance.now() < deadline;
  const unknown = (candidates: readonly Keyed<Candidate>[]): Keyed<Candidate>[] =>
    candidates.length < 2 ? [] : candidates.filter(({ key }) => !cache.get(key));
  // Candidates of the tasks ahead compile while those of one are measured.
  const ahead: Keyed<Candidate>[][] = [];
  try {
    for (const [done, task] of tasks.entries()) {
      for (let next = done + ahead.length; next < Math.min(tasks.length, done + LOOKAHEAD); next++) {
        const candidates = keyed(tasks[next]!);
        ahead.push(candidates);
        if (bench && inTime()) bench.compileAhead(unknown(candidates).map(({ candidate }) => candidate.kernel));
      }
      const candidates = ahead.shift()!;
      options.onProgress?.({ stage: "tune", done, total: tasks.length, what: `${task.kind} ${task.name}` });
      const missing = unknown(candidates);
      if (!bench && missing.length > 0 && missing.length === candidates.length) options.onUnmeasured?.(task);
      if (bench && missing.length > 0 && inTime()) {
        for (const { candidate, ns, key } of await bench.compare(task, plainest(task, device), missing))
          cache.set(key, { tactic: candidate.tactic, config: candidate.config, ns });
      }
      choices.set(task, fastest(candidates, cache));
    }
  } finally {
    bench?.dispose();
  }
  return choices;
}

/** Tasks whose candidates compile at the same time. */
const LOOKAHEAD = 3;

function take<T>(items: Iterable<T>, count: number): T[] {
  const taken: T[] = [];
  for (const item of items) {
    taken.push(item);
    if (taken.length >= count) break;
  }
  return taken;
}

/** The candidate of least time; the most promising one where nothing was measured. */
function fastest(candidates: readonly Keyed<Candidate>[], cache: TimingCache): Candidate {
  const timed = candidates.flatMap(({ candidate, key }) => {
    const ns = cache.get(key)?.ns;
    return ns !== undefined && Number.isFinite(ns) ? [{ candidate, ns }] : [];
  });
  return timed.length === 0
    ? candidates[0]!.candidate
    : timed.reduce((best, next) => (next.ns < best.ns ? next : best)).candidate;
}

/** The kernel that others are checked against: the first tactic of a kind applies to every task. */
function plainest(task: KernelTask, { caps }: Target): Kernel {
  const tactic = tacticsFor(task, caps)[0]!;
  for (const config of tactic.candidates(task, caps)) return tactic.emit(task, config, caps);
  throw internal(task.name, `${tactic.name} has no configuration`);
}

function firstOf(task: KernelTask, device: Target): Candidate {
  for (const candidate of candidatesOf(task, device)) return candidate;
  throw internal(task.name, `no tactic runs a ${task.kind} task`);
}

/** Sizes for symbols that no profile bounds. */
export const withDefaults = (opt: Bindings): Bindings => ({ get: (name: string) => opt.get(name) ?? 16 }) as Bindings;
