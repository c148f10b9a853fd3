// Fills models whose weights were taken out: ConstantOfShape nodes that make float weights become random initializers.

import { type GraphProto, type ModelProto, type NodeProto, type TensorProto } from "../importer/proto.ts";
import { type ReadExternal, decodeTensor } from "../importer/tensors.ts";
import { numbersOf, sizeOf, tensor, type Tensor } from "../ir/tensor.ts";
import { normalNumbers, randomNumbers, seedOf } from "./random.ts";

/** A copy of the model with seeded weights: matrices and kernels of variance 2 / fan-in (He et al., 2015), vectors near 0, scales and variances around 1. */
export function randomizeWeights(model: ModelProto, seed: number, readExternal: ReadExternal): ModelProto {
  const graph = model.graph!;
  const constants = new Map((graph.initializer ?? []).map((initializer) => [initializer.name ?? "", initializer]));
  for (const node of graph.node ?? []) {
    const value = node.opType === "Constant" ? node.attribute?.find(({ name }) => name === "value")?.t : undefined;
    if (value) constants.set(node.output?.[0] ?? "", value);
  }
  const made: TensorProto[] = [];
  const kept = (graph.node ?? []).filter((node) => {
    const name = node.output?.[0] ?? "";
    const shape = constants.get(node.input?.[0] ?? "");
    const fill = node.attribute?.find((attribute) => attribute.name === "value")?.t;
    if (node.opType !== "ConstantOfShape" || !shape || (fill && fill.dataType !== 1)) return true;
    made.push(encodeFloats(name, randomWeight(roleOf(graph, name), numbersOf(decodeTensor(shape, readExternal)), seedOf(seed, name))));
    return false;
  });
  return { ...model, graph: { ...graph, node: kept, initializer: [...(graph.initializer ?? []), ...made] } };
}

type Role = "weight" | "transposed" | "positive" | "offset";

/** What a tensor is to its first reader. */
function roleOf(graph: GraphProto, name: string): Role {
  const reader = (graph.node ?? []).find((node) => node.input?.includes(name));
  const place = reader?.input?.indexOf(name) ?? 0;
  if (reader?.opType === "BatchNormalization") return place === 1 || place === 4 ? "positive" : "offset";
  if (reader?.opType === "Unsqueeze" || reader?.opType === "Mul") return "positive";
  if (place === 2 || reader?.opType === "Add") return "offset";
  return reader?.opType === "ConvTranspose" || reader?.opType === "MatMul" || (reader?.opType === "Gemm" && !isTransposed(reader)) ? "transposed" : "weight";
}

const isTransposed = (node: NodeProto): boolean => node.attribute?.some(({ name, i }) => name === "transB" && String(i) === "1") ?? false;

function randomWeight(role: Role, shape: readonly number[], seed: number): Tensor {
  const length = sizeOf(shape);
  const uniform = randomNumbers(seed);
  const normal = normalNumbers(seed);
  if (role === "positive") return tensor("f32", shape, Float32Array.from({ length }, () => 0.5 + uniform()));
  if (role === "offset" || shape.length < 2) return tensor("f32", shape, Float32Array.from({ length }, () => 0.1 * normal()));
  const fanIn = role === "transposed" ? shape[0]! : length / shape[0]!;
  const deviation = Math.sqrt(2 / Math.max(1, fanIn));
  return tensor("f32", shape, Float32Array.from({ length }, () => deviation * normal()));
}

const encodeFloats = (name: string, { shape, data }: Tensor): TensorProto => ({
  name, dataType: 1, dims: [...shape], rawData: new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
});
