// Makes weights refittable: they become inputs that the plan gives a fixed place, so that no pass can fold them into anything.

import { type Graph, type GraphNode, subgraphsOf } from "../ir/graph.ts";
import { sizeOf, type Tensor } from "../ir/tensor.ts";
import type { Value } from "../ir/value.ts";

/** Operators that compute with a float constant, and decide nothing by it. */
const READERS: ReadonlySet<string> = new Set(
  `Conv ConvTranspose Gemm MatMul BatchNormalization InstanceNormalization LayerNormalization GroupNormalization
   RMSNormalization PRelu LSTM GRU RNN Gather Add Sub Mul Div`.split(/\s+/),
);

/** Turns the float initializers that only such operators read into inputs; returns what they held, by name. */
export function exposeWeights(graph: Graph): ReadonlyMap<string, Tensor> {
  const weights = new Map<Value, Tensor>();
  const others = new Set<Value>(graph.outputs.map(({ value }) => value));
  const visit = (node: GraphNode, isInner: boolean): void => {
    for (const value of node.inputs) {
      if (!value?.data) continue;
      const isWeight = !isInner && READERS.has(node.op) && (value.dtype === "f32" || value.dtype === "f16");
      if (isWeight && value.data.shape.length > 0 && sizeOf(value.data.shape) > 0) weights.set(value, value.data);
      else others.add(value);
    }
    for (const inner of subgraphsOf(node)) {
      for (const { value } of inner.outputs) others.add(value);
      for (const one of inner.nodes) visit(one, true);
    }
  };
  for (const node of graph.nodes) visit(node, false);
  for (const value of others) weights.delete(value);
  for (const value of weights.keys()) delete value.data;
  graph.inputs = [...graph.inputs, ...weights.keys()];
  return new Map([...weights].map(([{ name }, data]) => [name, data]));
}
