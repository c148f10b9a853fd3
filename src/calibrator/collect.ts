// Calibration data → histograms: streams samples through an engine that counts, one at a time, so that memory does not grow
// with their number. What was collected can be put away as text and gone on with.

import type { Tensor, TypedArray } from "../ir/tensor.ts";
import { badState, noSamples, notFinite } from "../util/errors.ts";
import { Histogram } from "./histogram.ts";
import { type Counted, takeCounts, WINDOW, type Window } from "./watch.ts";

/** One batch of calibration data: the network's inputs by name. */
export type Sample = Readonly<Record<string, Tensor | TypedArray>>;
export type Samples = Iterable<Sample> | AsyncIterable<Sample>;

/** Passes samples on and keeps copies of the first `count`, which their giver may overwrite, in `kept`. */
export async function* keepFirst(samples: Samples, count: number, kept: Sample[]): AsyncGenerator<Sample> {
  for await (const sample of samples) {
    if (kept.length < count) kept.push(copyOf(sample));
    yield sample;
  }
}

const copyOf = (sample: Sample): Sample =>
  Object.fromEntries(
    Object.entries(sample).map(([name, input]) => [
      name,
      ArrayBuffer.isView(input) ? input.slice() : { ...input, data: input.data.slice() },
    ]),
  );

/** Runs the float network on a sample and counts each watched value in its window. */
export type CountRun = (sample: Sample, windows: readonly Window[]) => Promise<readonly Counted[]>;

/** Histograms of watched values and how many samples they hold. */
export class Collection {
  samples = 0;
  readonly histograms: readonly Histogram[];

  constructor(readonly names: readonly string[]) {
    this.histograms = names.map((name) => new Histogram(name));
  }

  /**
   * Counts samples; those counted before the collection was put away are skipped. `onSample` is told after each.
   * Errors: K702 there is none, K701 a value is NaN or infinite, and those of the run.
   */
  async add(samples: Samples, run: CountRun, onSample?: (done: number) => void): Promise<void> {
    let seen = 0;
    for await (const sample of samples) {
      if (seen++ < this.samples) continue;
      for (const [name, input] of Object.entries(sample)) if (!isFiniteInput(input)) throw notFinite(name, this.samples);
      await this.count(sample, run);
      this.samples++;
      onSample?.(this.samples);
    }
    if (this.samples === 0)
      throw noSamples(
        "calibration data",
        "give at least one sample; a hundred or more that are like the network's real inputs are better",
      );
  }

  /** One run, and further ones for values that turn out not to fit into their windows. */
  private async count(sample: Sample, run: CountRun): Promise<void> {
    const first = this.histograms.map(() => 0);
    let open = new Set(this.histograms.keys());
    while (open.size > 0) {
      const windows = this.histograms.map(({ inverse }, i) => ({ inverse, first: first[i]! }));
      const counted = await run(sample, windows);
      for (const i of open) if (!Number.isFinite(counted[i]!.peak)) throw notFinite(this.names[i]!, this.samples);
      open = new Set(
        [...open].filter((i) => {
          const done = takeCounts(this.histograms[i]!, counted[i]!, windows[i]!);
          if (!done && this.histograms[i]!.inverse === windows[i]!.inverse) first[i]! += WINDOW;
          return !done;
        }),
      );
    }
  }

  /** The collection as text. */
  serialize(): string {
    const values = this.histograms.map(({ name, width, peak, counts }) => ({ name, width, peak, counts: runsOf(counts) }));
    return `${JSON.stringify({ kind: STATE, samples: this.samples, values })}\n`;
  }

  /** Reads what `serialize` wrote, of the same values. Error K706 for other text. */
  static parse(text: string, names: readonly string[], file: string): Collection {
    const collection = new Collection(names);
    let state: State;
    try {
      state = JSON.parse(text) as State;
    } catch (cause) {
      throw badState(file, `it cannot be read: ${(cause as Error).message}`);
    }
    if (state.kind !== STATE) throw badState(file, "it is no state of a calibration");
    if (state.values.map(({ name }) => name).join("\n") !== names.join("\n"))
      throw badState(file, "it is of another network, or of other options");
    state.values.forEach(({ width, peak, counts }, i) => {
      const histogram = collection.histograms[i]!;
      [histogram.width, histogram.peak, histogram.counts] = [
        width,
        peak,
        Float64Array.from(counts.flatMap((item) => (item < 0 ? new Array<number>(-item).fill(0) : [item]))),
      ];
    });
    collection.samples = state.samples;
    return collection;
  }
}

/** A ReLU would hide NaN from every histogram. */
function isFiniteInput(input: Tensor | TypedArray): boolean {
  const data = ArrayBuffer.isView(input) ? input : input.data;
  return !(data instanceof Float32Array || data instanceof Float64Array) || data.every(Number.isFinite);
}

const STATE = "kiln calibration state 1";

interface State {
  readonly kind: string;
  readonly samples: number;
  readonly values: readonly {
    readonly name: string;
    readonly width: number;
    readonly peak: number;
    readonly counts: readonly number[];
  }[];
}

/** Counts with each run of empty bins as one negative number. */
function runsOf(counts: Float64Array): number[] {
  const runs: number[] = [];
  for (const count of counts) {
    if (count === 0 && (runs.at(-1) ?? 0) < 0) runs[runs.length - 1]!--;
    else runs.push(count === 0 ? -1 : count);
  }
  return runs;
}
