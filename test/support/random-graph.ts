// Random networks from a seed: chains with residuals, joins, splits, slices, transposes and shared values between
// convolutions, products, reductions and normalizations. Numbers stay of order 1, so that results can be compared.

import { sizeOf, type Tensor, tensor } from "../../src/ir/tensor.ts";
import { type AttributeSpec, model, type NodeSpec } from "./onnx-model.ts";
import { filled, generator } from "./random.ts";

export interface RandomGraph {
  readonly bytes: Uint8Array;
  /** True when the first axis of all inputs is the symbol N. */
  readonly isDynamic: boolean;
  /** Inputs for a run; another batch than `batch` only where `isDynamic`. */
  readonly inputs: (batch?: number) => Readonly<Record<string, Tensor>>;
  readonly batch: number;
  /** The operators in order, for messages. */
  readonly text: string;
}

/** The first axis of every value is the batch; the others are as here. */
interface Made {
  readonly name: string;
  readonly shape: readonly number[];
}

/** Elements of one example beyond which a value is not made. */
const LARGEST = 3000;

/** A network of 4 to 16 operators. Equal seeds give equal networks. */
export const randomGraph = (seed: number): RandomGraph => new Drawing(seed).finish();

class Drawing {
  private readonly next: () => number;
  private readonly nodes: NodeSpec[] = [];
  private readonly weights: Record<string, Tensor> = {};
  private readonly feeds: Made[] = [];
  private readonly made: Made[] = [];
  private readonly used = new Set<string>();

  constructor(private readonly seed: number) {
    this.next = generator(Math.imul(seed + 1, 0x9e3779b1));
    for (let i = 0; i < 8; i++) this.next();
  }

  finish(): RandomGraph {
    const isDynamic = this.chance(0.4);
    const batch = this.whole(1, 3);
    const pictures = this.chance(0.6);
    const base = pictures ? [this.whole(1, 9), this.whole(4, 10), this.whole(4, 10)] : [this.whole(2, 9), 4 * this.whole(1, 5)];
    for (let i = this.whole(1, 2); i > 0; i--) this.input(base);
    const wanted = this.whole(4, 16);
    for (let tries = 0; this.nodes.length < wanted && tries < 200; tries++) this.grow();
    const leaves = this.made.filter(({ name }) => !this.used.has(name)).map(({ name }) => name);
    const inner = this.made.filter(({ name }) => this.used.has(name) && !name.startsWith("x"));
    const outputs = [...leaves, ...(inner.length > 0 && this.chance(0.3) ? [this.pick(inner).name] : [])];
    const bytes = model({
      opset: 17,
      inputs: Object.fromEntries(
        this.feeds.map(({ name, shape }) => [name, { dtype: "f32" as const, shape: [isDynamic ? "N" : batch, ...shape] }]),
      ),
      outputs,
      nodes: this.nodes,
      initializers: this.weights,
    });
    const inputs = (size = batch): Record<string, Tensor> => {
      const numbers = generator(this.seed + size);
      return Object.fromEntries(this.feeds.map(({ name, shape }) => [name, filled("f32", [size, ...shape], numbers, -1, 1)]));
    };
    const text = this.nodes.map(({ op, inputs: read, outputs: out }) => `${out.join()}=${op}(${read.join()})`).join(" ");
    return { bytes, isDynamic, inputs, batch, text };
  }

  // --- drawing -----------------------------------------------------------------------------------------------------------

  private whole(low: number, high: number): number {
    return low + Math.floor(this.next() * (high - low + 1));
  }
  private chance(part: number): boolean {
    return this.next() < part;
  }
  private pick<T>(list: readonly T[]): T {
    return list[this.whole(0, list.length - 1)]!;
  }
  /** A value, a recent one more often. */
  private value(): Made {
    return this.chance(0.6) ? this.made[Math.max(0, this.made.length - this.whole(1, 3))]! : this.pick(this.made);
  }

  // --- writing -----------------------------------------------------------------------------------------------------------

  private input(shape: readonly number[]): void {
    const value = { name: `x${this.feeds.length}`, shape };
    this.feeds.push(value);
    this.made.push(value);
  }

  private constant(tensor: Tensor): string {
    const name = `w${Object.keys(this.weights).length}`;
    this.weights[name] = tensor;
    return name;
  }
  private ints(values: readonly number[]): string {
    return this.constant(tensor("i64", [values.length], values));
  }
  /** Uniform numbers in [-bound, bound). */
  private floats(shape: readonly number[], bound: number): string {
    return this.constant(filled("f32", shape, this.next, -bound, bound));
  }
  private positive(shape: readonly number[]): string {
    return this.constant(filled("f32", shape, this.next, 0.5, 1.5));
  }

  private node(
    op: string,
    inputs: readonly string[],
    shapes: readonly (readonly number[])[],
    attributes: Readonly<Record<string, AttributeSpec>> = {},
  ): void {
    if (shapes.some((shape) => sizeOf(shape) > LARGEST || shape.some((size) => size < 1))) return;
    const outputs = shapes.map((_, i) => `v${this.nodes.length}${i === 0 ? "" : `_${i}`}`);
    this.nodes.push({ op, inputs, outputs, attributes, name: `${op}${this.nodes.length}` });
    for (const name of inputs) this.used.add(name);
    this.made.push(...outputs.map((name, i) => ({ name, shape: shapes[i]! })));
  }

  /** One more operator, or none where the one drawn does not fit. */
  private grow(): void {
    const x = this.value();
    const common = [this.activation, this.activation, this.arithmetic, this.arithmetic, this.join, this.split, this.slice];
    const rest = [this.softmax, this.reduce, this.transpose, this.reshape, this.pad, this.shared];
    const own =
      x.shape.length === 3
        ? [this.convolution, this.convolution, this.convolution, this.siblings, this.pool, this.normalizeChannels, this.resize]
        : x.shape.length === 2
          ? [this.matmul, this.matmul, this.product, this.layerNorm, this.gather, this.heads]
          : [this.gemm];
    this.pick([...common, ...rest, ...own, ...own]).call(this, x);
  }

  private activation({ name, shape }: Made): void {
    const plain = ["Relu", "Sigmoid", "Tanh", "Abs", "Neg", "Erf", "HardSwish", "HardSigmoid", "LeakyRelu", "Softplus"];
    const op = this.pick([...plain, "Clip", "PRelu"]);
    const more =
      op === "Clip"
        ? [this.constant(tensor("f32", [], [-0.5])), this.constant(tensor("f32", [], [0.75]))]
        : op === "PRelu"
          ? [this.floats([shape[0]!, ...shape.slice(1).map(() => 1)], 0.5)]
          : [];
    this.node(op, [name, ...more], [shape]);
  }

  /** With a constant, with itself, or with another value of the same shape: residuals. */
  private arithmetic({ name, shape }: Made): void {
    const op = this.pick(["Add", "Add", "Sub", "Mul"]);
    const alike = this.made.filter((other) => other.shape.join() === shape.join());
    if (this.chance(0.6)) {
      this.node(op, [name, this.pick(alike).name], [shape]);
      return;
    }
    const along = this.pick([[], [shape.at(-1)!], [shape[0]!, ...shape.slice(1).map(() => 1)], shape]);
    this.node(op, this.chance(0.5) ? [name, this.floats(along, 1)] : [this.floats(along, 1), name], [shape]);
  }

  private join({ name, shape }: Made): void {
    const axis = this.whole(0, shape.length - 1);
    const fits = this.made.filter(
      (other) => other.shape.length === shape.length && other.shape.every((size, i) => i === axis || size === shape[i]),
    );
    const others = Array.from({ length: this.whole(1, 3) }, () => this.pick(fits));
    const size = others.reduce((sum, other) => sum + other.shape[axis]!, shape[axis]!);
    this.node("Concat", [name, ...others.map((other) => other.name)], [shape.with(axis, size)], { axis: axis + 1 });
  }

  private split({ name, shape }: Made): void {
    const axis = this.whole(0, shape.length - 1);
    const size = shape[axis]!;
    if (size < 2) return;
    const first = this.whole(1, size - 1);
    const parts = size - first > 1 && this.chance(0.4) ? [first, 1, size - first - 1] : [first, size - first];
    this.node(
      "Split",
      [name, this.ints(parts)],
      parts.map((part) => shape.with(axis, part)),
      { axis: axis + 1 },
    );
  }

  private slice({ name, shape }: Made): void {
    const axis = this.whole(0, shape.length - 1);
    const size = shape[axis]!;
    const step = this.pick([1, 1, 2, -1]);
    const start = this.whole(0, size - 1);
    const end = this.whole(start + 1, size);
    const [from, to] = step > 0 ? [start, end] : [end - 1, start - 1 - size];
    const length = Math.ceil((end - start) / Math.abs(step));
    const [starts, ends] = [this.ints([from]), this.ints([to < -1 || step > 0 ? to : to - size])];
    this.node("Slice", [name, starts, ends, this.ints([axis + 1]), this.ints([step])], [shape.with(axis, length)]);
  }

  private softmax({ name, shape }: Made): void {
    this.node("Softmax", [name], [shape], { axis: this.whole(1, shape.length) });
  }

  private reduce({ name, shape }: Made): void {
    const axes = shape.map((_, axis) => axis).filter(() => this.chance(0.5));
    if (axes.length === 0) return;
    const op = this.pick(["ReduceMean", "ReduceMax", "ReduceMin", "ReduceL2"]);
    const attributes = { axes: axes.map((axis) => axis + 1), keepdims: 1 };
    this.node(op, [name], [shape.map((size, axis) => (axes.includes(axis) ? 1 : size))], attributes);
    // Most often to be combined with what it came from.
    if (this.chance(0.7) && this.made.at(-1)!.name !== name)
      this.node(this.pick(["Sub", "Mul", "Add"]), [name, this.made.at(-1)!.name], [shape]);
  }

  private transpose({ name, shape }: Made): void {
    const axes = shape.map((_, axis) => axis).sort(() => this.next() - 0.5);
    this.node("Transpose", [name], [axes.map((axis) => shape[axis]!)], { perm: [0, ...axes.map((axis) => axis + 1)] });
  }

  private reshape({ name, shape }: Made): void {
    const size = sizeOf(shape);
    const divisors = Array.from({ length: size }, (_, i) => i + 1).filter((d) => size % d === 0);
    const rows = this.pick(divisors);
    const columns = this.pick(divisors.filter((d) => (size / rows) % d === 0));
    const to = this.pick([[size], [rows, size / rows], [rows, columns, size / rows / columns]]);
    this.node("Reshape", [name, this.ints([0, ...to])], [to]);
  }

  private pad({ name, shape }: Made): void {
    const [before, after] = [shape.map(() => this.whole(0, 1)), shape.map(() => this.whole(0, 1))];
    const padded = shape.map((size, axis) => size + before[axis]! + after[axis]!);
    this.node("Pad", [name, this.ints([0, ...before, 0, ...after]), this.constant(tensor("f32", [], [0]))], [padded]);
  }

  /** A cheap value for two readers that are far apart. */
  private shared(x: Made): void {
    this.activation(x);
    const cheap = this.made.at(-1)!;
    this.softmax(cheap);
    this.node("Add", [cheap.name, this.made.at(-1)!.name], [cheap.shape]);
  }

  // --- channels and positions -----------------------------------------------------------------------------------------------

  private convolution({ name, shape }: Made): void {
    const [channels, ...size] = shape as [number, number, number];
    const groups = this.chance(0.25) ? channels : 1;
    this.conv(name, channels, size, groups === 1 ? this.whole(1, 10) : channels, groups);
  }

  private conv(name: string, channels: number, size: readonly number[], filters: number, groups = 1): void {
    const [kernel, stride] = [this.pick([1, 1, 2, 3]), this.pick([1, 1, 2])];
    const [pad, dilation] = [this.whole(0, kernel >> 1), this.chance(0.15) ? 2 : 1];
    const span = (kernel - 1) * dilation + 1;
    const out = size.map((extent) => Math.floor((extent + 2 * pad - span) / stride) + 1);
    if (out.some((extent) => extent < 1)) return;
    const fan = (channels / groups) * kernel * kernel;
    const inputs = [name, this.floats([filters, channels / groups, kernel, kernel], Math.sqrt(3 / fan))];
    this.node("Conv", this.chance(0.7) ? [...inputs, this.floats([filters], 0.5)] : inputs, [[filters, ...out]], {
      kernel_shape: [kernel, kernel],
      strides: [stride, stride],
      pads: [pad, pad, pad, pad],
      dilations: [dilation, dilation],
      group: groups,
    });
  }

  /** Two or three convolutions of one value, each with what may follow, joined where they fit. */
  private siblings({ name, shape }: Made): void {
    const [channels, ...size] = shape as [number, number, number];
    const branches: Made[] = [];
    for (let i = this.whole(2, 3); i > 0; i--) {
      const before = this.made.length;
      this.conv(name, channels, size, this.whole(1, 8));
      if (this.made.length === before) continue;
      if (this.chance(0.5)) this.activation(this.made.at(-1)!);
      branches.push(this.made.at(-1)!);
    }
    const [first] = branches;
    const fit = branches.filter((branch) => first!.shape.slice(1).join() === branch.shape.slice(1).join());
    if (fit.length < 2) return;
    const sum = fit.reduce((total, branch) => total + branch.shape[0]!, 0);
    this.node(
      "Concat",
      fit.map((branch) => branch.name),
      [first!.shape.with(0, sum)],
      { axis: 1 },
    );
  }

  private pool({ name, shape }: Made): void {
    const [channels, ...size] = shape as [number, number, number];
    if (this.chance(0.25)) {
      this.node("GlobalAveragePool", [name], [[channels, 1, 1]]);
      return;
    }
    const [kernel, stride] = [this.whole(2, 3), this.whole(1, 2)];
    const pad = this.whole(0, 1);
    const out = size.map((extent) => Math.floor((extent + 2 * pad - kernel) / stride) + 1);
    const attributes = { kernel_shape: [kernel, kernel], strides: [stride, stride], pads: [pad, pad, pad, pad] };
    if (out.some((extent) => extent < 1)) return;
    this.node(this.pick(["MaxPool", "AveragePool"]), [name], [[channels, ...out]], attributes);
  }

  private normalizeChannels({ name, shape }: Made): void {
    const channels = [shape[0]!];
    const [scale, shift] = [this.positive(channels), this.floats(channels, 0.5)];
    const moments = [this.floats(channels, 0.5), this.positive(channels)];
    if (this.chance(0.6)) this.node("BatchNormalization", [name, scale, shift, ...moments], [shape]);
    else if (sizeOf(shape.slice(1)) > 3) this.node("InstanceNormalization", [name, scale, shift], [shape], { epsilon: 0.1 });
  }

  private resize({ name, shape: [channels, h, w] }: Made): void {
    const scales = this.constant(tensor("f32", [4], [1, 1, 2, 2]));
    const attributes = { mode: "nearest", coordinate_transformation_mode: "asymmetric", nearest_mode: "floor" };
    this.node("Resize", [name, "", scales], [[channels!, 2 * h!, 2 * w!]], attributes);
  }

  // --- tokens and features --------------------------------------------------------------------------------------------------

  private matmul({ name, shape: [tokens, features] }: Made): void {
    const to = this.chance(0.3) ? features! : this.whole(1, 16);
    this.node("MatMul", [name, this.floats([features!, to], Math.sqrt(3 / features!))], [[tokens!, to]]);
    if (this.chance(0.6)) this.node("Add", [this.made.at(-1)!.name, this.floats([to], 0.5)], [[tokens!, to]]);
  }

  /** softmax(x · yᵀ) · z, or a part of it. */
  private product(x: Made): void {
    const alike = this.made.filter(({ shape }) => shape.length === 2 && shape[1] === x.shape[1]);
    const [y, z] = [this.pick(alike), this.pick(alike)];
    const flip = (shape: readonly number[]): number[] => [shape[1]!, shape[0]!];
    this.node("Transpose", [y.name], [flip(y.shape)], { perm: [0, 2, 1] });
    const scale = this.constant(tensor("f32", [], [1 / Math.sqrt(x.shape[1]!)]));
    const scores = [x.shape[0]!, y.shape[0]!];
    this.node("MatMul", [x.name, this.made.at(-1)!.name], [scores]);
    this.node("Mul", [this.made.at(-1)!.name, scale], [scores]);
    if (this.chance(0.3)) return;
    const raw = this.made.at(-1)!.name;
    this.node("Softmax", [raw], [scores], { axis: -1 });
    if (z.shape[0] === y.shape[0]) this.node("MatMul", [this.made.at(-1)!.name, z.name], [[scores[0]!, z.shape[1]!]]);
  }

  private layerNorm({ name, shape }: Made): void {
    const features = [shape.at(-1)!];
    if (features[0]! < 4) return;
    const attributes = { axis: -1, epsilon: 0.1 };
    this.node("LayerNormalization", [name, this.positive(features), this.floats(features, 0.5)], [shape], attributes);
  }

  private gather({ name, shape: [tokens, features] }: Made): void {
    const rows = Array.from({ length: this.whole(1, 5) }, () => this.whole(0, tokens! - 1));
    this.node("Gather", [name, this.ints(rows)], [[rows.length, features!]], { axis: 1 });
  }

  /** [tokens, features] → [heads, tokens, features / heads]. */
  private heads({ name, shape: [tokens, features] }: Made): void {
    const heads = this.pick([1, 2, 4]);
    if (features! % heads !== 0) return;
    const size = features! / heads;
    this.node("Reshape", [name, this.ints([0, tokens!, heads, size])], [[tokens!, heads, size]]);
    this.node("Transpose", [this.made.at(-1)!.name], [[heads, tokens!, size]], { perm: [0, 2, 1, 3] });
  }

  private gemm({ name, shape: [features] }: Made): void {
    const to = this.whole(1, 12);
    const weights = this.floats([to, features!], Math.sqrt(3 / features!));
    this.node("Gemm", [name, weights, this.floats([to], 0.5)], [[to]], { transB: 1 });
  }
}
