// Graph → ONNX: the other way round, for graphs that other runtimes are to read. Every node is written as the newest operator
// set among them defines it.

import { type Dim, dimText, isStatic, loneSymbol } from "../ir/dims.ts";
import { type Attribute, type Graph, type GraphNode, subgraphsOf } from "../ir/graph.ts";
import type { Tensor } from "../ir/tensor.ts";
import { dtypeFacts } from "../ir/types.ts";
import type { Value } from "../ir/value.ts";
import { VERSION } from "../util/version.ts";
import {
  type AttributeProto,
  encodeModel,
  type GraphProto,
  type NodeProto,
  type TensorProto,
  type ValueInfoProto,
} from "./proto.ts";
import { type Upgrade, upgradeNode } from "./upgrade.ts";

/** The first IR version that came with each operator set (https://github.com/onnx/onnx/blob/main/docs/Versioning.md), newest first. */
const IR_VERSIONS: readonly (readonly [number, number])[] = [
  [25, 13],
  [24, 12],
  [23, 11],
  [21, 10],
  [19, 9],
  [15, 8],
  [13, 7],
];

/** A model file of a graph. Errors: K204 for a node whose form of an old operator set has no newer one. */
export function exportModel(graph: Graph): Uint8Array {
  const opsets = new Map<string, number>([["", 13]]);
  for (const { domain, opset } of nodesWithin(graph)) opsets.set(domain, Math.max(opsets.get(domain) ?? 1, opset));
  const opset = opsets.get("")!;
  return encodeModel({
    irVersion: IR_VERSIONS.find(([since]) => opset >= since)![1],
    producerName: "kiln",
    producerVersion: VERSION,
    opsetImport: [...opsets].map(([domain, version]) => ({ domain, version })),
    graph: new GraphWriter(graph, opset).whole(),
  });
}

const nodesWithin = (graph: Graph): readonly GraphNode[] =>
  graph.nodes.flatMap((node) => [node, ...subgraphsOf(node).flatMap(nodesWithin)]);

class GraphWriter {
  private readonly names = new Map<Value, string>();
  private readonly taken = new Set<string>();
  /** Constants of nested graphs too: those see what is around them. */
  private readonly initializers: TensorProto[] = [];

  constructor(
    private readonly graph: Graph,
    private readonly opset: number,
  ) {
    // Names that the caller knows come first, so that they stay as they are.
    for (const { name } of graph.outputs) this.taken.add(name);
    for (const { name, value } of graph.outputs) if (name === value.name && !value.data) this.names.set(value, name);
    for (const value of graph.inputs) this.nameOf(value);
  }

  whole(): GraphProto {
    return { ...this.write(this.graph), initializer: this.initializers };
  }

  private write(graph: Graph): GraphProto {
    const node = graph.nodes.flatMap((each) => this.node(each));
    const output = graph.outputs.map(({ name, value }): ValueInfoProto => {
      // An input, a constant, or a second name of one result.
      const own = this.nameOf(value);
      const result = graph === this.graph ? name : own;
      if (own !== result) node.push({ opType: "Identity", name: `${result}/copy`, input: [own], output: [result] });
      return infoOf(result, value);
    });
    return { name: graph.name || "graph", input: graph.inputs.map((value) => infoOf(this.nameOf(value), value)), node, output };
  }

  private node(node: GraphNode): NodeProto[] {
    return upgradeNode(node, this.opset).map(({ name, op, domain, inputs, outputs, attributes }: Upgrade) => ({
      name,
      opType: op,
      domain,
      input: inputs.map((value) => (value ? this.nameOf(value) : "")),
      output: outputs.map((value) => (value ? this.nameOf(value) : "")),
      attribute: [...attributes].map(([key, attribute]) => this.attribute(key, attribute)),
    }));
  }

  /** The value's name, which no other has; a constant's tensor is written when its name is first asked for. */
  private nameOf(value: Value): string {
    const known = this.names.get(value);
    if (known !== undefined) return known;
    let name = value.name;
    for (let n = 1; this.taken.has(name); n++) name = `${value.name}_${n}`;
    this.taken.add(name);
    this.names.set(value, name);
    if (value.data) this.initializers.push(tensorOf(name, value.data));
    return name;
  }

  private attribute(name: string, attribute: Attribute): AttributeProto {
    const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
    switch (attribute.kind) {
      case "float":
        return { name, type: 1, f: attribute.value };
      case "int":
        return { name, type: 2, i: attribute.value };
      case "string":
        return { name, type: 3, s: bytes(attribute.value) };
      case "tensor":
        return { name, type: 4, t: tensorOf("", attribute.value) };
      case "graph":
        return { name, type: 5, g: this.write(attribute.value) };
      case "floats":
        return { name, type: 6, floats: [...attribute.value] };
      case "ints":
        return { name, type: 7, ints: [...attribute.value] };
      case "strings":
        return { name, type: 8, strings: attribute.value.map(bytes) };
    }
  }
}

const infoOf = (name: string, { dtype, shape }: Value): ValueInfoProto => ({
  name,
  type: { tensorType: { elemType: dtypeFacts[dtype].onnx, shape: { dim: shape.map(dimOf) } } },
});

const dimOf = (dim: Dim): { dimValue: number } | { dimParam: string } =>
  isStatic(dim) ? { dimValue: dim } : { dimParam: loneSymbol(dim) ?? dimText(dim) };

const tensorOf = (name: string, { dtype, shape, data }: Tensor): TensorProto => ({
  name,
  dataType: dtypeFacts[dtype].onnx,
  dims: [...shape],
  rawData: new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
});
