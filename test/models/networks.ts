// The real models of ../shared/models on the machine's GPU, beside ONNX Runtime on the CPU; and where there are none of these.

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { InferenceSession, Tensor as OrtTensor } from "onnxruntime-node";
import { Builder, type BuildOptions } from "../../src/builder.ts";
import { withPreciseNormalization } from "../../src/cli/precise.ts";
import type { Plan } from "../../src/engine/plan.ts";
import type { Device } from "../../src/gpu/device.ts";
import { decodeModel, encodeModel } from "../../src/importer/proto.ts";
import { arrayOfBytes, type Tensor } from "../../src/ir/tensor.ts";
import { DTYPES, type DType, dtypeFacts } from "../../src/ir/types.ts";

/** The folder of models and data, which is not part of this repository. */
export const SHARED = join(import.meta.dirname, "../../../shared");
export const isThere = existsSync(join(SHARED, "models")) && existsSync(join(SHARED, "data"));

export const modelBytes = (path: string): Uint8Array => readFileSync(join(SHARED, "models", path));

export type Feeds = Readonly<Record<string, Tensor>>;

/** Something that turns inputs into outputs, by name. */
export interface Network {
  readonly run: (inputs: Feeds) => Promise<Readonly<Record<string, Tensor>>>;
  readonly close: () => Promise<void>;
}

/** KILN_UNFUSED=1 compares every operator's own kernels. */
const fusion = process.env.KILN_UNFUSED === undefined;

/** An engine with one context, built without measuring. */
export async function openEngine(
  device: Device,
  bytes: Uint8Array,
  options: BuildOptions = {},
): Promise<Network & { readonly plan: Plan }> {
  const engine = await new Builder(device).build(bytes, { optimizationLevel: 0, fusion, ...options });
  const context = engine.createExecutionContext();
  return { plan: engine.plan, run: (inputs) => context.execute(inputs), close: async () => engine.dispose() };
}

/** ONNX Runtime's own names where they are not ONNX's. */
const ORT_NAMES: Partial<Record<DType, string>> = { f32: "float32", f64: "float64" };
const ortName = (dtype: DType): string => ORT_NAMES[dtype] ?? dtypeFacts[dtype].onnxName;
const DTYPE_OF: ReadonlyMap<string, DType> = new Map(DTYPES.map((dtype) => [ortName(dtype), dtype]));

/** A session of ONNX Runtime; `optimized` lets it fuse operators. */
export async function openReference(bytes: Uint8Array, optimized = false): Promise<Network> {
  const precise = encodeModel(withPreciseNormalization(decodeModel(bytes, "the reference")));
  const session = await InferenceSession.create(precise, {
    logSeverityLevel: 4,
    graphOptimizationLevel: optimized ? "all" : "disabled",
  });
  return {
    close: () => session.release(),
    run: async (inputs) => {
      const feeds = Object.entries(inputs).map(([name, { dtype, shape, data }]): [string, OrtTensor] => [
        name,
        new OrtTensor(ortName(dtype) as "float32", data as Float32Array, [...shape]),
      ]);
      const results = await session.run(Object.fromEntries(feeds));
      const outputs = Object.entries(results).map(([name, { type, dims, data }]): [string, Tensor] => {
        const dtype = DTYPE_OF.get(type)!;
        const raw = data as Float32Array;
        return [
          name,
          { dtype, shape: dims, data: arrayOfBytes(dtype, new Uint8Array(raw.buffer, raw.byteOffset, raw.byteLength)) },
        ];
      });
      return Object.fromEntries(outputs);
    },
  };
}
