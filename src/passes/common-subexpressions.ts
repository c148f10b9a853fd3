// Nodes that compute the same thing become one: same operator, version, inputs, attributes and wanted outputs. A nested
// graph sees what the enclosing ones computed before it. Equal constants are one to begin with.

import { type Attribute, type Graph, type GraphNode, subgraphsOf } from "../ir/graph.ts";
import type { Tensor } from "../ir/tensor.ts";
import type { Value } from "../ir/value.ts";
import { findOperator } from "../ops/registry.ts";
import { hash } from "../util/hash.ts";
import type { Pass } from "./pass.ts";

/** Known nodes by what they compute, those of the enclosing graphs behind. */
class Known {
  private readonly nodes = new Map<string, GraphNode>();
  constructor(private readonly outer: Known | undefined) {}
  find(key: string): GraphNode | undefined {
    return this.nodes.get(key) ?? this.outer?.find(key);
  }
  add(key: string, node: GraphNode): void {
    this.nodes.set(key, node);
  }
}

export const commonSubexpressions: Pass = {
  name: "common-subexpressions",
  doc: "nodes that compute the same thing become one",
  run(editor, { log, check }) {
    const identify = identities();
    const walk = (graph: Graph, outer: Known | undefined): void => {
      const known = new Known(outer);
      for (const node of editor.nodesOf(graph)) {
        for (const nested of subgraphsOf(node)) walk(nested, known);
        const key = keyOf(node, identify);
        if (key === undefined) continue;
        const same = known.find(key);
        if (!same) known.add(key, node);
        else if (log.take("common-subexpressions", node.name)) {
          node.outputs.forEach((value, i) => {
            if (value) editor.replaceUses(value, same.outputs[i]!);
          });
          editor.inherit(same, [node]);
          editor.remove(node);
          check(editor, "common-subexpressions");
        }
      }
    };
    walk(editor.graph, undefined);
  },
};

/** Each reader keeps its own, for a quantized kernel to absorb. */
const APART: ReadonlySet<string> = new Set(["DequantizeLinear"]);

/** Text that equal nodes share; undefined for nodes that must stay apart. */
function keyOf(node: GraphNode, identify: (value: Value) => number): string | undefined {
  if (APART.has(node.op) || findOperator(node.domain, node.op)?.random || subgraphsOf(node).length > 0) return undefined;
  const inputs = node.inputs.map((value) => (value ? identify(value) : "_"));
  const attributes = [...node.attributes]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, attribute]) => `${name}=${attributeKey(attribute)}`);
  const outputs = node.outputs.map((value) => (value ? "1" : "0"));
  return `${node.domain}:${node.op}.${node.opset}(${inputs.join()}){${attributes.join(";")}}${outputs.join("")}`;
}

/** JSON would make one of -0 and 0, and null of infinities. */
const exactNumber = (_: string, value: unknown): unknown =>
  Object.is(value, -0) ? "-0" : typeof value === "number" && !Number.isFinite(value) ? String(value) : value;
const attributeKey = (attribute: Attribute): string =>
  attribute.kind === "tensor" ? tensorKey(attribute.value) : `${attribute.kind}${JSON.stringify(attribute.value, exactNumber)}`;

const tensorKey = ({ dtype, shape, data }: Tensor): string =>
  `${dtype}[${shape.join()}]${hash(new Uint8Array(data.buffer, data.byteOffset, data.byteLength))}`;

/** Numbers values; constants with equal tensors have one number. Only tensors that agree in type, shape and first elements are hashed. */
function identities(): (value: Value) => number {
  const numbers = new Map<Value, number>();
  const byStart = new Map<string, { readonly first: Value; keys?: Map<string, number> }>();
  let next = 0;
  const numberOfConstant = (value: Value, data: Tensor): number => {
    const start = `${data.dtype}[${data.shape.join()}]${data.data.subarray(0, 8).join()}`;
    const group = byStart.get(start);
    if (!group) {
      byStart.set(start, { first: value });
      return next++;
    }
    group.keys ??= new Map([[tensorKey(group.first.data!), numbers.get(group.first)!]]);
    const key = tensorKey(data);
    const found = group.keys.get(key);
    if (found !== undefined) return found;
    group.keys.set(key, next);
    return next++;
  };
  return (value) => {
    const known = numbers.get(value);
    if (known !== undefined) return known;
    const id = value.data ? numberOfConstant(value, value.data) : next++;
    numbers.set(value, id);
    return id;
  };
}
