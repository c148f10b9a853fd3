// Operators on the host: those with a reference of their own, and any node at all, evaluated by its definition.

import type { Attribute, GraphNode } from "../ir/graph.ts";
import { interpret, type Tensors } from "../ir/interpret.ts";
import { Lowering } from "../ir/lower.ts";
import type { HostAttributes } from "../ir/task.ts";
import type { Tensor } from "../ir/tensor.ts";
import type { Value } from "../ir/value.ts";
import { internal } from "../util/errors.ts";
import { type DecodePicture, decodeImage, imageDecoder } from "./image-decoder.ts";
import { lowerNode } from "./infer.ts";
import { findOperator } from "./registry.ts";

type HostOperator = (inputs: readonly (Tensor | undefined)[], attrs: HostAttributes) => readonly Tensor[];

/** The host implementation behind a host layer, for engines and constant folding; what only a platform can do is left out. */
export function hostOperator(op: string): HostOperator | undefined {
  const operator = findOperator("", op) ?? findOperator("com.microsoft", op);
  return operator && operator !== imageDecoder ? (inputs, attrs) => runOnHost(op, attrs, inputs) : undefined;
}

/** `hostOperator` with a platform's way to decode pictures. */
export const hostOperatorsWith = (decode: DecodePicture) => {
  const image = decodeImage(decode);
  return (op: string): HostOperator | typeof image | undefined => (op === imageDecoder.name ? image : hostOperator(op));
};

function runOnHost(op: string, attrs: HostAttributes, inputs: readonly (Tensor | undefined)[]): readonly Tensor[] {
  if (typeof attrs.node === "string") return evaluateNode(nodeOf(attrs.node, inputs));
  const reference = (findOperator("", op) ?? findOperator("com.microsoft", op))?.reference;
  if (!reference) throw internal(op, "it has no reference");
  return reference(inputs, attrs);
}

/** A node as the attributes of a host layer; undefined when it has some that JSON does not carry. */
export function hostAttributesOf(node: GraphNode): HostAttributes | undefined {
  const attributes = [...node.attributes];
  if (attributes.some(([, { kind, value }]) => kind === "graph" || kind === "tensor" || !isFinitely(value))) return undefined;
  const { name, op, domain, opset } = node;
  return {
    node: JSON.stringify({ name, op, domain, opset, attributes, outputs: node.outputs.map((value) => value !== undefined) }),
  };
}

const isFinitely = (value: unknown): boolean => [value].flat().every((one) => typeof one !== "number" || Number.isFinite(one));

function nodeOf(text: string, inputs: readonly (Tensor | undefined)[]): GraphNode {
  const { attributes, outputs, ...facts } = JSON.parse(text) as Pick<GraphNode, "name" | "op" | "domain" | "opset"> & {
    readonly attributes: readonly (readonly [string, Attribute])[];
    readonly outputs: readonly boolean[];
  };
  const value = (data: Tensor | undefined, i: number): Value | undefined =>
    data && { name: `input ${i}`, dtype: data.dtype, shape: data.shape, data };
  return {
    ...facts,
    origins: [],
    attributes: new Map(attributes),
    inputs: inputs.map(value),
    outputs: outputs.map((used, i) => (used ? { name: `output ${i}`, dtype: "f32", shape: [] } : undefined)),
  };
}

/** What a node over constants gives; outputs that nobody reads are left out. */
function evaluateNode(node: GraphNode): readonly Tensor[] {
  const b = new Lowering(node.name);
  const values = lowerNode(b, node, new Map());
  const tensors: Tensors = new Map();
  interpret(b.tasks, tensors, new Map(), (task, inputs) => runOnHost(task.op, task.attrs, inputs));
  return values.flatMap((value, i) => (value && node.outputs[i] ? [(tensors.get(value) ?? value.data)!] : []));
}
