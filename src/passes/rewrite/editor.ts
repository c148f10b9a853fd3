// A graph under change: who produces and who reads each value is kept up to date by every edit, and nodes are linked lists
// in topological order, so that an edit costs what it touches and not what the graph holds.

import { type Graph, type GraphNode, subgraphsOf } from "../../ir/graph.ts";
import type { Tensor } from "../../ir/tensor.ts";
import type { Value } from "../../ir/value.ts";
import { internal } from "../../util/errors.ts";

/** A node that is being made. */
export type Draft = { -readonly [K in keyof GraphNode]: GraphNode[K] };

interface Link {
  readonly node: GraphNode;
  readonly graph: Graph;
  before: Link | undefined;
  after: Link | undefined;
}

/** Names that are taken, and fresh ones. */
class Names {
  /** Next number to try for each name that is taken. */
  private readonly numbers = new Map<string, number>();

  take(name: string): void {
    if (!this.numbers.has(name)) this.numbers.set(name, 1);
  }

  /** A name that nothing has yet: `base`, or `base` with a number. */
  fresh(base: string): string {
    let name = base;
    for (let n = this.numbers.get(base) ?? 1; this.numbers.has(name); n++) {
      name = `${base}_${n}`;
      this.numbers.set(base, n + 1);
    }
    this.numbers.set(name, 1);
    return name;
  }
}

export class GraphEditor {
  /** Newest version of ONNX's own operators that the graph uses, at least 13: what new nodes follow. */
  readonly opset: number;
  readonly nodeNames = new Names();
  readonly valueNames = new Names();
  /** The nodes that a node stands for besides its own origins: gathered when the graph is finished. */
  private readonly sources = new Map<GraphNode, GraphNode[]>();
  private readonly links = new Map<GraphNode, Link>();
  private readonly heads = new Map<Graph, { first: Link | undefined; last: Link | undefined }>();
  private readonly producers = new Map<Value, GraphNode>();
  /** How often each node reads a value, nodes of nested graphs included. */
  private readonly readers = new Map<Value, Map<GraphNode, number>>();
  /** How often a value is a result of the graph or of a nested one. */
  private readonly results = new Map<Value, number>();

  /** `graph` and its nodes' lists are the editor's from now on; the list of nodes is out of date until `finish`. */
  constructor(
    readonly graph: Graph,
    /** The graphs, nested ones too, in which all values have types. */
    readonly typed: Set<Graph> = new Set([graph]),
  ) {
    this.adoptTree(graph);
    this.opset = graph.nodes.reduce((newest, { domain, opset }) => (domain === "" ? Math.max(newest, opset) : newest), 13);
  }

  // --- questions ---------------------------------------------------------------------------------------------------------

  /** Nodes as they stand, in an order in which each comes after what it reads; nested ones come before their holder. */
  nodes(graph: Graph = this.graph, into: GraphNode[] = []): GraphNode[] {
    for (let link = this.heads.get(graph)?.first; link; link = link.after) {
      for (const nested of subgraphsOf(link.node)) this.nodes(nested, into);
      into.push(link.node);
    }
    return into;
  }
  /** Nodes of one graph without the nested ones. */
  nodesOf(graph: Graph): GraphNode[] {
    const nodes: GraphNode[] = [];
    for (let link = this.heads.get(graph)?.first; link; link = link.after) nodes.push(link.node);
    return nodes;
  }
  has(node: GraphNode): boolean {
    return this.links.has(node);
  }
  graphOf(node: GraphNode): Graph {
    return this.link(node).graph;
  }
  producerOf(value: Value): GraphNode | undefined {
    return this.producers.get(value);
  }
  readersOf(value: Value): Iterable<GraphNode> {
    return this.readers.get(value)?.keys() ?? [];
  }
  isUsed(value: Value): boolean {
    return this.results.has(value) || this.readers.has(value);
  }
  /** True when exactly one input reads the value and it is no result. */
  isSingleUse(value: Value): boolean {
    const readers = this.readers.get(value);
    return !this.results.has(value) && readers?.size === 1 && readers.values().next().value === 1;
  }
  /** The graph and the nested ones in which all values have types. */
  typedGraphs(): Graph[] {
    return [...this.typed].filter((graph) => this.heads.has(graph));
  }

  // --- edits -------------------------------------------------------------------------------------------------------------

  insertBefore(anchor: GraphNode, node: GraphNode): void {
    const at = this.link(anchor);
    const link: Link = { node, graph: at.graph, before: at.before, after: at };
    if (at.before) at.before.after = link;
    else this.heads.get(at.graph)!.first = link;
    at.before = link;
    this.register(link);
    for (const nested of subgraphsOf(node)) this.adoptTree(nested);
  }

  /** Removes a node with its nested graphs. Its outputs have no producer until another node lists them. */
  remove(node: GraphNode): void {
    const link = this.link(node);
    for (const nested of subgraphsOf(node)) this.dropTree(nested);
    const ends = this.heads.get(link.graph)!;
    if (link.before) link.before.after = link.after;
    else ends.first = link.after;
    if (link.after) link.after.before = link.before;
    else ends.last = link.before;
    this.unregister(link);
  }

  /** Says that `node` stands for what `sources` stood for, too. */
  inherit(node: GraphNode, sources: readonly GraphNode[]): void {
    const known = this.sources.get(node);
    if (known) known.push(...sources);
    else this.sources.set(node, [...sources]);
  }

  /** Marks an output as not wanted. */
  dropOutput(node: GraphNode, value: Value): void {
    node.outputs = node.outputs.map((output) => (output === value ? undefined : output));
    this.producers.delete(value);
  }

  /** Makes every reader of `old`, nested graphs and results included, read `value`. */
  replaceUses(old: Value, value: Value): void {
    for (const [node, times] of this.readers.get(old) ?? []) {
      const inputs = node.inputs as (Value | undefined)[];
      for (let i = inputs.indexOf(old); i >= 0; i = inputs.indexOf(old, i + 1)) inputs[i] = value;
      this.count(value, node, times);
    }
    this.readers.delete(old);
    const times = this.results.get(old);
    if (!times) return;
    this.results.delete(old);
    this.results.set(value, (this.results.get(value) ?? 0) + times);
    for (const graph of this.heads.keys()) {
      if (graph.outputs.some((output) => output.value === old))
        graph.outputs = graph.outputs.map(({ name, value: v }) => ({ name, value: v === old ? value : v }));
    }
  }

  /** Turns a value into a constant; the node that made it must be removed by the caller. */
  setConstant(value: Value, data: Tensor): void {
    value.data = data;
    value.dtype = data.dtype;
    value.shape = data.shape;
    delete value.contents;
    delete value.assumed;
  }

  /** Removes `node` when nothing uses its outputs, then what only it used. Returns what went. */
  removeUnused(node: GraphNode, removed: GraphNode[] = []): GraphNode[] {
    const pending = [node];
    for (let next = pending.pop(); next; next = pending.pop()) {
      if (!this.links.has(next) || next.outputs.some((value) => value && this.isUsed(value))) continue;
      const reads = this.readsWithin(next);
      this.remove(next);
      removed.push(next);
      for (const value of reads) {
        const producer = this.producers.get(value);
        if (producer) pending.push(producer);
      }
    }
    return removed;
  }

  /** The graph, its lists up to date. The editor stays usable. */
  finish(): Graph {
    for (const graph of this.heads.keys()) graph.nodes = this.nodesOf(graph);
    for (const node of this.sources.keys()) if (this.links.has(node)) (node as Draft).origins = this.originsOf(node);
    return this.graph;
  }

  /** Origins of all that a node stands for, through every rewrite, in order. */
  private originsOf(node: GraphNode): readonly string[] {
    const origins = new Set<string>();
    const seen = new Set<GraphNode>();
    const pending = [node];
    for (let next = pending.pop(); next; next = pending.pop()) {
      if (seen.has(next)) continue;
      seen.add(next);
      for (const origin of next.origins) origins.add(origin);
      const sources = this.sources.get(next);
      for (let i = sources ? sources.length - 1 : -1; i >= 0; i--) pending.push(sources![i]!);
    }
    return [...origins];
  }

  // --- bookkeeping -------------------------------------------------------------------------------------------------------

  private link(node: GraphNode): Link {
    const link = this.links.get(node);
    if (!link) throw internal(node.name, "an edit names a node that is not in the graph");
    return link;
  }

  private adopt(graph: Graph): void {
    const ends: { first: Link | undefined; last: Link | undefined } = { first: undefined, last: undefined };
    this.heads.set(graph, ends);
    for (const value of graph.inputs) this.valueNames.take(value.name);
    for (const node of graph.nodes) {
      const link: Link = { node, graph, before: ends.last, after: undefined };
      if (ends.last) ends.last.after = link;
      else ends.first = link;
      ends.last = link;
      this.register(link);
    }
    for (const { value } of graph.outputs) this.results.set(value, (this.results.get(value) ?? 0) + 1);
  }

  private adoptTree(graph: Graph): void {
    this.adopt(graph);
    for (const node of graph.nodes) for (const nested of subgraphsOf(node)) this.adoptTree(nested);
  }

  private dropTree(graph: Graph): void {
    for (const node of this.nodesOf(graph)) {
      for (const nested of subgraphsOf(node)) this.dropTree(nested);
      this.unregister(this.link(node));
    }
    for (const { value } of graph.outputs) {
      const times = this.results.get(value)! - 1;
      if (times > 0) this.results.set(value, times);
      else this.results.delete(value);
    }
    this.heads.delete(graph);
  }

  private register(link: Link): void {
    const { node } = link;
    this.links.set(node, link);
    this.nodeNames.take(node.name);
    for (const value of node.inputs) {
      this.count(value, node, 1);
      if (value) this.valueNames.take(value.name);
    }
    for (const value of node.outputs) {
      if (!value) continue;
      this.producers.set(value, node);
      this.valueNames.take(value.name);
    }
  }

  private unregister({ node }: Link): void {
    this.links.delete(node);
    for (const value of node.inputs) this.count(value, node, -1);
    for (const value of node.outputs) if (value && this.producers.get(value) === node) this.producers.delete(value);
  }

  private count(value: Value | undefined, node: GraphNode, by: number): void {
    if (!value) return;
    const readers = this.readers.get(value) ?? new Map<GraphNode, number>();
    this.readers.set(value, readers);
    const times = (readers.get(node) ?? 0) + by;
    if (times > 0) readers.set(node, times);
    else readers.delete(node);
    if (readers.size === 0) this.readers.delete(value);
  }

  /** What a node and all nodes nested in it read. */
  private readsWithin(node: GraphNode): Value[] {
    const reads = node.inputs.filter((value) => value !== undefined);
    for (const graph of subgraphsOf(node)) {
      for (const inner of this.nodesOf(graph)) reads.push(...this.readsWithin(inner));
      reads.push(...graph.outputs.map(({ value }) => value));
    }
    return reads;
  }
}
