// Element-wise operators, as rows: what each computes for one element, in the scalar type of its inputs.
// ONNX: https://onnx.ai/onnx/operators/

import type { BinaryFn, Expr, UnaryFn } from "../ir/expr.ts";
import * as x from "../ir/expr.ts";
import { contentsOf, type Lowering } from "../ir/lower.ts";
import { type DType, dtypeOfOnnx, isFloat, isInteger, ONNX_TYPE_NAMES, scalarOf } from "../ir/types.ts";
import type { Value } from "../ir/value.ts";
import { typeMismatch, unknownAttribute, unsupportedType } from "../util/errors.ts";
import { broadcastShapes, loadBroadcast } from "./broadcast.ts";
import { type AttributeReader, axisIn, defineOp, type NodeFacts, need, type Operator } from "./define.ts";

/** Wraps what arithmetic on a narrow integer gave back into its range. */
export const wrap = (e: Expr, dtype: DType): Expr =>
  isInteger(dtype) && !["i32", "u32", "i64", "u64"].includes(dtype) ? x.convert(e, dtype) : e;

/** An operator over broadcast inputs that must all have one element type. */
export function broadcasting<A>(
  name: string,
  since: readonly number[],
  compute: (operands: readonly Expr[], dtype: DType, attrs: A, node: NodeFacts) => Expr,
  options: {
    readonly result?: DType;
    readonly attrs?: (read: AttributeReader) => A;
    readonly domain?: string;
    readonly mixed?: boolean;
    /** The operands in shapes that broadcast as NumPy's do, where the operator once had a rule of its own. */
    readonly align?: (b: Lowering, operands: readonly Value[], attrs: A, node: NodeFacts) => readonly Value[];
  } = {},
): Operator {
  return defineOp<A>({
    name,
    since,
    ...(options.domain === undefined ? {} : { domain: options.domain }),
    ...(options.attrs ? { attrs: options.attrs } : {}),
    lower: (b, inputs, attrs, node) => {
      const given = inputs.map((_, i) => need(node, inputs, i));
      const values = options.align?.(b, given, attrs, node) ?? given;
      const { dtype } = need(node, inputs, 0);
      const odd = values.find((value) => value.dtype !== dtype);
      if (odd && !options.mixed)
        throw typeMismatch(node, `inputs are ${values.map((value) => value.dtype).join(" and ")}: all must have one type`);
      const shape = broadcastShapes(node, ...values.map((value) => value.shape));
      const out = options.result ?? dtype;
      return [
        b.map(out, shape, (i) =>
          wrap(
            compute(
              values.map((value) => loadBroadcast(value, i, shape)),
              dtype,
              attrs,
              node,
            ),
            out,
          ),
        ),
      ];
    },
  });
}

const unary = (name: string, since: readonly number[], compute: (a: Expr, dtype: DType) => Expr): Operator =>
  broadcasting<undefined>(name, since, ([a], dtype) => compute(a!, dtype), { attrs: ignoreOldBroadcast });
const unaryWith = <A>(
  name: string,
  since: readonly number[],
  attrs: (read: AttributeReader) => A,
  compute: (a: Expr, attrs: A, dtype: DType) => Expr,
): Operator =>
  broadcasting<A>(name, since, ([a], dtype, values) => compute(a!, values, dtype), {
    attrs: (read) => {
      read.ignore("consumed_inputs");
      return attrs(read);
    },
  });

const fn =
  (name: UnaryFn) =>
  (a: Expr): Expr =>
    x.unary(name, a);
const binary = (name: string, since: readonly number[], compute: (a: Expr, b: Expr) => Expr, result?: DType): Operator =>
  broadcasting<number | undefined>(name, since, ([a, b]) => compute(a!, b!), {
    ...(result ? { result } : {}),
    attrs: readOldBroadcast,
    align: alignAt,
  });
const ignoreOldBroadcast = (read: AttributeReader): undefined => {
  read.ignore("consumed_inputs");
  return undefined;
};
/** The attributes of versions before 7; the axis, when given. */
const readOldBroadcast = (read: AttributeReader): number | undefined => {
  read.ignore("consumed_inputs", "broadcast");
  return read.int("axis");
};

/** Before version 7 the right operand's axes met the left's from `axis` on, as if sizes of 1 followed them. */
function alignAt(b: Lowering, [left, right]: readonly Value[], axis: number | undefined, node: NodeFacts): readonly Value[] {
  if (axis === undefined) return [left!, right!];
  if (node.opset >= 7) throw unknownAttribute(node, ["axis"], []);
  const behind = left!.shape.length - axisIn(node, axis, left!.shape.length, true) - right!.shape.length;
  return behind > 0 ? [left!, b.reshape(right!, [...right!.shape, ...Array<number>(behind).fill(1)])] : [left!, right!];
}

/** Before version 7 a vector of slopes held one for each channel. */
const alignSlope = (b: Lowering, operands: readonly Value[], _: undefined, node: NodeFacts): readonly Value[] =>
  alignAt(
    b,
    operands,
    node.opset < 7 && operands[1]!.shape.length === 1 && operands[0]!.shape.length > 1 ? 1 : undefined,
    node,
  );

const alpha =
  (fallback: number) =>
  (read: AttributeReader): number =>
    read.float("alpha", fallback);

const f = x.float;
const zero = (like: Expr): Expr => x.constant(like.type, 0);
const clamp = (a: Expr, low: Expr, high: Expr): Expr => x.minimum(x.maximum(a, low), high);

export const relu = (a: Expr): Expr => x.maximum(a, zero(a));
export const sigmoid = (a: Expr): Expr => x.div(f(1), x.add(f(1), x.unary("exp", x.unary("neg", a))));
/** log(1 + e^a) without overflow. */
export const softplus = (a: Expr): Expr =>
  x.add(x.maximum(a, f(0)), x.unary("log", x.add(f(1), x.unary("exp", x.unary("neg", x.unary("abs", a))))));
export const geluErf = (a: Expr): Expr => x.mul(x.mul(f(0.5), a), x.add(f(1), x.unary("erf", x.mul(a, f(Math.SQRT1_2)))));
export const geluTanh = (a: Expr): Expr =>
  x.mul(
    x.mul(f(0.5), a),
    x.add(f(1), x.unary("tanh", x.mul(f(Math.sqrt(2 / Math.PI)), x.add(a, x.mul(f(0.044715), a, a, a))))),
  );

const compare = (name: string, since: readonly number[], test: (a: Expr, b: Expr) => Expr): Operator =>
  binary(name, since, test, "bool");
const logical = (name: string, since: readonly number[], op: BinaryFn): Operator =>
  binary(name, since, (a, b) => x.binary(op, a, b), "bool");

const divide = (a: Expr, b: Expr): Expr => (a.type === "f32" ? x.div(a, b) : x.binary("quot", a, b));

/** Every input folded by `combine`; one input is itself. */
const variadic = (
  name: string,
  since: readonly number[],
  combine: (a: Expr, b: Expr) => Expr,
  finish: (sum: Expr, count: number) => Expr = (sum) => sum,
): Operator =>
  broadcasting<undefined>(
    name,
    since,
    (operands) =>
      finish(
        operands.reduce((a, b) => combine(a, b)),
        operands.length,
      ),
    { attrs: ignoreOldBroadcast },
  );

export const elementwise: readonly Operator[] = [
  unary("Abs", [6, 13], (a) => (a.type === "u32" ? a : x.unary("abs", a))),
  unary("Neg", [6, 13], fn("neg")),
  unary("Sign", [9, 13], fn("sign")),
  unary("Exp", [6, 13], fn("exp")),
  unary("Log", [6, 13], fn("log")),
  unary("Sqrt", [6, 13], fn("sqrt")),
  unary("Reciprocal", [6, 13], (a) => x.div(f(1), a)),
  unary("Sin", [7, 22], fn("sin")),
  unary("Cos", [7, 22], fn("cos")),
  unary("Tan", [7, 22], fn("tan")),
  unary("Asin", [7, 22], fn("asin")),
  unary("Acos", [7, 22], fn("acos")),
  unary("Atan", [7, 22], fn("atan")),
  unary("Sinh", [9, 22], fn("sinh")),
  unary("Cosh", [9, 22], fn("cosh")),
  unary("Tanh", [6, 13], fn("tanh")),
  unary("Asinh", [9, 22], fn("asinh")),
  unary("Acosh", [9, 22], fn("acosh")),
  unary("Atanh", [9, 22], fn("atanh")),
  unary("Erf", [9, 13], fn("erf")),
  unary("Floor", [6, 13], fn("floor")),
  unary("Ceil", [6, 13], fn("ceil")),
  unary("Round", [11, 22], fn("round")),
  unary("Not", [1], fn("not")),
  unary("BitwiseNot", [18], fn("bitnot")),
  unary("Relu", [6, 13, 14], relu),
  unary("Sigmoid", [6, 13], sigmoid),
  unary("Softplus", [1, 22], softplus),
  unary("Softsign", [1, 22], (a) => x.div(a, x.add(f(1), x.unary("abs", a)))),
  unary("HardSwish", [14, 22], (a) => x.mul(a, clamp(x.add(x.mul(a, f(1 / 6)), f(0.5)), f(0), f(1)))),
  unary("Mish", [18, 22], (a) => x.mul(a, x.unary("tanh", softplus(a)))),
  unaryWith("Swish", [24], alpha(1), (a, alpha) => x.mul(a, sigmoid(x.mul(f(alpha), a)))),
  unaryWith("Elu", [6, 22], alpha(1), (a, alpha) =>
    x.select(x.lt(a, f(0)), x.mul(f(alpha), x.sub(x.unary("exp", a), f(1))), a),
  ),
  unaryWith("Celu", [12], alpha(1), (a, alpha) =>
    x.add(x.maximum(a, f(0)), x.minimum(f(0), x.mul(f(alpha), x.sub(x.unary("exp", x.div(a, f(alpha))), f(1))))),
  ),
  unaryWith(
    "Selu",
    [6, 22],
    (read) => ({
      alpha: read.float("alpha", 1.6732631921768188),
      gamma: read.float("gamma", 1.0507010221481323),
    }),
    (a, { alpha, gamma }) => x.mul(f(gamma), x.select(x.lt(f(0), a), a, x.sub(x.mul(f(alpha), x.unary("exp", a)), f(alpha)))),
  ),
  unaryWith("LeakyRelu", [6, 16], alpha(0.01), (a, alpha) => x.select(x.lt(a, f(0)), x.mul(f(alpha), a), a)),
  unaryWith("ThresholdedRelu", [10, 22], alpha(1), (a, alpha) => x.select(x.lt(f(alpha), a), a, f(0))),
  unaryWith(
    "HardSigmoid",
    [6, 22],
    (read) => ({ alpha: read.float("alpha", 0.2), beta: read.float("beta", 0.5) }),
    (a, { alpha, beta }) => clamp(x.add(x.mul(f(alpha), a), f(beta)), f(0), f(1)),
  ),
  unaryWith(
    "Gelu",
    [20],
    (read) => read.string("approximate", "none", ["none", "tanh"]),
    (a, approximate) => (approximate === "tanh" ? geluTanh(a) : geluErf(a)),
  ),
  unaryWith(
    "Shrink",
    [9],
    (read) => ({ bias: read.float("bias", 0), lambd: read.float("lambd", 0.5) }),
    (a, { bias, lambd }, dtype) => shrink(a, dtype, bias, lambd),
  ),

  binary("Add", [6, 7, 13, 14], x.add),
  binary("Sub", [6, 7, 13, 14], x.sub),
  binary("Mul", [6, 7, 13, 14], x.mul),
  binary("Div", [6, 7, 13, 14], divide),
  binary("BitwiseAnd", [18], (a, b) => x.binary("and", a, b)),
  binary("BitwiseOr", [18], (a, b) => x.binary("or", a, b)),
  binary("BitwiseXor", [18], (a, b) => x.binary("xor", a, b)),
  logical("And", [1, 7], "and"),
  logical("Or", [1, 7], "or"),
  logical("Xor", [1, 7], "ne"),
  compare("Equal", [1, 7, 11, 13, 19], x.eq),
  compare("Less", [1, 7, 9, 13], x.lt),
  compare("Greater", [1, 7, 9, 13], x.gt),
  compare("LessOrEqual", [12, 16], x.le),
  compare("GreaterOrEqual", [12, 16], x.ge),
  broadcasting<boolean>("Mod", [10, 13], ([a, b], _, fmod) => x.binary(fmod ? "rem" : "floormod", a!, b!), {
    attrs: (read) => read.flag("fmod"),
  }),
  broadcasting<undefined>("PRelu", [6, 7, 9, 16], ([a, slope]) => x.select(x.lt(a!, zero(a!)), x.mul(a!, slope!), a!), {
    attrs: ignoreOldBroadcast,
    align: alignSlope,
  }),

  variadic("Sum", [6, 8, 13], x.add),
  variadic("Mean", [6, 8, 13], x.add, (sum, count) => (count === 1 ? sum : x.div(sum, f(count)))),
  variadic("Max", [6, 8, 12, 13], x.maximum),
  variadic("Min", [6, 8, 12, 13], x.minimum),

  defineOp({
    name: "Where",
    since: [9, 16],
    lower: (b, inputs, _, node) => {
      const [condition, a, c] = [0, 1, 2].map((i) => need(node, inputs, i)) as [Value, Value, Value];
      if (a.dtype !== c.dtype) throw typeMismatch(node, `branches are ${a.dtype} and ${c.dtype}`);
      const shape = broadcastShapes(node, condition.shape, a.shape, c.shape);
      return [
        b.map(a.dtype, shape, (i) =>
          x.select(loadBroadcast(condition, i, shape), loadBroadcast(a, i, shape), loadBroadcast(c, i, shape)),
        ),
      ];
    },
  }),
  defineOp({
    name: "Pow",
    since: [1, 7, 12, 13, 15],
    attrs: readOldBroadcast,
    lower: (b, inputs, axis, node) => {
      const [base, exponent] = alignAt(b, [need(node, inputs, 0), need(node, inputs, 1)], axis, node) as [Value, Value];
      const shape = broadcastShapes(node, base.shape, exponent.shape);
      const type = isFloat(base.dtype) || isFloat(exponent.dtype) ? "f32" : scalarOf(base.dtype);
      const as = (e: Expr): Expr => x.convert(e, type === "f32" ? "f32" : type === "u32" ? "u32" : "i32");
      return [
        b.map(base.dtype, shape, (i) => {
          const power = x.binary("pow", as(loadBroadcast(base, i, shape)), as(loadBroadcast(exponent, i, shape)));
          return scalarOf(base.dtype) === "f32" ? power : x.convert(power, base.dtype);
        }),
      ];
    },
  }),
  defineOp({
    name: "Cast",
    since: [6, 9, 13, 19, 21, 23, 24, 25],
    attrs: (read) => {
      read.ignore("saturate", "round_mode");
      return read.int("to", 1);
    },
    lower: (b, inputs, to, node) => [cast(b, need(node, inputs, 0), dtypeOfCast(node, to))],
  }),
  defineOp({
    name: "CastLike",
    since: [15, 19, 21, 23, 24, 25],
    attrs: (read) => read.ignore("saturate", "round_mode"),
    lower: (b, inputs, _, node) => [cast(b, need(node, inputs, 0), need(node, inputs, 1).dtype)],
  }),
  defineOp({
    name: "Clip",
    since: [6, 11, 12, 13],
    attrs: (read) => {
      read.ignore("consumed_inputs");
      return { min: read.float("min"), max: read.float("max") };
    },
    lower: (b, inputs, { min, max }, node) => {
      const value = need(node, inputs, 0);
      const type = scalarOf(value.dtype);
      const bound = (at: number, attr: number | undefined): Expr | undefined =>
        inputs[at]
          ? x.load(
              inputs[at],
              inputs[at].shape.map(() => x.int(0)),
            )
          : attr === undefined
            ? undefined
            : x.constant(type, attr);
      return [
        b.map(value.dtype, value.shape, (i) => {
          const [low, high] = [bound(1, min), bound(2, max)];
          const raised = low ? x.maximum(x.load(value, i), low) : x.load(value, i);
          return high ? x.minimum(raised, high) : raised;
        }),
      ];
    },
  }),
  defineOp({
    name: "Identity",
    since: [1, 13, 14, 16, 19, 21, 23, 24, 25],
    lower: (_, inputs, __, node) => [need(node, inputs, 0)],
  }),
  defineOp({
    name: "IsNaN",
    since: [9, 13, 20],
    lower: (b, inputs, _, node) => {
      const value = need(node, inputs, 0);
      return [b.map("bool", value.shape, (i) => x.unary("isnan", x.load(value, i)))];
    },
  }),
  defineOp({
    name: "IsInf",
    since: [10, 20],
    attrs: (read) => ({ negative: read.flag("detect_negative", true), positive: read.flag("detect_positive", true) }),
    lower: (b, inputs, { negative, positive }, node) => {
      const value = need(node, inputs, 0);
      return [
        b.map("bool", value.shape, (i) => {
          const e = x.load(value, i);
          const sided =
            negative && positive ? x.bool(true) : negative ? x.lt(e, f(0)) : positive ? x.lt(f(0), e) : x.bool(false);
          return x.and(x.unary("isinf", e), sided);
        }),
      ];
    },
  }),
  defineOp({
    name: "BitShift",
    since: [11],
    attrs: (read) => read.string("direction", "LEFT", ["LEFT", "RIGHT"]),
    lower: (b, inputs, direction, node) => {
      const [a, by] = [need(node, inputs, 0), need(node, inputs, 1)];
      const shape = broadcastShapes(node, a.shape, by.shape);
      return [
        b.map(a.dtype, shape, (i) =>
          wrap(
            x.binary(direction === "LEFT" ? "shl" : "shr", loadBroadcast(a, i, shape), loadBroadcast(by, i, shape)),
            a.dtype,
          ),
        ),
      ];
    },
  }),
];

function shrink(a: Expr, dtype: DType, bias: number, lambd: number): Expr {
  const wide = x.convert(a, "f32");
  const moved = x.select(
    x.lt(wide, f(-lambd)),
    x.add(wide, f(bias)),
    x.select(x.lt(f(lambd), wide), x.sub(wide, f(bias)), f(0)),
  );
  return scalarOf(dtype) === "f32" ? moved : x.convert(moved, dtype);
}

function dtypeOfCast(node: NodeFacts, to: number): DType {
  const dtype = dtypeOfOnnx(to);
  if (!dtype) throw unsupportedType(`${node.op} "${node.name}"`, ONNX_TYPE_NAMES[to] ?? `number ${to}`);
  return dtype;
}

/** ONNX Cast of every element. */
export function cast(b: Lowering, value: Value, dtype: DType): Value {
  if (value.dtype === dtype) return value;
  const out = b.map(dtype, value.shape, (i) => x.convert(x.load(value, i), dtype));
  const contents = contentsOf(value);
  if (contents && isInteger(dtype) && isInteger(value.dtype)) out.contents = contents;
  return out;
}
