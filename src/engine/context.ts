// An execution context: takes runs in order, keeps several in flight on the queue, and hands out what they give.

import { Memory } from "../gpu/buffers.ts";
import type { Readback } from "../gpu/download.ts";
import { fromDevice, toDevice } from "../ir/storage.ts";
import { disposedContext } from "../util/errors.ts";
import { Conductor } from "./conductor.ts";
import {
  EndChecker,
  type Ends,
  type HostRunOptions,
  type Inputs,
  type MixedOutputs,
  type Outputs,
  type RunOptions,
} from "./ends.ts";
import type { Engine } from "./engine.ts";
import { usesOf } from "./lifetimes.ts";
import { type Bindings, Places } from "./places.ts";
import { type PlanOutput, type Schedule, schedulesOf } from "./plan.ts";
import type { Profiler } from "./profiler.ts";
import { Run } from "./run.ts";
import { Scratch } from "./scratch.ts";
import { DimensionTable, type InferredShapes, InputShapes } from "./shapes.ts";
import { Stretches } from "./stretches.ts";

export interface ContextOptions {
  /**
   * Runs that the GPU may have before it at once: while it computes one, the next is prepared and the last one's outputs are
   * fetched. 1: none begins before its predecessor has ended. Default 3; more only hold more staging memory.
   */
  readonly inFlight?: number;
  /**
   * Kernels after which a run goes to the queue while the rest of it is encoded, if the GPU has no other run of this context; the
   * pieces after it double. Few: the GPU begins early, at the price of more submits. Infinity: one submit a run. Default 8.
   */
  readonly firstSubmit?: number;
  /**
   * Buffers for activations, each as large as `Engine.activationMemory` says: the context makes none. They stay the caller's, and
   * several contexts may have the same, as long as their runs do not overlap.
   */
  readonly activations?: readonly GPUBuffer[];
}

/** Larger outputs come down in pieces, so that one is copied out while the next is moved. */
const PIECE_BYTES = 8 << 20;
/** Larger outputs come down before the next run begins, with less staging. */
const HELD_BYTES = 64 << 20;

/** A run that the queue has. */
interface Flight {
  readonly outputs: Promise<MixedOutputs>;
  /** Resolves when the GPU has finished it, well or not. */
  readonly landed: Promise<void>;
}
type Arrival = () => Promise<readonly [string, MixedOutputs[string]]>;

export class ExecutionContext {
  /** Times the runs from now on, which then wait between their phases. */
  profiler: Profiler | undefined;
  private readonly memory: Memory;
  private readonly table = new DimensionTable();
  private readonly shapes: InputShapes;
  private readonly checker: EndChecker;
  private readonly places: Places;
  private readonly schedules: readonly Schedule[];
  private readonly stretches: Stretches;
  private readonly conductor: Conductor;
  private readonly scratch: Scratch;
  private readonly ownsActivations: boolean;
  private readonly inFlight: number;
  private readonly firstSubmit: number;
  /** Resolves when the last run that was asked for is with the queue. */
  private started: Promise<unknown> = Promise.resolve();
  /** Resolves when the last run that was asked for has told how it ended. */
  private settled: Promise<unknown> = Promise.resolve();
  private readonly flights = new Set<Promise<void>>();
  /** Runs that have been asked for and have not ended. */
  private runs = 0;
  private disposed = false;

  /** `onFree` is told when the context has been disposed of and its last run has ended. */
  constructor(
    private readonly engine: Engine,
    private readonly onFree: () => void,
    { inFlight = 3, firstSubmit = 8, activations }: ContextOptions = {},
  ) {
    const { device, plan } = engine;
    const { table } = this;
    this.ownsActivations = activations === undefined;
    this.inFlight = Math.max(1, inFlight);
    this.firstSubmit = Math.max(1, firstSubmit);
    this.memory = new Memory(device);
    this.shapes = new InputShapes(plan, table);
    this.schedules = schedulesOf(plan);
    this.checker = new EndChecker(plan, usesOf(this.schedules.flatMap(({ steps }) => steps)), this.shapes);
    this.places = new Places(plan, engine.weightPlaces, this.memory, table, () => this.stretches.clear(), activations);
    this.stretches = new Stretches(device, plan, engine.pipelines, this.memory, this.places, table, this.firstSubmit);
    const constant: Engine["hostConstant"] = (home, dtype, shape) => engine.hostConstant(home, dtype, shape);
    this.conductor = new Conductor(plan, engine.hostOperators, constant, this.memory, this.places, this.stretches, table);
    this.scratch = new Scratch(device, this.memory);
  }

  /** Bytes of GPU memory that the context holds now. */
  get deviceMemory(): number {
    return this.memory.live;
  }

  /**
   * Keeps runs from now on to one profile, by its number, as TensorRT has it: its kernels, its bounds. Unless told, each run takes
   * the profile that holds its shapes; of several, the one tuned nearest to them. Error K612.
   */
  setOptimizationProfile(profile: number): void {
    this.shapes.profile = profile;
  }

  /** The shape of an input whose data are given alone from now on. Errors: K603, K604, K605. */
  setInputShape(name: string, shape: readonly number[]): void {
    this.shapes.set(name, shape);
  }

  /** What the shapes set say of the outputs, and which are missing. Errors: K605, K607, K618. */
  inferShapes(): InferredShapes {
    return this.shapes.infer();
  }

  /**
   * Runs the network once; resolves when the GPU has finished. As `enqueue` otherwise.
   * Errors: K602, K603 missing or unknown inputs, K604–K607 and K618 shapes, K608 types, K601 values that the GPU cannot hold,
   * K613 and K614 buffers, K404 and K407 memory, K408 device lost, the signal's reason.
   */
  execute(inputs: Inputs, options?: HostRunOptions): Promise<Outputs>;
  execute(inputs: Inputs, options: RunOptions): Promise<MixedOutputs>;
  execute(inputs: Inputs, options: RunOptions = {}): Promise<MixedOutputs> {
    return this.run(inputs, options, true);
  }

  /**
   * Puts a run on the queue and returns at once. Runs are computed, and their promises settle, in the order of these calls;
   * several are in flight (see ContextOptions). Inputs must stay as they are until the promise settles. With all outputs in GPU
   * memory it resolves once the queue has the run: work submitted later sees them. Errors, as of `execute`, reject this run and
   * no other.
   */
  enqueue(inputs: Inputs, options?: HostRunOptions): Promise<Outputs>;
  enqueue(inputs: Inputs, options: RunOptions): Promise<MixedOutputs>;
  enqueue(inputs: Inputs, options: RunOptions = {}): Promise<MixedOutputs> {
    return this.run(inputs, options, false);
  }

  /** Frees the context's memory when the runs that have begun are over: at once if there is none. Others fail with K610. */
  dispose(): void {
    if (this.disposed) return;
    this.disposed = true;
    if (this.runs === 0) this.free();
  }

  private free(): void {
    this.stretches.clear();
    this.scratch.dispose();
    this.memory.dispose();
    this.onFree();
  }

  private run(inputs: Inputs, options: RunOptions, finished: boolean): Promise<MixedOutputs> {
    this.runs++;
    const flight = this.started.then(() => this.start(inputs, options, finished));
    this.started = flight.catch(() => undefined);
    const over = flight.then(({ landed }) => landed).catch(() => undefined);
    void over.then(() => {
      this.runs--;
      if (this.disposed && this.runs === 0) this.free();
    });
    const before = this.settled;
    const outputs = flight.then((begun) => begun.outputs).finally(() => before);
    this.settled = outputs.catch(() => undefined);
    return options.signal ? unlessAborted(outputs, options.signal) : outputs;
  }

  /** Gives a run to the queue. `finished`: its outputs are to wait for the GPU. */
  private async start(inputs: Inputs, options: RunOptions, finished: boolean): Promise<Flight> {
    while (this.flights.size >= this.inFlight) await Promise.race(this.flights);
    if (this.disposed) throw disposedContext();
    options.signal?.throwIfAborted();
    const { device, plan } = this.engine;
    if (device.lostBy) throw device.lostBy;
    const ends = this.checker.check(inputs, options.outputs);
    const { bindings: bound, profile } = this.shapes.bind(ends.shapes);
    const { steps, slots } = this.schedules[profile]!;
    const bindings = new Map(bound);
    this.places.slots = slots;
    // What is timed goes in one piece, so that no gap counts as the GPU's work.
    const waits = this.profiler !== undefined || this.flights.size > 0;
    const run = new Run(
      device,
      ends.places,
      options.signal,
      this.profiler,
      waits ? Number.POSITIVE_INFINITY : this.firstSubmit,
      this.ownsActivations && ends.places.size === 0,
    );
    try {
      run.profiler?.begin();
      await this.feed(ends, run, bindings);
      await run.endPhase();
      await this.conductor.conduct(steps, run, bindings, String(profile));
      await run.endPhase();
      const arrivals: Arrival[] = [];
      for (const output of plan.outputs) arrivals.push(await this.fetch(output, run, bindings));
      run.submit();
      const flight = this.fly(run, arrivals, finished);
      // A run that is asked for already encodes itself.
      void this.stretches.prepare(this.runs <= this.flights.size);
      if (run.profiler) await flight.landed.then(() => run.endPhase());
      return flight;
    } catch (failure) {
      this.abandon(run);
      throw failure;
    }
  }

  /** What becomes of a run that the queue has. */
  private fly(run: Run, arrivals: readonly Arrival[], finished: boolean): Flight {
    const { device, plan } = this.engine;
    const arriving = Promise.allSettled(arrivals.map((arrive) => arrive()));
    const isAwaited = plan.outputs.some(({ buffer }) => !run.ends.has(buffer));
    const computed = isAwaited ? arriving : device.queue.onSubmittedWorkDone().catch(() => undefined);
    const landed = computed.then(() => void this.flights.delete(landed));
    this.flights.add(landed);
    const outputs = (async (): Promise<MixedOutputs> => {
      try {
        const settled = await arriving;
        if (finished) await landed;
        await run.settled();
        run.signal?.throwIfAborted();
        return Object.fromEntries(
          settled.map((arrival) => {
            if (arrival.status === "rejected") throw arrival.reason;
            return arrival.value;
          }),
        );
      } catch (failure) {
        this.abandon(run);
        throw failure;
      }
    })();
    return { outputs, landed };
  }

  /** Frees the buffers that a run made for its outputs, which nobody is to have now. */
  private abandon(run: Run): void {
    for (const { buffer, isNew } of run.ends.values()) if (isNew) buffer!.destroy();
  }

  private async feed({ tensors }: Ends, run: Run, bindings: Bindings): Promise<void> {
    for (const { input, given } of tensors) {
      if ("data" in given) await this.conductor.upload(input.buffer, given, run, bindings, `input "${input.name}"`);
      else {
        const place = await this.places.at(input.buffer, bindings, run.ends);
        const target = {
          ...place,
          name: input.name,
          bytes: this.places.bytesOf(input.buffer, bindings),
          shape: this.places.shapeOf(input.buffer, bindings),
          storage: this.engine.plan.buffers[input.buffer]!.storage,
        };
        run.tries({ accepted: false });
        await given.encode(run.commands, target, this.scratch);
      }
    }
  }

  /** Encodes an output's way to the host, or finds where it lies on the GPU. */
  private async fetch(output: PlanOutput, run: Run, bindings: Bindings): Promise<Arrival> {
    const { name, dtype, buffer: number } = output;
    const { storage, home } = this.engine.plan.buffers[number]!;
    const shape = this.places.shapeOf(number, bindings);
    const hosted = home.kind === "host" ? await this.conductor.download(number, run, bindings) : undefined;
    if (hosted && !run.ends.has(number)) return async () => [name, { ...hosted, data: hosted.data.slice() }];
    const { buffer, offset } = await this.places.at(number, bindings, run.ends);
    if (hosted) await this.memory.upload(buffer, toDevice(hosted, storage, `output "${name}"`), offset);
    if (run.ends.has(number)) return async () => [name, { dtype, shape, buffer, offset }];
    const bytes = this.places.bytesOf(number, bindings);
    const arrive = (data: Uint8Array<ArrayBuffer>) => [name, fromDevice(data, dtype, shape, storage)] as const;
    if (bytes > HELD_BYTES) {
      run.submit();
      const data = await this.memory.download(buffer, offset, bytes);
      return async () => arrive(data);
    }
    const pieces: Readback[] = [];
    for (let at = 0; at < bytes; at += PIECE_BYTES) {
      if (at > 0) run.submit();
      pieces.push(this.memory.readback(run.commands, buffer, offset + at, Math.min(PIECE_BYTES, bytes - at)));
    }
    return async () => {
      const data = new Uint8Array(bytes);
      await Promise.all(pieces.map((piece, i) => piece.read(data.subarray(i * PIECE_BYTES, (i + 1) * PIECE_BYTES))));
      return arrive(data);
    };
  }
}

/** The promise's result, or the signal's reason as soon as that is given. */
const unlessAborted = <T>(promise: Promise<T>, signal: AbortSignal): Promise<T> =>
  new Promise((resolve, reject) => {
    const abort = (): void => reject(signal.reason);
    signal.addEventListener("abort", abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
    if (signal.aborted) abort();
  });
