// The buffers of one device: making them with checks and a count, filling them and reading them back.
// What lies in them, and which may share memory, is decided elsewhere.

import { internal, limitExceeded } from "../util/errors.ts";
import { BufferUsage } from "./constants.ts";
import { type Device, fromGpuError } from "./device.ts";
import { DownloadPool, type Readback } from "./download.ts";
import { UploadRing } from "./upload.ts";

export interface BufferSpec {
  /** What the buffer is for, in errors and GPU debuggers. */
  readonly label: string;
  /** Rounded up to a multiple of 4, at least 4. */
  readonly bytes: number;
  /** Flags of `BufferUsage`; storage that can be copied from and to unless told. */
  readonly usage?: number;
  /** The buffer is never bound whole, so that only its ranges must fit the binding limits. */
  readonly boundInParts?: boolean;
}

export const defaultUsage = BufferUsage.STORAGE | BufferUsage.COPY_SRC | BufferUsage.COPY_DST;

/** Up to this many bytes the queue's own copy is the fastest way up. */
const directBytes = 1 << 20;

export const roundUp4 = (bytes: number): number => Math.ceil(bytes / 4) * 4;

export class Memory {
  private readonly device: Device;
  private readonly buffers = new Map<GPUBuffer, number>();
  private readonly ring: UploadRing;
  private readonly pool: DownloadPool;
  private bytes = 0;

  constructor(device: Device) {
    this.device = device;
    this.ring = new UploadRing(device);
    this.pool = new DownloadPool(device);
  }

  /** Bytes of the buffers made here and not destroyed; staging is not among them. */
  get live(): number {
    return this.bytes;
  }

  /** Bytes held to move data up and down; kept between calls. */
  get staging(): number {
    return this.ring.bytes + this.pool.bytes;
  }

  /**
   * A new buffer, all zeros (with Dawn's "fast" toggles: undefined). Create many before awaiting any.
   * Errors: K404 larger than the device allows, K407 no room, K408 the device is gone.
   */
  async create(spec: BufferSpec): Promise<GPUBuffer> {
    if (this.device.lostBy !== undefined) throw this.device.lostBy;
    const size = Math.max(4, roundUp4(spec.bytes));
    const usage = spec.usage ?? defaultUsage;
    this.checkSize(spec, size, usage);
    const { device } = this.device;
    device.pushErrorScope("validation");
    device.pushErrorScope("out-of-memory");
    const buffer = device.createBuffer({ label: spec.label, size, usage });
    const scopes = [device.popErrorScope(), device.popErrorScope()];
    this.buffers.set(buffer, size);
    this.bytes += size;
    for (const error of await Promise.all(scopes)) {
      if (error === null) continue;
      this.destroy(buffer);
      throw fromGpuError(error, `buffer "${spec.label}"`, size, this.bytes);
    }
    return buffer;
  }

  /** Frees a buffer made here. Once is enough, twice does no harm. */
  destroy(buffer: GPUBuffer): void {
    this.release(buffer);
    buffer.destroy();
  }

  /** Gives up a buffer made here: whoever has it destroys it. */
  release(buffer: GPUBuffer): void {
    this.bytes -= this.buffers.get(buffer) ?? 0;
    this.buffers.delete(buffer);
  }

  /**
   * Writes `data` at byte `offset` (a multiple of 4) before the next submit, without waiting. Meant for what is small: see
   * `upload`. Where the data ends inside a word, the rest of that word becomes 0.
   */
  write(buffer: GPUBuffer, data: ArrayBufferView, offset = 0): void {
    const bytes = bytesOf(data);
    checkRange(buffer, offset, bytes.length);
    if (offset % 4 !== 0) throw internal(`buffer "${buffer.label}"`, `write at byte ${offset}, which is not a multiple of 4`);
    const whole = bytes.length - (bytes.length % 4);
    const { queue } = this.device;
    if (whole > 0) queue.writeBuffer(buffer, offset, bytes, 0, whole);
    if (whole === bytes.length) return;
    const last = new Uint8Array(4);
    last.set(bytes.subarray(whole));
    queue.writeBuffer(buffer, offset + whole, last);
  }

  /**
   * As `write`, for any size. When it resolves all copies are submitted, so whatever is submitted later sees the data; and
   * `data` may change. Errors: K407, K408.
   */
  async upload(buffer: GPUBuffer, data: ArrayBufferView, offset = 0): Promise<void> {
    if (this.device.lostBy !== undefined) throw this.device.lostBy;
    const bytes = bytesOf(data);
    const whole = bytes.length > directBytes ? bytes.length - (bytes.length % 4) : 0;
    if (whole > 0) {
      checkRange(buffer, offset, bytes.length);
      await this.ring.upload(buffer, bytes.subarray(0, whole), offset);
    }
    if (whole < bytes.length) this.write(buffer, bytes.subarray(whole), offset + whole);
  }

  /**
   * Exactly `bytes` bytes from byte `offset` (any), after all work submitted so far; the whole rest of the buffer unless told.
   * They go into `target` (`bytes` long) if there is one: for large ones, fresh memory costs more than the copy.
   * The buffer needs COPY_SRC. Errors: K408 the device is gone.
   */
  async download(
    buffer: GPUBuffer,
    offset = 0,
    bytes: number = buffer.size - offset,
    target?: Uint8Array<ArrayBuffer>,
  ): Promise<Uint8Array<ArrayBuffer>> {
    if (this.device.lostBy !== undefined) throw this.device.lostBy;
    checkRange(buffer, offset, bytes);
    if (target !== undefined && target.length !== bytes) {
      throw internal(`buffer "${buffer.label}"`, `a target of ${target.length} bytes for ${bytes}`);
    }
    return this.pool.download(buffer, offset, bytes, target);
  }

  /** Encodes a copy of the range (as in `download`) for staging; call `read` once after the encoder's submit, or `cancel`. */
  readback(encoder: GPUCommandEncoder, buffer: GPUBuffer, offset: number, bytes: number): Readback {
    checkRange(buffer, offset, bytes);
    return this.pool.readback(encoder, buffer, offset, bytes);
  }

  /** Frees every buffer made here and all staging. */
  dispose(): void {
    for (const buffer of this.buffers.keys()) this.destroy(buffer);
    this.ring.dispose();
    this.pool.dispose();
  }

  private checkSize(spec: BufferSpec, size: number, usage: number): void {
    const { limits } = this.device.caps;
    const place = `buffer "${spec.label}"`;
    const hint = "use a smaller batch or profile";
    if (size > limits.maxBufferSize) throw limitExceeded(place, "maxBufferSize", size, limits.maxBufferSize, hint);
    if (spec.boundInParts) return;
    for (const [flag, name] of [
      [BufferUsage.STORAGE, "maxStorageBufferBindingSize"],
      [BufferUsage.UNIFORM, "maxUniformBufferBindingSize"],
    ] as const) {
      if ((usage & flag) !== 0 && size > limits[name]) throw limitExceeded(place, name, size, limits[name], hint);
    }
  }
}

const bytesOf = (data: ArrayBufferView): Uint8Array<ArrayBuffer> =>
  new Uint8Array(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength);

const checkRange = (buffer: GPUBuffer, offset: number, bytes: number): void => {
  if (offset >= 0 && bytes >= 0 && offset + bytes <= buffer.size) return;
  throw internal(`buffer "${buffer.label}"`, `bytes ${offset} to ${offset + bytes} of ${buffer.size}`);
};
