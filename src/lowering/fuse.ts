// Vertical fusion by substitution. A map that reads an anchor's result element for element becomes the anchor's epilogue;
// any other map is written into the expressions of those who read it, where that costs no more than its memory traffic.

import { type Expr, type Load, type Var, flatten, loadsOf, operands, substitute, transform, unflatten, visit, int } from "../ir/expr.ts";
import { type KernelTask, type MapTask, type Program, type Store, type Task, expressionsOf, isKernelTask, mapExpressions, readsOf, writesOf } from "../ir/task.ts";
import type { Value } from "../ir/value.ts";
import type { Caps } from "../util/caps.ts";

/** Asks whether one more rewrite of this name may happen (and records it). */
export type TakeRewrite = (rule: string, node: string) => boolean;

export interface FuseOptions {
  readonly enabled: boolean;
  readonly take: TakeRewrite;
  /** Names of rules that must not be applied: "fuse-epilogue", "fuse-prologue". */
  readonly disable: readonly string[];
}

/** Fuses a program's tasks; without `enabled` only those whose results nobody reads are dropped. */
export function fuse(program: Program, caps: Caps, options: FuseOptions): Program {
  const keep = new Set(program.outputs.map(({ value }) => value));
  return { ...program, tasks: fuseList(program.tasks, keep, caps, options) };
}

function fuseList(tasks: readonly Task[], keep: ReadonlySet<Value>, caps: Caps, options: FuseOptions): Task[] {
  const live = removeDead(tasks, keep);
  if (!options.enabled) return live;
  const inner = live.map((task) => {
    if (task.kind === "if") {
      const fuseBranch = (branch: "then" | "else"): Task[] => fuseList(task[branch], new Set(task.results.map((result) => result[branch])), caps, options);
      return { ...task, then: fuseBranch("then"), else: fuseBranch("else") };
    }
    if (task.kind !== "loop") return task;
    const kept = new Set([...task.carried.map(({ output }) => output), ...task.outputs, ...(task.scans ?? []).map(({ piece }) => piece), ...(task.condition ? [task.condition.output] : [])]);
    return { ...task, body: fuseList(task.body, kept, caps, options) };
  });
  return new Fuser(inner, keep, caps, options).run();
}

/** Tasks of which some result is kept or read later. */
export function removeDead(tasks: readonly Task[], keep: ReadonlySet<Value>): Task[] {
  const needed = new Set(keep);
  const live: Task[] = [];
  for (const task of [...tasks].reverse()) {
    if (!writesOf(task).some((value) => needed.has(value))) continue;
    for (const value of readsOf(task)) needed.add(value);
    live.push(task);
  }
  return live.reverse();
}

class Fuser {
  private readonly tasks: (Task | undefined)[];
  private readonly producer = new Map<Value, number>();
  private readonly consumers = new Map<Value, Set<number>>();

  constructor(tasks: readonly Task[], private readonly keep: ReadonlySet<Value>, private readonly caps: Caps, private readonly options: FuseOptions) {
    this.tasks = [...tasks];
    tasks.forEach((_, at) => this.enter(at));
  }

  run(): Task[] {
    for (let at = 0; at < this.tasks.length; at++) {
      const task = this.tasks[at];
      if (task?.kind === "map" && isSimple(task) && !this.intoAnchor(at, task)) this.intoConsumers(at, task);
    }
    return this.tasks.filter((task) => task !== undefined);
  }

  private enter(at: number): void {
    const task = this.tasks[at]!;
    for (const value of writesOf(task)) this.producer.set(value, at);
    for (const value of readsOf(task)) this.readersOf(value).add(at);
  }

  private leave(at: number): void {
    for (const value of readsOf(this.tasks[at]!)) this.readersOf(value).delete(at);
  }

  private readersOf(value: Value): Set<number> {
    let readers = this.consumers.get(value);
    if (!readers) this.consumers.set(value, (readers = new Set()));
    return readers;
  }

  private replace(at: number, task: Task): void {
    this.leave(at);
    this.tasks[at] = task;
    this.enter(at);
  }

  private remove(at: number): void {
    this.leave(at);
    this.tasks[at] = undefined;
  }

  private may(rule: string, task: Task): boolean {
    return !this.options.disable.includes(rule) && this.options.take(rule, task.name);
  }

  private fits(task: KernelTask): boolean {
    return new Set([...readsOf(task), ...writesOf(task)]).size <= this.caps.limits.maxStorageBuffersPerShaderStage;
  }

  /** Makes the map the epilogue of a reduction, GEMM or convolution that it alone reads. */
  private intoAnchor(at: number, map: MapTask): boolean {
    const store = map.stores[0]!;
    for (const value of readsOf(map)) {
      const producer = this.producer.get(value);
      if (producer === undefined || this.keep.has(value) || this.readersOf(value).size !== 1) continue;
      const anchor = this.tasks[producer]!;
      if (!isKernelTask(anchor) || anchor.kind === "map" || anchor.stores.length !== 1 || anchor.stores[0]!.init) continue;
      const fused = withEpilogue(anchor, map, store);
      if (!fused || !this.fits(fused) || !this.may("fuse-epilogue", map)) continue;
      this.remove(producer);
      this.replace(at, fused);
      return true;
    }
    return false;
  }

  /** Writes the map's expression into every task that reads its result. */
  private intoConsumers(at: number, map: MapTask): boolean {
    const { value, expr } = map.stores[0]!;
    if (this.keep.has(value)) return false;
    const readers = [...this.readersOf(value)];
    const view = isView(expr);
    const cost = costOf(expr);
    if (readers.length === 0 || (readers.length > 1 && !view && cost > CHEAP)) return false;
    const fused: (readonly [number, KernelTask])[] = [];
    for (const reader of readers) {
      const task = this.tasks[reader]!;
      if (!isKernelTask(task) || task.stores.some(({ init }) => init === value) || !this.pays(task, value, view, cost, readers.length)) return false;
      const merged = withPrologue(task, map);
      if (!this.fits(merged) || sizeOf(merged) > LARGEST) return false;
      fused.push([reader, merged]);
    }
    if (!this.may("fuse-prologue", map)) return false;
    for (const [reader, merged] of fused) this.replace(reader, merged);
    this.remove(at);
    return true;
  }

  /** Whether reading through the expression costs less than storing its value and loading it. */
  private pays(task: KernelTask, value: Value, view: boolean, cost: number, readers: number): boolean {
    if (view) return true;
    const loads = loadsOf(expressionsOf(task)).filter((load) => load.value === value).length;
    if (cost === Number.POSITIVE_INFINITY) return task.kind === "map" && loads === 1 && readers === 1;
    switch (task.kind) {
      case "map": return readers === 1 && loads === 1 ? true : loads * cost <= CHEAP;
      case "reduce": return loads * cost <= (readers === 1 ? 4 * CHEAP : CHEAP);
      // An operand of a GEMM or convolution is read many times over: only what is free there.
      case "gemm": case "conv": return loadsOf(task.stores.flatMap(({ index, expr }) => [...index, expr])).some((load) => load.value === value) && loads === 1 && readers === 1;
    }
  }
}

/** Operations that are done twice rather than stored. */
const CHEAP = 3;
/** Nodes of a task's expressions beyond which nothing more is written into it. */
const LARGEST = 4000;

const isSimple = ({ stores, vars }: MapTask): boolean => {
  const [store, more] = stores;
  return !more && store!.mode === "set" && !store!.init && store!.index.every((e, i) => e === vars[i]) && store!.index.length === vars.length;
};

/** One element of another value, moved: reshape, transpose, slice, broadcast. */
const isView = (expr: Expr): boolean => expr.kind === "load" || expr.kind === "dim" || expr.kind === "const";

const EXPENSIVE = new Set(["exp", "log", "sin", "cos", "tan", "tanh", "erf", "pow", "sinh", "cosh", "asin", "acos", "atan", "asinh", "acosh", "atanh", "atan2"]);

/** Operations of one evaluation, index arithmetic left out; loops count as infinitely many. */
function costOf(expr: Expr): number {
  const seen = new Set<Expr>();
  const cost = (e: Expr): number => {
    if (seen.has(e)) return 0;
    seen.add(e);
    if (e.kind === "reduce") return Number.POSITIVE_INFINITY;
    if (e.kind === "load") return e.index.some((index) => loadsOf([index]).length > 0) ? 1 : 0;
    if (e.kind === "linear") return 0;
    const own = e.kind === "unary" || e.kind === "binary" ? (EXPENSIVE.has(e.fn) ? 4 : 1) : e.kind === "select" || e.kind === "convert" ? 1 : 0;
    return operands(e).reduce((sum, operand) => sum + cost(operand), own);
  };
  return cost(expr);
}

function sizeOf(task: KernelTask): number {
  let size = 0;
  visit(expressionsOf(task), () => size++);
  return size;
}

/** The reader with the map's expression in place of loads of its value. */
function withPrologue(task: KernelTask, map: MapTask): KernelTask {
  const { value, expr } = map.stores[0]!;
  const read = (e: Expr): Expr =>
    transform(e, (node) => (node.kind === "load" && node.value === value ? substitute(expr, new Map<Expr, Expr>(map.vars.map((v, i) => [v, node.index[i]!]))) : undefined));
  return { ...mapExpressions(task, read), origins: merge(map.origins, task.origins) };
}

const merge = (a: readonly string[], b: readonly string[]): readonly string[] => [...new Set([...a, ...b])];

/** The anchor that stores what the map makes of its result; undefined unless the map reads element for element. */
function withEpilogue(anchor: KernelTask, map: MapTask, store: Store): KernelTask | undefined {
  const source = anchor.stores[0]!;
  const loads = loadsOf([store.expr]).filter((load) => load.value === source.value);
  if (loads.length !== 1) return undefined;
  const at = solveIndex(loads[0]!, map.vars, store.value, source);
  if (!at) return undefined;
  const move = (e: Expr): Expr => substitute(transform(e, (node) => (node === loads[0] ? source.expr : undefined)), at);
  return { ...anchor, name: anchor.name, origins: merge(anchor.origins, map.origins), stores: [{ ...store, index: store.index.map(move), expr: move(store.expr) }] };
}

/** Each variable of the map in terms of the anchor's, when its load visits every element of the source exactly once. */
function solveIndex(load: Load, vars: readonly Var[], target: Value, source: Store): Map<Expr, Expr> | undefined {
  const at = new Map<Expr, Expr>();
  load.index.forEach((e, axis) => { if (e.kind === "var" && vars.includes(e) && !at.has(e)) at.set(e, source.index[axis]!); });
  const isPermutation = load.index.every((e, axis) => at.get(e) === source.index[axis] || source.value.shape[axis] === 1);
  const sameExtents = load.index.every((e, axis) => e.kind !== "var" || sameExtent(e.extent, source.value.shape[axis]!));
  const rest = vars.filter((v) => !at.has(v));
  if (isPermutation && sameExtents && rest.every(({ extent }) => extent === 1)) {
    for (const v of rest) at.set(v, int(0));
    return at;
  }
  // The same row-major order in another shape.
  if (flatten(load.index, source.value.shape) !== flatten(vars, target.shape)) return undefined;
  const index = unflatten(flatten(source.index, source.value.shape), target.shape);
  return new Map(vars.map((v, i) => [v, index[i]!]));
}

const sameExtent = (a: Var["extent"], b: Var["extent"]): boolean => a === b || (typeof a !== "number" && typeof b !== "number" && a.text === b.text);
