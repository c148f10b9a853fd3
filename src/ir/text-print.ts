// Prints a graph in the format of text.ts.

import { shapeText } from "./dims.ts";
import { type Attribute, type Graph, type GraphNode, subgraphsOf } from "./graph.ts";
import type { Tensor } from "./tensor.ts";
import { digestOf, elementsText, floatText, nameText, Scope, type TensorTable } from "./text-words.ts";
import type { Value } from "./value.ts";

export interface PrintOptions {
  /** Gets the tensors that are too large to print. */
  readonly data?: TensorTable;
  /** Constants of up to this many elements stand inline. */
  readonly inline?: number;
}

/** The graph as text. */
export function printGraph(graph: Graph, options: PrintOptions = {}): string {
  const printer = new Printer(options.data, options.inline ?? 16);
  return `graph ${JSON.stringify(graph.name)} ${printer.graph(graph, "", undefined)}\n`;
}

class Printer {
  private readonly names = new Map<Value, string>();

  constructor(
    private readonly data: TensorTable | undefined,
    private readonly inline: number,
  ) {}

  graph(graph: Graph, indent: string, outer: Scope<Value> | undefined): string {
    const scope = new Scope(outer);
    for (const value of graph.inputs) this.define(value, scope);
    for (const node of graph.nodes) for (const value of node.outputs) if (value) this.define(value, scope);
    const constants = outer ? [] : constantsOf(graph);
    for (const value of constants) this.define(value, scope);
    const lines = [
      ...graph.inputs.map((value) => `input ${this.typed(value)}`),
      ...constants.map((value) => `const ${this.typed(value, false)} = ${this.literal(value.data!)}`),
      ...graph.nodes.map((node) => this.node(node, `${indent}  `, scope)),
      ...graph.outputs.map(({ name, value }) =>
        this.name(value) === nameText(name) ? `output ${nameText(name)}` : `output ${nameText(name)} = ${this.name(value)}`,
      ),
    ];
    return `{\n${lines.map((line) => `${indent}  ${line}\n`).join("")}${indent}}`;
  }

  /** Names are the values' own; where two meet in one scope the later gets a number. */
  private define(value: Value, scope: Scope<Value>): void {
    if (this.names.has(value)) return;
    let name = value.name;
    for (let n = 2; scope.find(name); n++) name = `${value.name}~${n}`;
    scope.own.set(name, value);
    this.names.set(value, nameText(name));
  }
  private name(value: Value | undefined): string {
    return value ? (this.names.get(value) ?? nameText(value.name)) : "_";
  }

  private typed(value: Value, withData = true): string {
    const known = value.contents ? ` == ${shapeText(value.contents)}` : "";
    const assumed = value.assumed ? ` assumed ${this.literal(value.assumed)}` : "";
    const data = withData && value.data ? ` data ${this.literal(value.data)}` : "";
    return `${this.name(value)}: ${value.dtype}${shapeText(value.shape)}${known}${assumed}${data}`;
  }

  private node(node: GraphNode, indent: string, scope: Scope<Value>): string {
    const outputs = node.outputs.map((value) => (value ? this.typed(value) : "_")).join(", ");
    const op = `${node.domain ? `${node.domain}::` : ""}${node.op}.${node.opset}`;
    const attributes = [...node.attributes].map(
      ([name, attribute]) => `${nameText(name)}: ${this.attribute(attribute, indent, scope)}`,
    );
    const from =
      node.origins.length === 1 && node.origins[0] === node.name ? "" : ` from (${node.origins.map(nameText).join(", ")})`;
    const block = attributes.length > 0 ? ` { ${attributes.join(", ")} }` : "";
    return `${outputs} = ${op}(${node.inputs.map((value) => this.name(value)).join(", ")})${block} as ${nameText(node.name)}${from}`;
  }

  private attribute(attribute: Attribute, indent: string, scope: Scope<Value>): string {
    switch (attribute.kind) {
      case "int":
        return String(attribute.value);
      case "float":
        return floatText(attribute.value);
      case "string":
        return JSON.stringify(attribute.value);
      case "ints":
        return list(attribute.kind, attribute.value.map(String));
      case "floats":
        return list(attribute.kind, attribute.value.map(floatText));
      case "strings":
        return list(
          attribute.kind,
          attribute.value.map((text) => JSON.stringify(text)),
        );
      case "tensor":
        return `${attribute.value.dtype}${shapeText(attribute.value.shape)} ${this.literal(attribute.value)}`;
      case "graph":
        return `graph ${JSON.stringify(attribute.value.name)} ${this.graph(attribute.value, indent, scope)}`;
    }
  }

  private literal(tensor: Tensor): string {
    if (tensor.data.length <= this.inline) {
      const text = elementsText(tensor);
      if (text !== undefined) return text;
    }
    const digest = digestOf(tensor);
    this.data?.set(digest, tensor);
    return `#${digest}`;
  }
}

/** Constants that a graph or one nested in it reads and no node makes, in first-seen order. */
function constantsOf(graph: Graph): readonly Value[] {
  const seen = new Set<Value>();
  const made = new Set<Value>();
  const look = (inner: Graph): void => {
    for (const node of inner.nodes) {
      for (const value of node.inputs) if (value?.data) seen.add(value);
      for (const value of node.outputs) if (value) made.add(value);
      for (const nested of subgraphsOf(node)) look(nested);
    }
    for (const value of inner.inputs) made.add(value);
    for (const { value } of inner.outputs) if (value.data) seen.add(value);
  };
  look(graph);
  return [...seen].filter((value) => !made.has(value));
}

const list = (kind: string, items: readonly string[]): string => (items.length === 0 ? `${kind} []` : `[${items.join(", ")}]`);
