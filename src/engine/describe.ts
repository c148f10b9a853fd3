// An engine in words and numbers: its kernels, what it needs of memory, what runs on the host. What `kiln inspect` prints.

import type { Device } from "../gpu/device.ts";
import { deviceName } from "../gpu/fingerprint.ts";
import { add, type Bindings, type Dim, dimText, interval, isStatic, max, parseDim, sub, substitute } from "../ir/dims.ts";
import type { DType } from "../ir/types.ts";
import { noSuchProfile, unboundSymbol } from "../util/errors.ts";
import { dispatchesOf, lifetimes } from "./lifetimes.ts";
import { type DispatchStep, type Plan, type PlanBuffer, type Profile, type Schedule, schedulesOf } from "./plan.ts";

/** A number, or the dimension's text where it depends on symbols without a bound. */
export type Size = number | string;

/** Plain data, of one profile: sizes are at the largest shapes that it allows. */
export interface Description {
  readonly device: string;
  /** Types in which activations are stored, "fp32" or "fp16+fp32" or "fp32+int8". */
  readonly precision: string;
  readonly kernels: readonly KernelDescription[];
  readonly hostLayers: Plan["hostLayers"];
  readonly memory: MemoryDescription;
  readonly profiles: readonly Pick<Profile, "name" | "symbols">[];
}

export interface KernelDescription {
  readonly name: string;
  readonly tactic: string;
  readonly config: DispatchStep["config"];
  /** The ONNX nodes that it computes. */
  readonly nodes: readonly string[];
  readonly inputs: readonly TensorDescription[];
  readonly outputs: readonly TensorDescription[];
  readonly workgroups: readonly Size[];
  readonly wgsl: string;
}

export interface TensorDescription {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly Size[];
}

/** GPU memory in bytes: `weights` once an engine, the rest once an execution context. */
export interface MemoryDescription {
  readonly weights: number;
  /** What the plan shares out among the values between kernels. */
  readonly activations: Size;
  /** The largest sum of live activations at one step: no plan needs less. */
  readonly activationsLowerBound: Size;
  /** Buffers in which inputs arrive and outputs wait. */
  readonly staging: Size;
}

export function describe(plan: Plan, device: Device, profile = 0): Description {
  const bindings = largestShapes(plan, profile);
  const schedule = scheduleOf(plan, profile);
  return {
    device: deviceName(device.fingerprint),
    precision: precisionOf(plan.buffers),
    kernels: dispatchesOf(schedule.steps).map((step) => describeKernel(plan, step, bindings)),
    hostLayers: plan.hostLayers,
    memory: describeMemory(plan, bindings, schedule),
    profiles: plan.profiles.map(({ name, symbols }) => ({ name, symbols })),
  };
}

/** What a plan needs of GPU memory with these symbols. */
export function describeMemory(plan: Plan, bindings: Bindings, schedule: Schedule = plan): MemoryDescription {
  const bytes = plan.buffers.map((buffer) => sizeAt(buffer.bytes, bindings));
  const sum = (kinds: readonly string[]): Dim => add(...bytes.filter((_, i) => kinds.includes(plan.buffers[i]!.home.kind)));
  return {
    weights: plan.buffers.reduce((total, { home }) => total + (home.kind === "weight" ? home.length : 0), 0),
    activations: plain(add(...schedule.slots.map((slot) => largest(slot.bytes.map((text) => sizeAt(text, bindings)))))),
    activationsLowerBound: plain(largest(liveBytes(plan, schedule, bytes))),
    staging: plain(sum(["input", "output"])),
  };
}

/** Bytes of GPU memory that a context needs at the largest shapes of one profile. Error K606 where it does not bound them. */
export function contextBytes(plan: Plan, profile: number): number {
  const { activations, staging } = describeMemory(plan, largestShapes(plan, profile), scheduleOf(plan, profile));
  for (const size of [activations, staging]) if (typeof size === "string") throw unboundSymbol(size);
  return (activations as number) + (staging as number);
}

/** Bytes of each slot that activations share, at the largest shapes of one profile. Error K606 where it does not bound them. */
export function slotBytes(plan: Plan, profile: number): number[] {
  const bindings = largestShapes(plan, profile);
  return scheduleOf(plan, profile).slots.map((slot) => {
    const size = plain(largest(slot.bytes.map((text) => sizeAt(text, bindings))));
    if (typeof size === "string") throw unboundSymbol(size);
    return Math.max(4, size);
  });
}

/** Error K612 where there is no such profile. */
function scheduleOf(plan: Plan, profile: number): Schedule {
  const schedule = schedulesOf(plan)[profile];
  if (!schedule) throw noSuchProfile(profile, plan.profiles.length);
  return schedule;
}

/** Each symbol at its largest value in a profile. */
const largestShapes = ({ profiles }: Plan, profile: number): Bindings =>
  new Map(Object.entries(profiles[profile]?.symbols ?? {}).map(([name, { max }]) => [name, max]));

/** Bytes of live activations at each step. */
function liveBytes(plan: Plan, { steps }: Schedule, bytes: readonly Dim[]): readonly Dim[] {
  const changes = Array.from({ length: steps.length + 1 }, (): Dim => 0);
  for (const [buffer, { first, last }] of lifetimes(steps)) {
    if (plan.buffers[buffer]!.home.kind !== "activation") continue;
    changes[first] = add(changes[first]!, bytes[buffer]!);
    changes[last + 1] = sub(changes[last + 1]!, bytes[buffer]!);
  }
  for (let step = 1; step < changes.length; step++) changes[step] = add(changes[step - 1]!, changes[step]!);
  return changes;
}

/** The largest of several sizes; keeps only those that symbols could make the largest. */
function largest(sizes: readonly Dim[]): Dim {
  const kept: Dim[] = [];
  for (const size of sizes) {
    if (kept.some((other) => interval(sub(other, size), new Map())[0] >= 0)) continue;
    const still = kept.filter((other) => interval(sub(size, other), new Map())[0] < 0);
    kept.splice(0, kept.length, ...still, size);
  }
  return kept.length === 0 ? 0 : kept.reduce((a, b) => max(a, b));
}

const sizeAt = (text: string, bindings: Bindings): Dim => substitute(parseDim(text), bindings);
const plain = (dim: Dim): Size => (isStatic(dim) ? dim : dimText(dim));

function describeKernel(plan: Plan, step: DispatchStep, bindings: Bindings): KernelDescription {
  const size = (text: string): Size => plain(sizeAt(text, bindings));
  const tensors = (access: "read" | "write"): readonly TensorDescription[] =>
    step.bindings
      .filter((binding) => binding.access === access)
      .map(({ buffer }) => {
        const { name, dtype, shape } = plan.buffers[buffer]!;
        return { name, dtype, shape: shape.map(size) };
      });
  return {
    name: step.label,
    tactic: step.tactic,
    config: step.config,
    nodes: step.nodes,
    inputs: tensors("read"),
    outputs: tensors("write"),
    workgroups: step.workgroups.map(size),
    wgsl: plan.shaders[step.shader]!,
  };
}

/** Floats as they are stored and 8-bit integers; other integers only where there is nothing else. */
function precisionOf(buffers: readonly PlanBuffer[]): string {
  const words = buffers.map(({ dtype, storage: { item } }) =>
    item === "f16" ? "fp16" : item === "f32" ? "fp32" : dtype === "i8" || dtype === "u8" ? "int8" : "",
  );
  return (
    [...new Set(words)]
      .filter((word) => word !== "")
      .sort()
      .join("+") || "int32"
  );
}
