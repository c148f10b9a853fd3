// What there is to try for a task: configurations of all tactics, the most promising first.

import type { Bindings } from "../ir/dims.ts";
import { evaluate } from "../ir/dims.ts";
import { type BlockTask, between, isKernelTask, type KernelTask, type Task } from "../ir/task.ts";
import { blockApart } from "../kernels/block.ts";
import { inTurn } from "../kernels/chain.ts";
import { tacticsFor } from "../kernels/index.ts";
import { byPromise } from "../kernels/promise.ts";
import type { Config, Kernel, Tactic } from "../kernels/tactic.ts";
import type { Caps } from "../util/caps.ts";
import { internal } from "../util/errors.ts";
import { TimingCache } from "./cache.ts";

/** A tactic with a configuration, emitted. */
export interface Candidate {
  readonly tactic: string;
  readonly config: Config;
  readonly kernel: Kernel;
  /** Others that are about as good. */
  readonly others?: () => readonly Candidate[];
}

type Where = { readonly caps: Caps };

/** Kernel tasks, those inside loops and branches included; the parts of a block before the block. */
export const kernelTasksOf = (tasks: readonly Task[]): readonly KernelTask[] =>
  tasks.flatMap((task) =>
    isKernelTask(task)
      ? task.kind === "block"
        ? [...task.parts, task]
        : [task]
      : task.kind === "loop"
        ? kernelTasksOf(task.body)
        : task.kind === "if"
          ? [...kernelTasksOf(task.then), ...kernelTasksOf(task.else)]
          : [],
  );

/**
 * Candidates by promise: a tactic's likelihood times what was `learned` of it and how its first one's expected time compares with that
 * of others that can tell, less for each of its configurations that came before. `all`: see `Tactic.candidates`.
 */
export function* candidatesOf(
  task: KernelTask,
  { caps }: Where,
  learned: ReadonlyMap<string, number> = new Map(),
  all = false,
): Generator<Candidate> {
  const lists = tacticsFor(task, caps)
    .map((tactic) => ({ tactic, worth: tactic.likelihood(task, caps) * (learned.get(tactic.name) ?? 1) }))
    .filter(({ worth }) => worth > 0)
    .map(({ tactic, worth }) => {
      const items = configsOf(tactic, tactic.candidates(task, caps, all));
      const [first] = take(items, 1);
      const cost = first && caps.tier !== "core" ? tactic.cost?.(task, first.config, caps) : undefined;
      return { worth, cost, items: withFirst(first, items) };
    });
  const least = Math.min(...lists.map(({ cost }) => cost ?? Number.POSITIVE_INFINITY));
  const compared = lists.map(({ worth, cost, items }) => ({ worth: worth * (cost === undefined ? 1 : least / cost), items }));
  for (const { tactic, config } of byPromise(compared))
    yield { tactic: tactic.name, config, kernel: tactic.emit(task, config, caps) };
}

/** The next `count` items, fewer at the end. */
export function take<T>(items: Iterator<T>, count: number): T[] {
  const taken: T[] = [];
  while (taken.length < count) {
    const next = items.next();
    if (next.done) break;
    taken.push(next.value);
  }
  return taken;
}

export function* withFirst<T>(first: T | undefined, rest: Iterable<T>): Generator<T> {
  if (first !== undefined) yield first;
  yield* rest;
}

function* configsOf(tactic: Tactic, configs: Iterable<Config>): Generator<{ tactic: Tactic; config: Config }> {
  for (const config of configs) yield { tactic, config };
}

/** The candidate of a tactic by name; undefined when there is no such tactic for the task. */
export function candidateOf(task: KernelTask, name: string, config: Config, { caps }: Where): Candidate | undefined {
  const tactic = tacticsFor(task, caps).find((each) => each.name === name);
  return tactic && { tactic: name, config, kernel: tactic.emit(task, config, caps) };
}

/** Candidates that come next by promise and are taken to be about as good as the first. */
const CLOSE = 8;

/** The one that is likely best where nothing is measured: of one dispatch, since what several gain over it must be measured. */
export function firstOf(task: KernelTask, where: Where): Candidate {
  const candidates = single(candidatesOf(task, where));
  const [first] = take(candidates, 1);
  if (!first) throw internal(task.name, `no tactic runs a ${task.kind} task`);
  let others: readonly Candidate[] | undefined;
  return { ...first, others: () => (others ??= take(candidates, CLOSE)) };
}

function* single(candidates: Iterable<Candidate>): Generator<Candidate> {
  for (const candidate of candidates) if (candidate.kernel.steps.length === 1) yield candidate;
}

/** The kernels chosen for the parts of a block, as one candidate for it. */
export const apartOf = (block: BlockTask, kernels: readonly Kernel[]): Candidate => ({
  tactic: blockApart.name,
  config: {},
  kernel: inTurn(kernels, between(block)),
});

/** The single kernel that is likely best for a block, unless that is a kernel a part; `needed` where it must not be. */
export function firstOfBlock(block: BlockTask, where: Where, needed: () => boolean): Candidate | undefined {
  const wins = tacticsFor(block, where.caps).some((tactic) => tactic.likelihood(block, where.caps) >= 0.5);
  if (!wins && !needed()) return undefined;
  for (const candidate of candidatesOf(block, where)) if (candidate.kernel.steps.length === 1) return candidate;
  return undefined;
}

/** The kernel that others are checked against: the first tactic of a kind applies to every task. */
export function plainest(task: KernelTask, { caps }: Where): Kernel {
  const tactic = tacticsFor(task, caps)[0]!;
  for (const config of tactic.candidates(task, caps)) return tactic.emit(task, config, caps);
  throw internal(task.name, `${tactic.name} has no configuration`);
}

/** A kernel's key in the timing cache. */
export const keyOf = ({ steps }: Kernel, device: string, sizes: Bindings): string =>
  TimingCache.key(
    device,
    steps.map(({ wgsl, workgroups }) => ({ wgsl, workgroups: workgroups.map((dim) => evaluate(dim, sizes) ?? 1) })),
  );

/** A task's key: what its plainest kernel runs and which tactics apply, so that equal tasks have equal keys. */
export const taskKeyOf = (task: KernelTask, { caps }: Where, device: string, sizes: Bindings): string =>
  keyOf(plainest(task, { caps }), [device, ...tacticsFor(task, caps).map(({ name }) => name)].join(), sizes);

/**
 * What the cache teaches of each tactic: how near it came to the best of each task in which it was measured, 1 for always
 * best, shrunk towards the mean where little is known.
 */
export function learnedFrom(cache: TimingCache): ReadonlyMap<string, number> {
  const tasks = new Map<string, Map<string, number>>();
  for (const [, { task, tactic, ns }] of cache.list()) {
    if (task === undefined || !Number.isFinite(ns)) continue;
    const times = tasks.get(task) ?? new Map<string, number>();
    tasks.set(task, times.set(tactic, Math.min(ns, times.get(tactic) ?? Number.POSITIVE_INFINITY)));
  }
  const sums = new Map<string, { sum: number; count: number }>();
  for (const times of tasks.values()) {
    const best = Math.max(1, Math.min(...times.values()));
    for (const [tactic, ns] of times) {
      const { sum, count } = sums.get(tactic) ?? { sum: 0, count: 0 };
      sums.set(tactic, { sum: sum + best / Math.max(1, ns), count: count + 1 });
    }
  }
  return new Map([...sums].map(([tactic, { sum, count }]) => [tactic, (sum + PRIOR * TYPICAL) / ((count + PRIOR) * TYPICAL)]));
}

/** How many tasks the assumption is worth that a tactic comes this near to the best. */
const PRIOR = 4;
const TYPICAL = 0.6;
