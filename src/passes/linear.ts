// Linear operators with constant weights - Conv, ConvTranspose, Gemm and MatMul - seen alike: which output and input channel
// each weight joins, and the same operator with other weights and bias.

import type { GraphNode } from "../ir/graph.ts";
import { allocate, numbersOf, reader, type Tensor, writer } from "../ir/tensor.ts";
import type { DType } from "../ir/types.ts";
import type { Value } from "../ir/value.ts";
import { attributesOf } from "./attributes.ts";
import { type Constant, float, type Replacement } from "./rewrite/index.ts";

export const LINEAR = ["Conv", "ConvTranspose", "Gemm", "MatMul"];

/** Which channels the weights of a linear operator join. */
export interface Layout {
  /** Output channels and the output's axis that they are on. */
  readonly channels: number;
  readonly axis: number;
  /** Input channels and the input's axis that they are on. */
  readonly inputs: number;
  readonly inputAxis: number;
  /** Output and input channel that element i of the weights joins. */
  readonly channelOf: (i: number) => number;
  readonly inputOf: (i: number) => number;
}

/** Undefined for weights that are no matrix or kernel. */
export function layoutOf(node: GraphNode, w: Constant): Layout | undefined {
  const { shape, data } = w.data;
  const read = attributesOf(node);
  switch (node.op) {
    case "Conv":
    case "ConvTranspose": {
      // [outer, inner of one group, kernel…]; Conv's outer channels are its outputs, ConvTranspose's its inputs.
      const [outer, inner] = shape as [number, number];
      const groups = read.int("group", 1);
      const size = data.length / (outer * inner);
      const outerOf = (i: number): number => Math.floor(i / (size * inner));
      const innerOf = (i: number): number => Math.floor(outerOf(i) / (outer / groups)) * inner + (Math.floor(i / size) % inner);
      const [one, other] = [
        { count: outer, of: outerOf },
        { count: inner * groups, of: innerOf },
      ];
      const [to, from] = node.op === "Conv" ? [one, other] : [other, one];
      return { channels: to.count, axis: 1, channelOf: to.of, inputs: from.count, inputAxis: 1, inputOf: from.of };
    }
    case "Gemm":
    case "MatMul": {
      if (shape.length !== 2) return undefined;
      const [rows, columns] = shape as [number, number];
      const [rowOf, columnOf] = [(i: number): number => Math.floor(i / columns), (i: number): number => i % columns];
      const axis = node.outputs[0]!.shape.length - 1;
      const inputAxis = node.op === "Gemm" && read.flag("transA") ? 0 : axis;
      return node.op === "Gemm" && read.flag("transB")
        ? { channels: rows, axis, channelOf: rowOf, inputs: columns, inputAxis, inputOf: columnOf }
        : { channels: columns, axis, channelOf: columnOf, inputs: rows, inputAxis, inputOf: rowOf };
    }
    default:
      return undefined;
  }
}

/** One number for each of the `channels` on `axis` from a constant that broadcasts over all other of `rank` axes. */
export function perChannel({ data }: Constant, channels: number, axis: number, rank: number): readonly number[] | undefined {
  const { shape } = data;
  if (shape.length > rank) return undefined;
  const at = axis - (rank - shape.length);
  if (shape.some((size, i) => size !== 1 && (i !== at || size !== channels))) return undefined;
  const numbers = numbersOf(data);
  return numbers.length === channels ? numbers : new Array<number>(channels).fill(numbers[0]!);
}

/** Numbers as a tensor; undefined when the type makes 0 or infinity of one that is neither. */
export function representable(
  dtype: DType,
  shape: readonly number[],
  count: number,
  element: (i: number) => number,
): Tensor | undefined {
  const made: Tensor = { dtype, shape, data: allocate(dtype, count) };
  const [read, write] = [reader(made), writer(made)];
  for (let i = 0; i < count; i++) {
    const exact = element(i);
    write(i, exact);
    const stored = read(i);
    if ((stored === 0 && Math.abs(exact) > 1e-30) || (!Number.isFinite(stored) && Number.isFinite(exact))) return undefined;
  }
  return made;
}

/** A linear operator, what it reads and its layout. */
export interface Linear {
  readonly node: GraphNode;
  readonly x: Value;
  readonly w: Constant;
  readonly b?: Value | undefined;
}

const isConstant = (value: Value): value is Constant => value.data !== undefined;

/** The bias as one number an output channel, `beta` of Gemm included; zeros without one, undefined for one that is not a constant by channel. */
export function biasOf({ node, b }: Linear, channels: number): readonly number[] | undefined {
  if (!b) return new Array<number>(channels).fill(0);
  if (!isConstant(b)) return undefined;
  const beta = node.op === "Gemm" ? attributesOf(node).float("beta", 1) : 1;
  const numbers = node.op === "Gemm" ? perChannel(b, channels, 1, 2) : perChannel(b, channels, 0, 1);
  return numbers?.map((value) => value * beta);
}

/**
 * The operator of `linear` with `weights` of the same shape in place of its own and, when given, `bias` by output channel in
 * place of its own. Undefined where the element type cannot hold them, or where the operator has no bias.
 */
export function withWeights(
  g: Replacement,
  { node, x, w, b }: Linear,
  weights: ((i: number) => number) | undefined,
  bias: readonly number[] | undefined,
): Value | undefined {
  const { dtype } = w;
  if (x.dtype !== dtype || g.root.outputs[0]!.dtype !== dtype) return undefined;
  const changed = weights && representable(dtype, w.data.shape, w.data.data.length, weights);
  if (weights && !changed) return undefined;
  const scaled = changed ? g.constant(changed) : w;
  if (!bias) return g.like(node, b ? [x, scaled, b] : [x, scaled]);
  const shift = representable(dtype, [bias.length], bias.length, (c) => bias[c]!);
  if (!shift) return undefined;
  if (node.op === "MatMul") return x.shape.length === 2 ? g.node("Gemm", [x, scaled, g.constant(shift)]) : undefined;
  return g.like(node, [x, scaled, g.constant(shift)], node.op === "Gemm" ? { beta: float(1) } : {});
}
