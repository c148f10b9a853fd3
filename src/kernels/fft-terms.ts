// Discrete Fourier transforms of a few points as expressions: straight-line code whose factors are constants. What is known to
// be real costs half, and results that nobody asks for cost nothing.

import { add, type Expr, float, mul, sub, unary } from "../ir/expr.ts";

/** `im` is left out where it is 0. */
export interface Complex {
  readonly re: Expr;
  readonly im?: Expr | undefined;
}

/** X[f] = Σ x[i]·exp(∓2πi·f·i / n), minus forwards, plus `inverse` (not scaled); n, the length, is a power of two. Cooley and Tukey 1965. */
export function transform(x: readonly Complex[], inverse = false): Complex[] {
  if (x.length === 1) return [...x];
  const half = x.length / 2;
  const even = transform(
    x.filter((_, i) => i % 2 === 0),
    inverse,
  );
  const odd = transform(
    x.filter((_, i) => i % 2 === 1),
    inverse,
  ).map((z, f) => turn(z, ((inverse ? 1 : -1) * f) / x.length));
  return Array.from({ length: x.length }, (_, f) => {
    const [a, b] = [even[f % half]!, odd[f % half]!];
    return f < half ? { re: add(a.re, b.re), im: plus(a.im, b.im) } : { re: sub(a.re, b.re), im: less(a.im, b.im) };
  });
}

/** z·exp(2πi·turns). */
function turn({ re, im }: Complex, turns: number): Complex {
  const eighths = Math.round(turns * 8 * 1e9) / 1e9;
  if (eighths === 0) return { re, im };
  // A quarter turn either way changes places and signs only.
  if (Math.abs(eighths) === 2) {
    const minus = (e: Expr): Expr => unary("neg", e);
    return eighths === -2 ? { re: im ?? float(0), im: minus(re) } : { re: im ? minus(im) : float(0), im: re };
  }
  const [c, s] = [float(Math.cos(2 * Math.PI * turns)), float(Math.sin(2 * Math.PI * turns))];
  return im ? { re: sub(mul(c, re), mul(s, im)), im: add(mul(s, re), mul(c, im)) } : { re: mul(c, re), im: mul(s, re) };
}

const plus = (a: Expr | undefined, b: Expr | undefined): Expr | undefined => (a && b ? add(a, b) : (a ?? b));
const less = (a: Expr | undefined, b: Expr | undefined): Expr | undefined => (b ? (a ? sub(a, b) : unary("neg", b)) : a);
