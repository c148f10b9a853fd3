// A digest of many bytes that costs the calling thread next to nothing: Web Crypto computes SHA-256 on threads of its own.

import { hexOf } from "./hash.ts";

const PIECE_BYTES = 4 << 20;
/** Pieces that are copied and waiting at a time. */
const AT_A_TIME = 8;

/**
 * SHA-256, as 64 lower-case hex digits, of the SHA-256s of the pieces of 4 MiB (the last one shorter), one after another.
 * `arrived` resolves when so many bytes are there, and fails when they never will be.
 */
export async function digestOf(bytes: Uint8Array, arrived = async (_bytes: number): Promise<void> => {}): Promise<string> {
  const digests: Promise<ArrayBuffer>[] = [];
  for (let at = 0; at < bytes.length; at += PIECE_BYTES) {
    const to = Math.min(at + PIECE_BYTES, bytes.length);
    await Promise.all([arrived(to), digests.at(-AT_A_TIME)]);
    digests.push(sha256(bytes.subarray(at, to)));
  }
  const list = new Uint8Array(await new Blob(await Promise.all(digests)).arrayBuffer());
  return hexOf(new Uint8Array(await sha256(list)));
}

const sha256 = (bytes: Uint8Array): Promise<ArrayBuffer> =>
  // Memory that threads share is not taken.
  crypto.subtle.digest("SHA-256", bytes.buffer instanceof ArrayBuffer ? (bytes as Uint8Array<ArrayBuffer>) : bytes.slice());
