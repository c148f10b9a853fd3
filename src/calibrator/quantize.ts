// Float graph and calibration data (or a cache of scales) → graph with explicit quantization: where to quantize, by what
// scales, and which layers are to stay in float for accuracy's sake.

import type { Graph } from "../ir/graph.ts";
import type { Program } from "../ir/task.ts";
import type { Tensor } from "../ir/tensor.ts";
import type { Value } from "../ir/value.ts";
import { noSamples } from "../util/errors.ts";
import { checkCache, parseCache, writeCache } from "./cache.ts";
import { Collection, keepFirst, type Sample, type Samples } from "./collect.ts";
import { insertPairs } from "./insert.ts";
import { Probe } from "./probe.ts";
import { findSites, type SiteOptions, type Sites } from "./sites.ts";
import { CALIBRATORS, type Calibrator, calibratorNamed, scaleOf } from "./thresholds.ts";
import { countedBy, watchResults, windowInputs } from "./watch.ts";

export interface Int8Options extends SiteOptions {
  /** Inputs like those that the network will see: a hundred batches or more. It is gone through once. */
  readonly calibration?: Samples;
  /** How many batches there are, where it is known: for progress. */
  readonly samples?: number;
  /** The text of a calibration cache: its scales are taken, and nothing is collected. */
  readonly cache?: string;
  /** "entropy" (the default), "minmax", "percentile" or "percentile:99.9", "mse", or "auto": whichever gives the outputs the least error. */
  readonly calibrator?: string;
  /** Leaves the layers that contribute most in float until the outputs' relative RMS error is no more than this. */
  readonly maxError?: number;
  /** Leaves that many of the layers that contribute most in float. */
  readonly keepWorst?: number;
  /** Measures what each layer alone contributes even where nothing depends on it. */
  readonly sensitivity?: boolean;
  /** A state that `onState` was given, to go on with. */
  readonly state?: string;
  /** Is given the collection so far after every sample, to be serialized by who wants to. */
  readonly onState?: (serialize: () => string, samples: number) => void;
  /** Is given what was decided. */
  readonly onReport?: (report: Int8Report) => void;
}

export interface Int8Report {
  /** The calibration cache's text. */
  readonly cache: string;
  readonly calibrator: string;
  readonly samples: number;
  /** Layers of integers, by name. */
  readonly layers: readonly string[];
  /** Layers that stay in float although they could be of integers, and why. */
  readonly kept: readonly Kept[];
  /** What each layer alone contributes to the outputs' relative RMS error, the worst first; where it was measured. */
  readonly sensitivity?: readonly { readonly layer: string; readonly error: number }[];
  /** The outputs' relative RMS error on the measured samples, where it was measured. */
  readonly error?: number;
  /** What was assumed, in words. */
  readonly notes: readonly string[];
}

/** A layer that stays in float, and why. */
interface Kept {
  readonly layer: string;
  readonly why: string;
}

/** A network with explicit quantization, and what the build is to say of it. */
export interface Form {
  readonly graph: Graph;
  readonly notes: readonly string[];
}

/** A network of which layers can be of integers. */
export interface Quantized {
  /** Those of integers, by name. */
  readonly layers: readonly string[];
  /** The network with further layers left in float. */
  readonly without: (kept: readonly Kept[]) => Form;
}

/** A network made to run: its outputs by name, for a sample and inputs that were added. */
export interface Runner {
  readonly run: (inputs: Sample) => Promise<Readonly<Record<string, Tensor>>>;
  readonly dispose: () => void;
}
/** Makes a graph run; `change` rewrites its program before it is compiled. */
export type MakeRunner = (graph: Graph, change?: (program: Program) => Program) => Promise<Runner>;
export type OnProgress = (progress: {
  readonly stage: "calibrate";
  readonly done?: number;
  readonly total?: number;
  readonly what: string;
}) => void;

/**
 * Quantizes a graph; `known` are the names of all tensors of the model. Errors: K701, K702 and K705 for the data, K703 and K704
 * for the cache, K706 for the state, K707 for the calibrator.
 */
export async function quantize(
  graph: Graph,
  options: Int8Options,
  known: ReadonlySet<string>,
  makeRunner: MakeRunner,
  onProgress: OnProgress = () => {},
): Promise<Quantized> {
  const sites = findSites(graph, options);
  const decision = await new Decision(graph, sites, options, known, makeRunner, onProgress).make();
  const scales = sharedScales(sites, decision.scales);
  const sitesWithout = (kept: readonly Kept[]): Sites =>
    kept.length === 0
      ? sites
      : findSites(graph, { ...options, keep: [...(options.keep ?? []), ...kept.map(({ layer }) => layer)] });
  const isLeft = new Set(sitesWithout(decision.kept).products.map(({ name }) => name));
  const everything = findSites(graph).products.map(({ name }) => name);
  const asked = everything
    .filter((name) => !isLeft.has(name) && !decision.kept.some(({ layer }) => layer === name))
    .map((layer) => ({ layer, why: "as was asked" }));
  const report: Int8Report = { ...decision, kept: [...decision.kept, ...asked], layers: [...isLeft] };
  options.onReport?.(report);
  const formWithout = (slow: readonly Kept[]): Form => {
    const final = sitesWithout([...decision.kept, ...slow]);
    const isSlow = new Set(slow.map(({ layer }) => layer));
    const layers = report.layers.filter((layer) => !isSlow.has(layer));
    return {
      graph: insertPairs(graph, final, sharedScales(final, scales)),
      notes: notesOf({ ...report, layers, kept: [...report.kept, ...slow] }),
    };
  };
  const whole = formWithout([]);
  return { layers: report.layers, without: (kept) => (kept.length === 0 ? whole : formWithout(kept)) };
}

/** What the build says of its quantization. */
function notesOf({ layers, calibrator, samples, kept, error, notes }: Int8Report): string[] {
  const by = calibrator === "cache" ? "scales of a calibration cache" : `${calibrator}, ${samples} samples`;
  return [
    `int8: ${layers.length} layer${layers.length === 1 ? "" : "s"} (${by})${error === undefined ? "" : `; relative RMS error of the outputs ${error.toPrecision(3)}`}`,
    ...kept.map(({ layer, why }) => `int8: "${layer}" stays in float: ${why}`),
    ...notes.map((note) => `int8: ${note}`),
  ];
}

interface Decided extends Omit<Int8Report, "layers"> {
  /** By value. */
  readonly scales: ReadonlyMap<string, number>;
}

/** Samples on which errors are measured: as many as memory is to hold, whatever the data's length. */
const MEASURED = 8;

class Decision {
  private readonly measured: Sample[] = [];
  private readonly names: readonly string[];
  private readonly notes: string[] = [];
  private probe: Probe | undefined;

  constructor(
    private readonly graph: Graph,
    private readonly sites: Sites,
    private readonly options: Int8Options,
    private readonly known: ReadonlySet<string>,
    private readonly makeRunner: MakeRunner,
    private readonly onProgress: OnProgress,
  ) {
    this.names = measuredOf(sites).map(({ name }) => name);
  }

  async make(): Promise<Decided> {
    if (this.names.length === 0)
      return {
        cache: "",
        calibrator: "none",
        samples: 0,
        kept: [],
        notes: ["no layer of this network can be of integers"],
        scales: new Map(),
      };
    try {
      const { calibrator, title, scales, samples } =
        this.options.cache === undefined ? await this.calibrated() : this.cached(this.options.cache);
      return {
        cache: writeCache({ algorithm: title, scales }),
        calibrator,
        samples,
        notes: this.notes,
        scales,
        ...(await this.choose(scales)),
      };
    } finally {
      this.probe?.dispose();
    }
  }

  private cached(text: string): { calibrator: string; title: string; scales: ReadonlyMap<string, number>; samples: number } {
    const cache = parseCache(text, "calibration cache");
    checkCache(cache, this.names, new Set([...this.known, ...this.names]));
    return { calibrator: "cache", title: cache.algorithm, scales: cache.scales, samples: 0 };
  }

  private async calibrated(): Promise<{
    calibrator: string;
    title: string;
    scales: ReadonlyMap<string, number>;
    samples: number;
  }> {
    const { options, names } = this;
    const wanted = options.calibrator ?? "entropy";
    const candidates = wanted === "auto" ? CALIBRATORS : [calibratorNamed(wanted)];
    const collection =
      options.state === undefined ? new Collection(names) : Collection.parse(options.state, names, "calibration state");
    await this.fill(collection);
    const scalesBy = (calibrator: Calibrator): Map<string, number> =>
      new Map(collection.histograms.map((histogram) => [histogram.name, scaleOf(histogram, calibrator).scale]));
    let [best] = candidates as readonly [Calibrator];
    if (candidates.length > 1) {
      const probe = await this.probing();
      let least = Number.POSITIVE_INFINITY;
      for (const [i, candidate] of candidates.entries()) {
        this.onProgress({ stage: "calibrate", done: i, total: candidates.length, what: `calibrator ${candidate.name}` });
        const error = await probe.error(sharedScales(this.sites, scalesBy(candidate)), () => true);
        this.notes.push(`${candidate.name}: relative RMS error ${error.toPrecision(3)}`);
        if (error < least) [best, least] = [candidate, error];
      }
    }
    for (const histogram of collection.histograms) {
      const { note } = scaleOf(histogram, best);
      if (note !== undefined) this.notes.push(note);
    }
    return {
      calibrator: best.name,
      title: wanted === "auto" ? "AutoCalibration" : best.title,
      scales: scalesBy(best),
      samples: collection.samples,
    };
  }

  private get measures(): boolean {
    const { calibrator, maxError, keepWorst = 0, sensitivity = false } = this.options;
    return calibrator === "auto" || maxError !== undefined || keepWorst > 0 || sensitivity;
  }

  /** Counts all samples. */
  private async fill(collection: Collection): Promise<void> {
    const { graph, sites, names, options } = this;
    const outputs = [...graph.outputs, ...measuredOf(sites).map((value) => ({ name: value.name, value }))];
    const runner = await this.makeRunner({ ...graph, outputs }, (program) => watchResults(program, names));
    try {
      await collection.add(
        this.measures ? keepFirst(this.data(), MEASURED, this.measured) : this.data(),
        async (sample, windows) => countedBy(await runner.run({ ...sample, ...windowInputs(windows) }), names.length),
        (done) => {
          options.onState?.(() => collection.serialize(), done);
          this.onProgress({
            stage: "calibrate",
            done,
            ...(options.samples === undefined ? {} : { total: options.samples }),
            what: "samples",
          });
        },
      );
    } finally {
      runner.dispose();
    }
  }

  /** Which layers stay in float for accuracy's sake. */
  private async choose(given: ReadonlyMap<string, number>): Promise<Pick<Int8Report, "kept" | "sensitivity" | "error">> {
    const { maxError, keepWorst = 0, sensitivity = false } = this.options;
    if (maxError === undefined && keepWorst === 0 && !sensitivity) return { kept: [] };
    const probe = await this.probing();
    const scales = sharedScales(this.sites, given);
    const ranking = await probe.sensitivity(scales);
    const off = new Set(ranking.slice(0, keepWorst).map(({ layer }) => layer));
    const measure = (): Promise<number> => probe.error(scales, ({ name }) => !off.has(name));
    let error = await measure();
    const all = error;
    for (const { layer } of ranking) {
      if (maxError === undefined || error <= maxError) break;
      if (off.has(layer)) continue;
      off.add(layer);
      this.onProgress({ stage: "calibrate", done: off.size, total: ranking.length, what: "layers back in float" });
      error = await measure();
    }
    const kept = ranking
      .filter(({ layer }) => off.has(layer))
      .map((row, i) => ({
        layer: row.layer,
        why: `it contributes ${row.error.toPrecision(3)}, number ${i + 1} of ${ranking.length}${maxError === undefined ? "" : `; without it and those before the error is ${error.toPrecision(3)} and not ${all.toPrecision(3)}`}`,
      }));
    return { kept, sensitivity: ranking, error };
  }

  private async probing(): Promise<Probe> {
    const { measured } = this;
    if (measured.length === 0) await firstOf(keepFirst(this.data(), MEASURED, measured), MEASURED);
    if (measured.length === 0) throw noSamples("int8", "errors are measured on calibration data: give some");
    this.probe ??= await Probe.open(this.graph, this.sites, measured, this.makeRunner);
    return this.probe;
  }

  private data(): Samples {
    const { calibration } = this.options;
    if (!calibration)
      throw noSamples("int8", "give `calibration`: its batches are what scales come from and errors are measured on");
    return calibration;
  }
}

/** Goes through the first `count`. */
async function firstOf(samples: AsyncIterable<Sample>, count: number): Promise<void> {
  let seen = 0;
  for await (const _ of samples) if (++seen === count) return;
}

const measuredOf = ({ groups }: Sites): readonly Value[] => groups.flatMap(({ measured }) => measured);

/** Each group's largest scale for all of the group: nothing saturates that would not by itself. */
export function sharedScales({ groups }: Sites, scales: ReadonlyMap<string, number>): Map<string, number> {
  return new Map(
    groups.flatMap(({ values, measured }) => {
      const largest = Math.max(...measured.map(({ name }) => scales.get(name)!));
      return values.map(({ name }): [string, number] => [name, largest]);
    }),
  );
}
