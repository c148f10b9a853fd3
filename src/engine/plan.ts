// The plan: what an engine does, as plain data that survives JSON. Dimensions are text (ir/dims.ts reads it); buffers,
// kernels and weights are numbered.

import type { Storage } from "../ir/storage.ts";
import type { HostAttributes } from "../ir/task.ts";
import type { DType } from "../ir/types.ts";

export interface Plan extends Schedule {
  readonly inputs: readonly PlanInput[];
  readonly outputs: readonly PlanOutput[];
  readonly buffers: readonly PlanBuffer[];
  /** WGSL texts, each once. */
  readonly shaders: readonly string[];
  readonly profiles: readonly Profile[];
  /** What sizes that only a run knows must be: checked before it begins, or as soon as they are known. */
  readonly requirements?: readonly PlanRequirement[];
  /** Nodes that run on the host, and why. */
  readonly hostLayers: readonly { readonly node: string; readonly op: string; readonly reason: string }[];
  /** What the build lowered or assumed, in words. */
  readonly notes: readonly string[];
  /** Weights that `Engine.refit` may change, row-major in their buffers. */
  readonly refit?: readonly PlanWeight[];
}

/** How to run the network: kernels chosen, and memory planned, for the sizes of a profile; right at every size. */
export interface Schedule {
  readonly steps: readonly Step[];
  /** GPU memory that activations share: `bytes` covers the largest tenant. */
  readonly slots: readonly { readonly bytes: readonly string[] }[];
}

/** Both of `sizes` must be equal, or with `orOne` one of them 1: else `node` cannot `verb` these `shapes`. */
export interface PlanRequirement {
  readonly node: string;
  readonly verb: string;
  readonly shapes: readonly (readonly string[])[];
  readonly sizes: readonly [string, string];
  readonly orOne: boolean;
}

export interface PlanWeight {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly buffer: number;
}

interface PlanTensor {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly string[];
  readonly buffer: number;
}
export interface PlanInput extends PlanTensor {
  /** The contents that the engine was built for, as decimal text. */
  readonly assumed?: readonly string[];
  /** Axes whose size is that of every profile, not the model's own. */
  readonly pinned?: readonly number[];
}
export type PlanOutput = PlanTensor;

export interface PlanBuffer {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly string[];
  readonly storage: Storage;
  readonly bytes: string;
  /**
   * `weight`: at `offset` in the weights; `activation`: in slot `slot`, `offset` bytes from its start; `input` and `output`: the
   * context's own; `host`: only the host sees it, which holds it in full width; a constant's bytes are at `offset` in the weights.
   */
  readonly home:
    | { readonly kind: "weight"; readonly offset: number; readonly length: number }
    | { readonly kind: "activation"; readonly slot: number; readonly offset?: string }
    | { readonly kind: "input" | "output" }
    | { readonly kind: "host"; readonly offset?: number; readonly length?: number };
}

/** Bounds of each symbol, from the optimization profile. */
export interface Profile {
  readonly name: string;
  readonly symbols: Readonly<Record<string, { readonly min: number; readonly opt: number; readonly max: number }>>;
  /** Its own; the plan's is that of the first profile. */
  readonly schedule?: Schedule;
}

/** The schedule of each profile, or the only one. */
export const schedulesOf = (plan: Plan): readonly Schedule[] =>
  plan.profiles.length === 0 ? [plan] : plan.profiles.map(({ schedule }) => schedule ?? plan);

export type Step = DispatchStep | CopyStep | HostStep | LoopStep | IfStep;

export interface DispatchStep {
  readonly kind: "dispatch";
  /** The ONNX nodes that it computes. */
  readonly nodes: readonly string[];
  readonly label: string;
  readonly tactic: string;
  readonly config: Readonly<Record<string, number | boolean | string>>;
  readonly shader: number;
  /** `shared`: read only, but bound as writable, since the kernel writes another part of the same GPU buffer. */
  readonly bindings: readonly { readonly buffer: number; readonly access: "read" | "write"; readonly shared?: true }[];
  readonly params: readonly string[];
  readonly workgroups: readonly [string, string, string];
}

/** Copies all of one buffer over another. */
export interface CopyStep {
  readonly kind: "copy";
  readonly from: number;
  readonly to: number;
}

export interface HostStep {
  readonly kind: "host";
  readonly node: string;
  readonly op: string;
  readonly attrs: HostAttributes;
  readonly inputs: readonly (number | null)[];
  readonly outputs: readonly number[];
}

/** See LoopTask in ir/task.ts: the same fields, values as buffers. */
export interface LoopStep {
  readonly kind: "loop";
  readonly index: string;
  readonly count: string;
  readonly trips: number | null;
  readonly condition: { readonly initial: number | null; readonly output: number } | null;
  readonly body: readonly Step[];
  readonly carried: readonly {
    readonly init: number;
    readonly input: number;
    readonly output: number;
    readonly final: number;
  }[];
  readonly outputs: readonly number[];
  readonly scans: readonly { readonly piece: number; readonly out: number }[];
}

/** See IfTask in ir/task.ts. */
export interface IfStep {
  readonly kind: "if";
  readonly condition: number;
  readonly then: readonly Step[];
  readonly else: readonly Step[];
  readonly results: readonly { readonly then: number; readonly else: number; readonly out: number }[];
}
