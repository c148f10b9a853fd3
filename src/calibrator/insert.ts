// Makes a graph's quantization explicit: a QuantizeLinear and a DequantizeLinear behind every value that is quantized, integer
// constants with a DequantizeLinear in the place of weights and biases. What the nodes compute stays as it was but for the
// rounding. ONNX: https://onnx.ai/onnx/operators/onnx__QuantizeLinear.html

import type { Attribute, Graph, GraphNode } from "../ir/graph.ts";
import { type Tensor, scalarTensor, tensor } from "../ir/tensor.ts";
import type { DType } from "../ir/types.ts";
import { type Value, makeValue } from "../ir/value.ts";
import { AttributeReader } from "../ops/define.ts";
import { inferNode } from "../ops/infer.ts";
import type { Sites } from "./sites.ts";
import { quantizeBias, quantizeWeights } from "./weights.ts";

/** The graph with pairs at `sites`; `scales` has that of each quantized value, by name. The given graph stays as it is. */
export function insertPairs(graph: Graph, sites: Sites, scales: ReadonlyMap<string, number>): Graph {
  return new Inserter(graph, sites, scales).run();
}

/** The first version of DequantizeLinear with scales along an axis, and that with float16 scales. */
const opsetFor = (dtype: DType): number => (dtype === "f16" ? 19 : 13);

class Inserter {
  private readonly names = new Set<string>();
  private readonly opset: number;
  private readonly nodes: GraphNode[] = [];
  /** What quantized nodes read in the place of each value. */
  private readonly instead = new Map<Value, Value>();
  /** Scale and zero point of each group, shared by its pairs. */
  private readonly factors = new Map<readonly Value[], { readonly scale: Value; readonly zero: Value }>();
  private readonly groupOf = new Map<Value, readonly Value[]>();
  private readonly weights = new Map<string, { readonly value: Value; readonly scales: Float32Array }>();

  constructor(
    private readonly graph: Graph,
    private readonly sites: Sites,
    private readonly scales: ReadonlyMap<string, number>,
  ) {
    for (const node of graph.nodes) {
      this.names.add(node.name);
      for (const value of [...node.inputs, ...node.outputs]) if (value) this.names.add(value.name);
    }
    for (const value of graph.inputs) this.names.add(value.name);
    for (const group of sites.groups) for (const value of group) this.groupOf.set(value, group);
    this.opset = graph.nodes.reduce((newest, { domain, opset }) => (domain === "" ? Math.max(newest, opset) : newest), 13);
  }

  run(): Graph {
    const { graph, sites } = this;
    const products = new Set(sites.products);
    for (const value of graph.inputs) this.pair(value);
    for (const node of graph.nodes) {
      const reads = sites.reads.get(node);
      const inputs = node.inputs.map((value, i) => (value && reads?.has(i) ? this.dequantized(value) : value));
      if (products.has(node)) this.quantizeConstants(node, inputs);
      const quantized: GraphNode = reads ? { ...node, inputs } : node;
      this.nodes.push(quantized);
      for (const value of node.outputs) if (value) this.pair(value);
    }
    return { ...graph, nodes: this.nodes };
  }

  private pair(value: Value): void {
    const group = this.groupOf.get(value);
    if (!group) return;
    const { scale, zero } = this.factorsOf(group, value);
    const bytes = this.node("QuantizeLinear", `${value.name}_quantized`, [value, scale, zero], value);
    this.instead.set(value, this.node("DequantizeLinear", `${value.name}_dequantized`, [bytes, scale, zero], value));
  }

  /** The value as quantized nodes read it; that of a view is itself. */
  private dequantized(value: Value): Value {
    return this.instead.get(value) ?? value;
  }

  private factorsOf(group: readonly Value[], first: Value): { readonly scale: Value; readonly zero: Value } {
    let factors = this.factors.get(group);
    if (!factors) {
      factors = { scale: this.constant(`${first.name}_scale`, tensor(first.dtype, [], [this.scaleOf(first)])), zero: this.constant(`${first.name}_zero_point`, scalarTensor("i8", 0)) };
      this.factors.set(group, factors);
    }
    return factors;
  }

  /** The scale by which a value is quantized: its own, or that of the value it is a view of. */
  private scaleOf(value: Value): number {
    const scale = this.scales.get(value.name);
    if (scale !== undefined) return scale;
    const maker = this.graph.nodes.find(({ outputs }) => outputs[0] === value);
    return this.scaleOf(maker!.inputs[0]!);
  }

  /** Puts integers in the place of a product's weights and, where its sum's unit is known, its bias. */
  private quantizeConstants(node: GraphNode, inputs: (Value | undefined)[]): void {
    const at = node.inputs[1]?.data ? 1 : node.inputs[0]?.data ? 0 : undefined;
    if (at === undefined) return;
    const weights = node.inputs[at]!;
    const axis = channelAxis(node, at, weights.shape.length);
    const inputScale = Math.fround(this.scaleOf(node.inputs[1 - at]!));
    const bias = at === 1 ? biasOf(node, weights.data!.shape[axis]!) : undefined;
    const key = bias ? node.name : `${axis}`;
    const known = this.weights.get(`${weights.name}:${key}`);
    if (known) inputs[at] = known.value;
    else {
      const { data, scales } = quantizeWeights(weights.data!, axis, inputScale, bias?.data);
      const value = this.dequantizedConstant(weights, data, scales, axis);
      this.weights.set(`${weights.name}:${key}`, { value, scales });
      inputs[at] = value;
      if (bias) {
        const units = quantizeBias(bias.data!, inputScale, scales);
        inputs[2] = this.dequantizedConstant(bias, units.data, units.scales, bias.shape.length - 1);
      }
    }
  }

  private dequantizedConstant(like: Value, data: Tensor, scales: Float32Array, axis: number): Value {
    const bytes = this.constant(`${like.name}_quantized`, data);
    const scale = this.constant(`${like.name}_scale`, tensor(like.dtype, [scales.length], scales));
    const zero = this.constant(`${like.name}_zero_point`, tensor(data.dtype, [scales.length], new Array<number>(scales.length).fill(0)));
    return this.node("DequantizeLinear", `${like.name}_dequantized`, [bytes, scale, zero], like, { axis: { kind: "int", value: axis } });
  }

  private constant(base: string, data: Tensor): Value {
    return { ...makeValue(this.fresh(base), data.dtype, data.shape), data };
  }

  private node(op: string, base: string, inputs: readonly Value[], like: Value, attributes: Readonly<Record<string, Attribute>> = {}): Value {
    const name = this.fresh(base);
    const out = makeValue(name, "f32", []);
    const opset = Math.max(this.opset, opsetFor(like.dtype));
    const node: GraphNode = { name, origins: [name], op, domain: "", opset, inputs, outputs: [out], attributes: new Map(Object.entries(attributes)) };
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

/** The axis of a product's weights along which its output channels lie. */
function channelAxis({ op, name, attributes }: GraphNode, input: number, rank: number): number {
  if (op === "Conv") return 0;
  if (op === "Gemm") return new AttributeReader({ name, op }, attributes).flag("transB") ? 0 : 1;
  return input === 1 ? rank - 1 : Math.max(0, rank - 2);
}

/** A bias that is added once to each channel of the sum. */
function biasOf({ op, name, inputs: [, , bias], attributes }: GraphNode, channels: number): Value | undefined {
  if (op === "MatMul" || !bias?.data || bias.data.data.length !== channels || bias.shape.at(-1) !== channels) return undefined;
  return op === "Conv" || new AttributeReader({ name, op }, attributes).float("beta", 1) === 1 ? bias : undefined;
}
