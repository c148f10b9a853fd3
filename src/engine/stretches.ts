// Stretches of steps whose shapes are known: resolved into a flat list of GPU commands once a shape, bound to a run's ends once
// a set of buffers, and encoded at every run: while the GPU computes the run before, if that was of the same shapes and ends.

import type { Memory } from "../gpu/buffers.ts";
import { BufferUsage } from "../gpu/constants.ts";
import type { Device } from "../gpu/device.ts";
import type { CompiledPipeline } from "../gpu/pipelines.ts";
import { turnOfOthers } from "../util/turn.ts";
import type { Bindings, Place, Places } from "./places.ts";
import type { CopyStep, DispatchStep, HostStep, IfStep, LoopStep, Plan, Step } from "./plan.ts";
import type { Profiler } from "./profiler.ts";
import type { Run, Trial } from "./run.ts";
import type { DimensionTable } from "./shapes.ts";

type Command =
  | {
      readonly kind: "dispatch";
      readonly step: DispatchStep;
      readonly pipeline: GPUComputePipeline;
      readonly group: GPUBindGroup;
      readonly counts: readonly [number, number, number];
    }
  | { readonly kind: "copy"; readonly from: Place; readonly to: Place; readonly bytes: number };
type Ends = ReadonlyMap<number, Place>;

interface Stretch {
  /** Inputs and outputs that it touches. */
  readonly ends: readonly number[];
  /** Those that touch ends as functions of where these lie. */
  readonly commands: readonly (Command | ((ends: Ends) => Command))[];
  /** By the ends' places; those used last are at the end. */
  readonly bound: Map<string, Bound>;
  readonly params: GPUBuffer | undefined;
}

interface Bound extends Trial {
  readonly commands: readonly Command[];
  /** True once it has come again: what came once, as each step of a growing cache, may not. */
  returns: boolean;
  /** Encoded for the next run, in pieces to be submitted one by one: the first ones, or all. */
  prepared?: GPUCommandBuffer[] | undefined;
}

interface Flat {
  readonly step: DispatchStep | CopyStep;
  readonly bindings: Bindings;
}

/** Commands kept for shapes that may come again; the stretches used longest ago go first. */
const KEPT_COMMANDS = 8192;
/** Sets of ends for which a stretch keeps its bind groups. */
const KEPT_ENDS = 8;
/** Commands that are encoded ahead between two looks at who waits. */
const STEP_COMMANDS = 8;
/** Commands that are worth encoding for a run that may not come. */
const PREPARED_COMMANDS = 1024;

export class Stretches {
  /** Those used last are at the end. */
  private readonly resolved = new Map<string, Stretch>();
  private readonly numbers = new WeakMap<GPUBuffer, number>();
  private lastNumber = 0;
  private keptCommands = 0;
  /** What the last run consisted of. */
  private used: Bound[] = [];

  constructor(
    private readonly device: Device,
    private readonly plan: Plan,
    private readonly pipelines: ReadonlyMap<DispatchStep, CompiledPipeline>,
    private readonly memory: Memory,
    private readonly places: Places,
    private readonly table: DimensionTable,
    private readonly firstSubmit: number,
  ) {}

  /** Encodes the steps, none of them dynamic, into the run. `path` names them. */
  async encode(steps: readonly Step[], run: Run, bindings: Bindings, path: string): Promise<void> {
    const key = `${path}?${[...bindings].map(([name, value]) => `${name}=${value}`).join("&")}`;
    let stretch = this.resolved.get(key);
    if (stretch) this.resolved.delete(key);
    else {
      // What is resolved now may take the place of what is encoded already.
      run.submit();
      stretch = await this.resolve(steps, run, bindings);
      this.keptCommands += stretch.commands.length;
    }
    this.resolved.set(key, stretch);
    for (const oldest of this.resolved.keys()) {
      if (this.keptCommands <= KEPT_COMMANDS || oldest === key) break;
      this.forget(oldest);
    }
    const bound = await this.bind(stretch, run, bindings);
    run.tries(bound);
    this.used.push(bound);
    const { profiler } = run;
    const { prepared } = bound;
    const together = run.firstSubmit === Number.POSITIVE_INFINITY;
    bound.prepared = undefined;
    profiler?.open(run.commands);
    piecesOf(bound.commands, this.firstSubmit).forEach((piece, i) => {
      if (i > 0 && !together) run.submit();
      const known = profiler ? undefined : prepared?.[i];
      if (known) run.add(known);
      else for (const _ of encoding(run.commands, piece, profiler));
    });
  }

  /**
   * Encodes the run before once more while the GPU is busy with it: the next one is likely of the same shapes and ends. Between
   * pieces others have their turn, above all who waits for the run; the next run encodes itself what is missing then. `isIdle`:
   * no other run is asked for.
   */
  async prepare(isIdle: boolean): Promise<void> {
    const [bound, ...others] = this.used;
    this.used = [];
    if (!isIdle || !bound?.returns || !bound.accepted || bound.prepared || others.length > 0) return;
    if (bound.commands.length > PREPARED_COMMANDS) return;
    const pieces: GPUCommandBuffer[] = [];
    bound.prepared = pieces;
    for (const piece of piecesOf(bound.commands, this.firstSubmit)) {
      const encoder = this.device.device.createCommandEncoder();
      for (const _ of encoding(encoder, piece)) {
        await turnOfOthers();
        if (bound.prepared !== pieces) return;
      }
      pieces.push(encoder.finish());
    }
  }

  /** Lets go of everything: slots lie elsewhere, or the context ends. */
  clear(): void {
    for (const { bound } of this.resolved.values()) for (const one of bound.values()) one.prepared = undefined;
    this.used = [];
    for (const key of this.resolved.keys()) this.forget(key);
  }

  private forget(key: string): void {
    const { commands, params } = this.resolved.get(key)!;
    this.resolved.delete(key);
    this.keptCommands -= commands.length;
    if (params) this.memory.destroy(params);
  }

  /** The commands with bind groups for where the run's ends lie. */
  private async bind({ ends, commands, bound }: Stretch, run: Run, bindings: Bindings): Promise<Bound> {
    const at = new Map<number, Place>();
    let key = "";
    for (const number of ends) {
      const place = await this.places.at(number, bindings, run.ends);
      at.set(number, place);
      key += `${this.numberOf(place.buffer)}+${place.offset},`;
    }
    const before = bound.get(key);
    const made = before?.commands ?? run.guard(() => commands.map((one) => (typeof one === "function" ? one(at) : one)));
    const known: Bound = before ?? { commands: made, returns: false, accepted: false };
    known.returns = before !== undefined;
    // Buffers made for this run will not come again.
    if (ends.some((number) => run.ends.get(number)?.isNew)) return known;
    bound.delete(key);
    bound.set(key, known);
    if (bound.size > KEPT_ENDS) bound.delete(bound.keys().next().value!);
    return known;
  }

  private numberOf(buffer: GPUBuffer): number {
    const known = this.numbers.get(buffer);
    if (known !== undefined) return known;
    this.numbers.set(buffer, ++this.lastNumber);
    return this.lastNumber;
  }

  /** Turns steps into commands: loops unrolled, sizes evaluated, parameters in one uniform buffer. */
  private async resolve(steps: readonly Step[], run: Run, bindings: Bindings): Promise<Stretch> {
    // All memory first: growing a slot replaces its buffer.
    const flat = this.unroll(steps, bindings);
    const ends = new Set<number>();
    for (const { step, bindings: at } of flat) {
      for (const number of touchedBy(step)) {
        if (this.places.isEnd(number)) ends.add(number);
        else await this.places.at(number, at, run.ends);
      }
    }
    const { params, offsets } = await this.uploadParams(flat);
    const fixed: Map<number, Place>[] = [];
    for (const { step, bindings: at } of flat) {
      const places = new Map<number, Place>();
      for (const number of touchedBy(step))
        if (!this.places.isEnd(number)) places.set(number, await this.places.at(number, at, run.ends));
      fixed.push(places);
    }
    const commands = run.guard(() => flat.flatMap((one, i) => this.command(one, fixed[i]!, params, offsets[i]) ?? []));
    return { ends: [...ends], commands, bound: new Map(), params };
  }

  /** Parameters of all dispatches in one buffer; `offsets` is undefined for those without. */
  private async uploadParams(
    flat: readonly Flat[],
  ): Promise<{ params: GPUBuffer | undefined; offsets: readonly (number | undefined)[] }> {
    const alignment = this.device.caps.limits.minUniformBufferOffsetAlignment;
    const blocks: { readonly offset: number; readonly words: Int32Array }[] = [];
    let bytes = 0;
    const offsets = flat.map(({ step, bindings }) => {
      if (step.kind === "copy" || step.params.length === 0) return undefined;
      const offset = bytes;
      blocks.push({ offset, words: Int32Array.from(step.params, (text) => this.table.evaluate(text, bindings)) });
      bytes += Math.ceil(paramBytes(step) / alignment) * alignment;
      return offset;
    });
    if (bytes === 0) return { params: undefined, offsets };
    const usage = BufferUsage.UNIFORM | BufferUsage.COPY_DST;
    const params = await this.memory.create({ label: "params", bytes, usage, boundInParts: true });
    const all = new Int32Array(bytes / 4);
    for (const { offset, words } of blocks) all.set(words, offset / 4);
    await this.memory.upload(params, all);
    return { params, offsets };
  }

  /** The command of a step; undefined where it has nothing to do. `fixed`: places of what is no end. */
  private command(
    { step, bindings }: Flat,
    fixed: ReadonlyMap<number, Place>,
    params: GPUBuffer | undefined,
    offset: number | undefined,
  ): Stretch["commands"][number] | undefined {
    const numbers = touchedBy(step);
    const whenBound = (make: (at: (number: number) => Place) => Command): Stretch["commands"][number] =>
      numbers.every((number) => fixed.has(number))
        ? make((number) => fixed.get(number)!)
        : (ends) => make((number) => fixed.get(number) ?? ends.get(number)!);
    if (step.kind === "copy") {
      const bytes = this.places.bytesOf(step.from, bindings);
      if (bytes === 0 || step.from === step.to) return undefined;
      return whenBound((at) => ({ kind: "copy", from: at(step.from), to: at(step.to), bytes }));
    }
    const counts = step.workgroups.map((text) => this.table.evaluate(text, bindings)) as [number, number, number];
    if (counts.some((count) => count === 0)) return undefined;
    const { pipeline, layout } = this.pipelines.get(step)!;
    const sizes = numbers.map((number) => this.bindingBytes(number, bindings));
    return whenBound((at) => {
      const entries: GPUBindGroupEntry[] = numbers.map((number, binding) => {
        const { buffer, offset } = at(number);
        return { binding, resource: { buffer, offset, size: sizes[binding]! } };
      });
      if (offset !== undefined)
        entries.push({ binding: entries.length, resource: { buffer: params!, offset, size: paramBytes(step) } });
      return { kind: "dispatch", step, pipeline, group: this.device.device.createBindGroup({ layout, entries }), counts };
    });
  }

  private bindingBytes(number: number, bindings: Bindings): number {
    const bytes = Math.max(4, this.places.bytesOf(number, bindings));
    return this.plan.buffers[number]!.home.kind === "weight" ? Math.ceil(bytes / 4) * 4 : bytes;
  }

  /** Dispatches and copies in the order in which they run, each with the symbols that hold there. */
  private unroll(steps: readonly Step[], bindings: Bindings): Flat[] {
    return steps.flatMap((step) => {
      if (step.kind === "dispatch" || step.kind === "copy") return [{ step, bindings }];
      const { index, count, carried, body } = step as LoopStep;
      const copy = (from: number, to: number): Flat => ({ step: { kind: "copy", from, to }, bindings });
      const turns = Array.from({ length: this.table.evaluate(count, bindings) }, (_, turn) => {
        const at = new Map(bindings).set(index, turn);
        return [
          ...this.unroll(body, at),
          ...carried.filter(({ input, output }) => input !== output).map(({ input, output }) => copy(output, input)),
        ];
      });
      return [
        ...carried.map(({ init, input }) => copy(init, input)),
        ...turns.flat(),
        ...carried.map(({ input, final }) => copy(input, final)),
      ];
    });
  }
}

/** Commands in pieces of `first` and twice as many each time. */
function piecesOf(commands: readonly Command[], first: number): Command[][] {
  const pieces: Command[][] = [];
  for (let [at, size] = [0, first]; at < commands.length; at += size, size *= 2) pieces.push(commands.slice(at, at + size));
  return pieces;
}

/** Encodes commands, a few at each step. With a profiler that times every kernel each has a pass of its own. */
function* encoding(encoder: GPUCommandEncoder, commands: readonly Command[], profiler?: Profiler): Generator<void> {
  let pass: GPUComputePassEncoder | undefined;
  for (const [i, command] of commands.entries()) {
    if (i % STEP_COMMANDS === 0) yield;
    if (command.kind === "copy") {
      pass?.end();
      pass = undefined;
      const { from, to, bytes } = command;
      encoder.copyBufferToBuffer(from.buffer, from.offset, to.buffer, to.offset, bytes);
    } else {
      pass ??= encoder.beginComputePass(profiler?.pass(command.step));
      pass.setPipeline(command.pipeline);
      pass.setBindGroup(0, command.group);
      pass.dispatchWorkgroups(...command.counts);
      if (profiler?.everyKernel) {
        pass.end();
        pass = undefined;
      }
    }
  }
  pass?.end();
}

const touchedBy = (step: DispatchStep | CopyStep): readonly number[] =>
  step.kind === "copy" ? [step.from, step.to] : step.bindings.map(({ buffer }) => buffer);
const paramBytes = ({ params }: DispatchStep): number => Math.ceil(params.length / 4) * 16;

/** Steps that only the run can resolve: host layers, branches, and loops that end on data or carry values that change size. */
export function isDynamic(step: Step, plan: Pick<Plan, "buffers">): step is HostStep | IfStep | LoopStep {
  if (step.kind === "host" || step.kind === "if") return true;
  if (step.kind !== "loop") return false;
  const { buffers } = plan;
  const resizes = step.carried.some(({ init, input }) => buffers[init]!.shape.join() !== buffers[input]!.shape.join());
  return (
    resizes ||
    step.trips !== null ||
    step.condition !== null ||
    step.scans.length > 0 ||
    step.body.some((inner) => isDynamic(inner, plan))
  );
}
