// Where a resized axis reads: ONNX's coordinate transformations. A scale that is a ratio of whole numbers gives positions
// num / den that are computed in integers, so that no rounding of a quotient can move a pixel; others use floats.
// ONNX: https://onnx.ai/onnx/operators/onnx__Resize.html

import { add, type Dim, floorDiv, isStatic, max, mod, mul, sub } from "../ir/dims.ts";
import type { Expr } from "../ir/expr.ts";
import * as x from "../ir/expr.ts";

export const COORDINATES = [
  "half_pixel",
  "half_pixel_symmetric",
  "pytorch_half_pixel",
  "align_corners",
  "asymmetric",
  "tf_half_pixel_for_nn",
  "tf_crop_and_resize",
] as const;
export type Coordinates = (typeof COORDINATES)[number];
export const NEAREST = ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"] as const;
export type Nearest = (typeof NEAREST)[number];

/** Output size over input size: whole numbers, or what float32 says where it is no simple ratio. */
export type Scale = { readonly p: Dim; readonly q: Dim } | number;

/** A position on an input axis, in pixels. */
export interface Position {
  readonly floor: Expr;
  /** In [0, 1). */
  readonly fraction: Expr;
  readonly nearest: (mode: Nearest) => Expr;
  /** False where nothing is to be read: tf_crop_and_resize off the input. */
  readonly inside?: Expr;
}

/** Numerators and denominators that a float32 scale is tried with. */
const MAX_RATIO = 1 << 14;
const MAX_INT = 2 ** 31 - 1;

/** The simplest ratio that rounds to a float32, by its continued fraction. */
export function scaleOf(value: number): Scale {
  const target = Math.fround(value);
  let [p0, q0, p, q] = [0, 1, 1, 0];
  for (let rest = target; ; rest = 1 / (rest - Math.floor(rest))) {
    const whole = Math.floor(rest);
    [p0, q0, p, q] = [p, q, whole * p + p0, whole * q + q0];
    if (p > MAX_RATIO || q > MAX_RATIO || !Number.isFinite(rest)) return target;
    if (p > 0 && Math.fround(p / q) === target) return { p, q };
  }
}

/** out / in, reduced as far as symbols allow. */
export function ratioOf(out: Dim, size: Dim): Scale {
  if (isStatic(out) && isStatic(size)) {
    const divisor = gcd(out, size) || 1;
    return { p: out / divisor, q: size / divisor };
  }
  if (mod(out, size) === 0) return { p: floorDiv(out, size), q: 1 };
  if (mod(size, out) === 0) return { p: 1, q: floorDiv(size, out) };
  return { p: out, q: size };
}

const gcd = (a: number, b: number): number => (b === 0 ? a : gcd(b, a % b));

/** ⌊size · scale⌋. */
export function scaledSize(size: Dim, scale: Scale): Dim | undefined {
  if (typeof scale !== "number") return floorDiv(mul(size, scale.p), scale.q);
  return isStatic(size) ? Math.floor(Math.fround(size * scale)) : undefined;
}

export const scaleAsFloat = (scale: Scale): Expr => {
  if (typeof scale === "number") return x.float(scale);
  const { p, q } = scale;
  return isStatic(p) && isStatic(q) ? x.float(p / q) : x.div(asFloat(p), asFloat(q));
};
const asFloat = (dim: Dim): Expr => x.convert(x.int(dim), "f32");

function exactPosition(num: Expr, den: Dim): Position {
  const by = (a: Expr, d: Dim): Expr => x.floorDiv(a, x.int(d));
  const floor = by(num, den);
  return {
    floor,
    fraction: x.div(x.convert(x.sub(num, x.mul(floor, x.int(den))), "f32"), asFloat(den)),
    nearest: (mode) => {
      const twice = x.mul(num, x.int(2));
      switch (mode) {
        case "floor":
          return floor;
        case "ceil":
          return by(x.add(num, x.int(sub(den, 1))), den);
        case "round_prefer_floor":
          return by(x.add(twice, x.int(sub(den, 1))), mul(den, 2));
        case "round_prefer_ceil":
          return by(x.add(twice, x.int(den)), mul(den, 2));
      }
    },
  };
}

function floatPosition(e: Expr): Position {
  const whole = x.unary("floor", e);
  const int = (a: Expr): Expr => x.convert(a, "i32");
  return {
    floor: int(whole),
    fraction: x.sub(e, whole),
    nearest: (mode) => {
      switch (mode) {
        case "floor":
          return int(whole);
        case "ceil":
          return int(x.unary("ceil", e));
        case "round_prefer_floor":
          return int(x.unary("ceil", x.sub(e, x.float(0.5))));
        case "round_prefer_ceil":
          return int(x.unary("floor", x.add(e, x.float(0.5))));
      }
    },
  };
}

/** A resized axis: its input and output size. */
export interface Axis {
  readonly size: Dim;
  readonly out: Dim;
  readonly scale: Scale;
  /** Start and end for tf_crop_and_resize, as parts of the axis. */
  readonly roi?: readonly [Expr, Expr];
}

/** Where output pixel `o` reads. */
export function positionOf(mode: Coordinates, o: Expr, { size, out, scale, roi }: Axis): Position {
  if (mode === "tf_crop_and_resize") return cropPosition(o, size, out, scale, roi!);
  if (typeof scale !== "number") {
    const { num, den } = ratioPosition(mode, o, size, out, scale.p, scale.q);
    const { low, high } = x.boundsOf(x.mul(num, x.int(2)));
    const safe = (bound: Dim | undefined): boolean => bound === undefined || !isStatic(bound) || Math.abs(bound) < MAX_INT;
    if (safe(low) && safe(high)) return exactPosition(num, den);
  }
  const [at, s] = [x.convert(o, "f32"), scaleAsFloat(scale)];
  const [half, width] = [x.float(0.5), x.mul(asFloat(size), s)];
  const center = x.sub(x.div(x.add(at, half), s), half);
  switch (mode) {
    case "half_pixel":
      return floatPosition(center);
    case "half_pixel_symmetric":
      return floatPosition(x.add(center, x.mul(half, asFloat(size), x.sub(x.float(1), x.div(asFloat(out), width)))));
    case "pytorch_half_pixel":
      return floatPosition(x.select(x.eq(x.int(out), x.int(1)), x.float(0), center));
    case "align_corners":
      return floatPosition(
        x.select(x.eq(x.int(out), x.int(1)), x.float(0), x.div(x.mul(at, asFloat(sub(size, 1))), x.sub(width, x.float(1)))),
      );
    case "asymmetric":
      return floatPosition(x.div(at, s));
    case "tf_half_pixel_for_nn":
      return floatPosition(x.div(x.add(at, half), s));
  }
}

/** The same as num / den for the scale p / q. */
function ratioPosition(
  mode: Exclude<Coordinates, "tf_crop_and_resize">,
  o: Expr,
  size: Dim,
  out: Dim,
  p: Dim,
  q: Dim,
): { num: Expr; den: Dim } {
  const odd = x.mul(x.add(x.mul(o, x.int(2)), x.int(1)), x.int(q));
  const halfPixel = { num: x.sub(odd, x.int(p)), den: mul(p, 2) };
  switch (mode) {
    case "half_pixel":
      return halfPixel;
    case "half_pixel_symmetric":
      return { num: x.add(halfPixel.num, x.int(sub(mul(size, p), mul(out, q)))), den: halfPixel.den };
    case "pytorch_half_pixel":
      return { num: x.select(x.eq(x.int(out), x.int(1)), x.int(0), halfPixel.num), den: halfPixel.den };
    case "tf_half_pixel_for_nn":
      return { num: odd, den: halfPixel.den };
    case "asymmetric":
      return { num: x.mul(o, x.int(q)), den: p };
    case "align_corners": {
      // The corner is that of size·scale, which is `out` unless the scale is no whole ratio of the sizes.
      const whole = mod(mul(size, p), q) === 0;
      const corner = whole ? sub(out, 1) : sub(mul(size, p), q);
      return {
        num: x.mul(o, x.int(mul(sub(size, 1), whole ? 1 : q))),
        den: isStatic(corner) ? Math.max(corner, 1) : max(corner, 1),
      };
    }
  }
}

function cropPosition(o: Expr, size: Dim, out: Dim, scale: Scale, [start, end]: readonly [Expr, Expr]): Position {
  const last = asFloat(add(size, -1));
  const width =
    isStatic(size) && isStatic(out) && Math.floor(size * ratio(scale)) === out ? x.float(size * ratio(scale)) : asFloat(out);
  const steps = x.sub(width, x.float(1));
  const inside = x.add(x.mul(start, last), x.div(x.mul(x.convert(o, "f32"), x.sub(end, start), last), steps));
  const e = x.select(x.eq(x.int(out), x.int(1)), x.mul(x.float(0.5), x.add(start, end), last), inside);
  return { ...floatPosition(e), inside: x.and(x.le(x.float(0), e), x.le(e, last)) };
}

const ratio = (scale: Scale): number =>
  typeof scale === "number" ? scale : isStatic(scale.p) && isStatic(scale.q) ? scale.p / scale.q : Number.NaN;
