// Discrete Fourier transforms of rows. A short one is a matrix product with the roots of unity; a long one of composite
// length is two of them with a turn between (Cooley & Tukey, "An algorithm for the machine calculation of complex Fourier
// series", 1965), as often as it takes.

import { type Dim, isStatic, mul } from "../ir/dims.ts";
import type { Expr } from "../ir/expr.ts";
import * as x from "../ir/expr.ts";
import type { Lowering } from "../ir/lower.ts";
import { tensor } from "../ir/tensor.ts";
import type { DType } from "../ir/types.ts";

/** Transforms up to this length are one matrix product. */
const MAX_DIRECT = 128;

/** Element of a row: `part` 0 is real, 1 imaginary. */
export type Signal = (row: Expr, at: Expr, part: Expr) => Expr;

export interface Transform {
  readonly rows: Dim;
  readonly length: Dim;
  /** Elements of the result that are wanted, from the first. */
  readonly out: Dim;
  /** Whether the source has an imaginary part. */
  readonly complex: boolean;
  /** The sign in e^(±2πi·kn/N) is + and nothing is divided. */
  readonly inverse: boolean;
  readonly dtype: DType;
}

/** How real and imaginary part of a turn by 2π·j / length add to those of a result: read(j, part of the result, part of the source). */
function turnsOf(b: Lowering, { length, inverse, dtype }: Transform): (j: Expr, to: Expr, from: Expr) => Expr {
  const sign = inverse ? 1 : -1;
  if (isStatic(length)) {
    const table = Array.from({ length }, (_, j) => {
      const angle = (2 * Math.PI * j) / length;
      const [cos, sin] = [Math.cos(angle), sign * Math.sin(angle)];
      return [cos, -sin, sin, cos];
    });
    const values = b.constant(tensor(dtype === "f64" ? "f64" : "f32", [length, 2, 2], table.flat()));
    return (j, to, from) => x.load(values, [j, to, from]);
  }
  return (j, to, from) => {
    const angle = x.div(x.mul(x.float(2 * Math.PI), x.convert(j, "f32")), x.convert(x.int(length), "f32"));
    const sin = x.mul(x.float(sign), x.unary("sin", angle));
    return x.select(x.eq(to, from), x.unary("cos", angle), x.select(x.lt(to, from), x.unary("neg", sin), sin));
  };
}

/** out[row, k] = Σ_n source[row, n]·e^(∓2πi·kn / length). */
export function fourier(b: Lowering, transform: Transform, source: Signal): Signal {
  const { length } = transform;
  const factor = isStatic(length) && length > MAX_DIRECT ? largestFactor(length) : 1;
  return factor > 1 ? split(b, transform, factor, source) : direct(b, transform, source);
}

function direct(b: Lowering, transform: Transform, source: Signal): Signal {
  const { rows, length, out, complex, dtype } = transform;
  const turn = turnsOf(b, transform);
  const parts = complex ? 2 : 1;
  const halves = (e: Expr, by: number): [Expr, Expr] => [x.floorDiv(e, x.int(by)), x.floorMod(e, x.int(by))];
  const product = b.gemm(
    dtype,
    { batch: [], m: rows, n: mul(out, 2), k: mul(length, parts) },
    (_, row, at) => source(row, ...halves(at, parts)),
    (_, at, to) => {
      const [[n, from], [k, part]] = [halves(at, parts), halves(to, 2)];
      return turn(x.floorMod(x.mul(k, n), x.int(length)), part, from);
    },
  );
  return (row, at, part) => x.load(product, [row, x.add(x.mul(at, x.int(2)), part)]);
}

/** n = second·n₁ + n₂ and k = k₁ + first·k₂: transforms over n₁, a turn by k₁·n₂, transforms over n₂. */
function split(b: Lowering, transform: Transform, first: number, source: Signal): Signal {
  const { rows, dtype } = transform;
  const length = transform.length as number;
  const second = length / first;
  const turn = turnsOf(b, transform);
  const inner = fourier(b, { ...transform, rows: mul(rows, second), length: first, out: first }, (row, at, part) =>
    source(x.floorDiv(row, x.int(second)), x.add(x.mul(at, x.int(second)), x.floorMod(row, x.int(second))), part),
  );
  const turned = b.map(dtype, [rows, first, second, 2], ([row, k, n, part]) => {
    const at = x.add(x.mul(row!, x.int(second)), n!);
    const j = x.mul(k!, n!);
    return x.add(
      x.mul(inner(at, k!, x.int(0)), turn(j, part!, x.int(0))),
      x.mul(inner(at, k!, x.int(1)), turn(j, part!, x.int(1))),
    );
  });
  const outer = fourier(
    b,
    { ...transform, rows: mul(rows, first), length: second, out: second, complex: true },
    (row, at, part) => x.load(turned, [x.floorDiv(row, x.int(first)), x.floorMod(row, x.int(first)), at, part]),
  );
  return (row, at, part) =>
    outer(x.add(x.mul(row, x.int(first)), x.floorMod(at, x.int(first))), x.floorDiv(at, x.int(first)), part);
}

/** The largest divisor that is not above the square root. */
function largestFactor(length: number): number {
  for (let factor = Math.floor(Math.sqrt(length)); factor > 1; factor--) if (length % factor === 0) return factor;
  return 1;
}
