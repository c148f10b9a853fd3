// A 128-bit hash of bytes and text for cache keys, deduplication and checksums: MurmurHash3_x86_128 by Austin Appleby
// (public domain, https://github.com/aappleby/smhasher). Not cryptographic: it finds accidents, not forgeries.

const encoder = new TextEncoder();

/** Two lower-case hex digits a byte. */
export const hexOf = (bytes: Uint8Array): string => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

const rotl = (x: number, r: number): number => (x << r) | (x >>> (32 - r));

const mix = (h: number): number => {
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return h ^ (h >>> 16);
};

const c1 = 0x239b961b;
const c2 = 0xab0e9789 | 0;
const c3 = 0x38b34ae5;
const c4 = 0xa1e38b93 | 0;

/** Hashes data that comes in pieces; how it was cut does not matter. Text counts as its UTF-8 bytes. */
export class Hasher {
  private h1: number;
  private h2: number;
  private h3: number;
  private h4: number;
  private length = 0;
  private readonly tail = new Uint8Array(16);

  /** `seed`: 32 bits. */
  constructor(seed = 0) {
    this.h1 = this.h2 = this.h3 = this.h4 = seed | 0;
  }

  update(data: string | Uint8Array): this {
    const bytes = typeof data === "string" ? encoder.encode(data) : data;
    const filled = this.length & 15;
    this.length += bytes.length;
    let at = 0;
    if (filled > 0) {
      at = Math.min(16 - filled, bytes.length);
      this.tail.set(bytes.subarray(0, at), filled);
      if (filled + at < 16) return this;
      this.blocks(this.tail, 0, 16);
    }
    const end = bytes.length - ((bytes.length - at) % 16);
    this.blocks(bytes, at, end);
    this.tail.set(bytes.subarray(end));
    return this;
  }

  /** The hash: the reference's four words, h1 first, each with its most significant byte first. The hasher stays usable. */
  bytes(): Uint8Array {
    let { h1, h2, h3, h4 } = this;
    const rest = new Uint8Array(16);
    rest.set(this.tail.subarray(0, this.length & 15));
    const k = new DataView(rest.buffer);
    h4 ^= Math.imul(rotl(Math.imul(k.getInt32(12, true), c4), 18), c1);
    h3 ^= Math.imul(rotl(Math.imul(k.getInt32(8, true), c3), 17), c4);
    h2 ^= Math.imul(rotl(Math.imul(k.getInt32(4, true), c2), 16), c3);
    h1 ^= Math.imul(rotl(Math.imul(k.getInt32(0, true), c1), 15), c2);
    h1 ^= this.length;
    h2 ^= this.length;
    h3 ^= this.length;
    h4 ^= this.length;
    h1 = (h1 + h2 + h3 + h4) | 0;
    h2 = (h2 + h1) | 0;
    h3 = (h3 + h1) | 0;
    h4 = (h4 + h1) | 0;
    h1 = mix(h1);
    h2 = mix(h2);
    h3 = mix(h3);
    h4 = mix(h4);
    h1 = (h1 + h2 + h3 + h4) | 0;
    h2 = (h2 + h1) | 0;
    h3 = (h3 + h1) | 0;
    h4 = (h4 + h1) | 0;
    [h1, h2, h3, h4].forEach((h, i) => void k.setInt32(4 * i, h));
    return rest;
  }

  /** The same as 32 lower-case hex digits. */
  digest(): string {
    return hexOf(this.bytes());
  }

  /** Absorbs whole 16-byte blocks of `bytes[from, to)`. */
  private blocks(bytes: Uint8Array, from: number, to: number): void {
    let { h1, h2, h3, h4 } = this;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    for (let i = from; i < to; i += 16) {
      h1 ^= Math.imul(rotl(Math.imul(view.getInt32(i, true), c1), 15), c2);
      h1 = (Math.imul((rotl(h1, 19) + h2) | 0, 5) + 0x561ccd1b) | 0;
      h2 ^= Math.imul(rotl(Math.imul(view.getInt32(i + 4, true), c2), 16), c3);
      h2 = (Math.imul((rotl(h2, 17) + h3) | 0, 5) + 0x0bcaa747) | 0;
      h3 ^= Math.imul(rotl(Math.imul(view.getInt32(i + 8, true), c3), 17), c4);
      h3 = (Math.imul((rotl(h3, 15) + h4) | 0, 5) + 0x96cd1c35) | 0;
      h4 ^= Math.imul(rotl(Math.imul(view.getInt32(i + 12, true), c4), 18), c1);
      h4 = (Math.imul((rotl(h4, 13) + h1) | 0, 5) + 0x32ac3b17) | 0;
    }
    this.h1 = h1;
    this.h2 = h2;
    this.h3 = h3;
    this.h4 = h4;
  }
}

/** The 128-bit hash of a text (its UTF-8 bytes) or of bytes, as 32 lower-case hex digits. */
export const hash = (data: string | Uint8Array, seed = 0): string => new Hasher(seed).update(data).digest();
