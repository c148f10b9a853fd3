// Histograms for tests, drawn from seeded generators, and the entropy algorithm of the design page once more: loop by loop as
// its text reads, for the calibrator's own to be compared with.

import { generator } from "../support/random.ts";

/** Standard normal draws (Box & Muller 1958). */
export function normals(seed: number): () => number {
  const next = generator(seed);
  return () => Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next());
}

/** Activations as published calibration examples show them. */
export const activations = {
  "Gaussian with outliers": (count: number): Float32Array => {
    const [normal, next] = [normals(1), generator(2)];
    return Float32Array.from({ length: count }, () => (next() < 2e-4 ? 12 + 8 * next() : normal()));
  },
  "half-normal after ReLU": (count: number): Float32Array => {
    const normal = normals(3);
    return Float32Array.from({ length: count }, () => Math.max(0, normal()));
  },
  bimodal: (count: number): Float32Array => {
    const [normal, next] = [normals(4), generator(5)];
    return Float32Array.from({ length: count }, () => (next() < 0.7 ? 0.4 * normal() : 6 + 0.5 * normal()));
  },
} as const;

export interface Curve {
  readonly divergences: readonly number[];
  /** Number of bins that are kept. */
  readonly cut: number;
}

/** The text's four steps over the counts of equal bins. */
export function bruteForce(counts: readonly number[]): Curve {
  const h = [...counts];
  h[0] = h[1]!;
  const curve: number[] = [];
  let cut = 0;
  let least = Number.POSITIVE_INFINITY;
  for (let i = 128; i <= h.length; i++) {
    const p = h.slice(0, i);
    const outliers = h.slice(i).reduce((a, b) => a + b, 0);
    p[i - 1]! += outliers;

    const levels = new Array<number>(128).fill(0);
    const holders = new Array<number>(128).fill(0);
    for (let b = 0; b < i; b++) {
      const level = Math.floor((b * 128) / i);
      levels[level]! += h[b]!;
      if (p[b]! > 0) holders[level]!++;
    }
    const q = p.map((count, b) => {
      const level = Math.floor((b * 128) / i);
      return count > 0 ? levels[level]! / holders[level]! : 0;
    });

    const totalP = p.reduce((a, b) => a + b, 0);
    const totalQ = q.reduce((a, b) => a + b, 0);
    let divergence = 0;
    for (let b = 0; b < i; b++) {
      if (p[b]! === 0) continue;
      const [x, y] = [p[b]! / totalP, q[b]! / totalQ];
      divergence += y === 0 ? Number.POSITIVE_INFINITY : x * Math.log(x / y);
    }
    curve.push(divergence);
    if (divergence <= least) {
      least = divergence;
      cut = i;
    }
  }
  return { divergences: curve, cut };
}
