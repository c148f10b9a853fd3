// Adds to a program what calibration wants of it: tasks that count the magnitudes of watched values into histograms where they
// are, so that no activation leaves the GPU. The counts are exactly those of histogram.ts.

import { and, constant, convert, float, int, le, load, lt, mul, sub, unary, variables } from "../ir/expr.ts";
import type { MapTask, Program } from "../ir/task.ts";
import { sizeOf, type Tensor, tensor } from "../ir/tensor.ts";
import { makeValue, type Value } from "../ir/value.ts";
import type { Histogram } from "./histogram.ts";

/** Bins that one run counts of each value, as many as fit into 16 KiB beside a peak; a sample with larger values takes several runs. */
export const WINDOW = 4032;

/** The input that says how to count: for each watched value the factor that makes bin numbers, and the first bin of the window. */
const PARAMETERS = "calibration/parameters";
const PEAKS = "calibration/peaks";
/** Values whose counts lie in one buffer: few buffers come down from the GPU, and none that starts from another is long. */
const GROUP = 16;
const countsOf = (group: number): string => `calibration/counts${group}`;

export interface Window {
  readonly inverse: number;
  readonly first: number;
}

/** What one run counted of one value. */
export interface Counted {
  /** The largest |x|; NaN or infinite where some element is. */
  readonly peak: number;
  /** Elements in the bins from the window's first one on. */
  readonly counts: Uint32Array;
}

/** The program with counts in the place of its results: of the last `names.length` of these, which are the values to watch. */
export function watchResults(program: Program, names: readonly string[]): Program {
  const watched = program.outputs.slice(program.outputs.length - names.length);
  const parameters = makeValue(PARAMETERS, "f32", [names.length, 2]);
  const none = zeros("calibration/no-counts", [GROUP, WINDOW]);
  const tasks = [...program.tasks];
  const counts: Value[] = [];
  let peaks = zeros("calibration/no-peaks", [names.length]);
  watched.forEach(({ value }, i) => {
    const group = Math.floor(i / GROUP);
    const more = makeValue(`${countsOf(group)} and ${names[i]}`, "u32", [GROUP, WINDOW]);
    const higher = makeValue(`${PEAKS}${i}`, "u32", [names.length]);
    const into = { value: more, init: counts[group] ?? none };
    tasks.push(countTask(names[i]!, value, i, parameters, into, { value: higher, init: peaks }));
    [counts[group], peaks] = [more, higher];
  });
  const outputs = [...counts.map((value, group) => ({ name: countsOf(group), value })), { name: PEAKS, value: peaks }];
  return { ...program, inputs: [...program.inputs, parameters], tasks, outputs };
}

const zeros = (name: string, shape: readonly number[]): Value => ({
  ...makeValue(name, "u32", shape),
  data: { dtype: "u32", shape, data: new Uint32Array(sizeOf(shape)) },
});

interface Target {
  readonly value: Value;
  readonly init: Value;
}

function countTask(name: string, value: Value, row: number, parameters: Value, counts: Target, peaks: Target): MapTask {
  const vars = variables("i", value.shape);
  const size = unary("abs", convert(load(value, vars), "f32"));
  const [inverse, first] = [load(parameters, [int(row), int(0)]), load(parameters, [int(row), int(1)])];
  // The product is rounded to f32 before it is rounded down: as on the host, bit for bit.
  const bin = sub(unary("floor", mul(size, inverse)), first);
  const inside = and(le(float(0), bin), lt(bin, float(WINDOW)));
  return {
    kind: "map",
    name: `calibration of ${name}`,
    origins: [name],
    vars,
    stores: [
      { ...counts, mode: "add", index: [int(row % GROUP), convert(bin, "i32")], expr: constant("u32", 1), when: inside },
      { ...peaks, mode: "max", index: [int(row)], expr: unary("bits", size) },
    ],
  };
}

/** The tensor of PARAMETERS, by its name. */
export const windowInputs = (windows: readonly Window[]): Readonly<Record<string, Tensor>> => ({
  [PARAMETERS]: tensor(
    "f32",
    [windows.length, 2],
    windows.flatMap(({ inverse, first }) => [inverse, first]),
  ),
});

/** What the outputs of a run of the watching engine say of each value. */
export function countedBy(outputs: Readonly<Record<string, Tensor>>, count: number): readonly Counted[] {
  const bits = outputs[PEAKS]!.data as Uint32Array;
  const peaks = new Float32Array(bits.buffer, bits.byteOffset, bits.length);
  return Array.from({ length: count }, (_, i) => {
    const all = outputs[countsOf(Math.floor(i / GROUP))]!.data as Uint32Array;
    return { peak: peaks[i]!, counts: all.subarray((i % GROUP) * WINDOW, ((i % GROUP) + 1) * WINDOW) };
  });
}

/** Adds a run's counts to a histogram; false when the window did not hold all of them, or was of other bins than now. */
export function takeCounts(histogram: Histogram, { peak, counts }: Counted, { inverse, first }: Window): boolean {
  histogram.reach(peak);
  if (histogram.inverse !== inverse) return false;
  histogram.addCounts(counts, first);
  return histogram.binsFor(peak) <= first + WINDOW;
}
