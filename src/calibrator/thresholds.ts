// Calibrators: what each makes of a tensor's histogram. A threshold is the largest |x| that 8 bits are to hold; what is
// above it saturates. The scale is threshold / 127.

import { badCalibrator } from "../util/errors.ts";
import { entropyCut, LEVELS } from "./entropy.ts";
import type { Histogram } from "./histogram.ts";

export interface Calibrator {
  /** What the user calls it. */
  readonly name: string;
  /** What a calibration cache's first line calls it. */
  readonly title: string;
  /** The threshold for a histogram that holds more than zeros. */
  readonly threshold: (histogram: Histogram) => number;
}

/** The threshold given to a tensor that was always 0: any would do. */
const ZERO_THRESHOLD = 1;

export const entropy: Calibrator = {
  name: "entropy",
  title: "EntropyCalibration2",
  threshold: ({ counts, width }) => entropyCut(counts) * width,
};

export const minmax: Calibrator = { name: "minmax", title: "MinMaxCalibration", threshold: ({ peak }) => peak };

/** The least bin edge below which at least `percent` of all elements are. */
export const percentile = (percent: number): Calibrator => ({
  name: `percentile:${percent}`,
  title: `PercentileCalibration${percent}`,
  threshold: ({ counts, width, total }) => {
    const wanted = (total * percent) / 100;
    let [below, bin] = [0, 0];
    while (bin < counts.length && below < wanted) below += counts[bin++]!;
    return bin * width;
  },
});

/** The cut of least mean squared error, each bin taken at its middle. */
export const mse: Calibrator = {
  name: "mse",
  title: "MseCalibration",
  threshold: ({ counts, width }) => mseCut(counts) * width,
};

export const PERCENTILES = [99.99, 99.999] as const;
/** What `auto` chooses from. */
export const CALIBRATORS: readonly Calibrator[] = [entropy, ...PERCENTILES.map(percentile), mse, minmax];

/** A calibrator by its name; "percentile" alone is the first of PERCENTILES. Error K707 for a name that is none. */
export function calibratorNamed(name: string): Calibrator {
  const percent = /^percentile(?::(\d+(?:\.\d+)?))?$/.exec(name);
  if (percent) {
    const value = percent[1] === undefined ? PERCENTILES[0] : Number(percent[1]);
    if (value > 0 && value <= 100) return percentile(value);
  }
  const found = CALIBRATORS.find((calibrator) => calibrator.name === name);
  if (!found) throw badCalibrator(name, ["entropy", "minmax", "percentile", "percentile:99.9", "mse", "auto"]);
  return found;
}

/** An entropy threshold above which more than this share of a tensor lies is not believed. */
const MOST_SATURATED = 0.01;

/** The share of elements above a threshold, bin 0 counted as its neighbour: a spike of zeros says nothing. */
export function saturatedShare({ counts, width }: Histogram, threshold: number): number {
  const cut = Math.round(threshold / width);
  let [all, above] = [0, 0];
  counts.forEach((count, bin) => {
    const counted = bin === 0 ? (counts[1] ?? 0) : count;
    all += counted;
    if (bin >= cut) above += counted;
  });
  return all === 0 ? 0 : above / all;
}

/**
 * The tensor's scale, that by which i8 is multiplied: never 0; and what had to be assumed for it. Entropy fails on histograms
 * with spikes, which no coarser levels can stand for, and would cut off whatever is beyond them: the first percentile then.
 */
export function scaleOf(histogram: Histogram, calibrator: Calibrator): { readonly scale: number; readonly note?: string } {
  const scale = (threshold: number): number => Math.fround(threshold / 127);
  if (histogram.width === 0)
    return {
      scale: scale(ZERO_THRESHOLD),
      note: `"${histogram.name}" was 0 throughout the calibration data: its scale is 1/127`,
    };
  const threshold = calibrator.threshold(histogram);
  const share = calibrator === entropy ? saturatedShare(histogram, threshold) : 0;
  const instead = percentile(PERCENTILES[0]);
  if (share <= MOST_SATURATED || instead.threshold(histogram) <= threshold) return { scale: scale(threshold) };
  const note = `"${histogram.name}": entropy would cut ${(100 * share).toFixed(1)} % of it off at ${threshold.toPrecision(3)} of ${histogram.peak.toPrecision(3)}; ${instead.name} was taken`;
  return { scale: scale(instead.threshold(histogram)), note };
}

/** At most this many cuts are tried. */
const MSE_CUTS = 2048;

function mseCut(counts: ArrayLike<number>): number {
  const filled = Array.from({ length: counts.length }, (_, b) => b).filter((b) => counts[b]! > 0);
  const stride = Math.ceil(counts.length / MSE_CUTS);
  let [cut, least] = [counts.length, Number.POSITIVE_INFINITY];
  for (let i = counts.length; i >= Math.min(LEVELS, counts.length); i -= stride) {
    const scale = i / 127;
    let error = 0;
    for (const b of filled) {
      const gap = b + 0.5 - Math.min(Math.round((b + 0.5) / scale), 127) * scale;
      error += counts[b]! * gap * gap;
    }
    if (error < least) [cut, least] = [i, error];
  }
  return cut;
}
