// 8 bits are a permission: which layers use it is decided by the measured times of whole programs, one with all layers in 8
// bits, one with none, and one with those that are faster so. Conversions are tasks of these programs, or parts of them.

import { isKernelTask, type KernelTask, type Program, readsOf, type Task, writesOf } from "../ir/task.ts";
import type { Value } from "../ir/value.ts";
import { kernelTasksOf } from "./candidates.ts";

/** A program, its blocks apart as their parts, and the nanoseconds of its kernels, undefined where nobody measured. */
export interface Timed {
  readonly program: Program;
  readonly nsOf: (task: KernelTask) => number | undefined;
}

/** A layer that stays in float, and why. */
export interface Kept {
  readonly layer: string;
  readonly why: string;
}

/** What there is to choose from: a network with some of its layers in float. */
export interface Choosable<G> {
  /** Layers of integers, by the name of their node. */
  readonly layers: readonly string[];
  readonly without: (kept: readonly Kept[]) => G;
}

/**
 * The fastest of a network's forms; the one with all layers in 8 bits where not all was measured. `time` compiles a form and
 * measures its kernels.
 */
export async function fastest<G>({ layers, without }: Choosable<G>, time: (form: G) => Promise<Timed>): Promise<G> {
  const whole = without([]);
  const bytes = layers.length > 0 ? costsOf(await time(whole), layers) : undefined;
  if (bytes === undefined) return whole;
  const reasonFor = (layer: string, costs: Costs): Kept => ({
    layer,
    why: `${text(costs.ofLayer.get(layer))} with what it reads, ${text(bytes.ofLayer.get(layer))} in 8 bits`,
  });
  const floats = costsOf(await time(without(layers.map((layer) => ({ layer, why: "" })))), layers);
  if (floats === undefined) return whole;
  const faster = layers.filter((layer) => floats.ofLayer.get(layer)! < bytes.ofLayer.get(layer)!);
  if (faster.length === 0) return whole;
  const reasons = faster.map((layer) => reasonFor(layer, floats));
  if (faster.length === layers.length) return floats.total < bytes.total ? without(reasons) : whole;
  const some = without(reasons);
  const mixed = costsOf(await time(some), layers)?.total ?? Number.POSITIVE_INFINITY;
  if (Math.min(mixed, floats.total) >= bytes.total) return whole;
  if (mixed <= floats.total) return some;
  const why = `the network takes ${text(floats.total)} in float, ${text(mixed)} with the faster layers in 8 bits`;
  return without(layers.map((layer) => (faster.includes(layer) ? reasonFor(layer, floats) : { layer, why })));
}

const text = (ns: number | undefined): string => `${((ns ?? 0) / 1000).toPrecision(3)} µs`;

interface Costs {
  readonly total: number;
  readonly ofLayer: ReadonlyMap<string, number>;
}

/**
 * Nanoseconds of a program and of each layer. A task of several layers costs each the same share; what is of no layer is borne
 * by those that read its results: conversions, most of all. Undefined where a kernel was not measured.
 */
export function costsOf({ program, nsOf }: Timed, layers: readonly string[]): Costs | undefined {
  const known = new Set(layers);
  const ofLayer = new Map(layers.map((layer) => [layer, 0]));
  const wantedBy = new Map<Value, Set<string>>();
  let total = 0;
  // A block without a kernel of its own is its parts.
  const tasks = program.tasks.flatMap((task): readonly Task[] =>
    task.kind === "block" && nsOf(task) === undefined ? task.parts : [task],
  );
  for (const task of tasks.reverse()) {
    const ns = sumOf(isKernelTask(task) ? [task] : kernelTasksOf([task]), nsOf);
    if (ns === undefined) return undefined;
    total += ns;
    const own = isKernelTask(task) ? task.origins.filter((name) => known.has(name)) : [];
    const bearers = own.length > 0 ? own : [...new Set(writesOf(task).flatMap((value) => [...(wantedBy.get(value) ?? [])]))];
    for (const layer of bearers) ofLayer.set(layer, ofLayer.get(layer)! + ns / bearers.length);
    for (const value of readsOf(task)) wantedBy.set(value, new Set([...(wantedBy.get(value) ?? []), ...bearers]));
  }
  return { total, ofLayer };
}

const sumOf = (tasks: readonly KernelTask[], nsOf: Timed["nsOf"]): number | undefined =>
  tasks.reduce<number | undefined>((sum, task) => {
    const ns = nsOf(task);
    return sum === undefined || ns === undefined ? undefined : sum + ns;
  }, 0);
