// The numerical gate: what counts as an error, and that lossy transforms are over the budget of an f16 layer or under it.

import { describe, expect, it } from "vitest";
import { budgetOf, deviationOf, isWithin } from "../../src/autotuner/accuracy.ts";
import { conv } from "../kernels/problems.ts";

describe("deviation", () => {
  it("is relative to the root mean square and to the largest magnitude", () => {
    const { rms, peak } = deviationOf([[3, 4.5]], [[3, 4]]);
    expect(rms).toBeCloseTo(0.5 / 5, 6);
    expect(peak).toBeCloseTo(0.5 / 4, 6);
  });

  it("takes a NaN or an infinity that should be a number for infinitely wrong, and asks nothing of what was not finite", () => {
    expect(deviationOf([[Number.NaN, 1]], [[1, 1]])).toEqual({ rms: Number.POSITIVE_INFINITY, peak: Number.POSITIVE_INFINITY });
    expect(isWithin(deviationOf([[Number.POSITIVE_INFINITY]], [[1]]), 1)).toBe(false);
    expect(deviationOf([[5, 1]], [[Number.NaN, 1]]).rms).toBe(0);
  });

  it("sees one wrong element among many", () => {
    const expected = Array.from({ length: 1e5 }, (_, i) => Math.sin(i));
    const actual = expected.map((e, i) => (i === 77 ? e + 0.1 : e));
    expect(isWithin(deviationOf([actual], [expected]), 1e-3)).toBe(false);
  });
});

describe("budget", () => {
  it("is that of the arithmetic in f32, and of the storage in f16", () => {
    const layer = (dtype: "f32" | "f16") => conv("c", { dtype, x: [1, 64, 8, 8], w: [64, 64, 3, 3] }).task;
    expect(budgetOf(layer("f32"))).toBeLessThan(2e-5);
    // Direct f16 convolution loses 2e-4, F(2, 3) 4.4e-4, F(4, 3) 1.6e-3 and is out.
    expect(budgetOf(layer("f16"))).toBeGreaterThan(4.4e-4);
    expect(budgetOf(layer("f16"))).toBeLessThan(1.6e-3);
  });
});
