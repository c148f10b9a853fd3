// Thresholds from histograms: entropy against an implementation of its own, loop by loop; the other calibrators by what
// defines them; the calibration cache.

import { describe, expect, it } from "vitest";
import { checkCache, parseCache, writeCache } from "../../src/calibrator/cache.ts";
import { divergenceAt, divergences, entropyCut } from "../../src/calibrator/entropy.ts";
import { Histogram } from "../../src/calibrator/histogram.ts";
import { calibratorNamed, entropy, minmax, mse, percentile, scaleOf } from "../../src/calibrator/thresholds.ts";
import { KilnError } from "../../src/util/errors.ts";
import { generator } from "../support/random.ts";
import { activations, bruteForce, normals } from "./histograms.ts";

const histogramOf = (...batches: readonly ArrayLike<number>[]): Histogram => {
  const histogram = new Histogram("x");
  for (const batch of batches) histogram.add(batch);
  return histogram;
};

const codeOf = (work: () => unknown): string => {
  try {
    work();
  } catch (failure) {
    if (failure instanceof KilnError) return failure.code;
    throw failure;
  }
  return "none";
};

/** |x| from which on each histogram's upper mode is cut at its tail. */
const convexFrom = { "Gaussian with outliers": 1.3, "half-normal after ReLU": 1.3, bimodal: 5.6 };

describe("entropy", () => {
  for (const [name, draw] of Object.entries(activations)) {
    const values = draw(200_000);
    const histogram = histogramOf(values);
    const expected = bruteForce([...histogram.counts]);

    it(`${name}: the brute force's curve and threshold`, () => {
      const curve = divergences(histogram.counts);
      expect(curve.length).toBe(2048 - 128 + 1);
      expected.divergences.forEach((value, k) => {
        if (curve[k] !== value && !(Math.abs(curve[k]! - value) < 1e-9)) expect(curve[k], `cut ${128 + k}`).toBe(value);
      });
      expect(entropyCut(histogram.counts)).toBe(expected.cut);
      expect(entropy.threshold(histogram)).toBe(expected.cut * histogram.width);
      expect(scaleOf(histogram, entropy)).toEqual({ scale: Math.fround((expected.cut * histogram.width) / 127) });
    });

    it(`${name}: the curve falls to the threshold and is convex where clipping wanes`, () => {
      const { cut } = expected;
      const first = Math.ceil(convexFrom[name as keyof typeof activations] / histogram.width);
      // Means over 32 cuts, 64 apart: single cuts jump as levels gain and lose a bin, and near the end some level is empty.
      const means: number[] = [];
      for (let at = first; at + 32 <= cut; at += 64) means.push(mean(expected.divergences.slice(at - 128, at - 96)));
      while (Number.isNaN(means.at(-1))) means.pop();
      expect(means.length).toBeGreaterThan(3);
      for (let i = 1; i < means.length; i++) expect(means[i]).toBeLessThan(means[i - 1]! + 0.001 * means[0]!);
      for (let i = 1; i + 1 < means.length; i++)
        expect(means[i - 1]! + means[i + 1]! - 2 * means[i]!).toBeGreaterThan(-0.005 * means[0]!);
    });
  }

  it("a Gaussian with outliers is cut between the two, a half-normal near its end", () => {
    const [outliers, half, bimodal] = Object.values(activations).map((draw) => histogramOf(draw(200_000)));
    expect(entropy.threshold(outliers!)).toBeGreaterThan(2.5);
    expect(entropy.threshold(outliers!)).toBeLessThan(12);
    expect(entropy.threshold(half!)).toBeGreaterThan(2.5);
    expect(entropy.threshold(bimodal!)).toBeGreaterThan(6.5);
  });

  it("equals the brute force on random histograms with gaps, spikes and ties", () => {
    const next = generator(7);
    for (let round = 0; round < 60; round++) {
      const length = 128 + Math.floor(next() * 200);
      const sparse = next();
      const counts = Array.from({ length }, () => (next() < sparse ? 0 : Math.floor(next() ** 4 * 50)));
      if (round % 3 === 0) counts[length - 1] = 1;
      if (round % 10 === 0) counts.fill(0, Math.floor(length / 2));
      const expected = bruteForce(counts);
      const curve = divergences(counts);
      const apart = expected.divergences.map((value, k) => {
        if (!Number.isFinite(value)) return curve[k] === Number.POSITIVE_INFINITY ? 0 : 1;
        return Math.max(Math.abs(curve[k]! - value), Math.abs(divergenceAt(counts, 128 + k) - value));
      });
      expect(Math.max(...apart)).toBeLessThan(1e-9);
      expect(entropyCut(counts)).toBe(
        expected.divergences.every((value) => !(value < Number.POSITIVE_INFINITY)) ? length : expected.cut,
      );
    }
  });

  it("takes the last cut of a tie, and everything where nothing can be told", () => {
    const flat = new Array<number>(512).fill(3);
    expect(entropyCut(flat)).toBe(512);
    const empty = new Array<number>(300).fill(0);
    expect(entropyCut(empty)).toBe(300);
    const constant = new Array<number>(2048).fill(0);
    constant[2047] = 1000;
    expect(entropyCut(constant)).toBe(2048);
    expect(entropyCut([5, 4, 3])).toBe(3);
  });
});

function mean(values: readonly number[]): number {
  const finite = values.filter(Number.isFinite);
  return finite.reduce((a, b) => a + b, 0) / finite.length;
}

describe("the histogram", () => {
  it("has 2048 bins over the first batch's range, its maximum in the last", () => {
    const histogram = histogramOf([0, -8, 4, 3.9999, 1e-9]);
    expect(histogram.counts.length).toBe(2048);
    expect(histogram.width).toBe(8 / 2048);
    expect([histogram.counts[0], histogram.counts[1023], histogram.counts[1024], histogram.counts[2047]]).toEqual([2, 1, 1, 1]);
  });

  it("appends bins of the same width for later batches and loses nothing", () => {
    const histogram = histogramOf([1, -0.5, 0.25]);
    histogram.add([1.75, 0.5, -3]);
    expect(histogram.width).toBe(1 / 2048);
    expect(histogram.counts.length).toBe(3 * 2048);
    expect(histogram.total).toBe(6);
    expect([512, 1024, 2047, 3584, 6143].map((bin) => histogram.counts[bin])).toEqual([1, 2, 1, 1, 1]);
    expect(histogram.peak).toBe(3);
  });

  it("waits for the first batch that is not all zeros, and counts those zeros", () => {
    const histogram = histogramOf([0, 0, -0], [2, 0], [0]);
    expect(histogram.counts[0]).toBe(5);
    expect(histogram.total).toBe(6);
    expect(histogram.width).toBe(2 / 2048);
  });

  it("merges neighbours when a batch is far beyond the first", () => {
    const histogram = histogramOf([1, 0.5], [100]);
    expect(histogram.total).toBe(3);
    expect(histogram.counts.length).toBeLessThanOrEqual(65536);
    expect(histogram.counts.length * histogram.width).toBeGreaterThanOrEqual(100);
    expect(histogram.width).toBe(4 / 2048);
  });

  it("refuses NaN and infinities and counts nothing of them", () => {
    const histogram = histogramOf([1, 2]);
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
      expect(codeOf(() => histogram.add([1, bad, 3]))).toBe("K701");
      expect(codeOf(() => histogram.add([bad, 1]))).toBe("K701");
    }
    expect(histogram.total).toBe(2);
  });

  it("holds the largest and the smallest floats", () => {
    expect(histogramOf([3.4e38, 1]).counts[2047]).toBe(1);
    const tiny = histogramOf([1e-44, 0]);
    expect(tiny.width).toBe(0);
    expect(tiny.total).toBe(2);
    expect(scaleOf(tiny, entropy).scale).toBe(Math.fround(1 / 127));
    expect(scaleOf(tiny, entropy).note).toMatch(/0 throughout/);
  });
});

describe("the other calibrators", () => {
  const values = activations["Gaussian with outliers"](100_000);
  const sizes = [...values].map(Math.abs).sort((a, b) => a - b);
  const histogram = histogramOf(values);

  it("min-max: the largest magnitude", () => {
    expect(minmax.threshold(histogram)).toBe(sizes.at(-1));
  });

  it.each([50, 99, 99.9, 99.99, 99.999, 100])("percentile %s: within a bin of the sorted values", (percent) => {
    const threshold = percentile(percent).threshold(histogram);
    const exact = sizes[Math.max(0, Math.ceil((percent / 100) * sizes.length) - 1)]!;
    expect(threshold).toBeGreaterThanOrEqual(exact * (1 - 1e-6));
    expect(threshold - exact).toBeLessThanOrEqual(histogram.width * 1.001);
  });

  it("mean squared error: no cut among a hundred others has less", () => {
    const errorAt = (threshold: number): number => {
      const scale = threshold / 127;
      return values.reduce(
        (sum, value) => sum + (Math.abs(value) - Math.min(Math.round(Math.abs(value) / scale), 127) * scale) ** 2,
        0,
      );
    };
    const least = errorAt(mse.threshold(histogram));
    for (let i = 1; i <= 100; i++) expect(least).toBeLessThanOrEqual(errorAt((sizes.at(-1)! * i) / 100) * 1.01);
  });

  it("stand in for entropy where a spike makes it cut off what lies beyond", () => {
    // A picture's background: one value most of the time, the strokes a few times larger.
    const [next, normal] = [generator(9), normals(10)];
    const picture = histogramOf(Float32Array.from({ length: 50_000 }, () => (next() < 0.8 ? -0.4242 : Math.abs(normal()) + 1)));
    expect(entropy.threshold(picture)).toBeLessThan(1);
    expect(scaleOf(picture, entropy).scale).toBe(Math.fround(percentile(99.99).threshold(picture) / 127));
    expect(scaleOf(picture, entropy).note).toMatch(/percentile:99.99 was taken/);
  });

  it("are found by name", () => {
    expect(calibratorNamed("percentile").name).toBe("percentile:99.99");
    expect(calibratorNamed("percentile:99.9").threshold(histogram)).toBe(percentile(99.9).threshold(histogram));
    for (const bad of ["kl", "percentile:0", "percentile:101", "percentile:x"])
      expect(codeOf(() => calibratorNamed(bad))).toBe("K707");
  });
});

describe("the calibration cache", () => {
  const scales = new Map([
    ["input", Math.fround(0.01)],
    ["/conv: 1/out", Math.fround(1e-30)],
    ["a\nb", 1],
  ]);

  it("reads back, names with colons and newlines too", () => {
    const text = writeCache({ algorithm: "EntropyCalibration2", scales });
    expect(text.split("\n")[0]).toMatch(/^Kiln-\d+\.\d+\.\d+-EntropyCalibration2$/);
    expect(text.split("\n")[1]).toBe("input: 3c23d70a");
    expect(parseCache(text, "cache")).toEqual({ algorithm: "EntropyCalibration2", scales });
  });

  it("reads TensorRT's", () => {
    const { scales: read } = parseCache(
      "TRT-8601-EntropyCalibration2\r\ndata: 3c010204\r\n(Unnamed Layer* 0) [Convolution]_output: 3d4ccccd\r\n",
      "trt",
    );
    expect(read.get("data")).toBeCloseTo(1 / 127, 8);
    expect(read.get("(Unnamed Layer* 0) [Convolution]_output")).toBeCloseTo(0.05, 8);
  });

  it.each([
    ["", 1],
    ["PNG", 1],
    ["TRT-1-X\nx", 2],
    ["TRT-1-X\nx: zz", 2],
    ["TRT-1-X\nx: 00000000", 2],
    ["TRT-1-X\nx: 7f800000", 2],
    ["TRT-1-X\nx: 7fc00000", 2],
    ["TRT-1-X\nx: bf800000", 2],
    ["TRT-1-X\nx: 3c010a14\nx: 3c010a14", 3],
  ])("refuses %j at line %i", (text, line) => {
    expect(codeOf(() => parseCache(text, "c"))).toBe("K703");
    expect(() => parseCache(text, "c")).toThrow(`line ${line}`);
  });

  it("names what does not match the network", () => {
    const cache = parseCache("TRT-1-X\na: 3c010a14\nz: 3c010a14\n", "c");
    checkCache(cache, ["a"], new Set(["a", "z"]));
    try {
      checkCache(cache, ["a", "b"], new Set(["a", "b"]));
      expect.unreachable();
    } catch (failure) {
      expect((failure as KilnError).code).toBe("K704");
      expect((failure as KilnError).format()).toMatch(/no scale for "b"[\s\S]*scales for "z"/);
    }
  });
});
