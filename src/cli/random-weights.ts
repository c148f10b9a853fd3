// Fills models whose weights were taken out: ConstantOfShape nodes that make float weights become random initializers.

import type { GraphProto, ModelProto, NodeProto, TensorProto } from "../importer/proto.ts";
import { decodeTensor, type ReadExternal } from "../importer/tensors.ts";
import { numbersOf, sizeOf, type Tensor, tensor } from "../ir/tensor.ts";
import { normalNumbers, randomNumbers, seedOf } from "./random.ts";

/** What a tensor is to its first reader. */
type Role = "weight" | "transposed" | "scale" | "variance" | "offset";

/**
 * A copy of the model with seeded weights: matrices and kernels of variance 2 / fan-in (He et al., 2015, https://arxiv.org/abs/1502.01852).
 * What normalizes them is replaced too, for it was trained for other weights: offsets near 0, variances around 1, scales
 * around ½, so that residual sums do not grow.
 */
export function randomizeWeights(model: ModelProto, seed: number, readExternal: ReadExternal): ModelProto {
  const graph = model.graph!;
  const constants = new Map((graph.initializer ?? []).map((initializer) => [initializer.name ?? "", initializer]));
  for (const node of graph.node ?? []) {
    const value = node.opType === "Constant" ? node.attribute?.find(({ name }) => name === "value")?.t : undefined;
    if (value) constants.set(node.output?.[0] ?? "", value);
  }
  const roles = rolesOf(graph);
  const fresh = (name: string, shape: readonly number[]): TensorProto =>
    encodeFloats(name, randomWeight(roles.get(name) ?? "weight", shape, seedOf(seed, name)));
  const made: TensorProto[] = [];
  const kept = (graph.node ?? []).filter((node) => {
    const name = node.output?.[0] ?? "";
    const shape = constants.get(node.input?.[0] ?? "");
    const fill = node.attribute?.find((attribute) => attribute.name === "value")?.t;
    if (node.opType !== "ConstantOfShape" || !shape || (fill && fill.dataType !== 1)) return true;
    made.push(fresh(name, numbersOf(decodeTensor(shape, readExternal))));
    return false;
  });
  if (made.length === 0) return model;
  const normalizers = new Set(
    (graph.node ?? []).filter(({ opType }) => opType === "BatchNormalization").flatMap(({ input }) => input?.slice(1) ?? []),
  );
  const initializer = (graph.initializer ?? []).map((given) =>
    normalizers.has(given.name ?? "") && given.dataType === 1
      ? fresh(given.name ?? "", decodeTensor(given, readExternal).shape)
      : given,
  );
  return { ...model, graph: { ...graph, node: kept, initializer: [...initializer, ...made] } };
}

function rolesOf(graph: GraphProto): ReadonlyMap<string, Role> {
  const roles = new Map<string, Role>();
  for (const node of graph.node ?? []) {
    for (const [place, name] of (node.input ?? []).entries()) if (!roles.has(name)) roles.set(name, roleAt(node, place));
  }
  return roles;
}

function roleAt(node: NodeProto, place: number): Role {
  switch (node.opType) {
    case "BatchNormalization":
      return place === 1 ? "scale" : place === 4 ? "variance" : "offset";
    case "Mul":
    case "Unsqueeze":
      return "scale";
    case "Add":
      return "offset";
    case "ConvTranspose":
    case "MatMul":
      return place === 2 ? "offset" : "transposed";
    case "Gemm":
      return place === 2
        ? "offset"
        : node.attribute?.some(({ name, i }) => name === "transB" && String(i) === "1")
          ? "weight"
          : "transposed";
    default:
      return place === 2 ? "offset" : "weight";
  }
}

function randomWeight(role: Role, shape: readonly number[], seed: number): Tensor {
  const length = sizeOf(shape);
  const uniform = randomNumbers(seed);
  const normal = normalNumbers(seed);
  const fill = (draw: () => number): Tensor => tensor("f32", shape, Float32Array.from({ length }, draw));
  if (role === "variance") return fill(() => 0.5 + uniform());
  if (role === "scale") return fill(() => 0.25 + 0.5 * uniform());
  if (role === "offset" || shape.length < 2) return fill(() => 0.1 * normal());
  const fanIn = role === "transposed" ? shape[0]! : length / shape[0]!;
  const deviation = Math.sqrt(2 / Math.max(1, fanIn));
  return fill(() => deviation * normal());
}

const encodeFloats = (name: string, { shape, data }: Tensor): TensorProto => ({
  name,
  dataType: 1,
  dims: [...shape],
  rawData: new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
});
