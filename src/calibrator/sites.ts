// Which values of a graph are to be 8-bit integers: what convolutions and matrix products read, what residual additions and
// pools between them read, and what those values are moved through. Values that must not be rounded twice share a scale.

import { sameShape } from "../ir/dims.ts";
import { capturesOf, type Graph, type GraphNode, subgraphsOf } from "../ir/graph.ts";
import type { Value } from "../ir/value.ts";
import { AttributeReader } from "../ops/define.ts";

export interface SiteOptions {
  /** Nodes that stay in float, by their name or that of a node of the model they stand for. */
  readonly keep?: Iterable<string>;
  /** False: the products that read the network's inputs stay in float. Default true. */
  readonly firstLayers?: boolean;
  /** False: the products behind which there is no other stay in float. Default true. */
  readonly lastLayers?: boolean;
}

/** Values that are quantized by one scale. */
export interface Group {
  readonly values: readonly Value[];
  /** Those of which the scale comes: what a pool leaves out, or a concatenation reads, matters only as it leaves them. */
  readonly measured: readonly Value[];
}

export interface Sites {
  /** Convolutions and matrix products that read 8-bit integers. */
  readonly products: readonly GraphNode[];
  readonly groups: readonly Group[];
  /** Which inputs of a node read a quantized value. */
  readonly reads: ReadonlyMap<GraphNode, ReadonlySet<number>>;
  /** The quantized value that a value is a view of: itself, most of the time. */
  readonly sourceOf: (value: Value) => Value;
}

/** Give elements another place and nothing else: a quantized input makes a quantized output. */
const VIEWS: ReadonlySet<string> = new Set(["Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Identity", "Slice"]);
/** Make their output of elements (or of means) of their input: both have one scale. */
const MOVERS: ReadonlySet<string> = new Set(["MaxPool", "Resize", "Upsample", "Concat"]);
const POOLS: ReadonlySet<string> = new Set(["AveragePool", "GlobalAveragePool"]);
/** Go into the kernel before them. */
const ACTIVATIONS: ReadonlySet<string> = new Set(["Relu", "Clip"]);

/** Decides what is quantized. Nodes inside of loops and branches stay in float. */
export function findSites(graph: Graph, options: SiteOptions = {}): Sites {
  return new Finder(graph, options).run();
}

const isReal = (value: Value | undefined): value is Value =>
  value !== undefined && (value.dtype === "f32" || value.dtype === "f16");
const isActivation = (value: Value | undefined): value is Value => isReal(value) && !value.data;

/** Inputs of a product that are activations; none when it cannot be one of integers. */
export function activationsOf(node: GraphNode): readonly number[] {
  const {
    op,
    domain,
    inputs: [a, b],
  } = node;
  if (domain !== "") return [];
  switch (op) {
    case "Conv":
      return isActivation(a) && isReal(b) && b.data ? [0] : [];
    case "Gemm":
      return isActivation(a) && isReal(b) && b.data && attributesOf(node).float("alpha", 1) === 1 ? [0] : [];
    case "MatMul":
      return isReal(a) && isReal(b) && a.dtype === b.dtype && a.shape.length > 1 && b.shape.length > 1
        ? [0, 1].filter((i) => !(i === 0 ? a : b).data)
        : [];
    default:
      return [];
  }
}

export interface Weights {
  /** Which input they are. */
  readonly at: 0 | 1;
  readonly value: Value;
  /** The axis along which output channels lie. */
  readonly axis: number;
}

/** The constant operand of a product. */
export function weightsOf(node: GraphNode): Weights | undefined {
  const [a, b] = node.inputs;
  const at = b?.data ? 1 : a?.data ? 0 : undefined;
  if (at === undefined) return undefined;
  const value = node.inputs[at]!;
  const rank = value.shape.length;
  const axis =
    node.op === "Conv" ? 0 : node.op === "Gemm" ? (attributesOf(node).flag("transB") ? 0 : 1) : at === 1 ? rank - 1 : rank - 2;
  return { at, value, axis };
}

/** A product's bias, when it is a constant that adds one number to each channel in f32. */
export function biasOf(node: GraphNode, { at, value, axis }: Weights): Value | undefined {
  const bias = node.inputs[2];
  const channels = value.shape[axis];
  if (
    node.op === "MatMul" ||
    at !== 1 ||
    bias?.dtype !== "f32" ||
    bias.data?.data.length !== channels ||
    bias.shape.at(-1) !== channels
  )
    return undefined;
  return node.op === "Conv" || attributesOf(node).float("beta", 1) === 1 ? bias : undefined;
}

const attributesOf = (node: GraphNode): AttributeReader => new AttributeReader(node, node.attributes);

class Finder {
  private readonly makers = new Map<Value, GraphNode>();
  private readonly readers = new Map<Value, GraphNode[]>();
  /** Values that something reads which no pass sees: subgraphs, and the caller. */
  private readonly fixed = new Set<Value>();
  private readonly products = new Set<GraphNode>();
  /** Values that come of a product, or of what goes into its kernel. */
  private readonly born = new Set<Value>();
  private readonly reads = new Map<GraphNode, Set<number>>();
  /** Values that are to be quantized, each in its group. */
  private readonly groups = new Map<Value, Set<Value>>();

  constructor(
    private readonly graph: Graph,
    options: SiteOptions,
  ) {
    for (const node of graph.nodes) {
      for (const value of new Set(node.inputs)) if (value) this.readersOf(value).push(node);
      for (const value of node.outputs) if (value) this.makers.set(value, node);
      for (const nested of subgraphsOf(node)) for (const value of capturesOf(nested)) this.fixed.add(value);
    }
    for (const { value } of graph.outputs) this.fixed.add(value);
    const candidates = graph.nodes.filter((node) => activationsOf(node).length > 0);
    const left = new Set<GraphNode>();
    if (options.firstLayers === false) for (const node of outermost(graph.nodes, candidates, "inputs")) left.add(node);
    if (options.lastLayers === false)
      for (const node of outermost([...graph.nodes].reverse(), candidates, "outputs")) left.add(node);
    const keep = new Set(options.keep);
    for (const node of candidates)
      if (!left.has(node) && ![node.name, ...node.origins].some((name) => keep.has(name))) this.products.add(node);
    for (const node of graph.nodes)
      if (this.products.has(node) || (this.passes(node) && node.inputs.some((value) => value && this.born.has(value))))
        this.born.add(node.outputs[0]!);
  }

  run(): Sites {
    for (const node of [...this.graph.nodes].reverse()) this.look(node);
    const groups = [...new Set(this.groups.values())].map((group): Group => {
      const values = [...group].filter((value) => !this.isView(value));
      return { values, measured: values.filter((value) => !this.isPassedOn(value)) };
    });
    const sourceOf = (value: Value): Value => (this.isView(value) ? sourceOf(this.makers.get(value)!.inputs[0]!) : value);
    return { products: [...this.products], groups, reads: this.reads, sourceOf };
  }

  private look(node: GraphNode): void {
    const [out] = node.outputs;
    if (!out || node.domain !== "") return;
    if (this.products.has(node)) for (const i of activationsOf(node)) this.quantize(node, i);
    else if ((VIEWS.has(node.op) || MOVERS.has(node.op)) && this.groups.has(out)) {
      const moved = node.op === "Concat" ? node.inputs.keys() : [0];
      for (const i of moved) if (this.quantize(node, i)) this.join(out, node.inputs[i]!);
    } else if (POOLS.has(node.op) && this.born.has(node.inputs[0]!)) this.quantize(node, 0);
    else if (node.op === "Add" && this.isResidual(node) && this.isAbsorbed(out)) {
      const inside = this.addedInside(node);
      for (const i of [0, 1]) if (i !== inside) this.quantize(node, i);
      if (inside === undefined) this.join(node.inputs[0]!, node.inputs[1]!);
    }
  }

  /**
   * Which operand of a residual addition comes of a product for nothing else: that product adds the other one before it rounds, as
   * TensorRT has it. Of two the one that reads what no other does: the other may become one kernel with those that read the same.
   */
  private addedInside({ inputs }: GraphNode): number | undefined {
    const makers = inputs.map((value) => (value && this.readersOf(value).length === 1 ? this.makers.get(value) : undefined));
    const siblings = (i: number): number => this.readersOf(makers[i]!.inputs[0]!).length;
    const own = [1, 0].filter((i) => makers[i] && this.products.has(makers[i]));
    return own.sort((a, b) => siblings(a) - siblings(b))[0];
  }

  private quantize(node: GraphNode, input: number): boolean {
    const value = node.inputs[input];
    if (!isActivation(value)) return false;
    if (!this.groups.has(value)) this.groups.set(value, new Set([value]));
    const inputs = this.reads.get(node);
    if (inputs) inputs.add(input);
    else this.reads.set(node, new Set([input]));
    return true;
  }

  private join(a: Value, b: Value): void {
    const [one, other] = [this.groups.get(a)!, this.groups.get(b)!];
    for (const value of other) {
      one.add(value);
      this.groups.set(value, one);
    }
  }

  private isResidual({ inputs: [a, b] }: GraphNode): boolean {
    return (
      isActivation(a) && isActivation(b) && a !== b && sameShape(a.shape, b.shape) && (this.born.has(a) || this.born.has(b))
    );
  }

  /** True when everything that reads the value (behind activations) reads it quantized. */
  private isAbsorbed(value: Value): boolean {
    const readers = this.readersOf(value);
    if (this.fixed.has(value) || readers.length === 0) return false;
    return readers.every((node) => {
      if (ACTIVATIONS.has(node.op)) return this.isAbsorbed(node.outputs[0]!);
      return node.inputs.every((input, i) => input !== value || this.reads.get(node)?.has(i));
    });
  }

  /** Whether what comes of a product is, behind this node, still of it. */
  private passes({ op, domain }: GraphNode): boolean {
    return domain === "" && (ACTIVATIONS.has(op) || VIEWS.has(op) || MOVERS.has(op) || op === "Add");
  }

  /** True when all that read the value quantized make another quantized value of it. */
  private isPassedOn(value: Value): boolean {
    return this.readersOf(value).every((node) => {
      const reads = this.reads.get(node);
      if (!reads || !node.inputs.some((input, i) => input === value && reads.has(i))) return true;
      const [out] = node.outputs;
      return node.op === "MaxPool" || node.op === "Concat" || (VIEWS.has(node.op) && this.isPassedOn(out!));
    });
  }

  /** A view of a quantized value needs no rounding of its own. */
  private isView(value: Value): boolean {
    const maker = this.makers.get(value);
    return maker !== undefined && maker.domain === "" && VIEWS.has(maker.op) && this.reads.has(maker);
  }

  private readersOf(value: Value): GraphNode[] {
    let list = this.readers.get(value);
    if (!list) this.readers.set(value, (list = []));
    return list;
  }
}

/** Of `candidates` those that no other comes before, in the order in which `nodes` are walked, from their `side`. */
function outermost(nodes: readonly GraphNode[], candidates: readonly GraphNode[], side: "inputs" | "outputs"): GraphNode[] {
  const behind = new Set<Value>();
  const isCandidate = new Set(candidates);
  const far = side === "inputs" ? "outputs" : "inputs";
  const found: GraphNode[] = [];
  for (const node of nodes) {
    const reached = node[side].some((value) => value && behind.has(value));
    if (isCandidate.has(node) && !reached) found.push(node);
    if (reached || isCandidate.has(node)) for (const value of node[far]) if (value) behind.add(value);
  }
  return found;
}
