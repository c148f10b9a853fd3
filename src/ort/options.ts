// A session's options in ONNX Runtime's words → the builder's.

import type { InferenceSession } from "onnxruntime-common";
import type { BuildOptions } from "../builder.ts";
import { badSessionOption } from "../util/errors.ts";

/** `{ name: "kiln", … }` among a session's `executionProviders`. */
export interface KilnExecutionProvider
  extends Pick<
    BuildOptions,
    "fp16" | "int8" | "optimizationLevel" | "maxTuneTime" | "timingCache" | "hostFallback" | "fusion" | "onProgress"
  > {
  readonly name: "kiln";
  /** The device to run on, for buffers made on it; `env.webgpu.device`, or one that Kiln opens, unless told. */
  readonly device?: GPUDevice;
  /** Engines kept for different shapes; each holds the weights. Default 2. */
  readonly maxEngines?: number;
}

declare module "onnxruntime-common" {
  namespace InferenceSession {
    interface ExecutionProviderOptionMap {
      kiln: KilnExecutionProvider;
    }
  }
}

const BUILD = [
  "fp16",
  "int8",
  "optimizationLevel",
  "maxTuneTime",
  "timingCache",
  "hostFallback",
  "fusion",
  "onProgress",
] as const satisfies readonly (keyof KilnExecutionProvider)[];
const KNOWN: readonly string[] = ["name", "device", "maxEngines", ...BUILD];

const LEVELS: Readonly<Record<string, BuildOptions>> = {
  disabled: { optimizationLevel: 0, fusion: false },
  basic: { optimizationLevel: 0 },
  extended: { optimizationLevel: 1 },
  layout: { optimizationLevel: 2 },
  all: { optimizationLevel: 3 },
};
/** A session is expected to be there soon: kernels are measured only where it is asked for. */
const UNASKED = "basic";

/** Kiln's entry in the list of execution providers. Error K622 for a field that it does not know. */
export function providerOf({ executionProviders }: InferenceSession.SessionOptions): KilnExecutionProvider {
  const entry = executionProviders?.find((each) => typeof each !== "string" && each.name === "kiln") ?? { name: "kiln" };
  for (const field of Object.keys(entry))
    if (!KNOWN.includes(field)) throw badSessionOption(`executionProviders: ${field}`, "unknown", KNOWN.join(", "));
  return entry as KilnExecutionProvider;
}

/** What to build with; the provider's own fields win over the session's. */
export function buildOptionsOf(provider: KilnExecutionProvider, options: InferenceSession.SessionOptions): BuildOptions {
  const { freeDimensionOverrides, graphOptimizationLevel = UNASKED } = options;
  const level = LEVELS[graphOptimizationLevel];
  if (!level) throw badSessionOption("graphOptimizationLevel", `"${graphOptimizationLevel}"`, Object.keys(LEVELS).join(", "));
  const own = Object.fromEntries(BUILD.flatMap((field) => (provider[field] === undefined ? [] : [[field, provider[field]]])));
  return { ...level, ...(freeDimensionOverrides ? { sizes: freeDimensionOverrides } : {}), ...own };
}
