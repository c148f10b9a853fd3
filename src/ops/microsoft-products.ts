// com.microsoft's convolutions and matrix products with something fused in.
// https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md

import type { Expr } from "../ir/expr.ts";
import * as x from "../ir/expr.ts";
import type { Lowering } from "../ir/lower.ts";
import { isFloat } from "../ir/types.ts";
import type { Value } from "../ir/value.ts";
import { unsupportedAttribute } from "../util/errors.ts";
import { type ConvAttributes, conv, readConv } from "./conv.ts";
import { defineOp, type NodeFacts, need, type Operator } from "./define.ts";
import { relu, sigmoid } from "./elementwise.ts";
import { type GemmAttributes, gemm, matmul, type Operand, operand, permuted, readGemm, scaled, transposed } from "./matmul.ts";

const domain = "com.microsoft";

/** ONNX Runtime's fused activations, by name, with their parameters in order. */
function activation(node: NodeFacts, name: string, parameters: readonly number[]): (e: Expr) => Expr {
  const [first, second] = parameters;
  const clamp = (e: Expr, low: number, high: number): Expr => x.minimum(x.maximum(e, x.float(low)), x.float(high));
  switch (name) {
    case "":
      return (e) => e;
    case "Relu":
      return relu;
    case "Sigmoid":
      return sigmoid;
    case "Tanh":
      return (e) => x.unary("tanh", e);
    case "LeakyRelu":
      return (e) => x.select(x.lt(e, x.float(0)), x.mul(x.float(first ?? 0.01), e), e);
    case "Clip":
      return (e) => clamp(e, first ?? Number.NEGATIVE_INFINITY, second ?? Number.POSITIVE_INFINITY);
    case "HardSigmoid":
      return (e) => clamp(x.add(x.mul(x.float(first ?? 0.2), e), x.float(second ?? 0.5)), 0, 1);
    case "HardSwish":
      return (e) => x.mul(e, clamp(x.add(x.mul(e, x.float(1 / 6)), x.float(0.5)), 0, 1));
    default:
      throw unsupportedAttribute(node, `activation "${name}"`, "Relu, Sigmoid, Tanh, LeakyRelu, Clip, HardSigmoid, HardSwish");
  }
}

/** Moves the first axis of an operand behind its batch axes. */
const batchTransposed = (source: Operand, swap: boolean): Operand => {
  const rank = source.shape.length;
  if (!swap || rank < 3) return source;
  return permuted(source, [...Array.from({ length: rank - 2 }, (_, axis) => axis + 1), 0, rank - 1]);
};

interface FusedMatMulAttributes {
  readonly alpha: number;
  readonly transA: boolean;
  readonly transB: boolean;
  readonly batchA: boolean;
  readonly batchB: boolean;
}

interface NBitsAttributes {
  readonly k: number;
  readonly n: number;
  readonly bits: number;
  readonly block: number;
}

/**
 * A[…, k] · W[n, k]ᵀ whose weights are blocks along k of packed unsigned integers, low bits first:
 * W = (q − zero point) · scale, dequantized where the product reads it.
 */
function matMulNBits(
  b: Lowering,
  node: NodeFacts,
  inputs: readonly (Value | undefined)[],
  { k, n, bits, block }: NBitsAttributes,
): Value {
  const [left, packed, scales, zeros, groups, bias] = [
    need(node, inputs, 0),
    need(node, inputs, 1),
    need(node, inputs, 2),
    ...inputs.slice(3),
  ];
  if (bits !== 2 && bits !== 4 && bits !== 8) throw unsupportedAttribute(node, `bits = ${bits}`, "2, 4 or 8");
  const perByte = 8 / bits;
  const blocks = Math.ceil(k / block);
  /** Field `i` of rows of `count` fields, each row starting at a byte. */
  const field = (value: Value, row: Expr, rowBytes: number, i: Expr): Expr => {
    const offset = x.add(x.mul(row, x.int(rowBytes)), x.floorDiv(i, x.int(perByte)));
    const byte = x.convert(x.load(value, x.unflatten(offset, value.shape)), "i32");
    if (perByte === 1) return byte;
    const shift = x.mul(x.floorMod(i, x.int(perByte)), x.int(bits));
    return x.binary("and", x.binary("shr", byte, x.convert(shift, "u32")), x.int(2 ** bits - 1));
  };
  const weight: Operand = {
    shape: [k, n],
    read: ([at, column]) => {
      const group = groups ? x.load(groups, [at!]) : x.floorDiv(at!, x.int(block));
      const quantized = field(packed!, column!, Math.ceil((blocks * block) / perByte), at!);
      const scale = x.load(scales!, x.unflatten(x.add(x.mul(column!, x.int(blocks)), group), scales!.shape));
      if (zeros && isFloat(zeros.dtype)) {
        const zero = x.load(zeros, x.unflatten(x.add(x.mul(column!, x.int(blocks)), group), zeros.shape));
        return x.mul(x.sub(x.convert(quantized, "f32"), zero), scale);
      }
      const zero = zeros ? field(zeros, column!, Math.ceil(blocks / perByte), group) : x.int(2 ** (bits - 1));
      return x.mul(x.convert(x.sub(quantized, zero), "f32"), scale);
    },
  };
  return matmul(b, node, left!.dtype, operand(left!), weight, (acc, index) =>
    bias ? x.add(acc, x.load(bias, [index.at(-1)!])) : acc,
  );
}

export const microsoftProducts: readonly Operator[] = [
  defineOp<ConvAttributes & { readonly activation: string; readonly parameters: readonly number[] }>({
    name: "FusedConv",
    domain,
    since: [1],
    attrs: (read) => ({
      ...readConv(read),
      activation: read.string("activation", ""),
      parameters: read.floats("activation_params") ?? [],
    }),
    lower: (b, inputs, attrs, node) => {
      const act = activation(node, attrs.activation, attrs.parameters);
      const residual = inputs[3];
      return [conv(b, node, inputs, attrs, (sum, index) => act(residual ? x.add(sum, x.load(residual, index)) : sum))];
    },
  }),
  defineOp<GemmAttributes & { readonly activation: string; readonly parameters: readonly number[] }>({
    name: "FusedGemm",
    domain,
    since: [1],
    attrs: (read) => {
      const [alpha, beta] = [read.float("activation_alpha"), read.float("activation_beta")];
      read.ignore("activation_gamma");
      const parameters = [alpha, beta].filter((value) => value !== undefined);
      return { ...readGemm(read), activation: read.string("activation", ""), parameters };
    },
    lower: (b, inputs, attrs, node) => [gemm(b, node, inputs, attrs, activation(node, attrs.activation, attrs.parameters))],
  }),
  defineOp<FusedMatMulAttributes>({
    name: "FusedMatMul",
    domain,
    since: [1],
    attrs: (read) => ({
      alpha: read.float("alpha", 1),
      transA: read.flag("transA"),
      transB: read.flag("transB"),
      batchA: read.flag("transBatchA"),
      batchB: read.flag("transBatchB"),
    }),
    lower: (b, inputs, { alpha, transA, transB, batchA, batchB }, node) => {
      const [left, right] = [need(node, inputs, 0), need(node, inputs, 1)];
      return [
        matmul(
          b,
          node,
          left.dtype,
          transposed(batchTransposed(operand(left), batchA), transA),
          transposed(batchTransposed(operand(right), batchB), transB),
          (acc) => scaled(acc, alpha),
        ),
      ];
    },
  }),
  defineOp<NBitsAttributes>({
    name: "MatMulNBits",
    domain,
    since: [1],
    attrs: (read) => {
      read.ignore("accuracy_level");
      return { k: read.int("K", 0), n: read.int("N", 0), bits: read.int("bits", 4), block: read.int("block_size", 128) };
    },
    lower: (b, inputs, attrs, node) => [matMulNBits(b, node, inputs, attrs)],
  }),
];
