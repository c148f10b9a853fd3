// A graph in the making: nodes in order, constants, names that nothing else has.

import type { Attribute, Graph, GraphNode } from "../ir/graph.ts";
import type { Tensor } from "../ir/tensor.ts";
import { makeValue, type Value } from "../ir/value.ts";
import { inferNode } from "../ops/infer.ts";

export class Draft {
  readonly nodes: GraphNode[] = [];
  private readonly names = new Set<string>();
  private readonly opset: number;

  /** `base`: the graph whose nodes go into this one; its names are taken. */
  constructor(base: Graph) {
    for (const value of base.inputs) this.names.add(value.name);
    for (const node of base.nodes) {
      this.names.add(node.name);
      for (const value of [...node.inputs, ...node.outputs]) if (value) this.names.add(value.name);
    }
    this.opset = base.nodes.reduce((newest, { domain, opset }) => (domain === "" ? Math.max(newest, opset) : newest), 13);
  }

  constant(name: string, data: Tensor): Value {
    return { ...makeValue(this.fresh(name), data.dtype, data.shape), data };
  }

  /** Appends a node of ONNX's own domain; it and its only output are called `name`. `since`: the version that has it as written. */
  node(
    op: string,
    name: string,
    inputs: readonly Value[],
    attributes: Readonly<Record<string, Attribute>> = {},
    since = 13,
  ): Value {
    const out = makeValue(this.fresh(name), "f32", []);
    const node: GraphNode = {
      name: out.name,
      origins: [out.name],
      op,
      domain: "",
      opset: Math.max(this.opset, since),
      inputs,
      outputs: [out],
      attributes: new Map(Object.entries(attributes)),
    };
    inferNode(node);
    this.nodes.push(node);
    return out;
  }

  private fresh(base: string): string {
    let name = base;
    for (let n = 1; this.names.has(name); n++) name = `${base}_${n}`;
    this.names.add(name);
    return name;
  }
}
