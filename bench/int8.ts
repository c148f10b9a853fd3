// INT8 kernels against f32 and f16 ones: every distinct convolution of ResNet-50 by itself, each precision with the best of its
// most promising kernels, bytes on tensor cores and on dot4I8Packed apart. Microseconds of GPU time; every kernel is checked
// against the plainest one, those of bytes bit for bit.
//
//   node bench/run.mjs int8 [--batches 1,8,32] [--seconds 400] [--candidates 6] [--layers 3x3] [--shrink 1] [--toggles safe|fast]
//     [--json FILE]

import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { type Candidate, candidatesOf, plainest } from "../src/autotuner/candidates.ts";
import { Bench, type Measured } from "../src/autotuner/measure.ts";
import { columns } from "../src/cli/print.ts";
import { PipelineCache } from "../src/gpu/pipelines.ts";
import type { ConvTask } from "../src/ir/task.ts";
import { DEVICE_FLAGS, openDevice } from "./device.ts";
import { flopsOf, type Layer, resnet50Layers, shrunk, taskOf } from "./layers.ts";

const { values: flags } = parseArgs({
  options: {
    batches: { type: "string", default: "1,8,32" },
    seconds: { type: "string", default: "400" },
    candidates: { type: "string", default: "6" },
    layers: { type: "string", default: "" },
    shrink: { type: "string", default: "1" },
    ...DEVICE_FLAGS,
    json: { type: "string" },
  },
});

/** Columns of the table: kernels of one kind. `needs` says what is missing where the device has none of them. */
const KINDS = [
  { name: "f32", dtype: "f32", tactics: /./, needs: "no kernel applies" },
  { name: "f16", dtype: "f16", tactics: /./, needs: "the device has no f16" },
  { name: "i8 matrix", dtype: "i8", tactics: /matrix-bytes/, needs: "the device has no subgroup matrices of i8" },
  { name: "i8 dot4", dtype: "i8", tactics: /dot4/, needs: "no kernel applies" },
] as const;
type Kind = (typeof KINDS)[number];

/** What the best kernel of a kind takes, or why there is none. */
interface Cell {
  readonly us: number;
  readonly tactic?: string;
  readonly config?: Candidate["config"];
  /** Relative root mean square error against the plainest kernel. */
  readonly error?: number;
  readonly measured: number;
  readonly reason?: string;
}
interface Job {
  readonly batch: number;
  readonly layer: Layer;
  readonly kind: Kind;
  readonly task: ConvTask;
  readonly candidates: readonly Candidate[];
}

const device = await openDevice(flags);
const bench = new Bench(device, new PipelineCache(device), new Map());
const until = performance.now() + 1000 * Number(flags.seconds);
const { vendor, architecture, description } = device.fingerprint;
const title = `${[vendor, architecture, description].filter(Boolean).join(" ")}, tier ${device.caps.tier}`;
console.log(title);

const batches = flags.batches.split(",").map(Number);
const layers = resnet50Layers()
  .map(({ layer, count }) => ({ layer: Number(flags.shrink) > 1 ? shrunk(layer, Number(flags.shrink)) : layer, count }))
  .filter(({ layer }) => layer.name.includes(flags.layers));
const places = batches.flatMap((batch) => layers.flatMap(({ layer }) => KINDS.map((kind) => ({ batch, layer, kind }))));

/** The kernels of a cell, which begin to compile. */
function prepare({ batch, layer, kind }: Pick<Job, "batch" | "layer" | "kind">): Job {
  const hasType = kind.dtype !== "f16" || device.caps.f16;
  const task = taskOf(layer, batch, hasType ? kind.dtype : "f32");
  const candidates: Candidate[] = [];
  if (hasType)
    for (const candidate of candidatesOf(task, device)) {
      if (kind.tactics.test(candidate.tactic)) candidates.push(candidate);
      if (candidates.length >= Number(flags.candidates)) break;
    }
  bench.compileAhead(candidates.map(({ kernel }) => kernel));
  return { batch, layer, kind, task, candidates };
}

async function measure({ kind, task, candidates }: Job, end: number): Promise<Cell> {
  const none = { us: Number.POSITIVE_INFINITY, measured: 0 };
  if (candidates.length === 0) return { ...none, reason: kind.needs };
  if (performance.now() >= until) return { ...none, reason: `not reached in ${flags.seconds} s` };
  const found = new Map<Candidate, Measured>();
  const field = await bench.field(task, plainest(task, device));
  const goOn = (): boolean => found.size === 0 || performance.now() < end;
  await field.race(candidates, Number.POSITIVE_INFINITY, goOn, (candidate, measured) => void found.set(candidate, measured));
  field.dispose();
  const [best] = [...found].sort(([, a], [, b]) => a.ns - b.ns);
  const rejected = [...found.values()].flatMap((measured) => measured.rejected ?? []);
  if (!best || best[1].rejected) return { ...none, measured: found.size, reason: rejected[0] ?? "none could be measured" };
  const [{ tactic, config }, { ns, error }] = best;
  const worst = kind.dtype === "i8" ? Math.max(...[...found.values()].map((measured) => measured.error ?? 0)) : error;
  return {
    us: ns / 1000,
    tactic,
    config,
    measured: found.size,
    ...(worst === undefined ? {} : { error: worst }),
    ...(rejected[0] === undefined ? {} : { reason: `${rejected.length} rejected: ${rejected[0]}` }),
  };
}

/** Cells whose kernels compile while another is measured. */
const AHEAD = 3;
const cells = new Map<string, Cell>();
const keyOf = (batch: number, layer: Layer, kind: Kind): string => `${batch} ${layer.name} ${kind.name}`;
const ahead = places.slice(0, AHEAD).map(prepare);
for (let done = 0; done < places.length; done++) {
  const job = ahead.shift()!;
  const end = performance.now() + (until - performance.now()) / (places.length - done);
  cells.set(keyOf(job.batch, job.layer, job.kind), await measure(job, end));
  const next = places[done + AHEAD];
  if (next) ahead.push(prepare(next));
}

const text = (us: number): string => (Number.isFinite(us) ? us.toFixed(1) : "-");
const ratio = (a: number, b: number): string => (Number.isFinite(a) && Number.isFinite(b) ? (a / b).toFixed(2) : "-");
const rows: object[] = [];
for (const batch of batches) {
  const total = new Map<string, number>();
  let summed = 0;
  const lines = layers.map(({ layer, count }) => {
    const found = KINDS.map((kind) => cells.get(keyOf(batch, layer, kind))!);
    const [f32, f16, matrix, dot4] = found.map(({ us }) => us) as [number, number, number, number];
    const times = { f32, f16, matrix, dot4, i8: Math.min(matrix, dot4) };
    // Sums are of layers of which every precision was measured.
    if ([f32, times.i8, ...(device.caps.f16 ? [f16] : [])].every(Number.isFinite)) {
      for (const [name, us] of Object.entries(times)) total.set(name, (total.get(name) ?? 0) + count * us);
      summed += count;
    }
    rows.push({ batch, layer: layer.name, count, cells: Object.fromEntries(KINDS.map(({ name }, i) => [name, found[i]])) });
    const ratios = [ratio(f32, times.i8), ratio(f16, times.i8), text(flopsOf(layer, batch) / times.i8 / 1e6)];
    return [layer.name, String(count), ...[f32, f16, matrix, dot4].map(text), ...ratios];
  });
  const all = (name: string): number => total.get(name) ?? Number.POSITIVE_INFINITY;
  const sums = ["f32", "f16", "matrix", "dot4"].map((name) => text(all(name)));
  const ratios = [ratio(all("f32"), all("i8")), ratio(all("f16"), all("i8")), ""];
  console.log(`\nbatch ${batch}, microseconds`);
  console.log(
    columns([
      ["layer", "of", ...KINDS.map(({ name }) => name), "f32/i8", "f16/i8", "i8 Top/s"],
      ...lines,
      ["as often as they occur", String(summed), ...sums, ...ratios],
    ]),
  );
}
const reasons = new Map<string, string[]>();
for (const [place, { reason }] of cells) if (reason) reasons.set(reason, [...(reasons.get(reason) ?? []), place]);
for (const [reason, at] of reasons)
  console.log(`${reason}: ${at.slice(0, 3).join("; ")}${at.length > 3 ? `; ${at.length - 3} more` : ""}`);
const inexact = [...cells].filter(([place, { error = 0 }]) => place.includes(" i8 ") && error > 0);
console.log(
  inexact.length === 0
    ? "all kernels of bytes that were measured are bit-exact"
    : `not bit-exact: ${inexact.map(([place, { error }]) => `${place} (${error})`).join("; ")}`,
);
if (flags.json) writeFileSync(flags.json, `${JSON.stringify({ title, device: device.fingerprint, rows }, undefined, 2)}\n`);
process.exit(0); // Dawn's threads would keep the process alive
