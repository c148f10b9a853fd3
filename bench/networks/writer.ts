// Writes a network as an ONNX file: nodes in order, seeded weights of a variance that keeps activations in range. The same
// bytes feed Kiln and its peers, so that nothing is downloaded.

import {
  type AttributeProto,
  encodeModel,
  type NodeProto,
  type TensorProto,
  type ValueInfoProto,
} from "../../src/importer/proto.ts";
import { sizeOf, type Tensor, tensor } from "../../src/ir/tensor.ts";
import { type DType, dtypeFacts } from "../../src/ir/types.ts";

/** What every network can be asked for. */
export interface NetworkOptions {
  /** Size of the first axis; text makes it a symbol. Default 1. */
  readonly batch?: number | string;
  /** BatchNormalization as nodes, as a training checkpoint has it, or folded into convolutions, as most exporters do. Default "folded". */
  readonly batchNorm?: "folded" | "nodes";
  /** Layer normalization as the operator of version 17, or in primitives, as exporters wrote it before. Default "operator". */
  readonly layerNorm?: "operator" | "primitives";
  readonly seed?: number;
}

/** A whole number is an int, any other a float; `{ float }` where a float happens to be whole. */
export type AttributeValue = number | string | readonly number[] | { readonly float: number } | Tensor;
export type Attributes = Readonly<Record<string, AttributeValue>>;

/** Names of values are what its methods take and return. */
export class NetworkWriter {
  readonly batch: number | string;
  private readonly inputs: ValueInfoProto[] = [];
  private readonly outputs: ValueInfoProto[] = [];
  private readonly nodes: NodeProto[] = [];
  private readonly weights = new Map<string, TensorProto>();
  private state: number;

  constructor(
    private readonly name: string,
    private readonly options: NetworkOptions,
    private readonly opset = 17,
  ) {
    this.batch = options.batch ?? 1;
    this.state = (Math.imul(options.seed ?? 1, 0x9e3779b1) ^ 0x5bd1e995) | 1;
  }

  /** True when the first axis is a symbol, so that exporters compute shapes in the graph. */
  get isDynamic(): boolean {
    return typeof this.batch === "string";
  }

  input(name: string, dtype: DType, shape: readonly (number | string)[]): string {
    const dim = shape.map((size) => (typeof size === "string" ? { dimParam: size } : { dimValue: size }));
    this.inputs.push({ name, type: { tensorType: { elemType: dtypeFacts[dtype].onnx, shape: { dim } } } });
    return name;
  }

  /** Marks `value` as a result named `name`. */
  output(name: string, value: string): void {
    this.nodes.push({ opType: "Identity", name: `/${name}`, input: [value], output: [name] });
    this.outputs.push({ name });
  }

  /** Uniform numbers of mean 0 and the given standard deviation. */
  weight(shape: readonly number[], deviation: number, mean = 0): string {
    const data = new Float32Array(sizeOf(shape));
    const scale = (Math.sqrt(3) * deviation) / 2 ** 31;
    // Marsaglia's xorshift32 (https://doi.org/10.18637/jss.v008.i14).
    let s = this.state;
    for (let i = 0; i < data.length; i++) {
      s ^= s << 13;
      s ^= s >>> 17;
      s ^= s << 5;
      data[i] = mean + s * scale;
    }
    this.state = s;
    return this.constant({ dtype: "f32", shape, data });
  }

  constant({ dtype, shape, data }: Tensor): string {
    const name = `w${this.weights.size}`;
    this.weights.set(name, { name, ...encodeTensor({ dtype, shape, data }) });
    return name;
  }

  scalar(value: number): string {
    return this.constant(tensor("f32", [], [value]));
  }
  ints(values: readonly number[]): string {
    return this.constant(tensor("i64", [values.length], values));
  }

  /** A node with one output. */
  node(op: string, inputs: readonly string[], attributes: Attributes = {}): string {
    return this.split(op, inputs, 1, attributes)[0]!;
  }

  /** A node with `count` outputs. */
  split(op: string, inputs: readonly string[], count: number, attributes: Attributes = {}): string[] {
    const name = `/${op}_${this.nodes.length}`;
    const output = Array.from({ length: count }, (_, i) => (count === 1 ? `${name}:out` : `${name}:out${i}`));
    this.nodes.push({
      opType: op,
      name,
      input: [...inputs],
      output: [...output],
      attribute: Object.entries(attributes).map(([key, value]) => encodeAttribute(key, value)),
    });
    return output;
  }

  // --- layers ------------------------------------------------------------------------------------------------------------

  /** A convolution over [n, channels, h, w] with a bias; weights of variance 2 / fan-in (He et al., 2015). */
  conv(
    x: string,
    channels: number,
    filters: number,
    kernel: number | readonly [number, number],
    { stride = 1, groups = 1, pads, bias = true, gain = 2 }: ConvOptions = {},
  ): string {
    const [h, w] = typeof kernel === "number" ? [kernel, kernel] : kernel;
    const weights = this.weight([filters, channels / groups, h, w], Math.sqrt(gain / ((channels / groups) * h * w)));
    const around = pads ?? [(h - 1) >> 1, (w - 1) >> 1];
    const attributes = {
      kernel_shape: [h, w],
      strides: [stride, stride],
      pads: [...around, ...around],
      dilations: [1, 1],
      group: groups,
    };
    return this.node("Conv", bias ? [x, weights, this.weight([filters], 0.05)] : [x, weights], attributes);
  }

  /** A convolution and its batch normalization, in one or in two nodes. */
  convNorm(
    x: string,
    channels: number,
    filters: number,
    kernel: number | readonly [number, number],
    options: ConvOptions = {},
  ): string {
    if (this.options.batchNorm !== "nodes") return this.conv(x, channels, filters, kernel, options);
    return this.batchNorm(this.conv(x, channels, filters, kernel, { ...options, bias: false }), filters);
  }

  batchNorm(x: string, channels: number): string {
    const positive = (): string => this.weight([channels], 0.1, 1);
    const around = (): string => this.weight([channels], 0.05);
    return this.node("BatchNormalization", [x, positive(), around(), around(), positive()], { epsilon: 1e-5 });
  }

  relu(x: string): string {
    return this.node("Relu", [x]);
  }
  add(a: string, b: string): string {
    return this.node("Add", [a, b]);
  }
  mul(a: string, b: string): string {
    return this.node("Mul", [a, b]);
  }
  concat(values: readonly string[], axis = 1): string {
    return this.node("Concat", values, { axis });
  }
  maxPool(x: string, kernel: number, stride: number, pad: number): string {
    return this.node("MaxPool", [x], { kernel_shape: [kernel, kernel], strides: [stride, stride], pads: [pad, pad, pad, pad] });
  }

  /** Average over all positions, then one fully connected layer. */
  classifier(x: string, channels: number, classes = 1000): string {
    const pooled = this.node("Flatten", [this.node("GlobalAveragePool", [x])], { axis: 1 });
    return this.node(
      "Gemm",
      [pooled, this.weight([classes, channels], Math.sqrt(1 / channels)), this.weight([classes], 0.05)],
      { transB: 1 },
    );
  }

  /** x·W + b over the last axis, as PyTorch writes Linear for inputs of rank 3. */
  linear(x: string, from: number, to: number, bias = true): string {
    const product = this.node("MatMul", [x, this.weight([from, to], Math.sqrt(1 / from))]);
    return bias ? this.add(this.weight([to], 0.05), product) : product;
  }

  /** Layer normalization over the last axis. */
  layerNorm(x: string, size: number, epsilon = 1e-12): string {
    const [scale, shift] = [this.weight([size], 0.1, 1), this.weight([size], 0.05)];
    if (this.options.layerNorm !== "primitives")
      return this.node("LayerNormalization", [x, scale, shift], { axis: -1, epsilon });
    const centered = this.node("Sub", [x, this.node("ReduceMean", [x], { axes: [-1] })]);
    const variance = this.node("ReduceMean", [this.node("Pow", [centered, this.scalar(2)])], { axes: [-1] });
    const deviation = this.node("Sqrt", [this.add(variance, this.scalar(epsilon))]);
    return this.add(this.mul(this.node("Div", [centered, deviation]), scale), shift);
  }

  /** Gelu by the error function, in primitives. */
  gelu(x: string): string {
    const erf = this.node("Erf", [this.node("Div", [x, this.scalar(Math.SQRT2)])]);
    return this.mul(this.mul(x, this.add(erf, this.scalar(1))), this.scalar(0.5));
  }

  /** x · sigmoid(x), in primitives. */
  silu(x: string): string {
    return this.mul(x, this.node("Sigmoid", [x]));
  }

  /** Another shape of `x`; -1 is the rest. "batch" is the first axis of `x`, which exporters compute where it is dynamic. */
  reshape(x: string, shape: readonly (number | "batch")[]): string {
    const { batch } = this;
    if (typeof batch === "number")
      return this.node("Reshape", [x, this.ints(shape.map((size) => (size === "batch" ? batch : size)))]);
    const size = this.node("Gather", [this.node("Shape", [x]), this.constant(tensor("i64", [], [0]))], { axis: 0 });
    const sizes = shape.map((part) => (part === "batch" ? this.node("Unsqueeze", [size, this.ints([0])]) : this.ints([part])));
    return this.node("Reshape", [x, this.concat(sizes, 0)]);
  }

  transpose(x: string, perm: readonly number[]): string {
    return this.node("Transpose", [x], { perm });
  }

  /** Elements `from` to `to` of one axis. */
  slice(x: string, axis: number, from: number, to: number): string {
    return this.node("Slice", [x, this.ints([from]), this.ints([to]), this.ints([axis])]);
  }

  /** The file's bytes. */
  bytes(): Uint8Array {
    return encodeModel({
      irVersion: 8,
      producerName: "kiln-bench",
      opsetImport: [{ domain: "", version: this.opset }],
      graph: {
        name: this.name,
        input: this.inputs,
        output: this.outputs,
        node: this.nodes,
        initializer: [...this.weights.values()],
      },
    });
  }
}

interface ConvOptions {
  readonly stride?: number;
  readonly groups?: number;
  /** Before and after each spatial axis; by default the size stays. */
  readonly pads?: readonly [number, number];
  readonly bias?: boolean;
  /** Variance of the result over that of the input: 2 makes up for a Relu. */
  readonly gain?: number;
}

const encodeTensor = ({ dtype, shape, data }: Tensor): TensorProto => ({
  dataType: dtypeFacts[dtype].onnx,
  dims: [...shape],
  rawData: new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
});

function encodeAttribute(name: string, value: AttributeValue): AttributeProto {
  if (typeof value === "number") return Number.isInteger(value) ? { name, type: 2, i: value } : { name, type: 1, f: value };
  if (typeof value === "string") return { name, type: 3, s: new TextEncoder().encode(value) };
  if ("dtype" in value) return { name, type: 4, t: encodeTensor(value) };
  if ("float" in value) return { name, type: 1, f: value.float };
  return value.every(Number.isInteger) ? { name, type: 7, ints: [...value] } : { name, type: 6, floats: [...value] };
}
