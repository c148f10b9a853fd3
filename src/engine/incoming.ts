// An engine file that is still on its way: gives out what has arrived, and says when it is not as long as it should be.

import { damagedEngine, truncatedEngine } from "../util/errors.ts";
import { HEADER_BYTES, type Header, readHeader } from "./format.ts";

/** Bytes arrived, and of the whole file. */
export type OnLoadProgress = (progress: { readonly loaded: number; readonly total: number }) => void;

interface Waiter {
  readonly to: number;
  readonly go: () => void;
  readonly fail: (failure: unknown) => void;
}

export class Incoming {
  private bytes = new Uint8Array(HEADER_BYTES);
  private loaded = 0;
  private ended = false;
  private failure: unknown;
  private waiting: Waiter[] = [];
  private readonly reader: ReadableStreamDefaultReader<Uint8Array>;

  private constructor(
    stream: ReadableStream<Uint8Array>,
    private readonly file: string,
  ) {
    this.reader = stream.getReader();
  }

  /** Reads the header, then goes on reading behind it. Errors: K501, K502. */
  static async open(
    stream: ReadableStream<Uint8Array>,
    file: string,
    onProgress?: OnLoadProgress,
  ): Promise<Incoming & { readonly header: Header }> {
    const incoming = new Incoming(stream, file);
    let early: Uint8Array | undefined;
    while (incoming.loaded < HEADER_BYTES && !incoming.ended) early = await incoming.take();
    const header = readHeader(incoming.bytes.subarray(0, incoming.loaded), file);
    const head = incoming.bytes;
    incoming.bytes = room(header.length, file);
    incoming.bytes.set(head);
    void incoming.readOn(header, early, onProgress);
    return Object.assign(incoming, { header });
  }

  /** A view of the file from `from` on, in which bytes appear as they arrive. */
  from(from: number): Uint8Array {
    return this.bytes.subarray(Math.min(from, this.bytes.length));
  }

  /** Resolves when the first `to` bytes are there, and for all of them when nothing follows. Errors: K502, K503, what the stream failed with. */
  upTo(to: number): Promise<void> {
    if (this.failure !== undefined) return Promise.reject(this.failure);
    if (this.loaded >= to && (this.ended || to < this.bytes.length)) return Promise.resolve();
    if (this.ended) return Promise.reject(truncatedEngine(this.file, this.loaded, to));
    return new Promise((go, fail) => this.waiting.push({ to, go, fail }));
  }

  /** Lets go of the stream. */
  cancel(): void {
    this.reader.cancel().catch(() => undefined);
  }

  /** Takes a piece of the header; gives what is behind it. */
  private async take(): Promise<Uint8Array | undefined> {
    const { done, value } = await this.reader.read();
    this.ended = done;
    if (!value) return undefined;
    const count = Math.min(value.length, HEADER_BYTES - this.loaded);
    this.bytes.set(value.subarray(0, count), this.loaded);
    this.loaded += count;
    return value.subarray(count);
  }

  private async readOn(header: Header, early: Uint8Array | undefined, onProgress?: OnLoadProgress): Promise<void> {
    const { file } = this;
    try {
      for (let piece = early; ; ) {
        if (piece && piece.length > 0) {
          if (this.loaded + piece.length > header.length)
            throw damagedEngine(file, `it goes on behind the ${header.length} bytes that its header says`);
          this.bytes.set(piece, this.loaded);
          this.loaded += piece.length;
          this.wake();
        }
        onProgress?.({ loaded: this.loaded, total: header.length });
        const { done, value } = await this.reader.read();
        if (done) break;
        piece = value;
      }
      if (this.loaded < header.length) throw truncatedEngine(file, this.loaded, header.length);
    } catch (failure) {
      this.failure = failure;
      this.cancel();
    }
    this.ended = true;
    this.wake();
  }

  private wake(): void {
    const { waiting } = this;
    this.waiting = [];
    for (const waiter of waiting) this.upTo(waiter.to).then(waiter.go, waiter.fail);
  }
}

/** Space for a file as long as its header says. */
const room = (length: number, file: string): Uint8Array<ArrayBuffer> => {
  try {
    return new Uint8Array(Math.max(HEADER_BYTES, length));
  } catch {
    throw damagedEngine(file, `its header says ${length} bytes, which there is no room for`);
  }
};
