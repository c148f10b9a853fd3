// The compiler, which the worker loads when there is something to build: a visit that finds its engines never downloads it.

import { readSignature } from "../../../src/importer/signature.ts";
import {
  Builder,
  type BuildOptions,
  type Choices,
  type Contest,
  contestsOf,
  type Device,
  type Engine,
  loadTimingCache,
  saveTimingCache,
} from "../../../src/index.ts";
import { loneSymbol } from "../../../src/ir/dims.ts";
import type { FreeSize } from "../protocol.ts";

const TIMING_CACHE = "demo";

/** Builds a model, with all that earlier builds in this browser have measured. */
export async function compile(
  device: Device,
  onnx: Uint8Array,
  options: BuildOptions,
): Promise<{ engine: Engine; contests: readonly Contest[] }> {
  const timingCache = await loadTimingCache(TIMING_CACHE);
  let choices: Choices = new Map();
  const engine = await new Builder(device).build(onnx, {
    ...options,
    timingCache,
    onStage: (stage, form) => {
      if (stage === "tune") choices = form as Choices;
    },
  });
  await saveTimingCache(timingCache, TIMING_CACHE);
  const sizes = Object.entries(engine.plan.profiles[0]?.symbols ?? {}).map(([name, { opt }]) => [name, opt] as const);
  return { engine, contests: contestsOf(choices, timingCache, device, new Map(sizes)) };
}

/** Sizes that a model leaves free. Heights and widths of pictures are taken for 224, all else for 1. */
export function freeSizesOf(name: string, onnx: Uint8Array): readonly FreeSize[] {
  const sizes = new Map<string, number>();
  for (const { shape } of readSignature(onnx, name, {}).inputs) {
    for (const [axis, dim] of shape.entries()) {
      const free = loneSymbol(dim);
      if (free !== undefined) sizes.set(free, shape.length === 4 && axis >= 2 ? 224 : 1);
    }
  }
  return [...sizes].map(([free, size]) => ({ name: free, size }));
}
