// Makes a graph's quantization explicit: a QuantizeLinear and a DequantizeLinear behind every value that is quantized, integer
// constants with a DequantizeLinear in the place of weights and biases. What the nodes compute stays as it was but for the
// rounding. ONNX: https://onnx.ai/onnx/operators/onnx__QuantizeLinear.html

import type { Graph, GraphNode } from "../ir/graph.ts";
import { numbersOf, scalarTensor, type Tensor, tensor } from "../ir/tensor.ts";
import type { DType } from "../ir/types.ts";
import type { Value } from "../ir/value.ts";
import { Draft } from "./draft.ts";
import { biasOf, type Group, type Sites, weightsOf } from "./sites.ts";
import { quantizeBias, quantizeWeights } from "./weights.ts";

/** The graph with pairs at `sites`; `scales` has that of each quantized value, by name. The given graph stays as it is. */
export function insertPairs(graph: Graph, sites: Sites, scales: ReadonlyMap<string, number>): Graph {
  return new Inserter(graph, sites, scales).run();
}

/** The version of QuantizeLinear that takes the type. */
const opsetFor = (dtype: DType): number => (dtype === "f32" ? 13 : 19);
/** The number that a scale is in the type of what it scales. */
const rounded = (dtype: DType, scale: number): number => numbersOf(tensor(dtype, [], [scale]))[0]!;

class Inserter {
  private readonly draft: Draft;
  /** What quantized nodes read in the place of each value. */
  private readonly instead = new Map<Value, Value>();
  /** Scale and zero point of each group, shared by its pairs. */
  private readonly factors = new Map<Group, { readonly scale: Value; readonly zero: Value }>();
  private readonly groupOf = new Map<Value, Group>();
  private readonly weights = new Map<string, Value>();

  constructor(
    private readonly graph: Graph,
    private readonly sites: Sites,
    private readonly scales: ReadonlyMap<string, number>,
  ) {
    this.draft = new Draft(graph);
    for (const group of sites.groups) for (const value of group.values) this.groupOf.set(value, group);
  }

  run(): Graph {
    const { graph, sites, draft } = this;
    const products = new Set(sites.products);
    for (const value of graph.inputs) this.pair(value);
    for (const node of graph.nodes) {
      const reads = sites.reads.get(node);
      const inputs = node.inputs.map((value, i) => (value && reads?.has(i) ? (this.instead.get(value) ?? value) : value));
      if (products.has(node)) this.quantizeConstants(node, inputs);
      draft.nodes.push(reads ? { ...node, inputs } : node);
      for (const value of node.outputs) if (value) this.pair(value);
    }
    return { ...graph, nodes: draft.nodes };
  }

  private pair(value: Value): void {
    const group = this.groupOf.get(value);
    if (!group) return;
    const { scale, zero } = this.factorsOf(group, value);
    const since = opsetFor(value.dtype);
    const bytes = this.draft.node("QuantizeLinear", `${value.name}_quantized`, [value, scale, zero], {}, since);
    this.instead.set(value, this.draft.node("DequantizeLinear", `${value.name}_dequantized`, [bytes, scale, zero], {}, since));
  }

  private factorsOf(group: Group, first: Value): { readonly scale: Value; readonly zero: Value } {
    let factors = this.factors.get(group);
    if (!factors) {
      const scale = this.draft.constant(`${first.name}_scale`, tensor(first.dtype, [], [this.scales.get(first.name)!]));
      factors = { scale, zero: this.draft.constant(`${first.name}_zero_point`, scalarTensor("i8", 0)) };
      this.factors.set(group, factors);
    }
    return factors;
  }

  /** Puts integers in the place of a product's weights and, where its sum's unit is known, its bias. */
  private quantizeConstants(node: GraphNode, inputs: (Value | undefined)[]): void {
    const weights = weightsOf(node);
    if (!weights) return;
    const { at, value, axis } = weights;
    const bias = biasOf(node, weights);
    const source = this.sites.sourceOf(node.inputs[1 - at]!);
    const inputScale = rounded(source.dtype, this.scales.get(source.name)!);
    const key = `${value.name}:${bias ? node.name : axis}`;
    const known = this.weights.get(key);
    if (known) {
      inputs[at] = known;
      return;
    }
    const { data, scales } = quantizeWeights(value.data!, axis, inputScale, bias?.data);
    inputs[at] = this.dequantized(value, data, scales, axis);
    this.weights.set(key, inputs[at]);
    if (!bias) return;
    const units = quantizeBias(bias.data!, inputScale, scales);
    inputs[2] = this.dequantized(bias, units.data, units.scales, bias.shape.length - 1);
  }

  private dequantized(like: Value, data: Tensor, scales: Float32Array, axis: number): Value {
    const bytes = this.draft.constant(`${like.name}_quantized`, data);
    const scale = this.draft.constant(`${like.name}_scale`, tensor(like.dtype, [scales.length], scales));
    const zero = this.draft.constant(
      `${like.name}_zero_point`,
      tensor(data.dtype, [scales.length], new Array<number>(scales.length).fill(0)),
    );
    return this.draft.node(
      "DequantizeLinear",
      `${like.name}_dequantized`,
      [bytes, scale, zero],
      { axis: { kind: "int", value: axis } },
      opsetFor(like.dtype),
    );
  }
}
