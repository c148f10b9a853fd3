// Where a context's numbered buffers lie: weights of the engine, slots that activations share, ends of its own or of callers.
// Grows to what shapes need and gives nothing back before it is disposed of.

import { defaultUsage, type Memory } from "../gpu/buffers.ts";
import { type KilnError, noSize, wrongBuffer } from "../util/errors.ts";
import type { End } from "./ends.ts";
import { type Plan, schedulesOf } from "./plan.ts";
import type { DimensionTable } from "./shapes.ts";

export type Bindings = Map<string, number>;

/** Bytes of a GPU buffer, from `offset` on. */
export interface Place {
  readonly buffer: GPUBuffer;
  readonly offset: number;
}

export class Places {
  /** By number those that have a buffer of their own, by -1 - slot those that share one. */
  private readonly buffers = new Map<number, GPUBuffer>();
  /** Of the schedule that runs: those of all schedules share memory by their numbers. */
  slots: Plan["slots"] = [];

  /** `onReplaced` is told that a slot lies elsewhere now: what was bound to it is void. */
  constructor(
    private readonly plan: Plan,
    private readonly weights: ReadonlyMap<number, Place>,
    private readonly memory: Memory,
    private readonly table: DimensionTable,
    private readonly onReplaced: () => void,
    /** For the slots, where the caller brings them. Error K613. */
    private readonly given?: readonly GPUBuffer[],
  ) {
    const fewest = Math.min(...schedulesOf(plan).map(({ slots }) => slots.length));
    if (given && given.length < fewest)
      throw wrongActivations(given.length, `${fewest} buffers are needed, ${given.length} were given`);
  }

  bytesOf(number: number, bindings: Bindings): number {
    const { bytes: text, name } = this.plan.buffers[number]!;
    const bytes = this.table.evaluate(text, bindings);
    if (bytes < 0) throw noSize(name, bytes);
    return bytes;
  }

  shapeOf(number: number, bindings: Bindings): number[] {
    return this.table.shape(this.plan.buffers[number]!.shape, bindings);
  }

  /** True for an input or output, whose place a run may choose. */
  isEnd(number: number): boolean {
    const { kind } = this.plan.buffers[number]!.home;
    return kind === "input" || kind === "output";
  }

  /** The place of a buffer, large enough for the shapes bound. `ends`: those that are not the context's own. */
  async at(number: number, bindings: Bindings, ends: Map<number, End>): Promise<Place> {
    const { home, name } = this.plan.buffers[number]!;
    if (home.kind === "weight") return this.weights.get(number)!;
    const bytes = this.bytesOf(number, bindings);
    const end = ends.get(number);
    if (end) return this.placeOfEnd(number, end, bytes, ends);
    if (home.kind !== "activation") return { buffer: await this.bufferOf(number, name, bytes), offset: 0 };
    const offset = home.offset === undefined || bytes === 0 ? 0 : this.table.evaluate(home.offset, bindings);
    const tenants = this.slots[home.slot]!.bytes.map((text) => this.table.tryEvaluate(text, bindings) ?? 0);
    return { buffer: await this.bufferOf(-1 - home.slot, name, Math.max(offset + bytes, ...tenants)), offset };
  }

  private async placeOfEnd(number: number, end: End, bytes: number, ends: Map<number, End>): Promise<Place> {
    if (!end.buffer) {
      const buffer = await this.memory.create({ label: end.label, bytes });
      this.memory.release(buffer);
      const made = { ...end, isNew: true, buffer };
      ends.set(number, made);
      return made;
    }
    const { label, buffer, offset } = end;
    if (buffer.size < offset + Math.max(4, bytes))
      throw wrongBuffer(
        label,
        `its buffer holds ${Math.max(0, buffer.size - offset)} bytes${offset > 0 ? ` from byte ${offset} on` : ""}, it needs ${Math.max(4, bytes)}`,
        "make the buffer larger, for the largest shape that it is to hold",
      );
    return { buffer, offset };
  }

  private async bufferOf(place: number, label: string, bytes: number): Promise<GPUBuffer> {
    if (place < 0 && this.given) return this.givenFor(-1 - place, bytes);
    const old = this.buffers.get(place);
    if (old && old.size >= bytes) return old;
    if (old) {
      if (place < 0) this.onReplaced();
      this.buffers.delete(place);
      this.memory.destroy(old);
    }
    const made = await this.memory.create({ label, bytes });
    this.buffers.set(place, made);
    return made;
  }

  private givenFor(slot: number, bytes: number): GPUBuffer {
    const buffer = this.given![slot];
    if (!buffer) throw wrongActivations(slot, `${this.slots.length} buffers are needed, ${this.given!.length} were given`);
    if (buffer.size < bytes) throw wrongActivations(slot, `its buffer holds ${buffer.size} bytes, it needs ${bytes}`);
    if ((buffer.usage & defaultUsage) !== defaultUsage) throw wrongActivations(slot, "its buffer lacks a usage");
    return buffer;
  }
}

const wrongActivations = (slot: number, what: string): KilnError =>
  wrongBuffer(
    `activation memory ${slot}`,
    what,
    "make one buffer for each number of Engine.activationMemory, with usage STORAGE | COPY_SRC | COPY_DST",
  );
