// What a kernel is to give: its task over random data in the interpreter.

import { interpret, type Tensors } from "../../src/ir/interpret.ts";
import { constantBytes, fromDevice, storageOf } from "../../src/ir/storage.ts";
import { type KernelTask, readsOf, writesOf } from "../../src/ir/task.ts";
import { numbersOf, sizeOf, tensor } from "../../src/ir/tensor.ts";
import { type DType, dtypeFacts, isFloat } from "../../src/ir/types.ts";
import type { Value } from "../../src/ir/value.ts";
import type { Caps } from "../../src/util/caps.ts";
import { numbers } from "./problems.ts";

/** Symbols of the problems stand for this. */
export const SIZES = new Map([["N", 3]]);

/** Numbers of -0.5 … 0.5 as a type has them: all that bytes can be, small ones of wider integers. */
function spread(dtype: DType): (x: number) => number {
  if (isFloat(dtype)) return (x) => x;
  const { bytes, signed } = dtypeFacts[dtype];
  const range = bytes === 1 ? 255 : 20;
  return (x) => Math.round(range * (signed ? x : x + 0.5));
}

/** Random inputs, and what each value that is written holds then, in memory order and rounded as there. */
export function interpreted(
  task: KernelTask,
  seed: number,
  caps: Caps,
): { readonly given: Tensors; readonly expected: readonly (readonly number[])[] } {
  const given: Tensors = new Map();
  for (const value of readsOf(task)) {
    const shape = value.shape.map((dim) => (typeof dim === "number" ? dim : SIZES.get("N")!));
    // What is added to begins as zeros, as the rig has it.
    const begin = task.stores.some(({ init }) => init === value) ? () => 0 : spread(value.dtype);
    if (!value.data) given.set(value, tensor(value.dtype, shape, numbers(sizeOf(shape), seed).map(begin)));
  }
  const tensors: Tensors = new Map(given);
  interpret([task], tensors, new Map(SIZES), () => []);
  const inMemory = (value: Value): number[] => {
    const storage = storageOf(value, caps);
    const result = tensors.get(value)!;
    const bytes = new Uint8Array(constantBytes(value, result, storage));
    return numbersOf(fromDevice(bytes, value.dtype, result.shape, storage));
  };
  return { given, expected: writesOf(task).map(inMemory) };
}
