// Random operators by a counter-based hash: element i of a node is a function of its seed and i alone, so that the GPU and
// the host draw the same. The seed is the attribute's, or made from the node's name; every run draws the same numbers.
// ONNX: https://onnx.ai/onnx/operators/

import { type Dim, isStaticShape } from "../ir/dims.ts";
import type { Expr } from "../ir/expr.ts";
import * as x from "../ir/expr.ts";
import { knownTensor, type Lowering } from "../ir/lower.ts";
import { numbersOf, sizeOf, tensor } from "../ir/tensor.ts";
import { type DType, isFloat, scalarOf } from "../ir/types.ts";
import type { Value } from "../ir/value.ts";
import { shapeMismatch, typeMismatch } from "../util/errors.ts";
import { Hasher } from "../util/hash.ts";
import { argExtreme } from "./argmax.ts";
import { type AttributeReader, defineOp, intsOf, type NodeFacts, need, type Operator } from "./define.ts";
import { uniforms } from "./mersenne.ts";
import { dtypeOfAttribute, loadScalar } from "./shape.ts";

const WORD = 0xffffffff;
const u = (value: number): Expr => x.constant("u32", value);
const f = x.float;

/** 32 bits from the text of a seed. */
const seedOf = (node: NodeFacts, seed: number | undefined, stream = 0): number =>
  Number.parseInt(
    new Hasher(stream)
      .update(seed === undefined ? node.name : String(seed))
      .digest()
      .slice(0, 8),
    16,
  );

/** Multipliers of at most 21 bits: their products with 32-bit words are exact wherever numbers have 53 bits. */
const MULTIPLIERS = [0x1c3b15, 0x16a7d3, 0x1e2d4b, 0x13c6ef];

/** A word from a word, by multiplications and folded shifts: each bit of the result depends on all bits of the input. */
function hash(word: Expr): Expr {
  const fold = (e: Expr): Expr => x.binary("xor", e, x.binary("shr", e, u(15)));
  const wrapped = (e: Expr): Expr => x.binary("and", e, u(WORD));
  return fold(MULTIPLIERS.reduce((e, by) => wrapped(x.add(x.mul(fold(e), u(by)), u(by))), word));
}

/** A uniform f32 in [0, 1) for an element: its row-major position and the seed, hashed. */
function uniform(seed: number, index: readonly Expr[], shape: readonly Dim[]): Expr {
  const position = x.convert(x.flatten(index, shape), "u32");
  const word = hash(x.binary("xor", hash(position), u(seed)));
  return x.mul(x.convert(x.binary("shr", word, u(8)), "f32"), f(2 ** -24));
}

/** A normal number by Box and Muller's transform of two uniform ones. */
function normal(seeds: readonly [number, number], index: readonly Expr[], shape: readonly Dim[]): Expr {
  const radius = x.unary("sqrt", x.mul(f(-2), x.unary("log", x.sub(f(1), uniform(seeds[0], index, shape)))));
  return x.mul(radius, x.unary("cos", x.mul(f(2 * Math.PI), uniform(seeds[1], index, shape))));
}

type Draw = (node: NodeFacts, index: readonly Expr[], shape: readonly Dim[]) => Expr;

const readUniform = (read: AttributeReader): Draw => {
  const [low, high, seed] = [read.float("low", 0), read.float("high", 1), read.float("seed")];
  return (node, i, shape) => x.add(f(low), x.mul(f(high - low), uniform(seedOf(node, seed), i, shape)));
};
const readNormal = (read: AttributeReader): Draw => {
  const [mean, scale, seed] = [read.float("mean", 0), read.float("scale", 1), read.float("seed")];
  return (node, i, shape) => x.add(f(mean), x.mul(f(scale), normal([seedOf(node, seed), seedOf(node, seed, 1)], i, shape)));
};

function draw(b: Lowering, node: NodeFacts, dtype: DType, shape: readonly Dim[], one: Draw): Value {
  if (!isFloat(dtype)) throw typeMismatch(node, `it draws floats, not ${dtype}`);
  return b.map(dtype, shape, (i) => one(node, i, shape));
}

const filled = (name: string, readDraw: (read: AttributeReader) => Draw): Operator =>
  defineOp({
    name,
    since: [1, 22],
    random: true,
    attrs: (read) => ({ one: readDraw(read), dtype: read.int("dtype", 1), shape: read.ints("shape") ?? [] }),
    lower: (b, _, { one, dtype, shape }, node) => [draw(b, node, dtypeOfAttribute(node, dtype), shape, one)],
  });
const filledLike = (name: string, readDraw: (read: AttributeReader) => Draw): Operator =>
  defineOp({
    name,
    since: [1, 22],
    random: true,
    attrs: (read) => ({ one: readDraw(read), dtype: read.int("dtype") }),
    lower: (b, inputs, { one, dtype }, node) => {
      const value = need(node, inputs, 0);
      return [draw(b, node, dtype === undefined ? value.dtype : dtypeOfAttribute(node, dtype), value.shape, one)];
    },
  });

/** Which elements a training Dropout keeps. Seeded ones of known shape and ratio are ONNX's own (see mersenne.ts). */
function keepMask(b: Lowering, node: NodeFacts, value: Value, ratio: Value | undefined, seed: number | undefined): Value {
  const { shape } = value;
  const known = ratio ? knownTensor(ratio) : undefined;
  const rate = known ? numbersOf(known)[0]! : 0.5;
  if (seed !== undefined && isStaticShape(shape) && (known || !ratio)) {
    return b.constant(
      tensor(
        "bool",
        shape,
        uniforms(seed, sizeOf(shape)).map((drawn) => Number(drawn >= rate)),
      ),
    );
  }
  const limit = ratio && !known ? x.convert(loadScalar(ratio), "f32") : f(rate);
  return b.map("bool", shape, (i) => x.ge(uniform(seedOf(node, seed), i, shape), limit));
}

export const randoms: readonly Operator[] = [
  filled("RandomUniform", readUniform),
  filled("RandomNormal", readNormal),
  filledLike("RandomUniformLike", readUniform),
  filledLike("RandomNormalLike", readNormal),
  defineOp({
    name: "Bernoulli",
    since: [15, 22],
    random: true,
    attrs: (read) => ({ dtype: read.int("dtype"), seed: read.float("seed") }),
    lower: (b, inputs, { dtype, seed }, node) => {
      const value = need(node, inputs, 0);
      const to = dtype === undefined ? value.dtype : dtypeOfAttribute(node, dtype);
      const [one, zero] = [x.constant(scalarOf(to), 1), x.constant(scalarOf(to), 0)];
      return [
        b.map(to, value.shape, (i) => x.select(x.lt(uniform(seedOf(node, seed), i, value.shape), x.load(value, i)), one, zero)),
      ];
    },
  }),
  defineOp({
    name: "Multinomial",
    since: [7, 22],
    random: true,
    attrs: (read) => ({ dtype: read.int("dtype", 6), samples: read.int("sample_size", 1), seed: read.float("seed") }),
    lower: (b, inputs, { dtype, samples, seed }, node) => {
      const value = need(node, inputs, 0);
      const [batch, classes] = value.shape;
      if (value.shape.length !== 2) throw shapeMismatch(node, "its input must be [batch, classes]");
      // The largest of log p + Gumbel noise is a draw from p (Gumbel, 1954).
      const shape = [batch!, samples, classes!];
      const noisy = b.map("f32", shape, ([n, s, c]) => {
        const drawn = x.sub(f(1), uniform(seedOf(node, seed), [n!, s!, c!], shape));
        return x.sub(x.load(value, [n!, c!]), x.unary("log", x.maximum(x.unary("neg", x.unary("log", drawn)), f(1e-30))));
      });
      const to = dtypeOfAttribute(node, dtype);
      const found = argExtreme(b, noisy, "max", 2, false);
      return [to === "i64" ? found : b.map(to, found.shape, (i) => x.convert(x.load(found, i), to))];
    },
  }),
  defineOp({
    name: "Dropout",
    since: [7, 10, 12, 13, 22],
    random: true,
    attrs: (read) => {
      read.ignore("ratio", "is_test", "consumed_inputs");
      return read.int("seed");
    },
    lower: (b, inputs, seed, node) => {
      const value = need(node, inputs, 0);
      const [, ratio, training] = inputs;
      const maskType: DType = node.opset < 10 ? value.dtype : "bool";
      const idle = ratio && knownTensor(ratio) && numbersOf(knownTensor(ratio)!)[0] === 0;
      if (!training || idle || intsOf(node, training, "training_mode")[0] === 0) {
        // Before opset 12 the standard leaves the mask open, and onnxruntime clears it.
        const kept = node.opset < 12 ? 0 : 1;
        return [value, node.outputs[1] ? b.map(maskType, value.shape, () => x.constant(scalarOf(maskType), kept)) : undefined];
      }
      const mask = keepMask(b, node, value, ratio, seed);
      const rate = ratio ? x.convert(loadScalar(ratio), "f32") : f(0.5);
      return [
        b.map(value.dtype, value.shape, (i) => x.select(x.load(mask, i), x.div(x.load(value, i), x.sub(f(1), rate)), f(0))),
        mask,
      ];
    },
  }),
];
