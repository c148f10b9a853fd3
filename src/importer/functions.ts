// Model-local functions, expanded in place: each call becomes the function's nodes with its values renamed.

import type { AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto } from "./proto.ts";

/** The model without calls of its own functions. */
export function inlineFunctions(model: ModelProto): ModelProto {
  const functions = new Map((model.functions ?? []).map((fn) => [`${fn.domain ?? ""}:${fn.name}`, fn]));
  if (functions.size === 0) return model;
  const expander = new Expander(functions);
  return { ...model, graph: expander.graph(model.graph ?? {}) };
}

class Expander {
  private calls = 0;

  constructor(private readonly functions: ReadonlyMap<string, FunctionProto>) {}

  graph(graph: GraphProto): GraphProto {
    return { ...graph, node: this.nodes(graph.node ?? []) };
  }

  private nodes(nodes: readonly NodeProto[]): NodeProto[] {
    return nodes.flatMap((node) => {
      const withGraphs = {
        ...node,
        attribute: (node.attribute ?? []).map((attribute) =>
          attribute.g ? { ...attribute, g: this.graph(attribute.g) } : attribute,
        ),
      };
      const fn = this.functions.get(`${node.domain ?? ""}:${node.opType}`);
      return fn ? this.nodes(this.call(withGraphs, fn)) : [withGraphs];
    });
  }

  /** The body of `fn` with the call's inputs, outputs and attributes in place of its own. */
  private call(node: NodeProto, fn: FunctionProto): NodeProto[] {
    const prefix = `${node.name || fn.name}/${this.calls++}`;
    const names = new Map<string, string>([["", ""]]);
    (fn.input ?? []).forEach((name, i) => names.set(name, node.input?.[i] ?? ""));
    (fn.output ?? []).forEach((name, i) => names.set(name, node.output?.[i] || `${prefix}/${name}`));
    const rename = (name: string): string => names.get(name) ?? `${prefix}/${name}`;
    const given = new Map((node.attribute ?? []).map((attribute) => [attribute.name ?? "", attribute]));
    return (fn.node ?? []).map((inner) => this.renamed(inner, rename, given, prefix));
  }

  private renamed(
    node: NodeProto,
    rename: (name: string) => string,
    given: ReadonlyMap<string, AttributeProto>,
    prefix: string,
  ): NodeProto {
    const attribute = (node.attribute ?? []).flatMap((own) => {
      const reference = own.refAttrName;
      const bound = reference ? given.get(reference) : own;
      if (!bound) return [];
      const graph = bound.g && !reference ? { g: this.renamedGraph(bound.g, rename, given, prefix) } : {};
      return [{ ...bound, ...graph, name: own.name ?? "" }];
    });
    return {
      ...node,
      name: `${prefix}/${node.name || node.opType}`,
      input: (node.input ?? []).map(rename),
      output: (node.output ?? []).map(rename),
      attribute,
    };
  }

  private renamedGraph(
    graph: GraphProto,
    rename: (name: string) => string,
    given: ReadonlyMap<string, AttributeProto>,
    prefix: string,
  ): GraphProto {
    return {
      ...graph,
      node: (graph.node ?? []).map((node) => this.renamed(node, rename, given, prefix)),
      input: (graph.input ?? []).map((info) => ({ ...info, name: rename(info.name ?? "") })),
      output: (graph.output ?? []).map((info) => ({ ...info, name: rename(info.name ?? "") })),
      initializer: (graph.initializer ?? []).map((tensor) => ({ ...tensor, name: rename(tensor.name ?? "") })),
    };
  }
}
