// Tiny ONNX models for tests: plain objects in, the bytes of a model file out.

import { type AttributeProto, encodeModel, type GraphProto, type TensorProto } from "../../src/importer/proto.ts";
import type { Tensor } from "../../src/ir/tensor.ts";
import { type DType, dtypeFacts } from "../../src/ir/types.ts";

/** A whole number is an int, another a float; `{ float: 2 }` where a float happens to be whole. */
export type AttributeSpec =
  | number
  | string
  | readonly number[]
  | readonly string[]
  | Tensor
  | { readonly float: number }
  | { readonly floats: readonly number[] }
  | { readonly graph: GraphSpec };

export interface NodeSpec {
  readonly op: string;
  /** "" leaves an optional input out. */
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes?: Readonly<Record<string, AttributeSpec>>;
  readonly name?: string;
  readonly domain?: string;
}

export interface GraphSpec {
  /** A dimension that is text is a symbol. */
  readonly inputs: Readonly<Record<string, { readonly dtype: DType; readonly shape: readonly (number | string)[] }>>;
  readonly outputs: readonly string[];
  readonly nodes: readonly NodeSpec[];
  readonly initializers?: Readonly<Record<string, Tensor>>;
}

export interface ModelSpec extends GraphSpec {
  readonly opset: number;
}

/** The model's bytes. */
export const model = ({ opset, ...graph }: ModelSpec): Uint8Array => {
  const domains = new Set(graph.nodes.map(({ domain }) => domain ?? ""));
  return encodeModel({
    irVersion: 10,
    opsetImport: [...domains.add("")].map((domain) => ({ domain, version: domain === "" ? opset : 1 })),
    graph: encodeGraph(graph),
  });
};

const encodeGraph = ({ inputs, outputs, nodes, initializers }: GraphSpec): GraphProto => ({
  name: "graph",
  input: Object.entries(inputs).map(([name, { dtype, shape }]) => ({
    name,
    type: {
      tensorType: {
        elemType: dtypeFacts[dtype].onnx,
        shape: { dim: shape.map((dim) => (typeof dim === "string" ? { dimParam: dim } : { dimValue: dim })) },
      },
    },
  })),
  output: outputs.map((name) => ({ name })),
  node: nodes.map(({ op, inputs: read, outputs: written, attributes, name, domain }, i) => ({
    opType: op,
    name: name ?? `${op}_${i}`,
    domain: domain ?? "",
    input: [...read],
    output: [...written],
    attribute: Object.entries(attributes ?? {}).map(([key, value]) => encodeAttribute(key, value)),
  })),
  initializer: Object.entries(initializers ?? {}).map(([name, tensor]) => encodeTensor(name, tensor)),
});

const encodeTensor = (name: string, { dtype, shape, data }: Tensor): TensorProto => ({
  name,
  dataType: dtypeFacts[dtype].onnx,
  dims: [...shape],
  rawData: new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
});

function encodeAttribute(name: string, value: AttributeSpec): AttributeProto {
  if (typeof value === "number") return Number.isInteger(value) ? { name, type: 2, i: value } : { name, type: 1, f: value };
  if (typeof value === "string") return { name, type: 3, s: new TextEncoder().encode(value) };
  if ("float" in value) return { name, type: 1, f: value.float };
  if ("floats" in value) return { name, type: 6, floats: [...value.floats] };
  if ("graph" in value) return { name, type: 5, g: encodeGraph(value.graph) };
  if ("dtype" in value) return { name, type: 4, t: encodeTensor("", value) };
  if (value.every((item) => typeof item === "string"))
    return { name, type: value.length > 0 ? 8 : 7, strings: value.map((item) => new TextEncoder().encode(item)) };
  return value.every(Number.isInteger) ? { name, type: 7, ints: [...value] } : { name, type: 6, floats: [...value] };
}
