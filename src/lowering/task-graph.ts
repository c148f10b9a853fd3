// A list of tasks under rewriting: who writes and who reads each value is kept up to date by every edit. Positions are
// stable; a task stands after those that write what it reads.

import { type Expr, type Load, loadsOf, transform, visit } from "../ir/expr.ts";
import {
  expressionsOf,
  isKernelTask,
  type KernelTask,
  mapExpressions,
  readsOf,
  type Store,
  type Task,
  writesOf,
} from "../ir/task.ts";
import type { Value } from "../ir/value.ts";
import type { Caps } from "../util/caps.ts";
import { isLiteral } from "./literals.ts";
import { foldFactors } from "./scales.ts";

/** Asks whether one more rewrite of this name may happen (and records it). */
export type TakeRewrite = (rule: string, node: string) => boolean;

export interface FuseOptions {
  readonly enabled: boolean;
  readonly take: TakeRewrite;
  /** Names of rules that must not be applied: see FUSION_RULES. */
  readonly disable: readonly string[];
}

/** Nodes of a task's expressions beyond which nothing more is written into it. */
const LARGEST = 1000;

/** What rules ask before they rewrite. */
export interface Judge {
  /** Records the rewrite, or says that it must not happen. */
  readonly may: (rule: string, task: Task) => boolean;
  /** True when the device can bind the task's buffers and its expressions are of a reasonable size. */
  readonly fits: (task: KernelTask) => boolean;
}

export const judge = (caps: Caps, { take, disable }: FuseOptions): Judge => ({
  may: (rule, task) => !disable.includes(rule) && take(rule, task.name),
  fits: (task) => {
    const most = caps.limits.maxStorageBuffersPerShaderStage;
    return sizeOf(task) <= LARGEST && (buffersOf(task) <= most || buffersOf(foldFactors(task)) <= most);
  },
});

const NONE: ReadonlySet<number> = new Set();

export class TaskGraph {
  private readonly tasks: (Task | undefined)[];
  private readonly reads: (readonly Value[])[] = [];
  private readonly writes: (readonly Value[])[] = [];
  private readonly depths: number[] = [];
  private readonly writers = new Map<Value, Set<number>>();
  private readonly readers = new Map<Value, Set<number>>();

  /** `keep`: values that are read after the list. `room`: how many free positions a task wants before it. */
  constructor(
    tasks: readonly Task[],
    readonly keep: ReadonlySet<Value>,
    private readonly judge: Judge,
    room: (task: Task) => number = () => 0,
  ) {
    this.tasks = tasks.flatMap((task) => [...new Array<undefined>(room(task)), task]);
    this.tasks.forEach((task, at) => {
      if (task) this.enter(at);
    });
  }

  get length(): number {
    return this.tasks.length;
  }
  at(position: number): Task | undefined {
    return this.tasks[position];
  }
  list(): Task[] {
    return this.tasks.filter((task) => task !== undefined);
  }
  readsAt(position: number): readonly Value[] {
    return this.reads[position]!;
  }
  writersOf(value: Value): ReadonlySet<number> {
    return this.writers.get(value) ?? NONE;
  }
  readersOf(value: Value): ReadonlySet<number> {
    return this.readers.get(value) ?? NONE;
  }
  /** Tasks on the longest way from an input to this one. */
  depthAt(position: number): number {
    return this.depths[position]!;
  }

  /** The only task that writes the value, when it is a kernel task and nothing outside of the list reads the value. */
  maker(value: Value): number | undefined {
    const writers = this.writersOf(value);
    if (writers.size !== 1 || this.keep.has(value)) return undefined;
    const [at] = writers as Set<number>;
    return isKernelTask(this.tasks[at!]!) ? at : undefined;
  }

  /** The tasks that read the value, or undefined when others than kernels do or one starts from it as a whole. */
  kernelReaders(value: Value): readonly (readonly [number, KernelTask])[] | undefined {
    const found: (readonly [number, KernelTask])[] = [];
    for (const at of this.readersOf(value)) {
      const task = this.tasks[at]!;
      if (!isKernelTask(task) || task.stores.some(({ init }) => init === value)) return undefined;
      found.push([at, task]);
    }
    return found;
  }

  /** Puts a task at a position; what stood there goes. */
  replace(at: number, task: Task): void {
    if (this.tasks[at]) this.leave(at);
    this.tasks[at] = task;
    this.enter(at);
  }

  remove(at: number): void {
    this.leave(at);
    this.tasks[at] = undefined;
  }

  may(rule: string, task: Task): boolean {
    return this.judge.may(rule, task);
  }

  fits(task: KernelTask): boolean {
    return this.judge.fits(task);
  }

  private enter(at: number): void {
    const task = this.tasks[at]!;
    this.reads[at] = readsOf(task);
    this.writes[at] = writesOf(task);
    let depth = 0;
    for (const value of this.reads[at]) {
      for (const writer of this.writersOf(value)) if (writer < at) depth = Math.max(depth, this.depths[writer]!);
      entry(this.readers, value).add(at);
    }
    for (const value of this.writes[at]) entry(this.writers, value).add(at);
    this.depths[at] = depth + 1;
  }

  private leave(at: number): void {
    for (const value of this.reads[at]!) this.readers.get(value)!.delete(at);
    for (const value of this.writes[at]!) this.writers.get(value)!.delete(at);
  }
}

function entry(table: Map<Value, Set<number>>, value: Value): Set<number> {
  let found = table.get(value);
  if (!found) table.set(value, (found = new Set()));
  return found;
}

/** Bindings that a task needs, parameters and what becomes a literal left out. */
export const buffersOf = (task: KernelTask): number =>
  new Set([...readsOf(task).filter((value) => !isLiteral(value)), ...writesOf(task)]).size;

function sizeOf(task: KernelTask): number {
  let size = 0;
  visit(expressionsOf(task), () => size++);
  return size;
}

/** The only store of a task, when it sets elements of a value of which it is the beginning. */
export function soleStore({ stores }: KernelTask): Store | undefined {
  const [store, more] = stores;
  return !more && store!.mode === "set" && !store!.init && !store!.when ? store : undefined;
}

/** The task with what `replace` gives in the place of its loads; undefined keeps a load. */
export function replaceLoads<T extends KernelTask>(task: T, replace: (load: Load) => Expr | undefined): T {
  const memo = new Map<Expr, Expr>();
  return mapExpressions(task, (e) => transform(e, (node) => (node.kind === "load" ? replace(node) : undefined), memo));
}

/** How often a task's expressions load elements of a value, at distinct places. */
export const loadsFrom = (expressions: readonly Expr[], value: Value): readonly Load[] =>
  loadsOf(expressions).filter((load) => load.value === value);

export const mergeOrigins = (...tasks: readonly Task[]): readonly string[] => [
  ...new Set(tasks.flatMap(({ origins }) => origins)),
];
