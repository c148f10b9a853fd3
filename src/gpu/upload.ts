// Moves large data to the device through a ring of staging buffers that stay mapped between uses: one copy into mapped
// memory, one on the GPU. Small data goes through the queue's own copy instead (buffers.ts decides).

import { gpuInvalid, type KilnError, outOfMemory } from "../util/errors.ts";
import { BufferUsage, MapMode } from "./constants.ts";
import type { Device } from "./device.ts";

const slotBytes = 4 << 20;
const maxSlots = 4;

interface Waiter {
  readonly take: (slot: GPUBuffer) => void;
  readonly fail: (error: KilnError) => void;
}

export class UploadRing {
  private readonly device: Device;
  private readonly slots = new Set<GPUBuffer>();
  /** Slots that are mapped and not in use. */
  private readonly free: GPUBuffer[] = [];
  private readonly waiting: Waiter[] = [];

  constructor(device: Device) {
    this.device = device;
  }

  /** Bytes held. */
  get bytes(): number {
    return this.slots.size * slotBytes;
  }

  /** Resolves when all copies are submitted. `offset` and the length are multiples of 4 and inside the buffer. */
  async upload(buffer: GPUBuffer, data: Uint8Array, offset: number): Promise<void> {
    const { device, queue } = this.device;
    for (let at = 0; at < data.length; at += slotBytes) {
      const chunk = data.subarray(at, at + slotBytes);
      const slot = await this.acquire();
      new Uint8Array(slot.getMappedRange(0, chunk.length)).set(chunk);
      slot.unmap();
      const encoder = device.createCommandEncoder();
      encoder.copyBufferToBuffer(slot, 0, buffer, offset + at, chunk.length);
      queue.submit([encoder.finish()]);
      this.recycle(slot);
    }
  }

  /** Frees the slots. Uploads still waiting for one fail. */
  dispose(): void {
    for (const slot of this.slots) this.drop(slot);
    this.free.length = 0;
    this.failWaiting("the staging ring was disposed of");
  }

  private acquire(): Promise<GPUBuffer> {
    const slot = this.free.pop();
    if (slot !== undefined) return Promise.resolve(slot);
    if (this.slots.size < maxSlots) return Promise.resolve(this.grow());
    return new Promise((take, fail) => this.waiting.push({ take, fail }));
  }

  private grow(): GPUBuffer {
    if (this.device.lostBy !== undefined) throw this.device.lostBy;
    try {
      const slot = this.device.device.createBuffer({
        label: "upload staging",
        size: slotBytes,
        usage: BufferUsage.MAP_WRITE | BufferUsage.COPY_SRC,
        mappedAtCreation: true,
      });
      this.slots.add(slot);
      return slot;
    } catch {
      throw outOfMemory("upload staging", slotBytes, this.bytes);
    }
  }

  /** Maps a slot again, which waits for its copy, and hands it on. */
  private recycle(slot: GPUBuffer): void {
    slot.mapAsync(MapMode.WRITE).then(
      () => {
        if (!this.slots.has(slot)) return;
        const next = this.waiting.shift();
        if (next === undefined) this.free.push(slot);
        else next.take(slot);
      },
      (failure: Error) => {
        this.drop(slot);
        this.failWaiting(failure.message);
      },
    );
  }

  private drop(slot: GPUBuffer): void {
    this.slots.delete(slot);
    slot.destroy();
  }

  private failWaiting(message: string): void {
    for (const waiter of this.waiting.splice(0)) waiter.fail(this.device.lostBy ?? gpuInvalid("upload", message));
  }
}
