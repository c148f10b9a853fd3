// ONNX → Graph: values by name, initializers as constants, local functions and subgraphs, nodes in topological order,
// types inferred. Lists every operator that is not supported before it fails.

import { type Attribute, capturesOf, type Graph, type GraphNode, subgraphsOf } from "../ir/graph.ts";
import type { Tensor } from "../ir/tensor.ts";
import { ONNX_TYPE_NAMES } from "../ir/types.ts";
import { makeValue, type Value } from "../ir/value.ts";
import { inferNode } from "../ops/infer.ts";
import { findOperator, refusalOf } from "../ops/registry.ts";
import { cyclicGraph, duplicateValue, unknownInput, unsupportedOps, unsupportedType } from "../util/errors.ts";
import { inlineFunctions } from "./functions.ts";
import {
  type AttributeProto,
  decodeModel,
  type GraphProto,
  type ModelProto,
  type NodeProto,
  toNumber,
  type ValueInfoProto,
} from "./proto.ts";
import { declaredShape, freeAxes, pinnedSizes, type ShapeBounds, type Sizes } from "./signature.ts";
import { decodeSparse, decodeTensor, dtypeOf, type ReadExternal } from "./tensors.ts";

export interface ImportOptions {
  /** Names the model in messages. */
  readonly file?: string;
  readonly readExternal?: ReadExternal;
  /** Sizes of free dimensions that are to be fixed. */
  readonly sizes?: Sizes;
  /** Bounds of shapes: a free dimension that they leave no choice is fixed too. */
  readonly profiles?: readonly ShapeBounds[];
  /** What inputs will hold, by name, so that shapes may depend on it. */
  readonly assumed?: Readonly<Record<string, Tensor>>;
}

const NO_EXTERNAL: ReadExternal = () => {
  throw new Error("no folder was given to look in");
};

/** Imports a model. Throws a KilnError for whatever is wrong with it. */
export function importModel(bytes: Uint8Array, options: ImportOptions = {}): Graph {
  const file = options.file ?? "model";
  const model = inlineFunctions(decodeModel(bytes, file));
  const pinned = pinnedSizes(model.graph?.input ?? [], options.profiles ?? []);
  const all = { ...options, sizes: { ...pinned, ...options.sizes } };
  const isPinned = (size: string): boolean => size in pinned && !(size in (options.sizes ?? {}));
  const reader = new GraphReader(opsetsOf(model), options.readExternal ?? NO_EXTERNAL, all, isPinned);
  const graph = reader.read(model.graph!, new Map());
  refuseUnsupported(graph, file);
  inferGraph(graph);
  return graph;
}

const opsetsOf = (model: ModelProto): ReadonlyMap<string, number> =>
  new Map(
    (model.opsetImport ?? []).map(({ domain, version }) => [domain === "ai.onnx" ? "" : (domain ?? ""), toNumber(version)]),
  );

class GraphReader {
  private unnamed = 0;

  constructor(
    private readonly opsets: ReadonlyMap<string, number>,
    private readonly readExternal: ReadExternal,
    private readonly options: ImportOptions,
    private readonly isPinned: (size: string) => boolean,
  ) {}

  /** Reads a graph; `outer` has the values of the enclosing ones. */
  read(proto: GraphProto, outer: ReadonlyMap<string, Value>, nested = false): Graph {
    const values = new Map<string, Value>(outer);
    const constants = new Set<string>();
    const define = (name: string, data: Tensor): void => {
      values.set(name, { ...makeValue(name, data.dtype, data.shape), data });
      constants.add(name);
    };
    for (const dense of proto.initializer ?? []) define(dense.name ?? "", decodeTensor(dense, this.readExternal));
    for (const sparse of proto.sparseInitializer ?? [])
      define(sparse.values?.name ?? "", decodeSparse(sparse, this.readExternal));
    const inputs: Value[] = [];
    for (const info of proto.input ?? []) {
      if (constants.has(info.name ?? "")) continue;
      const value = this.input(info, nested);
      values.set(value.name, value);
      inputs.push(value);
    }
    const produced = new Set<string>();
    for (const node of proto.node ?? [])
      for (const name of node.output ?? []) {
        if (!name) continue;
        if (produced.has(name)) throw duplicateValue(node.name ?? node.opType ?? "", name);
        produced.add(name);
        values.set(name, makeValue(name, "f32", []));
      }
    const nodes = (proto.node ?? []).map((node) => this.node(node, values));
    const outputs = (proto.output ?? []).map(({ name }) => {
      const value = values.get(name ?? "");
      if (!value) throw unknownInput("graph output", name ?? "");
      return { name: name ?? "", value };
    });
    return { name: proto.name ?? "", inputs, outputs, nodes: sortTopologically(nodes) };
  }

  private input(info: ValueInfoProto, nested: boolean): Value {
    const name = info.name ?? "";
    const type = info.type?.tensorType;
    if (!type) {
      // Subgraph inputs may leave their type to inference.
      if (nested && !info.type) return makeValue(name, "f32", []);
      const kind = info.type?.sequenceType
        ? "sequence"
        : info.type?.mapType
          ? "map"
          : info.type
            ? "optional or sparse tensor"
            : "nothing";
      throw unsupportedType(`input "${name}"`, kind);
    }
    const dtype = dtypeOf(type.elemType ?? 0, `input "${name}"`);
    const value = makeValue(name, dtype, declaredShape(info, nested ? {} : this.options.sizes));
    const assumed = nested ? undefined : this.options.assumed?.[name];
    if (assumed) value.assumed = assumed;
    const pinned = nested ? [] : freeAxes(info, this.isPinned);
    if (pinned.length > 0) value.pinned = pinned;
    return value;
  }

  private node(proto: NodeProto, values: ReadonlyMap<string, Value>): GraphNode {
    const op = proto.opType ?? "";
    const domain = proto.domain === "ai.onnx" ? "" : (proto.domain ?? "");
    const name = proto.name || `${op}_${this.unnamed++}`;
    const inputs = (proto.input ?? []).map((input) => {
      if (!input) return undefined;
      const value = values.get(input);
      if (!value) throw unknownInput(name, input);
      return value;
    });
    const outputs = (proto.output ?? []).map((output) => (output ? values.get(output) : undefined));
    const attributes = new Map(
      (proto.attribute ?? []).map((attribute) => [attribute.name ?? "", this.attribute(attribute, name, values)]),
    );
    return {
      name,
      origins: [name],
      op,
      domain,
      opset: this.opsets.get(domain) ?? 1,
      inputs: trimTrailing(inputs),
      outputs: trimTrailing(outputs),
      attributes,
    };
  }

  private attribute(proto: AttributeProto, node: string, values: ReadonlyMap<string, Value>): Attribute {
    const text = (bytes: Uint8Array | null | undefined): string => new TextDecoder().decode(bytes ?? new Uint8Array());
    switch (proto.type) {
      case 1:
        return { kind: "float", value: proto.f ?? 0 };
      case 2:
        return { kind: "int", value: toNumber(proto.i) };
      case 3:
        return { kind: "string", value: text(proto.s) };
      case 4:
        return { kind: "tensor", value: decodeTensor(proto.t ?? {}, this.readExternal) };
      case 5:
        return { kind: "graph", value: this.read(proto.g ?? {}, values, true) };
      case 6:
        return { kind: "floats", value: [...(proto.floats ?? [])] };
      case 7:
        return { kind: "ints", value: (proto.ints ?? []).map(toNumber) };
      case 11:
        return { kind: "tensor", value: decodeSparse(proto.sparseTensor ?? {}, this.readExternal) };
      case 8:
        return { kind: "strings", value: (proto.strings ?? []).map(text) };
      default:
        throw unsupportedType(
          `attribute "${proto.name}" of node "${node}"`,
          ATTRIBUTE_TYPES[proto.type ?? 0] ?? ONNX_TYPE_NAMES[0]!,
        );
    }
  }
}

const ATTRIBUTE_TYPES: Readonly<Record<number, string>> = {
  9: "list of tensors",
  10: "list of graphs",
  12: "list of sparse tensors",
  13: "type",
  14: "list of types",
};

function trimTrailing<T>(list: readonly (T | undefined)[]): readonly (T | undefined)[] {
  let length = list.length;
  while (length > 0 && list[length - 1] === undefined) length--;
  return list.slice(0, length);
}

/** Orders nodes so that each comes after what it reads (captures of its subgraphs included). */
function sortTopologically(nodes: readonly GraphNode[]): GraphNode[] {
  const producer = new Map<Value, GraphNode>();
  for (const node of nodes) for (const value of node.outputs) if (value) producer.set(value, node);
  const state = new Map<GraphNode, "open" | "done">();
  const sorted: GraphNode[] = [];
  for (const root of nodes) {
    // An explicit stack: exporters write chains of thousands of nodes.
    const stack: { node: GraphNode; next: number; needs: readonly GraphNode[] }[] = [];
    const enter = (node: GraphNode): void => {
      state.set(node, "open");
      const reads = [...node.inputs.filter((value) => value !== undefined), ...subgraphsOf(node).flatMap(capturesOf)];
      stack.push({ node, next: 0, needs: reads.flatMap((value) => producer.get(value) ?? []) });
    };
    if (!state.has(root)) enter(root);
    while (stack.length > 0) {
      const top = stack.at(-1)!;
      const needed = top.needs[top.next++];
      if (!needed) {
        state.set(top.node, "done");
        sorted.push(top.node);
        stack.pop();
      } else if (state.get(needed) === "open") {
        const from = stack.findIndex(({ node }) => node === needed);
        throw cyclicGraph([...stack.slice(from).map(({ node }) => node.name), needed.name]);
      } else if (!state.has(needed)) enter(needed);
    }
  }
  return sorted;
}

/** Throws one error that names every operator that cannot be compiled, subgraphs included. */
function refuseUnsupported(graph: Graph, file: string): void {
  const refused = new Map<string, { op: string; opset: number; nodes: string[]; why: string }>();
  const look = (inner: Graph): void => {
    for (const node of inner.nodes) {
      for (const nested of subgraphsOf(node)) look(nested);
      const operator = findOperator(node.domain, node.op);
      const why = operator ? undefined : refusalOf(node.domain, node.op);
      if (!why) continue;
      const op = node.domain ? `${node.domain}.${node.op}` : node.op;
      const entry = refused.get(op) ?? { op, opset: node.opset, nodes: [], why };
      entry.nodes.push(node.name);
      refused.set(op, entry);
    }
  };
  look(graph);
  if (refused.size > 0) throw unsupportedOps(file, [...refused.values()]);
}

/** Infers the types of every value in order. */
export function inferGraph(graph: Graph): void {
  for (const node of graph.nodes) inferNode(node);
}
