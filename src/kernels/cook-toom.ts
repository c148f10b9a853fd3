// Minimal filtering algorithms F(m, r): m outputs of a filter of r taps from m + r - 1 products. Their matrices come from
// interpolation points by the Cook–Toom construction, transposed (Winograd 1980; Lavin and Gray 2016), in exact rationals.

/** y = A [(G w) ⊙ (B x)]: w has r elements, x m + r - 1, y m. Rows first. */
export interface Filter {
  readonly a: readonly (readonly number[])[];
  readonly b: readonly (readonly number[])[];
  readonly g: readonly (readonly number[])[];
}

/** Numerator and denominator; reduced, the denominator positive. */
type Rational = readonly [bigint, bigint];

const gcd = (a: bigint, b: bigint): bigint => (b === 0n ? (a < 0n ? -a : a) : gcd(b, a % b));
function ratio(a: bigint, b: bigint): Rational {
  const common = gcd(a, b) * (b < 0n ? -1n : 1n);
  return [a / common, b / common];
}
const minus = ([a, b]: Rational, [c, d]: Rational): Rational => ratio(a * d - c * b, b * d);
const times = ([a, b]: Rational, [c, d]: Rational): Rational => ratio(a * c, b * d);
const over = ([a, b]: Rational, [c, d]: Rational): Rational => ratio(a * d, b * c);
const numberOf = ([a, b]: Rational): number => Number(a) / Number(b);

const [ZERO, ONE]: Rational[] = [
  [0n, 1n],
  [1n, 1n],
] as [Rational, Rational];

/** The points, in the order in which errors grow least; the point at infinity is always one more. */
const POINTS: readonly Rational[] = [ZERO!, ONE!, [-1n, 1n], [1n, 2n], [-2n, 1n], [2n, 1n], [-1n, 2n]];

/** Most taps and outputs together, m + r - 1, for which there are points. */
export const MOST_POINTS = POINTS.length + 1;

/** The matrices of F(m, r); m, r ≥ 1 and m + r - 1 ≤ MOST_POINTS. */
export function filterOf(m: number, r: number): Filter {
  const size = m + r - 1;
  if (size > MOST_POINTS) throw new RangeError(`F(${m}, ${r}) needs ${size} points, there are ${MOST_POINTS}`);
  const points = POINTS.slice(0, size - 1);
  /** Powers 0 to length - 1 of every point; infinity sees the highest only. */
  const powers = (length: number): Rational[][] => [
    ...points.map((p) => Array.from({ length }, (_, k) => power(p, k))),
    Array.from({ length }, (_, k) => (k === length - 1 ? ONE! : ZERO!)),
  ];
  // Row j of B: the coefficients of the product of x - p over the other points, and of all of them for infinity. What makes
  // it 1 at its own point goes to G, which is applied when the engine is built.
  const b = [...points.map((p) => points.filter((other) => other !== p)), points].map((roots) => {
    const polynomial = roots.reduce(timesRoot, [ONE!]);
    return [...polynomial, ...new Array<Rational>(size - polynomial.length).fill(ZERO!)];
  });
  const scales = [...points.map((p) => points.reduce((all, q) => (q === p ? all : times(all, minus(p, q))), ONE!)), ONE!];
  return {
    a: transpose(powers(m)).map((row) => row.map(numberOf)),
    b: b.map((row) => row.map(numberOf)),
    g: powers(r).map((row, j) => row.map((e) => numberOf(over(e, scales[j]!)))),
  };
}

const power = (p: Rational, k: number): Rational => (k === 0 ? ONE! : times(p, power(p, k - 1)));

/** A polynomial, lowest coefficient first, times x - root. */
const timesRoot = (polynomial: readonly Rational[], root: Rational): Rational[] =>
  Array.from({ length: polynomial.length + 1 }, (_, k) =>
    minus(polynomial[k - 1] ?? ZERO!, times(root, polynomial[k] ?? ZERO!)),
  );

const transpose = <T>(rows: readonly (readonly T[])[]): T[][] => rows[0]!.map((_, i) => rows.map((row) => row[i]!));
