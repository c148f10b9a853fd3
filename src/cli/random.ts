// Seeded random tensors: the same numbers on every machine.

import { allocate, sizeOf, type Tensor, writer } from "../ir/tensor.ts";
import { type DType, isFloat } from "../ir/types.ts";

/** Uniform numbers of [0, 1) from a 32-bit seed (mulberry32, Tommy Ettinger, public domain). */
export function randomNumbers(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Standard normal numbers, by Box and Muller's method. */
export function normalNumbers(seed: number): () => number {
  const next = randomNumbers(seed);
  return () => Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next());
}

/** A seed for each name, so that a tensor does not depend on those before it. */
export function seedOf(seed: number, name: string): number {
  let mixed = (seed ^ 0x811c9dc5) >>> 0;
  for (const letter of name) mixed = Math.imul(mixed ^ letter.codePointAt(0)!, 0x01000193) >>> 0;
  return mixed;
}

/** Floats uniform in [-1, 1); bytes 0 to 127; other integers, which are often indices, and bools 0 or 1. */
export function randomTensor(dtype: DType, shape: readonly number[], seed: number): Tensor {
  const next = randomNumbers(seed);
  const result: Tensor = { dtype, shape, data: allocate(dtype, sizeOf(shape)) };
  const write = writer(result);
  const draw = isFloat(dtype)
    ? () => 2 * next() - 1
    : dtype === "u8" || dtype === "i8"
      ? () => Math.floor(128 * next())
      : () => Math.floor(2 * next());
  for (let i = 0; i < result.data.length; i++) write(i, draw());
  return result;
}
