// What a tactic is: a way to run one kind of task. It yields configurations and emits each as WGSL text; the autotuner
// measures them. Emitting is pure, so that candidates can be checked on a machine without a GPU.

import type { Dim } from "../ir/dims.ts";
import type { AttentionTask, BlockTask, ConvTask, GemmTask, KernelTask, MapTask, ReduceTask } from "../ir/task.ts";
import type { Tensor } from "../ir/tensor.ts";
import type { Value } from "../ir/value.ts";
import type { Caps } from "../util/caps.ts";

/** One compute dispatch. */
export interface KernelStep {
  readonly wgsl: string;
  /** Storage buffers in the order of their binding numbers; a uniform block of `params` follows when there are any. */
  readonly bindings: readonly { readonly value: Value; readonly access: "read" | "write" }[];
  /** What the uniform block holds, as i32, four to a vector. */
  readonly params: readonly Dim[];
  readonly workgroups: readonly [Dim, Dim, Dim];
}

export interface Kernel {
  readonly steps: readonly KernelStep[];
  /** Values that live only between the steps. */
  readonly scratch: readonly Value[];
  /** Constants in the form that the steps bind, made when the engine is built. */
  readonly packed: readonly { readonly value: Value; readonly pack: () => Tensor }[];
}

/** A tactic's tunable numbers and flags. */
export type Config = Readonly<Record<string, number | boolean | string>>;

export interface TaskOfKind {
  readonly map: MapTask;
  readonly reduce: ReduceTask;
  readonly gemm: GemmTask;
  readonly conv: ConvTask;
  readonly attention: AttentionTask;
  readonly block: BlockTask;
}

export interface Tactic<T extends KernelTask = KernelTask> {
  /** `kind.word`, `gemm.tiled`. */
  readonly name: string;
  readonly applicable: (task: T, caps: Caps) => boolean;
  /** How likely it is to win, 0 to 1, before anything is measured; what 0 is only compared with. */
  readonly likelihood: (task: T, caps: Caps) => number;
  /** Configurations that fit the device, the one that is likely best first. `all`: where one has a product inside, with many ways to run it. */
  readonly candidates: (task: T, caps: Caps, all?: boolean) => Iterable<Config>;
  /** Nanoseconds that a configuration is expected to take on a large GPU, where the tactic can tell. */
  readonly cost?: (task: T, config: Config, caps: Caps) => number | undefined;
  readonly emit: (task: T, config: Config, caps: Caps) => Kernel;
}

export const tactic = <K extends keyof TaskOfKind>(_kind: K, definition: Tactic<TaskOfKind[K]>): Tactic<TaskOfKind[K]> =>
  definition;
