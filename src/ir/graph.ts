// The graph: ONNX operators over values, in topological order. Values are shared by identity; a constant is a value with
// `data`, an absent optional input is undefined.

import type { Dim } from "./dims.ts";
import type { Tensor } from "./tensor.ts";
import type { Value } from "./value.ts";

export type Attribute =
  | { readonly kind: "int" | "float"; readonly value: number }
  | { readonly kind: "string"; readonly value: string }
  | { readonly kind: "ints" | "floats"; readonly value: readonly number[] }
  | { readonly kind: "strings"; readonly value: readonly string[] }
  | { readonly kind: "tensor"; readonly value: Tensor }
  | { readonly kind: "graph"; readonly value: Graph };

export interface GraphNode {
  /** Unique within the graph; ONNX's own where it has one. */
  readonly name: string;
  /** Names of the nodes of the model that this node stands for. */
  readonly origins: readonly string[];
  readonly op: string;
  /** "" is ONNX's own. */
  readonly domain: string;
  /** Version of the domain's operator set that the attributes follow. */
  readonly opset: number;
  inputs: readonly (Value | undefined)[];
  outputs: readonly (Value | undefined)[];
  readonly attributes: ReadonlyMap<string, Attribute>;
}

export interface Graph {
  readonly name: string;
  inputs: readonly Value[];
  /** Results by name; one value may have several names. */
  outputs: readonly { readonly name: string; readonly value: Value }[];
  nodes: readonly GraphNode[];
}

/** Values of an enclosing graph that `graph` reads, in first-seen order. */
export function capturesOf(graph: Graph): readonly Value[] {
  const local = new Set<Value>(graph.inputs);
  for (const node of graph.nodes) for (const value of node.outputs) if (value) local.add(value);
  const captured = new Set<Value>();
  const see = (value: Value | undefined): void => {
    if (value && !value.data && !local.has(value)) captured.add(value);
  };
  for (const node of graph.nodes) {
    for (const value of node.inputs) see(value);
    for (const inner of subgraphsOf(node)) for (const value of capturesOf(inner)) see(value);
  }
  for (const { value } of graph.outputs) see(value);
  return [...captured];
}

/** Graphs among a node's attributes. */
export const subgraphsOf = (node: GraphNode): readonly Graph[] =>
  [...node.attributes.values()].flatMap((attribute) => (attribute.kind === "graph" ? [attribute.value] : []));

/** Everything a node reads: its inputs and what its subgraphs capture. */
export const readsOfNode = (node: GraphNode): readonly Value[] => [
  ...node.inputs.filter((value) => value !== undefined),
  ...subgraphsOf(node).flatMap(capturesOf),
];

/** The shape as the user would write it, for messages. */
export const typeText = (value: { readonly dtype: string; readonly shape: readonly Dim[] }): string =>
  `${value.dtype}[${value.shape.map((dim) => (typeof dim === "number" ? dim : dim.text)).join(", ")}]`;
