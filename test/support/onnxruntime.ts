// Runs a model with ONNX Runtime on the CPU: the oracle of property tests.

import { InferenceSession, Tensor as OrtTensor } from "onnxruntime-node";
import { arrayOfBytes, type Tensor } from "../../src/ir/tensor.ts";
import { DTYPES, type DType, dtypeFacts } from "../../src/ir/types.ts";

/** ONNX Runtime's own names where they are not ONNX's. */
const ORT_NAMES: Partial<Record<DType, string>> = { f32: "float32", f64: "float64" };
const ortName = (dtype: DType): string => ORT_NAMES[dtype] ?? dtypeFacts[dtype].onnxName;
const DTYPE_OF: ReadonlyMap<string, DType> = new Map(DTYPES.map((dtype) => [ortName(dtype), dtype]));

/** Outputs by name. Rejects where ONNX Runtime refuses the model or the run. */
export async function runOnnxRuntime(
  bytes: Uint8Array,
  inputs: Readonly<Record<string, Tensor>>,
): Promise<Record<string, Tensor>> {
  const session = await InferenceSession.create(bytes, {
    logSeverityLevel: 4,
    graphOptimizationLevel: "disabled",
    intraOpNumThreads: 1,
    interOpNumThreads: 1,
  });
  const feeds = Object.fromEntries(
    Object.entries(inputs).map(([name, { dtype, shape, data }]) => [
      name,
      new OrtTensor(ortName(dtype) as "float32", data as Float32Array, [...shape]),
    ]),
  );
  const results = await session.run(feeds);
  const outputs = Object.entries(results).map(([name, result]): [string, Tensor] => {
    const dtype = DTYPE_OF.get(result.type)!;
    const raw = result.data as Float32Array;
    return [
      name,
      { dtype, shape: result.dims, data: arrayOfBytes(dtype, new Uint8Array(raw.buffer, raw.byteOffset, raw.byteLength)) },
    ];
  });
  await session.release();
  return Object.fromEntries(outputs);
}
