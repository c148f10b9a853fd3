// Runs a plan's steps: stretches of known shapes as they stand, host layers, branches and loops that end on data one by one.

import type { Memory } from "../gpu/buffers.ts";
import { fromDevice, toDevice } from "../ir/storage.ts";
import { allocate, numbersOf, sizeOf, type Tensor, writer } from "../ir/tensor.ts";
import type { Engine, HostOperators } from "./engine.ts";
import type { Bindings, Places } from "./places.ts";
import type { HostStep, IfStep, LoopStep, Plan, Step } from "./plan.ts";
import type { Run } from "./run.ts";
import { checkRequirements, type DimensionTable } from "./shapes.ts";
import { isDynamic, type Stretches } from "./stretches.ts";

export class Conductor {
  constructor(
    private readonly plan: Plan,
    private readonly hostOperators: HostOperators,
    /** A constant that stays on the host. */
    private readonly constant: Engine["hostConstant"],
    private readonly memory: Memory,
    private readonly places: Places,
    private readonly stretches: Stretches,
    private readonly table: DimensionTable,
  ) {}

  /** Encodes steps into the run; submits and waits where data decides. `path` names the list for the cache. */
  async conduct(steps: readonly Step[], run: Run, bindings: Bindings, path: string): Promise<void> {
    let from = 0;
    for (let i = 0; i <= steps.length; i++) {
      const step = steps[i];
      if (step && !isDynamic(step, this.plan)) continue;
      if (i > from) await this.stretches.encode(steps.slice(from, i), run, bindings, `${path}/${from}`);
      from = i + 1;
      if (!step) break;
      run.signal?.throwIfAborted();
      // What comes now reads and writes buffers beside the commands encoded so far.
      run.submit();
      if (step.kind === "host") await this.host(step as HostStep, run, bindings);
      else if (step.kind === "if") await this.branch(step as IfStep, run, bindings, `${path}/${i}`);
      else await this.loop(step as LoopStep, run, bindings, `${path}/${i}`);
      checkRequirements(this.plan, this.table, bindings);
    }
  }

  /** Moves a tensor into its buffer, or keeps it where it stays on the host. `place` names it in errors. */
  async upload(number: number, tensor: Tensor, run: Run, bindings: Bindings, place: string): Promise<void> {
    const { home, storage } = this.plan.buffers[number]!;
    if (home.kind === "host") {
      run.hosted.set(number, tensor);
      return;
    }
    const bytes = toDevice(tensor, storage, place);
    if (bytes.length === 0) return;
    const { buffer, offset } = await this.places.at(number, bindings, run.ends);
    await this.memory.upload(buffer, bytes, offset);
  }

  /** A value as the host sees it. */
  async download(number: number, run: Run, bindings: Bindings): Promise<Tensor> {
    const { dtype, storage, home } = this.plan.buffers[number]!;
    const shape = this.places.shapeOf(number, bindings);
    if (home.kind === "host") return run.hosted.get(number) ?? this.constant(home, dtype, shape);
    const bytes = this.places.bytesOf(number, bindings);
    if (bytes === 0) return fromDevice(new Uint8Array(0), dtype, shape, storage);
    const { buffer, offset } = await this.places.at(number, bindings, run.ends);
    run.submit();
    return fromDevice(await this.memory.download(buffer, offset, bytes), dtype, shape, storage);
  }

  private async scalar(number: number, run: Run, bindings: Bindings): Promise<number> {
    return numbersOf(await this.download(number, run, bindings))[0] ?? 0;
  }

  /** Copies all of one buffer over another; each has its size under its own bindings. */
  private async copy(from: number, fromBindings: Bindings, to: number, toBindings: Bindings, run: Run): Promise<void> {
    const bytes = this.places.bytesOf(from, fromBindings);
    if (bytes === 0 || from === to) return;
    const source = await this.places.at(from, fromBindings, run.ends);
    const target = await this.places.at(to, toBindings, run.ends);
    run.commands.copyBufferToBuffer(source.buffer, source.offset, target.buffer, target.offset, bytes);
    run.submit();
  }

  /** Binds the symbols that only now have a value. */
  private bindShape(number: number, shape: readonly number[], bindings: Bindings): void {
    this.plan.buffers[number]!.shape.forEach((text, axis) => {
      const symbol = this.table.symbolOf(text);
      if (symbol !== undefined && !bindings.has(symbol)) bindings.set(symbol, shape[axis]!);
    });
  }

  private async host(step: HostStep, run: Run, bindings: Bindings): Promise<void> {
    const operator = this.hostOperators(step.op)!;
    const inputs = await Promise.all(
      step.inputs.map((number) => (number === null ? undefined : this.download(number, run, bindings))),
    );
    const results = await operator(inputs, step.attrs);
    for (const [i, number] of step.outputs.entries()) {
      this.bindShape(number, results[i]!.shape, bindings);
      await this.upload(number, results[i]!, run, bindings, `output ${i} of host layer "${step.node}"`);
    }
  }

  private async branch(step: IfStep, run: Run, bindings: Bindings, path: string): Promise<void> {
    const taken = (await this.scalar(step.condition, run, bindings)) !== 0;
    await this.conduct(taken ? step.then : step.else, run, bindings, `${path}/${taken}`);
    for (const result of step.results) {
      const from = taken ? result.then : result.else;
      this.bindShape(result.out, this.places.shapeOf(from, bindings), bindings);
      await this.copy(from, bindings, result.out, bindings, run);
    }
  }

  private async loop(step: LoopStep, run: Run, bindings: Bindings, path: string): Promise<void> {
    const { condition, carried, scans } = step;
    const trips = step.trips === null ? Number.POSITIVE_INFINITY : await this.scalar(step.trips, run, bindings);
    const limit = Math.min(trips, this.table.tryEvaluate(step.count, bindings) ?? Number.POSITIVE_INFINITY);
    const pieces: Tensor[][] = scans.map(() => []);
    const turnBindings = (turn: number, shapes: readonly (readonly number[])[]): Bindings => {
      const at = new Map(bindings).set(step.index, turn);
      carried.forEach(({ input }, i) => this.bindShape(input, shapes[i]!, at));
      return at;
    };
    let shapes = carried.map(({ init }) => this.places.shapeOf(init, bindings));
    let at = turnBindings(0, shapes);
    for (const { init, input } of carried) await this.copy(init, bindings, input, at, run);
    let going = condition?.initial == null || (await this.scalar(condition.initial, run, bindings)) !== 0;
    for (let turn = 0; going && turn < limit; turn++) {
      run.signal?.throwIfAborted();
      await this.conduct(step.body, run, at, path);
      for (const [i, { piece }] of scans.entries()) pieces[i]!.push(await this.download(piece, run, at));
      if (condition) going = (await this.scalar(condition.output, run, at)) !== 0;
      shapes = carried.map(({ output }) => this.places.shapeOf(output, at));
      const next = turnBindings(turn + 1, shapes);
      for (const { input, output } of carried) await this.copy(output, at, input, next, run);
      at = next;
    }
    for (const [i, { input, final }] of carried.entries()) {
      this.bindShape(final, shapes[i]!, bindings);
      await this.copy(input, at, final, bindings, run);
    }
    for (const [i, { out }] of scans.entries()) await this.storeScan(out, pieces[i]!, run, bindings);
  }

  /** The turns' pieces one after the other along a new first axis. */
  private async storeScan(out: number, pieces: readonly Tensor[], run: Run, bindings: Bindings): Promise<void> {
    const { dtype, shape } = this.plan.buffers[out]!;
    this.bindShape(out, [pieces.length, ...(pieces[0]?.shape ?? shape.slice(1).map(() => 0))], bindings);
    const actual = this.places.shapeOf(out, bindings);
    const stacked: Tensor = { dtype, shape: actual, data: allocate(dtype, sizeOf(actual)) };
    const write = writer(stacked);
    let at = 0;
    for (const piece of pieces) for (const value of numbersOf(piece)) write(at++, value);
    await this.upload(out, stacked, run, bindings, "scan output");
  }
}
