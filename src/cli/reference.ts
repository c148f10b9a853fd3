// The reference that results are compared with: onnxruntime-node on the CPU.

import type { InferenceSession, Tensor as OrtTensor } from "onnxruntime-node";
import { decodeModel, encodeModel, type ModelProto, type TensorProto } from "../importer/proto.ts";
import type { ReadExternal } from "../importer/tensors.ts";
import { decodeTensor } from "../importer/tensors.ts";
import { arrayOfBytes, type Tensor } from "../ir/tensor.ts";
import { DTYPES, type DType, dtypeFacts } from "../ir/types.ts";
import { noReference, referenceFailed } from "../util/errors.ts";
import { withPreciseNormalization } from "./precise.ts";

type Ort = typeof import("onnxruntime-node");

/** ONNX Runtime's names are ONNX's but for two. */
const ortName = (dtype: DType): string =>
  dtype === "f32" ? "float32" : dtype === "f64" ? "float64" : dtypeFacts[dtype].onnxName;
const DTYPE_OF: ReadonlyMap<string, DType> = new Map(DTYPES.map((dtype) => [ortName(dtype), dtype]));

/** Outputs by name, those that are no tensors left out; every operator as ONNX defines it, nothing fused. Errors: K006 onnxruntime-node is missing, K007 it refuses the model or the inputs. */
export async function runReference(
  model: Uint8Array,
  file: string,
  inputs: Readonly<Record<string, Tensor>>,
): Promise<Map<string, Tensor>> {
  const ort = await loadOrt();
  let session: InferenceSession | undefined;
  try {
    session = await ort.InferenceSession.create(encodeModel(withPreciseNormalization(decodeModel(model, file))), {
      logSeverityLevel: 3,
      executionProviders: ["cpu"],
      graphOptimizationLevel: "disabled",
    });
    const feeds = Object.fromEntries(Object.entries(inputs).map(([name, tensor]) => [name, toOrt(ort, tensor)]));
    const results = await session.run(feeds);
    return new Map(
      Object.entries(results).flatMap(([name, result]) => {
        const tensor = fromOrt(result);
        return tensor ? [[name, tensor] as const] : [];
      }),
    );
  } catch (failure) {
    throw referenceFailed(file, failure instanceof Error ? failure.message : String(failure));
  } finally {
    await session?.release();
  }
}

async function loadOrt(): Promise<Ort> {
  try {
    return await import("onnxruntime-node");
  } catch (failure) {
    throw noReference(failure instanceof Error ? failure.message : String(failure));
  }
}

const toOrt = (ort: Ort, { dtype, shape, data }: Tensor): OrtTensor =>
  new ort.Tensor(ortName(dtype) as "float32", data as Float32Array, [...shape]);

function fromOrt(result: OrtTensor): Tensor | undefined {
  const dtype = DTYPE_OF.get(result.type);
  const raw = result.data as Float32Array;
  return (
    dtype && {
      dtype,
      shape: result.dims,
      data: arrayOfBytes(dtype, new Uint8Array(raw.buffer, raw.byteOffset, raw.byteLength)),
    }
  );
}

/** The model with every external tensor's bytes inside, for a reader that has no folder to look in. */
export function withInlineData(model: ModelProto, readExternal: ReadExternal): Uint8Array {
  const inline = (tensor: TensorProto): TensorProto => {
    if (tensor.dataLocation !== 1) return tensor;
    const { data } = decodeTensor(tensor, readExternal);
    const { externalData: _, dataLocation: __, ...rest } = tensor;
    return { ...rest, rawData: new Uint8Array(data.buffer, data.byteOffset, data.byteLength) };
  };
  const graph = model.graph!;
  return encodeModel({ ...model, graph: { ...graph, initializer: (graph.initializer ?? []).map(inline) } });
}
