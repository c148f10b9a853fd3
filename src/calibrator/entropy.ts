// Entropy calibration: the cut of a histogram at which 128 levels lose the least information, by the Kullback–Leibler
// divergence. After S. Migacz, "8-bit inference with TensorRT", GTC 2017.

/** Levels of |x| that 8 bits with a sign can tell apart, 0 included; also the first cut that is tried. */
export const LEVELS = 128;

/** Divergences that differ by less than this are compared again by their definition. */
const CLOSE = 1e-9;

/** The histogram as it is compared: bin 0 is a spike of exact zeros that says nothing, and is given its neighbour's count. */
function withoutSpike(counts: ArrayLike<number>): Float64Array {
  const bins = Float64Array.from(counts);
  if (bins.length > 1) bins[0] = bins[1]!;
  return bins;
}

/**
 * The divergence of every cut: element k is that of the first 128 + k bins. Infinite where the levels cannot stand for the
 * distribution at all. O(bins · 128), by sums over prefixes: Σ p·ln(p/q) = Σ p·ln p − Σ over levels of (Σ p)·ln q.
 */
export function divergences(counts: ArrayLike<number>): Float64Array {
  const bins = withoutSpike(counts);
  const n = bins.length;
  const sum = new Float64Array(n + 1);
  const filled = new Int32Array(n + 1);
  const logs = new Float64Array(n + 1);
  for (let b = 0; b < n; b++) {
    sum[b + 1] = sum[b]! + bins[b]!;
    filled[b + 1] = filled[b]! + (bins[b]! > 0 ? 1 : 0);
    logs[b + 1] = logs[b]! + timesLog(bins[b]!);
  }
  const total = sum[n]!;
  const curve = new Float64Array(Math.max(0, n - LEVELS + 1));
  for (let cut = LEVELS; cut <= n; cut++) {
    const outliers = total - sum[cut]!;
    let cross = 0;
    for (let level = 0, from = 0; level < LEVELS; level++) {
      const to = Math.ceil(((level + 1) * cut) / LEVELS);
      const count = sum[to]! - sum[from]!;
      const last = level === LEVELS - 1;
      const inP = last ? count + outliers : count;
      const width = filled[to]! - filled[from]! + (last && outliers > 0 && bins[cut - 1] === 0 ? 1 : 0);
      if (inP > 0) cross += inP * Math.log(count / width);
      from = to;
    }
    const own = logs[cut - 1]! + timesLog(bins[cut - 1]! + outliers);
    const divergence = (own - cross) / total + Math.log(sum[cut]! / total);
    curve[cut - LEVELS] = Number.isNaN(divergence) ? Number.POSITIVE_INFINITY : divergence;
  }
  return curve;
}

/** The divergence of the first `cut` bins by its definition. */
export function divergenceAt(counts: ArrayLike<number>, cut: number): number {
  const bins = withoutSpike(counts);
  const p = bins.slice(0, cut);
  for (let b = cut; b < bins.length; b++) p[cut - 1]! += bins[b]!;
  const q = new Float64Array(cut);
  for (let level = 0, from = 0; level < LEVELS; level++) {
    const to = Math.ceil(((level + 1) * cut) / LEVELS);
    let [count, width] = [0, 0];
    for (let b = from; b < to; b++) {
      count += bins[b]!;
      if (p[b]! > 0) width++;
    }
    for (let b = from; b < to; b++) if (p[b]! > 0) q[b] = count / width;
    from = to;
  }
  const [inP, inQ] = [p, q].map((each) => each.reduce((sum, count) => sum + count, 0)) as [number, number];
  let divergence = 0;
  for (let b = 0; b < cut; b++) if (p[b]! > 0) divergence += (p[b]! / inP) * Math.log(p[b]! / inP / (q[b]! / inQ));
  return Number.isNaN(divergence) ? Number.POSITIVE_INFINITY : divergence;
}

/** The cut of least divergence, the last of several: a number of bins from 128 to all of them. */
export function entropyCut(counts: ArrayLike<number>): number {
  const curve = divergences(counts);
  const least = curve.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY);
  let [cut, best] = [counts.length, Number.POSITIVE_INFINITY];
  curve.forEach((value, k) => {
    if (!(value <= least + CLOSE)) return;
    const exact = divergenceAt(counts, LEVELS + k);
    if (exact <= best) [cut, best] = [LEVELS + k, exact];
  });
  return cut;
}

const timesLog = (count: number): number => (count > 0 ? count * Math.log(count) : 0);
