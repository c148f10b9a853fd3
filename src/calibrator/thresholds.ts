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
export const mse: Calibrator = { name: "mse", title: "MseCalibration", threshold: ({ counts, width }) => mseCut(counts) * width };

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

/** The tensor's scale: that by which i8 is multiplied. Never 0. */
export const scaleOf = (histogram: Histogram, calibrator: Calibrator): number =>
  Math.fround((histogram.width === 0 ? ZERO_THRESHOLD : calibrator.threshold(histogram)) / 127);

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
