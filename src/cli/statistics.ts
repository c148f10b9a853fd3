// What trtexec says of a series of times.

/** Of milliseconds; percentiles by linear interpolation between ranks. */
export interface Summary {
  readonly min: number;
  readonly max: number;
  readonly mean: number;
  readonly median: number;
  readonly p90: number;
  readonly p95: number;
  readonly p99: number;
}

export const SUMMARY_FIELDS = [
  "min",
  "max",
  "mean",
  "median",
  "p90",
  "p95",
  "p99",
] as const satisfies readonly (keyof Summary)[];

/** Of at least one sample. */
export function summarizeTimes(samples: readonly number[]): Summary {
  const sorted = [...samples].sort((a, b) => a - b);
  const at = (percent: number): number => {
    const rank = (percent / 100) * (sorted.length - 1);
    const below = sorted[Math.floor(rank)]!;
    return below + (sorted[Math.ceil(rank)]! - below) * (rank - Math.floor(rank));
  };
  return {
    min: sorted[0]!,
    max: sorted.at(-1)!,
    mean: samples.reduce((sum, ms) => sum + ms, 0) / samples.length,
    median: at(50),
    p90: at(90),
    p95: at(95),
    p99: at(99),
  };
}
