// Tasks: what the GPU is asked to do, one kernel (or a few) each. Operators lower to tasks, tactics implement them;
// neither knows the other. A task is a loop nest in tensor expressions: parallel variables, what is combined over the
// others, and stores. Prologues live in the expressions that read, epilogues in the stores.

import { type Dim, shapeText } from "./dims.ts";
import {
  add,
  and,
  type Combiner,
  constant,
  convert,
  type Expr,
  floorDiv,
  int,
  type Load,
  load,
  loadsOf,
  mul,
  reduce,
  type Slot,
  select,
  sub,
  substitute,
  unary,
  type Var,
  within,
} from "./expr.ts";
import type { Tensor } from "./tensor.ts";
import { scalarOf } from "./types.ts";
import type { Value } from "./value.ts";

/** How a store meets what is there: replaces it, or combines atomically (`init` gave the first value). */
export type StoreMode = "set" | "add" | "mul" | "min" | "max";

export interface Store {
  readonly value: Value;
  /** One i32 a dimension of `value`, in bounds. Different iterations of a "set" store write different elements. */
  readonly index: readonly Expr[];
  readonly expr: Expr;
  readonly mode: StoreMode;
  /** A bool: only where it holds is anything stored, and need index and expr be in bounds. */
  readonly when?: Expr;
  /** When present the stores do not cover `value`: the rest is as in `init`. */
  readonly init?: Value;
}

interface TaskBase {
  /** Name of the ONNX node that asked first. */
  readonly name: string;
  /** All ONNX nodes that went into it. */
  readonly origins: readonly string[];
}

/** Every point of `vars` on its own. */
export interface MapTask extends TaskBase {
  readonly kind: "map";
  readonly vars: readonly Var[];
  readonly stores: readonly Store[];
}

/** One combination over `inner`; later stages may use the slots of earlier ones. */
export interface Stage {
  readonly slot: Slot;
  readonly fn: Combiner;
  readonly body: Expr;
}

/**
 * For every point of `vars`: stages that combine over `inner`, then stores, one a point or (`each`) one an inner element.
 * Reductions, pooling, softmax and the normalizations are all of this kind.
 */
export interface ReduceTask extends TaskBase {
  readonly kind: "reduce";
  readonly vars: readonly Var[];
  readonly inner: readonly Var[];
  readonly stages: readonly Stage[];
  readonly each: boolean;
  readonly stores: readonly Store[];
}

/** acc[batch, m, n] = Σ_k a·b, in the accumulator's type. */
export interface GemmTask extends TaskBase {
  readonly kind: "gemm";
  readonly batch: readonly Var[];
  readonly m: Var;
  readonly n: Var;
  readonly k: Var;
  /** Over batch, m, k. */
  readonly a: Expr;
  /** Over batch, k, n. */
  readonly b: Expr;
  readonly acc: Slot;
  readonly stores: readonly Store[];
}

/** acc[batch, oc, o…] = Σ x[batch, group·ic + c, o·stride + k·dilation − pad] · w[oc, c, k…]; outside of x is `padValue`. */
export interface ConvTask extends TaskBase {
  readonly kind: "conv";
  readonly batch: Var;
  readonly oc: Var;
  readonly out: readonly Var[];
  /** Input channels of one group. */
  readonly ic: Var;
  readonly kernel: readonly Var[];
  readonly groups: number;
  readonly strides: readonly number[];
  readonly dilations: readonly number[];
  /** Padding before each spatial axis. */
  readonly pads: readonly Dim[];
  /** Spatial extent of x. */
  readonly size: readonly Dim[];
  /** The input over `xVars` = batch, channel, spatial…; usually one plain load. */
  readonly xVars: readonly Var[];
  readonly x: Expr;
  /** The weights over oc, ic, kernel…. */
  readonly w: Expr;
  readonly acc: Slot;
  readonly stores: readonly Store[];
}

/**
 * Attention: a score for each query m and key k, from the product of the two over d; then acc[batch, m, n] is the sum over the
 * keys of exp(score − shift) · v, `sum` that of exp(score − shift), and `peak` the largest score.
 */
export interface AttentionTask extends TaskBase {
  readonly kind: "attention";
  readonly batch: readonly Var[];
  readonly m: Var;
  readonly k: Var;
  readonly d: Var;
  readonly n: Var;
  /** Over batch, m, d. */
  readonly q: Expr;
  /** Over batch, k, d. */
  readonly key: Expr;
  /** Σ_d q · key. */
  readonly dot: Slot;
  /** Over batch, m, k and `dot`. */
  readonly score: Expr;
  readonly peak: Slot;
  /** Over batch, m and `peak`. */
  readonly shift: Expr;
  readonly sum: Slot;
  /** Over batch, k, n. */
  readonly v: Expr;
  readonly acc: Slot;
  /** Over batch, m, n, `peak`, `sum` and `acc`. */
  readonly stores: readonly Store[];
}

/**
 * Convolutions of which each reads what the one before writes, and nobody else does: one kernel may make the last one's results
 * without storing the others'. `stores` are the last one's.
 */
export interface BlockTask extends TaskBase {
  readonly kind: "block";
  readonly parts: readonly ConvTask[];
  readonly stores: readonly Store[];
}

/**
 * Repeats `body` with the symbol `index` bound to 0, 1, … : `count` turns, or fewer where `trips` or `condition` say so.
 * Each `input` is its `init` in the first turn and the last turn's `output` in the others; `final` is what a further turn
 * would have got. No `output` is another's `input`. Symbols that stand alone in `input.shape` are bound anew in each turn (then `final.shape` has the same).
 * What the body writes is new in each turn, except `outputs`.
 */
export interface LoopTask extends TaskBase {
  readonly kind: "loop";
  readonly count: Dim;
  /** An integer scalar that the host reads before the first turn: no more turns than it says. */
  readonly trips?: Value;
  /** Bool scalars that the host reads: `initial` before the first turn, the body's `output` after each; false ends the loop. */
  readonly condition?: { readonly initial?: Value; readonly output: Value };
  readonly index: string;
  readonly body: readonly Task[];
  readonly carried: readonly { readonly init: Value; readonly input: Value; readonly output: Value; readonly final: Value }[];
  /** Values that the body's stores fill piece by piece. */
  readonly outputs: readonly Value[];
  /** The turns' `piece`s one after the other along a new first axis; binds symbols that stand alone in `out.shape` (0 where no turn ran). */
  readonly scans?: readonly { readonly piece: Value; readonly out: Value }[];
}

/**
 * Runs `then` or `else` as `condition`, a bool scalar that the host reads, says. Each `out` is the result of the branch taken
 * (which may be a constant, or a value from outside) and binds the symbols that stand alone in its shape.
 */
export interface IfTask extends TaskBase {
  readonly kind: "if";
  readonly condition: Value;
  readonly then: readonly Task[];
  readonly else: readonly Task[];
  readonly results: readonly { readonly then: Value; readonly else: Value; readonly out: Value }[];
}

/** An operator that runs on the host through its reference. Its outputs' shapes may hold symbols that only it binds. */
export interface HostTask extends TaskBase {
  readonly kind: "host";
  readonly op: string;
  readonly attrs: HostAttributes;
  readonly inputs: readonly (Value | undefined)[];
  readonly outputs: readonly Value[];
  /** Why there is no kernel; shown to the user. */
  readonly reason: string;
}

/** Attributes that survive JSON; tensors are kept beside it. */
export type HostAttributes = Readonly<Record<string, number | string | boolean | null | readonly number[] | readonly string[]>>;

/** Tasks that become kernels. */
export type KernelTask = MapTask | ReduceTask | GemmTask | ConvTask | AttentionTask | BlockTask;
export type Task = KernelTask | LoopTask | IfTask | HostTask;

/** A whole lowered network. */
/** What a node asks of sizes that only a run knows. */
export interface Requirement {
  /** `Add "/up/Add"`, for messages. */
  readonly node: string;
  /** What it does to these shapes: "broadcast", "concatenate". */
  readonly verb: string;
  readonly shapes: readonly (readonly Dim[])[];
  /** Two sizes that must be equal; with `orOne` either may be 1. */
  readonly sizes: readonly [Dim, Dim];
  readonly orOne: boolean;
}

export interface Program {
  readonly inputs: readonly Value[];
  /** Named results; a value may be an input, a constant or appear twice. */
  readonly outputs: readonly { readonly name: string; readonly value: Value }[];
  readonly tasks: readonly Task[];
  /** Contents that the tasks were specialized to, by input name: checked when the engine runs. */
  readonly assumed: ReadonlyMap<string, Tensor>;
  /** Checked when the engine runs: the tasks rely on them. */
  readonly requirements?: readonly Requirement[];
}

export const isKernelTask = (task: Task): task is KernelTask =>
  task.kind !== "loop" && task.kind !== "if" && task.kind !== "host";

/** Values that a task writes. */
export function writesOf(task: Task): readonly Value[] {
  if (task.kind === "host") return task.outputs;
  if (task.kind === "loop")
    return [...task.outputs, ...task.carried.map(({ final }) => final), ...(task.scans ?? []).map(({ out }) => out)];
  if (task.kind === "if") return task.results.map(({ out }) => out);
  return [...new Set(task.stores.map(({ value }) => value))];
}

export const expressionsOfStore = ({ index, expr, when }: Store): readonly Expr[] =>
  when ? [when, ...index, expr] : [...index, expr];

/** A store with every expression rebuilt by `change`. */
export const mapStore = (store: Store, change: (e: Expr) => Expr): Store => ({
  ...store,
  index: store.index.map(change),
  expr: change(store.expr),
  ...(store.when ? { when: change(store.when) } : {}),
});

/** Expressions that a kernel task evaluates. */
export function expressionsOf(task: KernelTask): readonly Expr[] {
  const stores = task.stores.flatMap(expressionsOfStore);
  switch (task.kind) {
    case "map":
      return stores;
    case "reduce":
      return [...task.stages.map(({ body }) => body), ...stores];
    case "gemm":
      return [task.a, task.b, ...stores];
    case "conv":
      return [task.x, task.w, ...stores];
    case "attention":
      return [task.q, task.key, task.score, task.shift, task.v, ...stores];
    case "block":
      return task.parts.flatMap(expressionsOf);
  }
}

/** Values that a task reads, in first-seen order. */
export function readsOf(task: Task): readonly Value[] {
  if (task.kind === "host") return task.inputs.filter((value) => value !== undefined);
  if (task.kind === "loop") {
    const before = [...task.carried.map(({ init }) => init), task.trips, task.condition?.initial];
    const results = [
      ...task.carried.map(({ output }) => output),
      task.condition?.output,
      ...(task.scans ?? []).map(({ piece }) => piece),
    ];
    return [
      ...new Set([
        ...before,
        ...freeReads(
          task.body,
          task.carried.map(({ input }) => input),
          results,
        ),
      ]),
    ].filter((value) => value !== undefined);
  }
  if (task.kind === "if") {
    const branches = [
      freeReads(
        task.then,
        [],
        task.results.map(({ then }) => then),
      ),
      freeReads(
        task.else,
        [],
        task.results.map((result) => result.else),
      ),
    ];
    return [...new Set([task.condition, ...branches.flat()])];
  }
  if (task.kind === "block") return freeReads(task.parts, [], []);
  const loaded = loadsOf(expressionsOf(task)).map(({ value }) => value);
  return [...new Set([...loaded, ...task.stores.flatMap(({ init }) => (init ? [init] : []))])];
}

/** Values that nested tasks and their `results` take from outside; `local` are given to them. */
function freeReads(tasks: readonly Task[], local: readonly Value[], results: readonly (Value | undefined)[]): readonly Value[] {
  const own = new Set([...local, ...tasks.flatMap(writesOf)]);
  const read = [...tasks.flatMap(readsOf), ...results].filter((value) => value !== undefined && !own.has(value));
  return [...new Set(read)] as Value[];
}

/** A kernel task with every expression rebuilt by `change`. */
export function mapExpressions<T extends KernelTask>(task: T, change: (e: Expr) => Expr): T {
  const stores = task.stores.map((store) => mapStore(store, change));
  switch (task.kind) {
    case "map":
      return { ...task, stores };
    case "reduce":
      return { ...task, stores, stages: task.stages.map((stage) => ({ ...stage, body: change(stage.body) })) };
    case "gemm":
      return { ...task, stores, a: change(task.a), b: change(task.b) };
    case "conv":
      return { ...task, stores, x: change(task.x), w: change(task.w) };
    case "attention":
      return {
        ...task,
        stores,
        q: change(task.q),
        key: change(task.key),
        score: change(task.score),
        shift: change(task.shift),
        v: change(task.v),
      };
    case "block":
      return { ...task, stores, parts: task.parts.map((part) => mapExpressions(part, change)) };
  }
}

/** Parallel variables of a kernel task, outermost first. */
export function parallelVars(task: KernelTask): readonly Var[] {
  switch (task.kind) {
    case "map":
    case "reduce":
      return task.vars;
    case "gemm":
    case "attention":
      return [...task.batch, task.m, task.n];
    case "conv":
      return [task.batch, task.oc, ...task.out];
    case "block":
      return parallelVars(task.parts.at(-1)!);
  }
}

/** Values that only the parts of a block see. */
export const between = ({ parts }: BlockTask): readonly Value[] => parts.slice(0, -1).flatMap(writesOf);

/** The tasks as they run: a block that is not among the `chosen` as its parts. */
export const settledTasks = (tasks: readonly Task[], chosen: { has(task: KernelTask): boolean }): readonly Task[] =>
  tasks.flatMap((task): readonly Task[] => (task.kind === "block" && !chosen.has(task) ? task.parts : [task]));

/** The same computation as a plain reduction: what the direct tactics run and the interpreter evaluates. */
export function asReduce(task: GemmTask | ConvTask | AttentionTask): ReduceTask {
  const { name, origins, stores, acc } = task;
  const common = { kind: "reduce", name, origins, stores, each: false, vars: parallelVars(task) } as const;
  if (task.kind === "attention") {
    const score = substitute(task.score, new Map<Expr, Expr>([[task.dot, reduce("sum", [task.d], mul(task.q, task.key))]]));
    const weight = unary("exp", sub(score, task.shift));
    const stages = [
      { slot: task.peak, fn: "max", body: score },
      { slot: task.sum, fn: "sum", body: weight },
      { slot: acc, fn: "sum", body: mul(weight, task.v) },
    ] as const;
    return { ...common, inner: [task.k], stages };
  }
  if (task.kind === "gemm")
    return { ...common, inner: [task.k], stages: [{ slot: acc, fn: "sum", body: mul(task.a, task.b) }] };
  const position = task.out.map((o, axis) =>
    add(
      mul(o, int(task.strides[axis]!)),
      mul(task.kernel[axis]!, int(task.dilations[axis]!)),
      mul(int(task.pads[axis]!), int(-1)),
    ),
  );
  const perGroup =
    task.groups === 1 ? int(0) : mul(floorDiv(task.oc, int(divideExact(task.oc.extent, task.groups))), int(task.ic.extent));
  const at = new Map<Expr, Expr>([
    [task.xVars[0]!, task.batch],
    [task.xVars[1]!, add(perGroup, task.ic)],
    ...position.map((e, axis): [Expr, Expr] => [task.xVars[axis + 2]!, e]),
  ]);
  const inside = position.map((e, axis) => within(e, task.size[axis]!)).reduce((a, b) => and(a, b), constant("bool", 1));
  const x = select(inside, substitute(task.x, at), constant(acc.type, 0));
  return { ...common, inner: [task.ic, ...task.kernel], stages: [{ slot: acc, fn: "sum", body: mul(x, task.w) }] };
}

function divideExact(dim: Dim, by: number): number {
  if (typeof dim !== "number" || dim % by !== 0) throw new RangeError(`${by} groups do not divide ${dim} channels`);
  return dim / by;
}

/** The load when an expression is one plain element of a value at exactly `vars`, else undefined. */
export function plainLoad(e: Expr, vars: readonly Var[]): Load | undefined {
  if (e.kind !== "load" || e.index.length !== vars.length) return undefined;
  return e.index.every((index, i) => index === vars[i] || (e.value.shape[i] === 1 && vars[i]!.extent === 1)) ? e : undefined;
}

/** An element of `value` as the scalar type in which kernels accumulate. */
export const loadAs = (value: Value, index: readonly Expr[], type: Slot["type"]): Expr =>
  scalarOf(value.dtype) === type
    ? load(value, index)
    : convert(load(value, index), type === "f32" ? "f32" : type === "i32" ? "i32" : type === "u32" ? "u32" : "bool");

/** A reduction over nothing but `vars` as one expression. */
export const fold = (fn: Combiner, vars: readonly Var[], body: Expr): Expr => reduce(fn, vars, body);

/** One line for logs. */
export const taskTitle = (task: Task): string =>
  `${task.kind} ${task.name} -> ${writesOf(task)
    .map((value) => `${value.name}:${value.dtype}${shapeText(value.shape)}`)
    .join(", ")}`;
