// Brings data back from the device through staging buffers that are kept for the next call.

import { gpuInvalid } from "../util/errors.ts";
import { BufferUsage, MapMode } from "./constants.ts";
import type { Device } from "./device.ts";

/** Large downloads go in pieces of this many bytes, so that copying out of one overlaps moving the next. */
const pieceBytes = 8 << 20;
const piecesInFlight = 2;
const smallestBytes = 64 << 10;
/** Staging kept while idle. */
const keptBytes = 64 << 20;

/** A copy to staging that has been encoded. Exactly one of its methods is called, once. */
export interface Readback {
  /** After the submit: waits for the copy and gives the bytes, in `target` (of the range's length) if there is one. */
  read(target?: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>>;
  /** Gives the staging back unread. */
  cancel(): void;
}

export class DownloadPool {
  private readonly device: Device;
  private readonly idle = new Map<number, GPUBuffer[]>();
  private readonly busy = new Set<GPUBuffer>();
  private idleBytes = 0;
  private busyBytes = 0;

  constructor(device: Device) {
    this.device = device;
  }

  /** Bytes held. */
  get bytes(): number {
    return this.idleBytes + this.busyBytes;
  }

  /** `offset` and `bytes` may be any that lie inside the buffer. */
  readback(encoder: GPUCommandEncoder, buffer: GPUBuffer, offset: number, bytes: number): Readback {
    if (bytes === 0) return { read: async (target) => target ?? new Uint8Array(0), cancel: () => {} };
    const start = offset - (offset % 4);
    const length = Math.ceil((offset + bytes - start) / 4) * 4;
    const staging = this.take(length);
    encoder.copyBufferToBuffer(buffer, start, staging, 0, length);
    return {
      read: async (target = new Uint8Array(bytes)) => {
        try {
          await staging.mapAsync(MapMode.READ, 0, length);
          target.set(new Uint8Array(staging.getMappedRange(0, length), offset - start, bytes));
          staging.unmap();
        } catch (failure) {
          this.drop(staging);
          throw this.device.lostBy ?? gpuInvalid("download", failure instanceof Error ? failure.message : String(failure));
        }
        this.giveBack(staging);
        return target;
      },
      cancel: () => this.giveBack(staging),
    };
  }

  async download(
    buffer: GPUBuffer,
    offset: number,
    bytes: number,
    result: Uint8Array<ArrayBuffer> = new Uint8Array(bytes),
  ): Promise<Uint8Array<ArrayBuffer>> {
    const reading: Promise<unknown>[] = [];
    for (let at = 0; at < bytes; at += pieceBytes) {
      if (reading.length === piecesInFlight) await reading.shift();
      const piece = result.subarray(at, at + pieceBytes);
      const encoder = this.device.device.createCommandEncoder();
      const readback = this.readback(encoder, buffer, offset + at, piece.length);
      this.device.queue.submit([encoder.finish()]);
      const read = readback.read(piece);
      read.catch(() => {}); // awaited below or by the next turn; until then a failure must not count as unhandled
      reading.push(read);
    }
    await Promise.all(reading);
    return result;
  }

  dispose(): void {
    for (const buffers of this.idle.values()) for (const buffer of buffers) buffer.destroy();
    this.idle.clear();
    this.idleBytes = 0;
    for (const buffer of this.busy) this.drop(buffer);
  }

  private take(length: number): GPUBuffer {
    const size = Math.max(smallestBytes, 2 ** Math.ceil(Math.log2(length)));
    const kept = this.idle.get(size)?.pop();
    if (kept !== undefined) this.idleBytes -= size;
    const staging =
      kept ??
      this.device.device.createBuffer({ label: "download staging", size, usage: BufferUsage.MAP_READ | BufferUsage.COPY_DST });
    this.busy.add(staging);
    this.busyBytes += size;
    return staging;
  }

  private giveBack(staging: GPUBuffer): void {
    if (!this.busy.has(staging)) return;
    if (this.idleBytes + staging.size > keptBytes) {
      this.drop(staging);
      return;
    }
    this.busy.delete(staging);
    this.busyBytes -= staging.size;
    this.idleBytes += staging.size;
    const same = this.idle.get(staging.size);
    if (same === undefined) this.idle.set(staging.size, [staging]);
    else same.push(staging);
  }

  private drop(staging: GPUBuffer): void {
    if (this.busy.delete(staging)) this.busyBytes -= staging.size;
    staging.destroy();
  }
}
