// BitCast: the same bits as another type of the same width. ONNX: https://onnx.ai/onnx/operators/onnx__BitCast.html

import type { Expr } from "../ir/expr.ts";
import * as x from "../ir/expr.ts";
import { arrayOfBytes } from "../ir/tensor.ts";
import { type DType, dtypeFacts } from "../ir/types.ts";
import { typeMismatch } from "../util/errors.ts";
import { defineOp, need, type Operator } from "./define.ts";
import { dtypeOfAttribute } from "./shape.ts";

const u = (value: number): Expr => x.constant("u32", value);
const op = (fn: x.BinaryFn, a: Expr, by: number): Expr => x.binary(fn, a, u(by));
const f32Bits = (e: Expr): Expr => x.unary("bits", e);

/** Bits of a binary16 that an f32 holds exactly. */
function halfBits(e: Expr): Expr {
  const bits = f32Bits(e);
  const sign = op("shl", op("shr", bits, 31), 15);
  const magnitude = op("and", bits, 0x7fffffff);
  const special = x.ge(magnitude, u(0x7f800000));
  const subnormal = x.lt(magnitude, u(0x38800000));
  const normal = x.sub(op("shr", x.maximum(magnitude, u(0x38800000)), 13), u(112 << 10));
  const tiny = x.convert(x.mul(x.unary("abs", e), x.float(2 ** 24)), "u32");
  const nan = x.select(x.eq(magnitude, u(0x7f800000)), u(0x7c00), u(0x7e00));
  return x.binary("or", sign, x.select(special, nan, x.select(subnormal, tiny, normal)));
}

/** The f32 that binary16 bits stand for. */
function halfOfBits(bits: Expr): Expr {
  const exponent = op("and", op("shr", bits, 10), 31);
  const fraction = op("and", bits, 1023);
  const tiny = x.mul(x.convert(fraction, "f32"), x.float(2 ** -24));
  const high = x.select(x.eq(exponent, u(31)), u(255), x.add(exponent, u(112)));
  const size = x.select(
    x.eq(exponent, u(0)),
    tiny,
    x.unary("frombits", x.binary("or", op("shl", high, 23), op("shl", fraction, 13))),
  );
  return x.select(x.ge(bits, u(0x8000)), x.unary("neg", size), size);
}

/** An element of a type of at most 32 bits as its bits, in the low end of a u32. */
function bitsOf(e: Expr, dtype: DType): Expr {
  const { bytes } = dtypeFacts[dtype];
  if (dtype === "f32") return f32Bits(e);
  if (dtype === "bf16") return op("shr", f32Bits(e), 16);
  if (dtype === "f16") return halfBits(e);
  return x.convert(e, bytes === 4 ? "u32" : bytes === 2 ? "u16" : "u8");
}

function fromBits(bits: Expr, dtype: DType): Expr {
  if (dtype === "f32") return x.unary("frombits", bits);
  if (dtype === "bf16") return x.unary("frombits", op("shl", bits, 16));
  if (dtype === "f16") return halfOfBits(bits);
  return x.convert(bits, dtype);
}

export const bitcast: readonly Operator[] = [
  defineOp({
    name: "BitCast",
    since: [26],
    place: "GPU; host for 64 bits, which do not fit a kernel's scalars",
    attrs: (read) => read.int("to", 0),
    lower: (b, inputs, code, node) => {
      const value = need(node, inputs, 0);
      const to = dtypeOfAttribute(node, code);
      if (dtypeFacts[to].bytes !== dtypeFacts[value.dtype].bytes)
        throw typeMismatch(node, `${value.dtype} and ${to} differ in width`);
      if (to === value.dtype) return [value];
      if (dtypeFacts[to].bytes === 8)
        return b.host(
          "BitCast",
          { to },
          [value],
          [{ dtype: to, shape: value.shape }],
          "64-bit patterns do not fit a kernel's 32-bit scalars",
        );
      return [b.map(to, value.shape, (i) => fromBits(bitsOf(x.load(value, i), value.dtype), to))];
    },
    reference: ([value], { to }) => {
      const { data, shape } = value!;
      const dtype = to as DType;
      return [{ dtype, shape, data: arrayOfBytes(dtype, new Uint8Array(data.buffer, data.byteOffset, data.byteLength)) }];
    },
  }),
];
