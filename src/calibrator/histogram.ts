// The histogram of |x| that calibration keeps of each tensor: 2048 equal bins over the range of the first batch; when a
// later one exceeds it, bins of the same width are appended, so that counts are never lost.

import { notFinite } from "../util/errors.ts";

/** Bins over the first batch's range. */
export const FIRST_BINS = 2048;
/** With more bins than this, neighbours are merged and the width doubles: a range 32 times the first batch's. */
export const MOST_BINS = 65536;
/** Magnitudes below this count as 0: an f32 cannot hold the reciprocal of their bins' width. */
export const LEAST_RANGE = 2 ** -100;

export class Histogram {
  /** Width of a bin, an f32; 0 while only zeros were seen. Bin i holds [i·width, (i+1)·width), the last one its upper edge too. */
  width = 0;
  /** Elements in each bin; whole numbers. */
  counts: Float64Array = new Float64Array(1);
  /** The largest |x|. */
  peak = 0;

  /** `name`: the tensor, for errors. */
  constructor(readonly name: string) {}

  /** The f32 by which |x| is multiplied, in f32, to get the number of its bin and a fraction. */
  get inverse(): number {
    return this.width === 0 ? 0 : Math.fround(1 / this.width);
  }

  get total(): number {
    return this.counts.reduce((sum, count) => sum + count, 0);
  }

  /** Makes room for |x| up to `peak`; counts that are there stay. Error K701 when it is no finite number. */
  reach(peak: number): void {
    if (!Number.isFinite(peak)) throw notFinite(this.name);
    this.peak = Math.max(this.peak, peak);
    if (peak < LEAST_RANGE) return;
    if (this.width === 0) {
      this.width = Math.fround(peak / FIRST_BINS);
      this.resize(FIRST_BINS);
    }
    while (this.binsFor(peak) > MOST_BINS) this.widen();
    this.resize(Math.max(this.counts.length, this.binsFor(peak)));
  }

  /** Bins that |x| up to `peak` needs at the present width. */
  binsFor(peak: number): number {
    return Math.max(1, Math.ceil(Math.fround(peak * this.inverse)));
  }

  /** Counts values on the host. Error K701 for NaN and infinities; nothing is counted then. */
  add(values: ArrayLike<number>): void {
    let peak = 0;
    for (let i = 0; i < values.length; i++) peak = Math.max(peak, Math.abs(values[i]!)); // NaN stays
    this.reach(peak);
    const { inverse, counts } = this;
    const last = counts.length - 1;
    for (let i = 0; i < values.length; i++) {
      counts[Math.min(Math.floor(Math.fround(Math.abs(values[i]!) * inverse)), last)]!++;
    }
  }

  /** Adds what was counted elsewhere: `counts[i]` elements whose bin number is `first + i`. `reach` must have been called. */
  addCounts(counts: ArrayLike<number>, first = 0): void {
    const last = this.counts.length - 1;
    for (let i = 0; i < counts.length; i++) if (counts[i]! > 0) this.counts[Math.min(first + i, last)]! += counts[i]!;
  }

  private resize(bins: number): void {
    if (bins === this.counts.length) return;
    const grown = new Float64Array(bins);
    grown.set(this.counts);
    this.counts = grown;
  }

  /** Merges neighbouring bins. */
  private widen(): void {
    const merged = new Float64Array(Math.ceil(this.counts.length / 2));
    this.counts.forEach((count, i) => {
      merged[i >> 1]! += count;
    });
    this.counts = merged;
    this.width *= 2;
  }
}
