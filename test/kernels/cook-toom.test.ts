// The generated filters against the sum that defines a filter, and against the matrices that Lavin and Gray print for F(2, 3).

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { filterOf, MOST_POINTS } from "../../src/kernels/cook-toom.ts";

const apply = (matrix: readonly (readonly number[])[], vector: readonly number[]): number[] =>
  matrix.map((row) => row.reduce((sum, e, i) => sum + e * vector[i]!, 0));

describe("F(m, r)", () => {
  it("is F(2, 3) of the literature, but for the signs of a row and its counterpart", () => {
    const { a, b, g } = filterOf(2, 3);
    expect(a).toEqual([
      [1, 1, 1, 0],
      [0, 1, -1, 1],
    ]);
    expect(g.map((row) => row.map(Math.abs))).toEqual([
      [1, 0, 0],
      [0.5, 0.5, 0.5],
      [0.5, 0.5, 0.5],
      [0, 0, 1],
    ]);
    expect(b.map((row) => row.map(Math.abs))).toEqual([
      [1, 0, 1, 0],
      [0, 1, 1, 0],
      [0, 1, 1, 0],
      [0, 1, 0, 1],
    ]);
  });

  it("filters, for every size there are points for", () => {
    const sizes = Array.from({ length: MOST_POINTS }, (_, i) => i + 1).flatMap((r) =>
      Array.from({ length: MOST_POINTS + 1 - r }, (_, i) => [i + 1, r] as const),
    );
    fc.assert(
      fc.property(fc.constantFrom(...sizes), fc.infiniteStream(fc.integer({ min: -9, max: 9 })), ([m, r], stream) => {
        const take = (count: number): number[] => Array.from({ length: count }, () => stream.next().value as number);
        const [w, x] = [take(r), take(m + r - 1)];
        const { a, b, g } = filterOf(m, r);
        const products = apply(b, x).map((e, i) => e * apply(g, w)[i]!);
        apply(a, products).forEach((y, i) => {
          expect(y).toBeCloseTo(
            w.reduce((sum, e, k) => sum + e * x[i + k]!, 0),
            6,
          );
        });
      }),
    );
  });

  it("refuses more points than there are", () => {
    expect(() => filterOf(MOST_POINTS, 2)).toThrow(RangeError);
  });
});
