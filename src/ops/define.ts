// What an operator is: its attributes and one function, `lower`, that says in tensor expressions what it computes. Shape
// inference, symbolic shape arithmetic, constant folding, the host's results and the GPU's kernels all come from `lower`.

import type { Dim } from "../ir/dims.ts";
import { dimText, isStatic, sameDim, shapeText } from "../ir/dims.ts";
import type { Attribute, Graph } from "../ir/graph.ts";
import type { Lowering } from "../ir/lower.ts";
import { contentsOf, knownTensor } from "../ir/lower.ts";
import type { HostAttributes, Requirement } from "../ir/task.ts";
import type { Tensor } from "../ir/tensor.ts";
import type { Value } from "../ir/value.ts";
import { badAttribute, shapeMismatch, unknownAttribute, valueNeeded } from "../util/errors.ts";

/** What `lower` may ask about the node besides inputs and attributes. */
export interface NodeFacts {
  readonly name: string;
  readonly op: string;
  /** Version of the operator's domain that the model imports. */
  readonly opset: number;
  /** How many outputs the node lists, and which of them are wanted. */
  readonly outputs: readonly boolean[];
  /** What it asks of sizes that only a run knows: see `areSame`. */
  readonly requirements: Requirement[];
  /** Lowers a subgraph in place: its tasks are appended to `b`, `inputs` are its inputs; returns its outputs. */
  readonly inline: (b: Lowering, graph: Graph, inputs: readonly Value[]) => readonly Value[];
}

export interface Operator<A = unknown> {
  readonly name: string;
  /** "" (the default) is ONNX's own domain. */
  readonly domain?: string;
  /** Versions of the operator that `lower` understands, oldest first. */
  readonly since: readonly number[];
  /** Reads every attribute that the operator has; one that is never read is an error. */
  readonly attrs?: (read: AttributeReader) => A;
  /** Returns one value an output; throws a KilnError where the inputs do not fit. May return fewer than the node lists. */
  readonly lower: (
    b: Lowering,
    inputs: readonly (Value | undefined)[],
    attrs: A,
    node: NodeFacts,
  ) => readonly (Value | undefined)[];
  /** Host implementation of the tasks that `lower` asks `b.host` for. */
  readonly reference?: (inputs: readonly (Tensor | undefined)[], attrs: HostAttributes) => readonly Tensor[];
  /** Where it runs, when that is not always the GPU: with the reason. */
  readonly place?: string;
  /** Draws new results at each run: never folded, never shared. */
  readonly random?: boolean;
}

export const defineOp = <A>(operator: Operator<A>): Operator => operator as unknown as Operator;

/** Reads a node's attributes by name and type, remembering which were asked for. */
export class AttributeReader {
  private readonly asked = new Set<string>();

  constructor(
    private readonly node: { readonly name: string; readonly op: string },
    private readonly attributes: ReadonlyMap<string, Attribute>,
  ) {}

  int(name: string, fallback: number): number;
  int(name: string, fallback?: number): number | undefined;
  int(name: string, fallback?: number): number | undefined {
    return this.read(name, "int") ?? fallback;
  }
  float(name: string, fallback: number): number;
  float(name: string, fallback?: number): number | undefined;
  float(name: string, fallback?: number): number | undefined {
    return this.read(name, "float") ?? fallback;
  }
  flag(name: string, fallback = false): boolean {
    return (this.read(name, "int") ?? Number(fallback)) !== 0;
  }
  /** A string that must be one of `allowed` when given. */
  string<S extends string>(name: string, fallback: S, allowed?: readonly S[]): S {
    const value = (this.read(name, "string") ?? fallback) as S;
    if (allowed && !allowed.includes(value))
      throw badAttribute(this.node, name, JSON.stringify(value), `one of ${allowed.join(", ")}`);
    return value;
  }
  ints(name: string): readonly number[] | undefined {
    return this.read(name, "ints");
  }
  floats(name: string): readonly number[] | undefined {
    return this.read(name, "floats");
  }
  strings(name: string): readonly string[] | undefined {
    return this.read(name, "strings");
  }
  tensor(name: string): Tensor | undefined {
    return this.read(name, "tensor");
  }
  graph(name: string): Graph | undefined {
    return this.read(name, "graph");
  }
  requiredGraph(name: string): Graph {
    const graph = this.graph(name);
    if (!graph) throw badAttribute(this.node, name, "missing", "a graph");
    return graph;
  }
  /** Attributes that older files carry and that change nothing here. */
  ignore(...names: string[]): void {
    for (const name of names) this.asked.add(name);
  }
  /** Throws when the node has an attribute that nobody read. */
  done(): void {
    const unknown = [...this.attributes.keys()].filter((name) => !this.asked.has(name));
    if (unknown.length > 0) throw unknownAttribute(this.node, unknown, [...this.asked]);
  }

  private read<K extends Attribute["kind"]>(name: string, kind: K): ValueOf<K> | undefined {
    this.asked.add(name);
    const attribute = this.attributes.get(name);
    if (!attribute) return undefined;
    const empty = "value" in attribute && Array.isArray(attribute.value) && attribute.value.length === 0;
    const listKinds = kind === "ints" || kind === "floats" || kind === "strings";
    if (attribute.kind !== kind && !(empty && listKinds) && !(kind === "float" && attribute.kind === "int"))
      throw badAttribute(this.node, name, attribute.kind, kind);
    return attribute.value as unknown as ValueOf<K>;
  }
}

interface Values {
  int: number;
  float: number;
  string: string;
  ints: readonly number[];
  floats: readonly number[];
  strings: readonly string[];
  tensor: Tensor;
  graph: Graph;
}
type ValueOf<K extends Attribute["kind"]> = Values[K];

// --- questions that most operators ask -----------------------------------------------------------------------------------

/** A required input. */
export function need(node: NodeFacts, inputs: readonly (Value | undefined)[], at: number): Value {
  const value = inputs[at];
  if (!value) throw shapeMismatch(node, `input ${at} is missing`, `${inputs.length} inputs were given`);
  return value;
}

/** An axis in [0, rank), counted from the end when negative. `rank` itself is allowed when `end` says so. */
export function axisIn(node: NodeFacts, axis: number, rank: number, end = false): number {
  const exact = axis < 0 ? axis + rank : axis;
  if (!Number.isInteger(axis) || exact < 0 || exact >= rank + (end ? 1 : 0))
    throw shapeMismatch(node, `axis ${axis} is outside of rank ${rank}`);
  return exact;
}

/** Elements of an integer input as dimensions; an error that says how to give them when the build cannot know. */
export function dimsOf(node: NodeFacts, value: Value, role: string): readonly Dim[] {
  const contents = contentsOf(value);
  if (!contents) throw valueNeeded(node, value.name, role);
  return contents;
}

/** As `dimsOf`, where symbols will not do. */
export function intsOf(node: NodeFacts, value: Value, role: string): readonly number[] {
  const contents = dimsOf(node, value, role);
  if (!contents.every(isStatic)) throw valueNeeded(node, value.name, role);
  return contents as readonly number[];
}

/** The tensor that an input must be known to hold at build time. */
export function tensorOf(node: NodeFacts, value: Value, role: string): Tensor {
  const known = knownTensor(value);
  if (!known) throw valueNeeded(node, value.name, role);
  return known;
}

/** Two sizes that must be equal: false when they cannot be; where only a run knows, it will check. `verb`: what the node does to `shapes`. */
export function areSame(node: NodeFacts, a: Dim, b: Dim, verb: string, shapes: readonly (readonly Dim[])[]): boolean {
  if (sameDim(a, b)) return true;
  if (isStatic(a) && isStatic(b)) return false;
  node.requirements.push({ node: `${node.op} "${node.name}"`, verb, shapes, sizes: [a, b], orOne: false });
  return true;
}

/** Refuses a value that is not a vector of `length` elements. */
export function checkVector(node: NodeFacts, value: Value, length: Dim): void {
  const [given, more] = value.shape;
  if (given === undefined || more !== undefined || (isStatic(length) && isStatic(given) && given !== length)) {
    throw shapeMismatch(node, `"${value.name}" is ${shapeText(value.shape)}`, `expected [${dimText(length)}]`);
  }
}
