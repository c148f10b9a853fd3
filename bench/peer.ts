// onnxruntime-node's WebGPU provider on a model, to be measured beside Kiln.

import type { Tensor } from "../src/ir/tensor.ts";
import { dtypeFacts } from "../src/ir/types.ts";

export interface Peer {
  /** Outputs by name. */
  run(): Promise<Readonly<Record<string, { readonly data: unknown }>>>;
  close(): Promise<void>;
}

/** A session, which has not run yet. Throws what onnxruntime-node says where it is missing or refuses. */
export async function openPeer(onnx: Uint8Array, inputs: Readonly<Record<string, Tensor>>): Promise<Peer> {
  const { InferenceSession, Tensor: OrtTensor } = await import("onnxruntime-node");
  const feeds = Object.fromEntries(
    Object.entries(inputs).map(([name, { dtype, shape, data }]) => {
      const type = dtype === "f32" ? "float32" : dtypeFacts[dtype].onnxName;
      return [name, new OrtTensor(type as "float32", data as Float32Array, [...shape])];
    }),
  );
  const session = await InferenceSession.create(onnx, { executionProviders: ["webgpu"], logSeverityLevel: 3 });
  return { run: () => session.run(feeds), close: () => session.release() };
}
