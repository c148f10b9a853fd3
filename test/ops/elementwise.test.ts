// Element-wise operators: properties against ONNX Runtime, over broadcasts, types and attributes.

import fc from "fast-check";
import { describe } from "vitest";
import { numbersOf, type Tensor, tensor } from "../../src/ir/tensor.ts";
import { type DType, dtypeFacts, isFloat } from "../../src/ir/types.ts";
import { type Case, list, property, shapeOf, size } from "../support/agreement.ts";
import type { AttributeSpec } from "../support/onnx-model.ts";
import { filled } from "../support/random.ts";

/** A shape and, for each operand, which of its axes it lacks in front and which have size 1. */
const broadcast = fc.record({ shape: shapeOf(4, 4, 0), skips: list(size(2, 0), 3), ones: list(fc.boolean(), 12) });
type Broadcast = typeof broadcast extends fc.Arbitrary<infer T> ? T : never;
/** The shape of operand `at`; the first has all axes. */
const shapeAt = ({ shape, skips, ones }: Broadcast, at: number): number[] =>
  at === 0 ? shape : shape.map((dim, axis) => (ones[(4 * at + axis) % 12] ? 1 : dim)).slice(skips[at - 1]!);
const attribute = (draw: { a: number; b: number }, ...names: string[]): Record<string, AttributeSpec> =>
  Object.fromEntries(names.map((name, i) => [name, { float: i === 0 ? draw.a : draw.b }]));
const coefficients = fc.record({ a: fc.constantFrom(0.25, 0.5, 1, 1.5), b: fc.constantFrom(-0.5, 0.25, 0.75) });
type Coefficients = { a: number; b: number };

describe("one operand", () => {
  /** By operator: where its argument lies, and attributes it may have. */
  const FLOAT: Readonly<Record<string, readonly [low: number, high: number, ...attributes: string[]]>> = {
    Abs: [-3, 3],
    Neg: [-3, 3],
    Sign: [-1, 1],
    Exp: [-5, 5],
    Log: [0.01, 9],
    Sqrt: [0, 9],
    Reciprocal: [0.2, 4],
    Sin: [-7, 7],
    Cos: [-7, 7],
    Tan: [-1.4, 1.4],
    Asin: [-1, 1],
    Acos: [-1, 1],
    Atan: [-9, 9],
    Sinh: [-4, 4],
    Cosh: [-4, 4],
    Tanh: [-12, 12],
    Asinh: [-9, 9],
    Acosh: [1.01, 9],
    Atanh: [-0.98, 0.98],
    Erf: [-6, 6],
    Floor: [-4, 4],
    Ceil: [-4, 4],
    Round: [-4, 4],
    Relu: [-2, 2],
    Sigmoid: [-90, 90],
    Softplus: [-60, 60],
    Softsign: [-9, 9],
    HardSwish: [-5, 5],
    Mish: [-20, 20],
    Elu: [-4, 4, "alpha"],
    Celu: [-4, 4, "alpha"],
    Selu: [-4, 4, "alpha", "gamma"],
    LeakyRelu: [-4, 4, "alpha"],
    ThresholdedRelu: [-2, 2, "alpha"],
    HardSigmoid: [-4, 4, "alpha", "beta"],
    Shrink: [-2, 2, "lambd", "bias"],
  };
  property<{ op: string; shape: number[]; given: boolean; draw: Coefficients }>(
    "of a float",
    { op: fc.constantFrom(...Object.keys(FLOAT)), shape: shapeOf(4, 5, 0), given: fc.boolean(), draw: coefficients },
    ({ op, shape, given, draw }, next) => {
      const [low, high, ...attributes] = FLOAT[op]!;
      return {
        op,
        opset: op === "Mish" ? 18 : 17,
        attributes: given ? attribute(draw, ...attributes) : {},
        inputs: { x: filled("f32", shape, next, low, high) },
      };
    },
    { rtol: 1e-3, atol: 1e-5 },
    2,
  );
  property<{ shape: number[]; tanh: boolean }>(
    "Gelu",
    { shape: shapeOf(3, 5), tanh: fc.boolean() },
    ({ shape, tanh }, next) => ({
      op: "Gelu",
      opset: 20,
      attributes: tanh ? { approximate: "tanh" } : {},
      inputs: { x: filled("f32", shape, next, -4, 4) },
    }),
  );
  property<{ op: string; dtype: DType; shape: number[] }>(
    "of an integer",
    {
      op: fc.constantFrom("Abs", "Neg", "Sign", "BitwiseNot", "Relu"),
      dtype: fc.constantFrom<DType>("i8", "i32", "i64"),
      shape: shapeOf(4, 5, 0),
    },
    ({ op, dtype, shape }, next) => ({
      op,
      opset: 18,
      // ONNX Runtime has Relu of 32 bits and Neg and Abs of none that are narrower than 8.
      inputs: { x: filled(op === "Relu" ? "i32" : dtype, shape, next, -90, 90) },
    }),
  );
  const special = fc.constantFrom(0, -0, 1.5, -2, Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY);
  property<{ values: number[]; negative: number; positive: number; nan: boolean }>(
    "IsNaN and IsInf",
    {
      values: fc.array(special, { minLength: 1, maxLength: 9 }),
      negative: size(1, 0),
      positive: size(1, 0),
      nan: fc.boolean(),
    },
    ({ values, negative, positive, nan }) => ({
      op: nan ? "IsNaN" : "IsInf",
      attributes: nan ? {} : { detect_negative: negative, detect_positive: positive },
      inputs: { x: tensor("f32", [values.length], values) },
    }),
  );
  property<{ shape: number[]; dtype: DType; bounds: number; low: number }>(
    "Clip",
    {
      shape: shapeOf(4, 5, 0),
      dtype: fc.constantFrom<DType>("f32", "f64", "i32", "i64", "i8", "u8"),
      bounds: size(3, 0),
      low: size(60, 10),
    },
    ({ shape, dtype, bounds, low }, next) => ({
      op: "Clip",
      opset: 13,
      inputs: {
        x: filled(dtype, shape, next, dtypeFacts[dtype].signed ? -99 : 0, 99),
        min: bounds & 1 ? tensor(dtype, [], [low]) : undefined,
        max: bounds & 2 ? tensor(dtype, [], [40]) : undefined,
      },
    }),
  );
});

describe("two operands", () => {
  const types = (...dtypes: DType[]): fc.Arbitrary<DType> => fc.constantFrom(...dtypes);
  const operands = (dtype: DType, draw: Broadcast, next: () => number, low: number, high: number): Record<string, Tensor> => ({
    a: filled(dtype, shapeAt(draw, 0), next, low, high),
    b: filled(dtype, shapeAt(draw, 1), next, low, high),
  });
  const nonzero = (value: Tensor): Tensor =>
    tensor(
      value.dtype,
      value.shape,
      numbersOf(value).map((e) => (e === 0 ? 1 : e)),
    );

  property<{ op: string; dtype: DType; draw: Broadcast }>(
    "arithmetic",
    { op: fc.constantFrom("Add", "Sub", "Mul", "Div"), dtype: types("f32", "f64", "i32", "i64", "i8", "u8"), draw: broadcast },
    ({ op, dtype, draw }, next) => {
      const { a, b } = operands(dtype, draw, next, dtypeFacts[dtype].signed ? -9 : 0, 9);
      return { op, opset: 14, inputs: { a: a!, b: op === "Div" ? nonzero(b!) : b! } };
    },
  );
  property<{ op: string; dtype: DType; draw: Broadcast }>(
    "comparisons",
    {
      op: fc.constantFrom("Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual"),
      dtype: types("f32", "f64", "i32", "i64"),
      draw: broadcast,
    },
    // Few values, so that some are equal.
    ({ op, dtype, draw }, next) => {
      const { a, b } = operands("i32", draw, next, -2, 2);
      const as = (value: Tensor): Tensor => tensor(dtype, value.shape, Array.from(value.data as Int32Array));
      return { op, opset: 16, inputs: { a: as(a!), b: as(b!) } };
    },
  );
  property<{ op: string; draw: Broadcast }>(
    "logic",
    { op: fc.constantFrom("And", "Or", "Xor", "Equal"), draw: broadcast },
    ({ op, draw }, next) => ({ op, inputs: operands("bool", draw, next, 0, 1) }),
  );
  property<{ op: string; dtype: DType; draw: Broadcast }>(
    "bits",
    {
      op: fc.constantFrom("BitwiseAnd", "BitwiseOr", "BitwiseXor"),
      dtype: types("i8", "u8", "i16", "u16", "i32", "u32", "i64"),
      draw: broadcast,
    },
    ({ op, dtype, draw }, next) => ({
      op,
      opset: 18,
      inputs: operands(dtype, draw, next, dtypeFacts[dtype].signed ? -120 : 0, 120),
    }),
  );
  property<{ direction: string; dtype: DType; draw: Broadcast }>(
    "BitShift",
    { direction: fc.constantFrom("LEFT", "RIGHT"), dtype: types("u8", "u32"), draw: broadcast },
    ({ direction, dtype, draw }, next) => ({
      op: "BitShift",
      opset: 11,
      attributes: { direction },
      inputs: {
        a: filled(dtype, shapeAt(draw, 0), next, 0, 255),
        b: filled(dtype, shapeAt(draw, 1), next, 0, dtype === "u8" ? 7 : 31),
      },
    }),
  );
  property<{ dtype: DType; fmod: boolean; draw: Broadcast }>(
    "Mod",
    { dtype: types("f32", "f64", "i8", "u8", "i16", "u16", "i32", "u32", "i64"), fmod: fc.boolean(), draw: broadcast },
    ({ dtype, fmod, draw }, next) => {
      const [low, high] = [dtypeFacts[dtype].signed ? -20 : 0, 20];
      const divisor = nonzero(filled("i32", shapeAt(draw, 1), next, low / 4, high / 4));
      return {
        op: "Mod",
        opset: 13,
        attributes: { fmod: Number(fmod || isFloat(dtype)) },
        inputs: {
          a: filled(dtype, shapeAt(draw, 0), next, low, high),
          b: tensor(dtype, divisor.shape, Array.from(divisor.data as Int32Array)),
        },
      };
    },
    { rtol: 1e-3, atol: 1e-4 },
  );
  property<{ base: DType; exponent: DType; draw: Broadcast }>(
    "Pow",
    { base: types("f32", "f64", "i32", "i64"), exponent: types("f32", "f64", "i32", "i64"), draw: broadcast },
    ({ base, exponent, draw }, next) => ({
      op: "Pow",
      opset: 15,
      inputs: {
        a: filled(base, shapeAt(draw, 0), next, isFloat(base) ? 0.2 : 0, 4),
        b: filled(exponent, shapeAt(draw, 1), next, isFloat(base) ? -2 : 0, 3),
      },
    }),
    // A power whose exponent is no whole number may fall on either side of an integer.
    { rtol: 1e-3, atol: 1e-5, steps: 1 },
  );
  property<{ draw: Broadcast }>("PRelu", { draw: broadcast }, ({ draw }, next) => ({
    op: "PRelu",
    opset: 16,
    inputs: { x: filled("f32", shapeAt(draw, 0), next), slope: filled("f32", shapeAt(draw, 1), next) },
  }));
});

describe("several operands", () => {
  property<{ op: string; dtype: DType; count: number; draw: Broadcast }>(
    "Sum, Mean, Max and Min",
    {
      op: fc.constantFrom("Sum", "Mean", "Max", "Min"),
      dtype: fc.constantFrom<DType>("f32", "f64", "i32", "i64"),
      count: size(3),
      draw: broadcast,
    },
    ({ op, dtype, count, draw }, next) => ({
      op,
      opset: 13,
      inputs: Object.fromEntries(
        Array.from({ length: count }, (_, at) => [
          `x${at}`,
          filled(op === "Sum" || op === "Mean" ? "f32" : dtype, shapeAt(draw, at), next, -9, 9),
        ]),
      ),
    }),
  );
  property<{ dtype: DType; draw: Broadcast }>(
    "Where",
    { dtype: fc.constantFrom<DType>("f32", "i32", "i64", "u8"), draw: broadcast },
    ({ dtype, draw }, next) => ({
      op: "Where",
      inputs: {
        c: filled("bool", shapeAt(draw, 2), next, 0, 1),
        a: filled(dtype, shapeAt(draw, 0), next, 0, 9),
        b: filled(dtype, shapeAt(draw, 1), next, 0, 9),
      },
    }),
  );
});

describe("types", () => {
  const DTYPES: readonly DType[] = ["f32", "f16", "f64", "i8", "u8", "i16", "u16", "i32", "u32", "i64", "bool"];
  property<{ from: DType; to: DType; shape: number[] }>(
    "Cast",
    { from: fc.constantFrom(...DTYPES), to: fc.constantFrom(...DTYPES), shape: shapeOf(3, 5, 0) },
    ({ from, to, shape }, next): Omit<Case, "symbolic"> => {
      // What the target cannot hold is left open by ONNX.
      const low = dtypeFacts[from].signed && dtypeFacts[to].signed ? -100 : 0;
      return {
        op: "Cast",
        opset: 19,
        attributes: { to: dtypeFacts[to].onnx },
        inputs: { x: filled(from, shape, next, from === "bool" ? 0 : low, from === "bool" ? 1 : 100) },
      };
    },
  );
});
