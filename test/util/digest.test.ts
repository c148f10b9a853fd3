// The digest of weights equals Node's own SHA-256 of pieces, whatever their number, and waits for what has not arrived.

import { createHash } from "node:crypto";
import { expect, it } from "vitest";
import { digestOf } from "../../src/util/digest.ts";

const MIB = 2 ** 20;
const sha256 = (...bytes: readonly Uint8Array[]): Buffer => {
  const hash = createHash("sha256");
  for (const piece of bytes) hash.update(piece);
  return hash.digest();
};

it.each([0, 1, 4 * MIB - 1, 4 * MIB, 4 * MIB + 1, 45 * MIB + 7])("of %i bytes", async (length) => {
  const bytes = new Uint8Array(length + 3).map((_, i) => i * 7 + (i >> 9)).subarray(3);
  const pieces = Array.from({ length: Math.ceil(length / (4 * MIB)) }, (_, i) =>
    bytes.subarray(i * 4 * MIB, (i + 1) * 4 * MIB),
  );
  expect(await digestOf(bytes)).toBe(sha256(...pieces.map((piece) => sha256(piece))).toString("hex"));
});

it("of memory that threads share", async () => {
  const shared = new Uint8Array(new SharedArrayBuffer(10)).fill(3);
  expect(await digestOf(shared)).toBe(await digestOf(new Uint8Array(10).fill(3)));
});

it("of bytes on their way, in order, or fails as they do", async () => {
  const bytes = new Uint8Array(9 * MIB);
  const asked: number[] = [];
  const arrived = async (to: number): Promise<void> => {
    asked.push(to);
    await new Promise((resolve) => setTimeout(resolve));
    bytes.fill(to / MIB, 0, to);
  };
  const digest = await digestOf(bytes, arrived);
  expect(asked).toEqual([4 * MIB, 8 * MIB, 9 * MIB]);
  const pieces = [4, 8, 9].map((value, i) => sha256(new Uint8Array((i < 2 ? 4 : 1) * MIB).fill(value)));
  expect(digest).toBe(sha256(...pieces).toString("hex"));
  await expect(digestOf(bytes, () => Promise.reject(new Error("cut off")))).rejects.toThrow("cut off");
});
