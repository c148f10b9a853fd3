// The model that a benchmark runs, as its command line names it: a file, or one of bench/networks; its shapes, precision, level
// and timing cache.

import { existsSync, readFileSync } from "node:fs";
import type { TimingCache } from "../src/autotuner/cache.ts";
import type { BuildOptions } from "../src/builder.ts";
import { randomTensor } from "../src/cli/random.ts";
import type { Engine } from "../src/engine/engine.ts";
import type { Tensor } from "../src/ir/tensor.ts";
import { loadTimingCache } from "../src/node.ts";
import { NETWORKS } from "./networks/index.ts";
import { shapesOf } from "./shapes.ts";

/** For `parseArgs`. */
export const SUBJECT_FLAGS = {
  level: { type: "string", default: "3" },
  fp16: { type: "boolean", default: false },
  tune: { type: "string", default: "30" },
  timingCacheFile: { type: "string" },
} as const;

/** What `parseArgs` makes of them. */
interface Flags {
  readonly level: string;
  readonly fp16: boolean;
  readonly tune: string;
  readonly timingCacheFile?: string | undefined;
}

export interface Subject {
  readonly name: string;
  readonly onnx: Uint8Array;
  readonly options: BuildOptions & { readonly timingCache: TimingCache };
  /** Random tensors of the shapes asked for. */
  readonly inputsOf: (engine: Engine) => Readonly<Record<string, Tensor>>;
}

/** `name`: a file or a network; `shapes`: INPUT=1x3x224x224,… */
export function subjectOf(name: string, shapes: string | undefined, flags: Flags): Subject {
  const given = shapesOf(shapes);
  const profile = Object.fromEntries(Object.entries(given).map(([input, at]) => [input, { min: at, opt: at, max: at }]));
  const timingCache = loadTimingCache(flags.timingCacheFile ?? "");
  const options = {
    file: name,
    fp16: flags.fp16,
    optimizationLevel: Number(flags.level) as 0 | 1 | 2 | 3 | 4 | 5,
    maxTuneTime: Number(flags.tune),
    timingCache,
    profiles: shapes ? [profile] : [],
  };
  const inputsOf: Subject["inputsOf"] = ({ inputs }) =>
    Object.fromEntries(
      inputs.map((input) => [input.name, randomTensor(input.dtype, given[input.name] ?? input.shape.map(Number), 1)]),
    );
  return { name, onnx: existsSync(name) ? readFileSync(name) : networkOf(name), options, inputsOf };
}

function networkOf(name: string): Uint8Array {
  const network = NETWORKS[name];
  if (!network) throw new Error(`${name} is no file, and no network: ${Object.keys(NETWORKS).join(", ")}`);
  return network();
}

/** How a promised bound came out. */
export const verdict = (holds: boolean): string => (holds ? "met" : "NOT met");

/** Milliseconds of each turn of `work`, over about `ms` of them after some to warm up. */
export async function timesOf(work: () => Promise<unknown>, ms: number, warm = 5): Promise<number[]> {
  for (let i = 0; i < warm; i++) await work();
  const times: number[] = [];
  for (const until = performance.now() + ms; times.length < 5 || performance.now() < until; ) {
    const from = performance.now();
    await work();
    times.push(performance.now() - from);
  }
  return times;
}

/** Milliseconds in which the compilers that the tuner left running end, and this code becomes machine code. */
const SETTLING = 2000;
export async function settle(run: () => Promise<unknown>): Promise<void> {
  for (const until = performance.now() + SETTLING; performance.now() < until; ) await run();
}
