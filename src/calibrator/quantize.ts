// Float graph and calibration data (or a cache of scales) → graph with explicit quantization.

import type { Graph } from "../ir/graph.ts";
import type { Program } from "../ir/task.ts";
import type { Tensor } from "../ir/tensor.ts";
import { noSamples } from "../util/errors.ts";
import { checkCache, parseCache, writeCache } from "./cache.ts";
import { Collection, type Sample, type Samples } from "./collect.ts";
import { insertPairs } from "./insert.ts";
import { type SiteOptions, type Sites, findSites } from "./sites.ts";
import { type Calibrator, calibratorNamed, scaleOf } from "./thresholds.ts";
import { countedBy, watchResults, windowInputs } from "./watch.ts";

export interface Int8Options extends SiteOptions {
  /** Inputs like those that the network will see: a hundred batches or more. Not needed with a cache. */
  readonly calibration?: Samples;
  /** How many batches there are, where it is known: for progress. */
  readonly samples?: number;
  /** The text of a calibration cache; then no data is looked at. */
  readonly cache?: string;
  /** "entropy" (the default), "minmax", "percentile" or "percentile:99.9", "mse". */
  readonly calibrator?: string;
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
  readonly samples: number;
  /** Layers of integers, by name. */
  readonly layers: readonly string[];
  /** What was assumed or left out, in words. */
  readonly notes: readonly string[];
}

/** A network made to run: its outputs by name, for a sample and inputs that `change` added. */
export interface Runner {
  readonly run: (inputs: Sample) => Promise<Readonly<Record<string, Tensor>>>;
  readonly dispose: () => void;
}
/** Makes a graph run; `change` rewrites its program before it is compiled. */
export type MakeRunner = (graph: Graph, change?: (program: Program) => Program) => Promise<Runner>;

export type OnProgress = (progress: { readonly stage: "calibrate"; readonly done: number; readonly total?: number; readonly what: string }) => void;

/** Quantizes a graph; `known` are the names of all tensors of the model. Errors: K701, K702 for the data, K703, K704 for the cache, K706, K707. */
export async function quantize(graph: Graph, options: Int8Options, known: ReadonlySet<string>, makeRunner: MakeRunner, onProgress?: OnProgress): Promise<Graph> {
  const sites = findSites(graph, options);
  const names = sites.groups.flat().map(({ name }) => name);
  const calibrator = calibratorNamed(options.calibrator ?? "entropy");
  const notes: string[] = [];
  let scales: ReadonlyMap<string, number>;
  let samples = 0;
  if (options.cache !== undefined) {
    const cache = parseCache(options.cache, "calibration cache");
    checkCache(cache, names, new Set([...known, ...names]));
    scales = cache.scales;
  } else {
    if (!options.calibration) throw noSamples("int8", "give `calibration` or `cache`");
    const collection = options.state === undefined ? new Collection(names) : Collection.parse(options.state, names, "calibration state");
    const onSample = (done: number): void => {
      options.onState?.(() => collection.serialize(), done);
      onProgress?.({ stage: "calibrate", done, ...(options.samples === undefined ? {} : { total: options.samples }), what: "samples" });
    };
    await fill(collection, graph, sites, options.calibration, makeRunner, onSample);
    scales = scalesOf(collection, calibrator, notes);
    samples = collection.samples;
  }
  options.onReport?.({ cache: writeCache({ algorithm: calibrator.title, scales }), samples, layers: sites.products.map(({ name }) => name), notes });
  return insertPairs(graph, sites, sharedScales(sites, scales));
}

/** Counts all samples. */
async function fill(collection: Collection, graph: Graph, sites: Sites, samples: Samples, makeRunner: MakeRunner, onSample: (done: number) => void): Promise<void> {
  const { names } = collection;
  const outputs = [...graph.outputs, ...sites.groups.flat().map((value) => ({ name: value.name, value }))];
  const runner = await makeRunner({ ...graph, outputs }, (program) => watchResults(program, names));
  try {
    await collection.add(samples, async (sample, windows) => countedBy(await runner.run({ ...sample, ...windowInputs(windows) }), names.length), onSample);
  } finally {
    runner.dispose();
  }
}

function scalesOf({ histograms }: Collection, calibrator: Calibrator, notes: string[]): Map<string, number> {
  for (const { name, width } of histograms) if (width === 0) notes.push(`"${name}" was 0 throughout the calibration data: its scale is 1/127`);
  return new Map(histograms.map((histogram) => [histogram.name, scaleOf(histogram, calibrator)]));
}

/** Each group's largest scale for all of the group: nothing saturates that would not by itself. */
export function sharedScales({ groups }: Sites, scales: ReadonlyMap<string, number>): Map<string, number> {
  return new Map(groups.flatMap((group) => {
    const largest = Math.max(...group.map(({ name }) => scales.get(name)!));
    return group.map(({ name }): [string, number] => [name, largest]);
  }));
}
