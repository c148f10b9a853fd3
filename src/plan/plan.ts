// Program + chosen kernels → Plan and weights: numbers every value's buffer, turns tasks into steps, lays constants into
// one block and lets activations share memory.

import type { DispatchStep, Plan, PlanBuffer, Profile, Schedule, Step } from "../engine/plan.ts";
import { type Dim, dimText, symbolsOf } from "../ir/dims.ts";
import { bytesOf, constantBytes, storageOf } from "../ir/storage.ts";
import { isKernelTask, type KernelTask, type Program, readsOf, settledTasks, type Task, writesOf } from "../ir/task.ts";
import { bytesOfArray, type Tensor } from "../ir/tensor.ts";
import { dtypeFacts } from "../ir/types.ts";
import type { Value } from "../ir/value.ts";
import type { Config, Kernel, KernelStep } from "../kernels/tactic.ts";
import { BINDING_ALIGNMENT, type Caps } from "../util/caps.ts";
import { internal } from "../util/errors.ts";
import { type Bundle, bundleTasks, type Choice } from "./bundles.ts";
import { type Home as Place, planMemory } from "./memory.ts";

export interface PlanOptions {
  readonly caps: Caps;
  readonly profiles: readonly Profile[];
  readonly notes: readonly string[];
  /** Asked before a kernel joins another's dispatch; left out, none does. */
  readonly mayBundle?: (task: Task) => boolean;
  /** Inputs that are weights to be refitted, and what they hold, by name. */
  readonly weights?: ReadonlyMap<string, Tensor>;
}

type Choices = ReadonlyMap<KernelTask, Choice>;

/** `choices`: one for each profile, or the only one. */
export function makePlan(
  program: Program,
  choices: readonly Choices[],
  options: PlanOptions,
): { plan: Plan; weights: Uint8Array } {
  return new Planner(program, options).finish(choices);
}

type Home = PlanBuffer["home"];
type Dispatch = Pick<DispatchStep, "kind" | "shader" | "bindings" | "params" | "workgroups">;

const activationHome = ({ slot, offset }: Place): Home =>
  offset === 0 ? { kind: "activation", slot } : { kind: "activation", slot, offset: dimText(offset) };

/** What a size counts as when no profile bounds it. */
const TYPICAL = 64;

/** Each symbol of the inputs' shapes at its largest. */
function largestSizes({ inputs }: Program, profile: Profile | undefined): ReadonlyMap<string, number> {
  const names = new Set(inputs.flatMap(({ shape }) => shape.flatMap((dim) => [...symbolsOf(dim)])));
  return new Map([...names].map((name) => [name, profile?.symbols[name]?.max || TYPICAL]));
}

/**
 * Values that no kernel, branch or loop touches: what host layers pass to one another, take from the caller and give back
 * stays in the host's memory, and so do 64-bit elements on their way through.
 */
function hostValues({ inputs, outputs, tasks }: Program): ReadonlySet<Value> {
  const device = new Set(tasks.flatMap((task) => (task.kind === "host" ? [] : [...readsOf(task), ...writesOf(task)])));
  const hosts = tasks.filter((task) => task.kind === "host");
  const seen = hosts.flatMap((task) => [...readsOf(task), ...writesOf(task)]);
  const passing = [...inputs, ...outputs.map(({ value }) => value)].filter(({ dtype }) => dtypeFacts[dtype].bytes === 8);
  return new Set([...seen, ...passing].filter((value) => !device.has(value)));
}

class Planner {
  private readonly numbers = new Map<Value, number>();
  private readonly buffers: { value: Value; home: Home }[] = [];
  private readonly shaders = new Map<string, number>();
  private readonly weights: { offset: number; bytes: Uint8Array }[] = [];
  private hostLayers: { node: string; op: string; reason: string }[] = [];
  /** Values that only the host sees. */
  private readonly onHost: ReadonlySet<Value>;
  private weightBytes = 0;
  /** Of all kernel tasks but those blocks that are to be their parts. */
  private choices: Choices = new Map();
  /** Where each activation lies, by buffer number. */
  private readonly homes = new Map<number, Place>();

  constructor(
    private readonly program: Program,
    private readonly options: PlanOptions,
  ) {
    this.onHost = hostValues(program);
  }

  finish(choices: readonly Choices[]): { plan: Plan; weights: Uint8Array } {
    const { program, options } = this;
    const exposed = options.weights ?? new Map<string, Tensor>();
    for (const value of program.inputs) {
      const data = exposed.get(value.name);
      if (data) this.weight(value, data);
      else this.place(value, { kind: this.onHost.has(value) ? "host" : "input" });
    }
    const copied: { from: Value; to: number }[] = [];
    const outputs = program.outputs.map(({ name, value }) => {
      let buffer = this.numbers.get(value);
      if (this.onHost.has(value)) buffer = this.buffer(value);
      else if (value.data || buffer !== undefined) {
        // An input, a constant or a second name of one result: a copy of its own.
        const copy: Value = { name, dtype: value.dtype, shape: value.shape, ...(value.wide ? { wide: true } : {}) };
        buffer = this.place(copy, { kind: "output" });
        copied.push({ from: value, to: buffer });
      } else buffer = this.place(value, { kind: "output" });
      return { name, dtype: value.dtype, shape: value.shape.map(dimText), buffer };
    });
    const schedules = choices.map((chosen, i) => this.schedule(chosen, copied, options.profiles[i]));
    const buffers = this.buffers.map(({ value, home }, i): PlanBuffer => {
      const storage = storageOf(value, options.caps);
      return {
        name: value.name,
        dtype: value.dtype,
        shape: value.shape.map(dimText),
        storage,
        bytes: dimText(bytesOf(value, storage)),
        home: home.kind === "activation" ? activationHome(this.homes.get(i)!) : home,
      };
    });
    const refit = program.inputs
      .filter(({ name }) => exposed.has(name))
      .map((value) => ({
        name: value.name,
        dtype: value.dtype,
        shape: value.shape.map(Number),
        buffer: this.numbers.get(value)!,
      }));
    const given = program.inputs.filter((value) => !exposed.has(value.name));
    const inputs = given.map((value) => {
      const assumed = program.assumed.get(value.name);
      return {
        name: value.name,
        dtype: value.dtype,
        shape: value.shape.map(dimText),
        buffer: this.numbers.get(value)!,
        ...(assumed ? { assumed: Array.from(assumed.data, String) } : {}),
        ...(value.pinned ? { pinned: value.pinned } : {}),
      };
    });
    const requirements = (program.requirements ?? []).map(({ node, verb, shapes, sizes: [a, b], orOne }) => ({
      node,
      verb,
      shapes: shapes.map((shape) => shape.map(dimText)),
      sizes: [dimText(a), dimText(b)] as const,
      orOne,
    }));
    const plan: Plan = {
      inputs,
      outputs,
      buffers,
      shaders: [...this.shaders.keys()],
      ...schedules[0]!,
      profiles: options.profiles.map((profile, i) => (i === 0 ? profile : { ...profile, schedule: schedules[i]! })),
      hostLayers: this.hostLayers,
      notes: options.notes,
      ...(requirements.length > 0 ? { requirements } : {}),
      ...(refit.length > 0 ? { refit } : {}),
    };
    return { plan, weights: this.weightBlock() };
  }

  /** Steps by these choices, and their memory at the profile's largest sizes. Only activations are its own. */
  private schedule(choices: Choices, copied: readonly { from: Value; to: number }[], profile: Profile | undefined): Schedule {
    for (const [value, number] of this.numbers)
      if (this.buffers[number]!.home.kind === "activation") this.numbers.delete(value);
    const before = this.buffers.length;
    [this.choices, this.hostLayers] = [choices, []];
    const copies = copied.map(({ from, to }): Step => ({ kind: "copy", from: this.buffer(from), to }));
    const steps = [...this.steps(this.program.tasks), ...copies];
    const tenants = this.buffers.map(({ value, home }, number) => ({
      shared: home.kind === "activation" && number >= before,
      bytes: bytesOf(value, storageOf(value, this.options.caps)),
    }));
    const memory = planMemory(steps, tenants, {
      sizes: largestSizes(this.program, profile),
      largest: this.options.caps.limits.maxBufferSize,
    });
    for (const [number, home] of memory.homes) this.homes.set(number, home);
    return {
      steps: this.shareSlots(steps, memory.homes),
      slots: memory.slots.map((bytes) => ({ bytes: bytes.map(dimText) })),
    };
  }

  private weightBlock(): Uint8Array {
    const block = new Uint8Array(this.weightBytes);
    for (const { offset, bytes } of this.weights) block.set(bytes, offset);
    return block;
  }

  private place(value: Value, home: Home): number {
    const number = this.buffers.length;
    this.numbers.set(value, number);
    this.buffers.push({ value, home });
    return number;
  }

  /** The value's buffer; constants get a place among the weights, everything else among the activations. */
  private buffer(value: Value): number {
    const known = this.numbers.get(value);
    if (known !== undefined) return known;
    if (value.data) return this.weight(value, value.data);
    return this.place(value, this.onHost.has(value) ? { kind: "host" } : { kind: "activation", slot: -1 });
  }

  private weight(value: Value, data: Tensor): number {
    const onHost = this.onHost.has(value);
    const bytes = onHost ? bytesOfArray(data.data) : constantBytes(value, data, storageOf(value, this.options.caps));
    const offset = Math.ceil(this.weightBytes / BINDING_ALIGNMENT) * BINDING_ALIGNMENT;
    this.weights.push({ offset, bytes });
    this.weightBytes = offset + Math.ceil(bytes.length / 4) * 4;
    return this.place(value, { kind: onHost ? "host" : "weight", offset, length: bytes.length });
  }

  private steps(tasks: readonly Task[]): Step[] {
    const { caps, mayBundle = () => false } = this.options;
    const all = bundleTasks(settledTasks(tasks, this.choices), { caps, choiceOf: (task) => this.choice(task), may: mayBundle });
    return all.flatMap((task) => ("members" in task ? this.bundle(task) : this.step(task)));
  }

  private step(task: Task): Step[] {
    if (isKernelTask(task)) return this.kernel(task);
    const at = (value: Value): number => this.buffer(value);
    const maybe = (value: Value | undefined): number | null => (value ? at(value) : null);
    switch (task.kind) {
      case "host":
        this.hostLayers.push({ node: task.name, op: task.op, reason: task.reason });
        return [
          {
            kind: "host",
            node: task.name,
            op: task.op,
            attrs: task.attrs,
            inputs: task.inputs.map(maybe),
            outputs: task.outputs.map(at),
          },
        ];
      case "loop": {
        const carried = task.carried.map(({ init, input, output, final }) => ({
          init: at(init),
          input: at(input),
          output: at(output),
          final: at(final),
        }));
        return [
          {
            kind: "loop",
            index: task.index,
            count: dimText(task.count),
            trips: maybe(task.trips),
            condition: task.condition ? { initial: maybe(task.condition.initial), output: at(task.condition.output) } : null,
            carried,
            outputs: task.outputs.map(at),
            scans: (task.scans ?? []).map(({ piece, out }) => ({ piece: at(piece), out: at(out) })),
            body: this.steps(task.body),
          },
        ];
      }
      case "if":
        return [
          {
            kind: "if",
            condition: at(task.condition),
            then: this.steps(task.then),
            else: this.steps(task.else),
            results: task.results.map((result) => ({ then: at(result.then), else: at(result.else), out: at(result.out) })),
          },
        ];
    }
  }

  private choice(task: KernelTask): Choice {
    const choice = this.choices.get(task);
    if (!choice) throw internal(task.name, "no kernel was chosen");
    return choice;
  }

  private kernel(task: KernelTask): Step[] {
    const { tactic, config, kernel } = this.choice(task);
    const copies = task.stores.flatMap(({ init, value }): Step[] =>
      init ? [{ kind: "copy", from: this.buffer(init), to: this.buffer(value) }] : [],
    );
    this.pack(kernel);
    const steps = kernel.steps.map((step, i): Step => {
      const label = kernel.steps.length === 1 ? task.name : `${task.name} (${i + 1}/${kernel.steps.length})`;
      return { ...this.dispatch(step), nodes: task.origins, label, tactic, config };
    });
    return [...copies, ...steps];
  }

  private bundle({ members, step }: Bundle): Step[] {
    const choices = members.map(({ choice }) => choice);
    for (const { kernel } of choices) this.pack(kernel);
    const configs = choices.flatMap(({ config }, i) => Object.entries(config).map(([key, value]) => [`${i}.${key}`, value]));
    return [
      {
        ...this.dispatch(step),
        nodes: [...new Set(members.flatMap(({ task }) => task.origins))],
        label: members.map(({ task }) => task.name).join(" + "),
        tactic: choices.map(({ tactic }) => tactic).join(" + "),
        config: Object.fromEntries(configs) as Config,
      },
    ];
  }

  /** Gives the constants that a kernel wants in a form of their own their places. */
  private pack({ packed }: Kernel): void {
    for (const { value, pack } of packed) if (!this.numbers.has(value)) this.weight(value, pack());
  }

  private dispatch({ wgsl, bindings, params, workgroups }: KernelStep): Dispatch {
    return {
      kind: "dispatch",
      shader: this.shader(wgsl),
      bindings: bindings.map(({ value, access }) => ({ buffer: this.buffer(value), access })),
      params: params.map(dimText),
      workgroups: workgroups.map((dim: Dim) => dimText(dim)) as unknown as readonly [string, string, string],
    };
  }

  /** Binds as writable what a kernel reads of a slot that it also writes: WebGPU allows one buffer but one use in a dispatch. */
  private shareSlots(steps: readonly Step[], homes: ReadonlyMap<number, Place>): Step[] {
    const texts = [...this.shaders.keys()];
    return steps.map((step): Step => {
      if (step.kind === "loop") return { ...step, body: this.shareSlots(step.body, homes) };
      if (step.kind === "if")
        return { ...step, then: this.shareSlots(step.then, homes), else: this.shareSlots(step.else, homes) };
      if (step.kind !== "dispatch") return step;
      const written = new Set(
        step.bindings.flatMap(({ buffer, access }) => (access === "write" ? [homes.get(buffer)?.slot] : [])),
      );
      const isShared = ({ buffer, access }: (typeof step.bindings)[number]): boolean =>
        access === "read" && homes.has(buffer) && written.has(homes.get(buffer)!.slot);
      if (!step.bindings.some(isShared)) return step;
      const wgsl = texts[step.shader]!.replace(/@binding\((\d+)\) var<storage, read>/g, (text, at: string) =>
        isShared(step.bindings[Number(at)]!) ? `@binding(${at}) var<storage, read_write>` : text,
      );
      return {
        ...step,
        shader: this.shader(wgsl),
        bindings: step.bindings.map((binding) => (isShared(binding) ? { ...binding, shared: true } : binding)),
      };
    });
  }

  private shader(wgsl: string): number {
    const known = this.shaders.get(wgsl);
    if (known !== undefined) return known;
    this.shaders.set(wgsl, this.shaders.size);
    return this.shaders.size - 1;
  }
}
