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

/** Ways to run each variant's product inside of a chain that an exhaustive search tries. */
const MANY = 32;

/** A way to take a task apart: the product in it and what a configuration says of the way. */
export interface Variant {
  readonly gemm: GemmTask;
  readonly config: Config;
  /** Nanoseconds that all but the product is expected to take, and what part of its own time the product takes in the chain. */
  readonly beside: number;
  readonly part?: number;
}

/**
 * Configurations that `emitProduct` reads, the most promising first, a `few` or as many as pay for each variant. Of a product that can
 * tell what it costs, all variants' come in the order of their expected times; of another the best of each variant come first.
 */
export function* productConfigs(variants: readonly Variant[], caps: Caps, few: number, all = false): Generator<Config> {
  const lists = PRODUCTS.map(({ name, applicable, likelihood, candidates, cost }) => {
    const able = variants.filter(({ gemm }) => applicable(gemm, caps));
    const items = able.flatMap(({ gemm, config, beside, part = 1 }) =>
      [...candidates(gemm, caps)].map((own, place) => ({
        config: { ...config, product: name, ...own },
        order: cost && caps.tier !== "core" ? part * cost(gemm, own, caps)! + beside : place,
      })),
    );
    return {
      worth: Math.max(0, ...able.map(({ gemm }) => likelihood(gemm, caps))),
      items: items.sort((a, b) => a.order - b.order).map(({ config }) => config),
    };
  });
  let count = 0;
  for (const config of byPromise(lists)) {
    if (count++ >= (all ? MANY : few) * variants.length) return;
    yield config;
  }
}

/** `Tactic.cost` of a configuration that `productConfigs` gave for these variants. */
export function variantCost(variants: readonly Variant[], config: Config, caps: Caps): number | undefined {
  const tactic = PRODUCTS.find(({ name }) => name === config.product);
  const variant = variants.find((each) => Object.entries(each.config).every(([name, value]) => config[name] === value));
  const cost = variant && tactic?.cost?.(variant.gemm, config, caps);
  return cost === undefined ? undefined : (variant!.part ?? 1) * cost + variant!.beside;
}

/** The kernel of the product that a configuration names. */
export function emitProduct(task: GemmTask, { product, ...config }: Config, caps: Caps): Kernel {
  const tactic = PRODUCTS.find(({ name }) => name === product);
  if (!tactic) throw new RangeError(`no product is called ${product}`);
  return tactic.emit(task, config, caps);
}
