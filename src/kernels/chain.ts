// Tactics of several kernels: a task taken apart into simpler tasks with values between them, each emitted by a tactic of its
// own. Most have a matrix product in the middle, whose tactic and configuration are then part of theirs.

import { isStatic } from "../ir/dims.ts";
import { bytesOf, storageOf } from "../ir/storage.ts";
import type { GemmTask } from "../ir/task.ts";
import type { Value } from "../ir/value.ts";
import type { Caps } from "../util/caps.ts";
import { gemmBlocked } from "./blocked.ts";
import { gemmDot4 } from "./gemm-dot4.ts";
import { gemmMatrix } from "./gemm-matrix.ts";
import { gemmMatrixBytes } from "./gemm-matrix-bytes.ts";
import { gemmTiled } from "./gemm-tiled.ts";
import { gemmVector } from "./gemm-vector.ts";
import { byPromise } from "./promise.ts";
import type { Config, Kernel, Tactic } from "./tactic.ts";

/** Kernels one after the other as one. `between`: values that only they see; `packed`: constants made for them. */
export const inTurn = (kernels: readonly Kernel[], between: readonly Value[], packed: Kernel["packed"] = []): Kernel => ({
  steps: kernels.flatMap(({ steps }) => steps),
  scratch: [...between, ...kernels.flatMap(({ scratch }) => scratch)],
  packed: [...packed, ...kernels.flatMap((kernel) => kernel.packed)],
});

/** Whether values can be bound whole; sizes that only the run knows are taken to be small. */
export const fitsBuffers = (values: readonly Value[], caps: Caps): boolean =>
  values.every((value) => {
    const bytes = bytesOf(value, storageOf(value, caps));
    return !isStatic(bytes) || bytes <= Math.min(caps.limits.maxStorageBufferBindingSize, caps.limits.maxBufferSize);
  });

const PRODUCTS: readonly Tactic<GemmTask>[] = [gemmVector, gemmTiled, gemmBlocked, gemmMatrix, gemmDot4, gemmMatrixBytes];

/** Ways to run a product inside of a chain that an exhaustive search tries. */
const MANY = 16;

/** The most promising ways to run a product inside of a chain, a `few` or as many as pay, as configurations that `emitProduct` reads. */
export function* productConfigs(task: GemmTask, caps: Caps, few: number, all = false): Generator<Config> {
  const lists = PRODUCTS.filter(({ applicable }) => applicable(task, caps)).map(({ name, likelihood, candidates }) => ({
    worth: likelihood(task, caps),
    items: [...candidates(task, caps)].map((config): Config => ({ product: name, ...config })),
  }));
  let count = 0;
  for (const config of byPromise(lists)) {
    if (count++ >= (all ? MANY : few)) return;
    yield config;
  }
}

/** The kernel of the product that a configuration names. */
export function emitProduct(task: GemmTask, { product, ...config }: Config, caps: Caps): Kernel {
  const tactic = PRODUCTS.find(({ name }) => name === product);
  if (!tactic) throw new RangeError(`no product is called ${product}`);
  return tactic.emit(task, config, caps);
}
