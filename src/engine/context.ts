// Runs an engine: binds symbols, allocates what shapes need, replays the steps. Steps whose shapes are known are resolved
// into a flat list of GPU commands once a shape; host layers, branches and loops on data interrupt it.

import { Memory } from "../gpu/buffers.ts";
import { BufferUsage } from "../gpu/constants.ts";
import { fromDevice, toDevice } from "../ir/storage.ts";
import { allocate, numbersOf, sizeOf, type Tensor, type TypedArray, writer } from "../ir/tensor.ts";
import {
  assumptionBroken,
  disposedContext,
  inputShapeMismatch,
  missingInput,
  unknownInputs,
  wrongInputData,
  wrongInputType,
} from "../util/errors.ts";
import type { Engine } from "./engine.ts";
import type { DispatchStep, HostStep, IfStep, LoopStep, PlanBuffer, PlanInput, Step } from "./plan.ts";
import type { Profiler } from "./profiler.ts";
import { bindInputs, DimensionTable } from "./shapes.ts";

/** An input: a tensor, or its data alone where the shape is fixed. */
export type Input = Tensor | TypedArray;
export type Inputs = Readonly<Record<string, Input>>;
export type Outputs = Record<string, Tensor>;

/** Bytes of a GPU buffer, from `offset` on. */
interface Place {
  readonly buffer: GPUBuffer;
  readonly offset: number;
}

/** One command of a resolved stretch. */
type Command =
  | {
      readonly kind: "dispatch";
      readonly step: DispatchStep;
      readonly pipeline: GPUComputePipeline;
      readonly group: GPUBindGroup;
      readonly counts: readonly [number, number, number];
    }
  | { readonly kind: "copy"; readonly from: Place; readonly to: Place; readonly bytes: number };

interface Resolved {
  readonly commands: readonly Command[];
  readonly params: GPUBuffer | undefined;
}

type Bindings = Map<string, number>;

const copyOf = ({ dtype, shape, data }: Tensor): Tensor => ({ dtype, shape, data: data.slice() });

/** Commands kept for shapes that may come again; the stretches used longest ago go first. */
const KEPT_COMMANDS = 8192;
/** Larger outputs come down in pieces. */
const PIECE_BYTES = 8 << 20;

/** Steps that only the run can resolve: host layers, branches, and loops that end on data or carry values that change size. */
function isDynamic(step: Step, buffers: readonly PlanBuffer[]): step is HostStep | IfStep | LoopStep {
  if (step.kind === "host" || step.kind === "if") return true;
  if (step.kind !== "loop") return false;
  const resizes = step.carried.some(({ init, input }) => buffers[init]!.shape.join() !== buffers[input]!.shape.join());
  return (
    resizes ||
    step.trips !== null ||
    step.condition !== null ||
    step.scans.length > 0 ||
    step.body.some((inner) => isDynamic(inner, buffers))
  );
}

export class ExecutionContext {
  /** Times the runs from now on, which then wait between their phases. */
  profiler: Profiler | undefined;
  private readonly memory: Memory;
  private readonly table = new DimensionTable();
  /** By number those that have a buffer of their own, by -1 - slot those that share one. */
  private readonly buffers = new Map<number, GPUBuffer>();
  /** Values of the run in progress that stay on the host, by number. */
  private readonly hosted = new Map<number, Tensor>();
  /** Those used last are at the end. */
  private readonly resolved = new Map<string, Resolved>();
  private keptCommands = 0;
  private running: Promise<unknown> = Promise.resolve();
  /** Runs that have been asked for and have not ended. */
  private runs = 0;
  private disposed = false;

  /** `onFree` is told when the context has been disposed of and its last run has ended. */
  constructor(
    private readonly engine: Engine,
    private readonly onFree: () => void,
  ) {
    this.memory = new Memory(engine.device);
  }

  /** Bytes of GPU memory that the context holds now. */
  get deviceMemory(): number {
    return this.memory.live;
  }

  /**
   * Runs the network once. Calls queue up: each starts when the one before has finished.
   * Errors: K602 missing or K603 unknown inputs, K604–K607 shapes, K608 types, K601 values that the GPU cannot hold, K408 device lost.
   */
  execute(inputs: Inputs): Promise<Outputs> {
    this.runs++;
    const result = this.running
      .then(() => this.run(inputs))
      .finally(() => {
        this.runs--;
        if (this.disposed && this.runs === 0) this.free();
      });
    this.running = result.catch(() => undefined);
    return result;
  }

  /** Frees the context's memory: at once, or when the run in progress has ended. Runs that wait for it fail with K610. */
  dispose(): void {
    if (this.disposed) return;
    this.disposed = true;
    if (this.runs === 0) this.free();
  }

  private free(): void {
    this.memory.dispose();
    this.resolved.clear();
    this.onFree();
  }

  private async run(inputs: Inputs): Promise<Outputs> {
    if (this.disposed) throw disposedContext();
    this.engine.device.check();
    const { plan } = this.engine;
    const tensors = this.checkedInputs(inputs);
    const bindings = bindInputs(plan, this.table, new Map([...tensors].map(([name, { shape }]) => [name, shape])));
    this.hosted.clear();
    this.profiler?.begin();
    for (const input of plan.inputs)
      await this.upload(input.buffer, tensors.get(input.name)!, bindings, `input "${input.name}"`);
    await this.profiler?.phase();
    await this.runSteps(plan.steps, bindings, "");
    await this.profiler?.phase();
    const { device } = this.engine.device;
    const encoder = device.createCommandEncoder();
    const readbacks: ({ read: () => Promise<Uint8Array<ArrayBuffer>> } | undefined)[] = [];
    for (const output of plan.outputs) {
      if (plan.buffers[output.buffer]!.home.kind === "host") {
        readbacks.push(undefined);
        continue;
      }
      const bytes = this.bytesOf(output.buffer, bindings);
      const { buffer, offset } = await this.place(output.buffer, bindings);
      if (bytes > PIECE_BYTES) readbacks.push({ read: () => this.memory.download(buffer, offset, bytes) });
      else readbacks.push(this.memory.readback(encoder, buffer, offset, bytes));
    }
    device.queue.submit([encoder.finish()]);
    const outputs: Outputs = {};
    for (const [i, output] of plan.outputs.entries()) {
      const bytes = await readbacks[i]?.read();
      outputs[output.name] = bytes
        ? fromDevice(bytes, output.dtype, this.table.shape(output.shape, bindings), plan.buffers[output.buffer]!.storage)
        : copyOf(await this.download(output.buffer, bindings));
    }
    await this.profiler?.phase();
    this.engine.device.check();
    return outputs;
  }

  // --- inputs ------------------------------------------------------------------------------------------------------------

  private checkedInputs(inputs: Inputs): Map<string, Tensor> {
    const { plan } = this.engine;
    const unknown = Object.keys(inputs).filter((name) => !plan.inputs.some((input) => input.name === name));
    if (unknown.length > 0)
      throw unknownInputs(
        unknown,
        plan.inputs.map(({ name }) => name),
      );
    return new Map(plan.inputs.map((input) => [input.name, this.checkedInput(input, inputs[input.name])]));
  }

  private checkedInput(input: PlanInput, given: Input | undefined): Tensor {
    if (given == null) throw missingInput(input.name, `${input.dtype}[${input.shape.join(", ")}]`);
    const expected = allocate(input.dtype, 0)[Symbol.toStringTag];
    const bare = ArrayBuffer.isView(given);
    const data = bare ? given : given.data;
    if (!bare && given.dtype !== undefined && given.dtype !== input.dtype)
      throw wrongInputType(input.name, given.dtype, input.dtype);
    // By its tag: a Node Buffer is a Uint8Array, and so is one of another window.
    if (data?.[Symbol.toStringTag] !== expected)
      throw wrongInputData(input.name, (data as object | undefined)?.constructor.name ?? typeof given, expected, input.dtype);
    const shape = bare ? this.table.shape(input.shape, new Map()) : given.shape;
    if (!shape.every((size) => Number.isSafeInteger(size) && size >= 0))
      throw inputShapeMismatch(input.name, shape, input.shape);
    if (sizeOf(shape) !== data.length)
      throw wrongInputData(
        input.name,
        `${data.length} elements`,
        `${sizeOf(shape)} for shape [${shape.join(", ")}]`,
        input.dtype,
      );
    const tensor: Tensor = { dtype: input.dtype, shape, data };
    if (input.assumed && input.assumed.join() !== Array.from(data, String).join())
      throw assumptionBroken(input.name, input.assumed.join(", "), Array.from(data, String).join(", "));
    return tensor;
  }

  private async upload(number: number, tensor: Tensor, bindings: Bindings, place: string): Promise<void> {
    const { home, storage } = this.engine.plan.buffers[number]!;
    if (home.kind === "host") {
      this.hosted.set(number, tensor);
      return;
    }
    const bytes = toDevice(tensor, storage, place);
    if (bytes.length === 0) return;
    const { buffer, offset } = await this.place(number, bindings);
    await this.memory.upload(buffer, bytes, offset);
  }

  private async download(number: number, bindings: Bindings): Promise<Tensor> {
    const { dtype, shape, storage, home } = this.engine.plan.buffers[number]!;
    if (home.kind === "host")
      return this.hosted.get(number) ?? this.engine.hostConstant(home, dtype, this.table.shape(shape, bindings));
    const bytes = this.bytesOf(number, bindings);
    if (bytes === 0) return fromDevice(new Uint8Array(0), dtype, this.table.shape(shape, bindings), storage);
    const { buffer, offset } = await this.place(number, bindings);
    return fromDevice(await this.memory.download(buffer, offset, bytes), dtype, this.table.shape(shape, bindings), storage);
  }

  // --- memory ------------------------------------------------------------------------------------------------------------

  private bytesOf(number: number, bindings: Bindings): number {
    return this.table.evaluate(this.engine.plan.buffers[number]!.bytes, bindings);
  }

  /** Where a numbered buffer lies: a GPU buffer large enough for the shapes bound, and the byte at which it begins there. */
  private async place(number: number, bindings: Bindings): Promise<Place> {
    const { buffers, slots } = this.engine.plan;
    const { home, name } = buffers[number]!;
    if (home.kind === "weight") return { buffer: this.engine.weightBuffers.get(number)!, offset: 0 };
    const bytes = this.bytesOf(number, bindings);
    if (home.kind !== "activation") return { buffer: await this.bufferOf(number, name, bytes), offset: 0 };
    const offset = home.offset === undefined || bytes === 0 ? 0 : this.table.evaluate(home.offset, bindings);
    const tenants = slots[home.slot]!.bytes.map((text) => this.table.tryEvaluate(text, bindings) ?? 0);
    return { buffer: await this.bufferOf(-1 - home.slot, name, Math.max(offset + bytes, ...tenants)), offset };
  }

  private async bufferOf(place: number, label: string, bytes: number): Promise<GPUBuffer> {
    const old = this.buffers.get(place);
    if (old && old.size >= bytes) return old;
    if (old) {
      // Every resolved stretch may hold the old buffer in a bind group.
      for (const key of this.resolved.keys()) this.forget(key);
      this.buffers.delete(place);
      this.memory.destroy(old);
    }
    const made = await this.memory.create({ label, bytes });
    this.buffers.set(place, made);
    return made;
  }

  private forget(key: string): void {
    const { commands, params } = this.resolved.get(key)!;
    this.resolved.delete(key);
    this.keptCommands -= commands.length;
    if (params) this.memory.destroy(params);
  }

  // --- steps -------------------------------------------------------------------------------------------------------------

  /** Runs steps: stretches without dynamic steps as one submission each. `path` names the list for the cache. */
  private async runSteps(steps: readonly Step[], bindings: Bindings, path: string): Promise<void> {
    let from = 0;
    for (let i = 0; i <= steps.length; i++) {
      const step = steps[i];
      if (step && !isDynamic(step, this.engine.plan.buffers)) continue;
      if (i > from) await this.runStretch(steps.slice(from, i), bindings, `${path}/${from}`);
      from = i + 1;
      if (!step) break;
      if (step.kind === "host") await this.runHost(step as HostStep, bindings);
      else if (step.kind === "if") await this.runIf(step as IfStep, bindings, `${path}/${i}`);
      else await this.runLoop(step as LoopStep, bindings, `${path}/${i}`);
    }
  }

  private async runStretch(steps: readonly Step[], bindings: Bindings, path: string): Promise<void> {
    const key = `${path}?${[...bindings].map(([name, value]) => `${name}=${value}`).join("&")}`;
    let stretch = this.resolved.get(key);
    if (stretch) this.resolved.delete(key);
    else {
      stretch = await this.resolve(steps, bindings);
      this.keptCommands += stretch.commands.length;
    }
    this.resolved.set(key, stretch);
    for (const oldest of this.resolved.keys()) {
      if (this.keptCommands <= KEPT_COMMANDS || oldest === key) break;
      this.forget(oldest);
    }
    const { device } = this.engine.device;
    const encoder = device.createCommandEncoder();
    this.profiler?.open(encoder);
    let pass: GPUComputePassEncoder | undefined;
    for (const command of stretch.commands) {
      if (command.kind === "copy") {
        pass?.end();
        pass = undefined;
        encoder.copyBufferToBuffer(
          command.from.buffer,
          command.from.offset,
          command.to.buffer,
          command.to.offset,
          command.bytes,
        );
      } else {
        pass ??= encoder.beginComputePass(this.profiler?.pass(command.step));
        pass.setPipeline(command.pipeline);
        pass.setBindGroup(0, command.group);
        pass.dispatchWorkgroups(...command.counts);
        if (this.profiler?.everyKernel) {
          pass.end();
          pass = undefined;
        }
      }
    }
    pass?.end();
    device.queue.submit([encoder.finish()]);
  }

  /** Turns steps into commands: loops unrolled, sizes evaluated, parameters in one uniform buffer, bind groups made. */
  private async resolve(steps: readonly Step[], bindings: Bindings): Promise<Resolved> {
    const { device, pipelines, plan } = this.engine;
    // All memory first: growing a slot replaces its buffer.
    const flat = this.unroll(steps, bindings);
    for (const { step, bindings: at } of flat) {
      for (const number of step.kind === "copy" ? [step.from, step.to] : step.bindings.map(({ buffer }) => buffer))
        await this.place(number, at);
    }
    const alignment = device.caps.limits.minUniformBufferOffsetAlignment;
    const blocks: { offset: number; words: Int32Array }[] = [];
    let paramBytes = 0;
    const blockOf = flat.map(({ step, bindings: at }) => {
      if (step.kind === "copy" || step.params.length === 0) return undefined;
      const words = Int32Array.from(step.params, (text) => this.table.evaluate(text, at));
      const block = { offset: paramBytes, words, bytes: Math.ceil(words.length / 4) * 16 };
      blocks.push(block);
      paramBytes += Math.ceil(block.bytes / alignment) * alignment;
      return block;
    });
    const params =
      paramBytes > 0
        ? await this.memory.create({
            label: "params",
            bytes: paramBytes,
            usage: BufferUsage.UNIFORM | BufferUsage.COPY_DST,
            boundInParts: true,
          })
        : undefined;
    if (params) {
      const all = new Int32Array(paramBytes / 4);
      for (const { offset, words } of blocks) all.set(words, offset / 4);
      await this.memory.upload(params, all);
    }
    const commands: Command[] = [];
    for (const [i, { step, bindings: at }] of flat.entries()) {
      if (step.kind === "copy") {
        const bytes = this.bytesOf(step.from, at);
        if (bytes > 0 && step.from !== step.to)
          commands.push({ kind: "copy", from: await this.place(step.from, at), to: await this.place(step.to, at), bytes });
        continue;
      }
      const counts = step.workgroups.map((text) => this.table.evaluate(text, at)) as [number, number, number];
      if (counts.some((count) => count === 0)) continue;
      const { pipeline, layout } = pipelines.get(step)!;
      const entries: GPUBindGroupEntry[] = [];
      for (const [binding, { buffer }] of step.bindings.entries()) {
        const size = Math.max(4, this.bytesOf(buffer, at));
        entries.push({
          binding,
          resource: {
            ...(await this.place(buffer, at)),
            size: plan.buffers[buffer]!.home.kind === "weight" ? Math.ceil(size / 4) * 4 : size,
          },
        });
      }
      const block = blockOf[i];
      if (block)
        entries.push({ binding: entries.length, resource: { buffer: params!, offset: block.offset, size: block.bytes } });
      commands.push({ kind: "dispatch", step, pipeline, group: device.device.createBindGroup({ layout, entries }), counts });
    }
    return { commands, params };
  }

  /** Dispatches and copies in the order in which they run, each with the symbols that hold there. */
  private unroll(
    steps: readonly Step[],
    bindings: Bindings,
  ): { step: Exclude<Step, HostStep | IfStep | LoopStep>; bindings: Bindings }[] {
    return steps.flatMap((step) => {
      if (step.kind === "dispatch" || step.kind === "copy") return [{ step, bindings }];
      const { index, count, carried, body } = step as LoopStep;
      const copy = (from: number, to: number) => ({ step: { kind: "copy", from, to } as const, bindings });
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

  private async runHost(step: HostStep, bindings: Bindings): Promise<void> {
    const operator = this.engine.hostOperators(step.op)!;
    const inputs = await Promise.all(
      step.inputs.map((number) => (number === null ? undefined : this.download(number, bindings))),
    );
    const results = await operator(inputs, step.attrs);
    for (const [i, number] of step.outputs.entries()) {
      this.bindShape(number, results[i]!.shape, bindings);
      await this.upload(number, results[i]!, bindings, `output ${i} of host layer "${step.node}"`);
    }
  }

  /** Binds the symbols that only now have a value. */
  private bindShape(number: number, shape: readonly number[], bindings: Bindings): void {
    this.engine.plan.buffers[number]!.shape.forEach((text, axis) => {
      const symbol = this.table.symbolOf(text);
      if (symbol !== undefined && !bindings.has(symbol)) bindings.set(symbol, shape[axis]!);
    });
  }

  private async scalar(number: number, bindings: Bindings): Promise<number> {
    return numbersOf(await this.download(number, bindings))[0] ?? 0;
  }

  /** Copies all of one buffer over another; each has its size under its own bindings. */
  private async copy(from: number, fromBindings: Bindings, to: number, toBindings: Bindings): Promise<void> {
    const bytes = this.bytesOf(from, fromBindings);
    if (bytes === 0 || from === to) return;
    const { device } = this.engine.device;
    const [source, target] = [await this.place(from, fromBindings), await this.place(to, toBindings)];
    const encoder = device.createCommandEncoder();
    encoder.copyBufferToBuffer(source.buffer, source.offset, target.buffer, target.offset, bytes);
    device.queue.submit([encoder.finish()]);
  }

  private shapeOf(number: number, bindings: Bindings): number[] {
    return this.table.shape(this.engine.plan.buffers[number]!.shape, bindings);
  }

  private async runIf(step: IfStep, bindings: Bindings, path: string): Promise<void> {
    const taken = (await this.scalar(step.condition, bindings)) !== 0;
    await this.runSteps(taken ? step.then : step.else, bindings, `${path}/${taken}`);
    for (const result of step.results) {
      const from = taken ? result.then : result.else;
      this.bindShape(result.out, this.shapeOf(from, bindings), bindings);
      await this.copy(from, bindings, result.out, bindings);
    }
  }

  private async runLoop(step: LoopStep, bindings: Bindings, path: string): Promise<void> {
    const { condition, carried, scans } = step;
    const trips = step.trips === null ? Number.POSITIVE_INFINITY : await this.scalar(step.trips, bindings);
    const limit = Math.min(trips, this.table.tryEvaluate(step.count, bindings) ?? Number.POSITIVE_INFINITY);
    const pieces: Tensor[][] = scans.map(() => []);
    const turnBindings = (turn: number, shapes: readonly (readonly number[])[]): Bindings => {
      const at = new Map(bindings).set(step.index, turn);
      carried.forEach(({ input }, i) => this.bindShape(input, shapes[i]!, at));
      return at;
    };
    let shapes = carried.map(({ init }) => this.shapeOf(init, bindings));
    let at = turnBindings(0, shapes);
    for (const { init, input } of carried) await this.copy(init, bindings, input, at);
    let going = condition?.initial == null || (await this.scalar(condition.initial, bindings)) !== 0;
    for (let turn = 0; going && turn < limit; turn++) {
      await this.runSteps(step.body, at, path);
      for (const [i, { piece }] of scans.entries()) pieces[i]!.push(await this.download(piece, at));
      if (condition) going = (await this.scalar(condition.output, at)) !== 0;
      shapes = carried.map(({ output }) => this.shapeOf(output, at));
      const next = turnBindings(turn + 1, shapes);
      for (const { input, output } of carried) await this.copy(output, at, input, next);
      at = next;
    }
    for (const [i, { input, final }] of carried.entries()) {
      this.bindShape(final, shapes[i]!, bindings);
      await this.copy(input, at, final, bindings);
    }
    for (const [i, { out }] of scans.entries()) await this.storeScan(out, pieces[i]!, bindings);
  }

  /** The turns' pieces one after the other along a new first axis. */
  private async storeScan(out: number, pieces: readonly Tensor[], bindings: Bindings): Promise<void> {
    const { dtype, shape } = this.engine.plan.buffers[out]!;
    this.bindShape(out, [pieces.length, ...(pieces[0]?.shape ?? shape.slice(1).map(() => 0))], bindings);
    const actual = this.shapeOf(out, bindings);
    const stacked: Tensor = { dtype, shape: actual, data: allocate(dtype, sizeOf(actual)) };
    const write = writer(stacked);
    let at = 0;
    for (const piece of pieces) for (const value of numbersOf(piece)) write(at++, value);
    await this.upload(out, stacked, bindings, "scan output");
  }
}
