// A rewrite rule: a pattern, and a function that builds what takes the place of its root.

import type { Attribute, GraphNode } from "../../ir/graph.ts";
import type { Tensor } from "../../ir/tensor.ts";
import { makeValue, type Value } from "../../ir/value.ts";
import { inferNode } from "../../ops/infer.ts";
import type { Draft } from "./editor.ts";
import { depthOf, type OpForm, type OpPattern } from "./pattern.ts";

export interface Rule {
  /** Under which it is logged and switched off. */
  readonly name: string;
  readonly match: OpForm;
  /** Levels of operators in the pattern. */
  readonly depth: number;
  readonly rewrite: Rewrite<never>;
}

/** Returns what replaces the root's outputs (a value for the first alone), or undefined to leave the match as it is. */
export type Rewrite<C> = (captures: C, g: Replacement) => Value | readonly (Value | undefined)[] | undefined;

export const rule = <C>({
  name,
  match,
  rewrite,
}: {
  readonly name: string;
  readonly match: OpPattern<C>;
  readonly rewrite: Rewrite<C>;
}): Rule => ({
  name,
  match: match.form,
  depth: depthOf(match),
  rewrite,
});

export const int = (value: number): Attribute => ({ kind: "int", value });
export const float = (value: number): Attribute => ({ kind: "float", value });
export const ints = (value: readonly number[]): Attribute => ({ kind: "ints", value });
export const text = (value: string): Attribute => ({ kind: "string", value });

/** A list of its own, without the absent inputs at the end. */
const trimmed = (inputs: readonly (Value | undefined)[]): readonly (Value | undefined)[] =>
  inputs.slice(0, 1 + inputs.findLastIndex((value) => value !== undefined));

/** The nodes and constants that a rewrite makes; they enter the graph when it succeeds. */
export class Replacement {
  readonly nodes: Draft[] = [];
  readonly constants: Value[] = [];

  constructor(
    /** The node that the pattern's root matched. */
    readonly root: GraphNode,
    private readonly opset: number,
  ) {}

  /** A node of ONNX's own domain with one output, its type inferred. `since`: the first version that has it as written here. */
  node(
    op: string,
    inputs: readonly (Value | undefined)[],
    attributes: Readonly<Record<string, Attribute>> = {},
    since = 0,
  ): Value {
    return this.add({
      op,
      domain: "",
      opset: Math.max(this.opset, since),
      inputs,
      attributes: new Map(Object.entries(attributes)),
    });
  }

  /** A node as `like`, its domain and version too, with other inputs and some attributes set anew. */
  like(
    { op, domain, opset, attributes }: GraphNode,
    inputs: readonly (Value | undefined)[],
    changes: Readonly<Record<string, Attribute>> = {},
  ): Value {
    return this.add({ op, domain, opset, inputs, attributes: new Map([...attributes, ...Object.entries(changes)]) });
  }

  constant(data: Tensor): Value {
    const value = { ...makeValue(`${this.root.name}/constant`, data.dtype, data.shape), data };
    this.constants.push(value);
    return value;
  }

  private add(parts: Pick<Draft, "op" | "domain" | "opset" | "inputs" | "attributes">): Value {
    const name = `${this.root.name}/${parts.op}`;
    const out = makeValue(name, "f32", []);
    const node: Draft = { name, origins: [], outputs: [out], ...parts, inputs: trimmed(parts.inputs) };
    inferNode(node);
    this.nodes.push(node);
    return out;
  }
}
