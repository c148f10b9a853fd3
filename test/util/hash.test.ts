// MurmurHash3_x86_128 against known answers, and the same for pieces as for the whole.

import { describe, expect, it } from "vitest";
import { Hasher, hash } from "../../src/util/hash.ts";

/** The hash as the reference writes it: four words, each little-endian. */
const toBytes = (digest: string): Uint8Array => {
  const view = new DataView(new ArrayBuffer(16));
  for (let i = 0; i < 4; i++) view.setUint32(4 * i, Number.parseInt(digest.slice(8 * i, 8 * i + 8), 16), true);
  return new Uint8Array(view.buffer);
};

describe("hash", () => {
  it("passes SMHasher's verification for MurmurHash3_x86_128", () => {
    const bytes = Uint8Array.from({ length: 256 }, (_, i) => i);
    const all = new Hasher();
    for (let i = 0; i < 256; i++) all.update(toBytes(hash(bytes.subarray(0, i), 256 - i)));
    expect(all.digest().slice(0, 8)).toBe("b3ece62a");
  });

  it.each([
    ["", "00000000000000000000000000000000"],
    ["hello", "2b2444a0db91def79adb31b69adb31b6"],
    ["The quick brown fox jumps over the lazy dog", "2f1583c3ecee2c675d7bf66ce5e91d2c"],
  ])("of %j", (text, digest) => expect(hash(text)).toBe(digest));

  it("does not depend on how the data is cut or where it lies", () => {
    const data = Uint8Array.from({ length: 1000 }, (_, i) => (i * 7919) >> 3);
    for (const cut of [1, 3, 15, 16, 17, 64, 999]) {
      const hasher = new Hasher();
      for (let at = 0; at < data.length; at += cut) hasher.update(data.subarray(at, at + cut));
      expect(hasher.digest()).toBe(hash(data.slice()));
      expect(hasher.digest()).toBe(hash(data));
    }
  });
});
