// kiln bench: how long an engine takes, in trtexec's terms.

import { type Command, Option } from "commander";
import type { ExecutionContext } from "../engine/context.ts";
import type { Engine } from "../engine/engine.ts";
import { Profiler, type RunProfile } from "../engine/profiler.ts";
import { deviceName } from "../gpu/fingerprint.ts";
import type { Tensor } from "../ir/tensor.ts";
import { badFlag } from "../util/errors.ts";
import { addBuildFlags, type BuildFlags } from "./build-flags.ts";
import { writeOut } from "./files.ts";
import { type InputFlags, prepareInputs } from "./inputs.ts";
import { openEngine, readNetwork, withDevice } from "./network.ts";
import { numberOption } from "./options.ts";
import { amountText, columns, millisecondsText, plural, remark, say } from "./print.ts";
import { addInputFlags } from "./run.ts";
import { SUMMARY_FIELDS, type Summary, summarizeTimes } from "./statistics.ts";

interface Flags extends BuildFlags, InputFlags {
  readonly iterations: number;
  readonly warmUp: number;
  readonly duration: number;
  readonly exportJson?: string;
  readonly dumpProfile?: boolean;
  readonly compare?: readonly Variant[];
  readonly shapes?: Readonly<Record<string, readonly number[]>>;
  readonly optShapes?: Readonly<Record<string, readonly number[]>>;
}
type Feeds = Readonly<Record<string, Tensor>>;

const VARIANTS = ["fused", "unfused"] as const;
type Variant = (typeof VARIANTS)[number];
const LEVEL = 3;
/** Runs whose phases are timed one by one, at most: they wait between phases, so they are fewer and apart from the others. */
const PROFILED_RUNS = 100;

/** What --export-json writes. Times in milliseconds, throughput in runs a second. */
interface Result {
  readonly variant?: Variant;
  readonly device: string;
  readonly runs: number;
  readonly latencyMs: Summary;
  readonly enqueueMs: Summary;
  readonly h2dMs: Summary;
  readonly gpuMs: Summary;
  readonly d2hMs: Summary;
  readonly throughput: number;
  readonly activationBytes: number | string;
  readonly kernelCount: number;
  readonly kernels: readonly { readonly name: string; readonly ms: number }[];
}

export function addBench(program: Command): void {
  const command = program.command("bench").description("measure throughput and latency").argument("<net.engine|model.onnx>");
  addInputFlags(command)
    .addOption(
      new Option("--iterations <n>", "runs, at least").default(10).argParser(numberOption("--iterations", 1, 1e7, true)),
    )
    .addOption(new Option("--warmUp <ms>", "runs before measuring").default(200).argParser(numberOption("--warmUp", 0)))
    .addOption(new Option("--duration <s>", "time of measuring, at least").default(3).argParser(numberOption("--duration", 0)))
    .option("--dumpProfile", "show the GPU time of each kernel")
    .option("--export-json <file>", "write the results")
    .addOption(new Option("--compare <variants>", `builds side by side: ${VARIANTS.join(",")}`).argParser(variantsOption));
  addBuildFlags(command, LEVEL).action(bench);
}

function variantsOption(text: string): readonly Variant[] {
  return text.split(",").map((word) => {
    const variant = VARIANTS.find((known) => known === word);
    if (!variant) throw badFlag(`--compare ${text}`, `there is no variant "${word}"`, VARIANTS.join(","));
    return variant;
  });
}

async function bench(file: string, flags: Flags): Promise<void> {
  const network = readNetwork(file, flags);
  if (flags.compare && network.kind === "engine")
    throw badFlag(`--compare ${flags.compare.join(",")}`, "an engine is built already", "a model");
  await withDevice(async (device) => {
    const results: Result[] = [];
    for (const variant of flags.compare ?? [undefined]) {
      const engine = await openEngine(device, network, variant ? { ...flags, fusion: variant === "fused" } : flags, LEVEL);
      const { tensors, remarks } = prepareInputs(engine.plan, flags);
      if (results.length === 0) for (const line of remarks) remark(line);
      const result = { ...(variant ? { variant } : {}), ...(await measure(engine, tensors, flags)) };
      results.push(result);
      engine.dispose();
      if (variant) say(`--- ${variant}`);
      print(result, flags);
    }
    if (flags.compare) say(`\n${comparison(results)}`);
    if (flags.exportJson !== undefined)
      writeOut(flags.exportJson, `${JSON.stringify(flags.compare ? results : results[0], undefined, 2)}\n`);
  });
}

async function measure(engine: Engine, feeds: Feeds, flags: Flags): Promise<Result> {
  const context = engine.createExecutionContext();
  try {
    await context.execute(feeds);
    await repeat(() => context.execute(feeds), 0, flags.warmUp);
    const latencies: number[] = [];
    const from = performance.now();
    await repeat(
      async () => {
        const start = performance.now();
        await context.execute(feeds);
        latencies.push(performance.now() - start);
      },
      flags.iterations,
      flags.duration * 1000,
    );
    const wall = performance.now() - from;
    const phases = await profile(
      context,
      engine,
      feeds,
      Math.min(latencies.length, PROFILED_RUNS),
      flags.duration * 1000,
      false,
    );
    const kernels =
      flags.dumpProfile || flags.exportJson !== undefined
        ? await profile(context, engine, feeds, Math.min(latencies.length, PROFILED_RUNS), flags.duration * 1000, true)
        : [];
    const of = (field: "enqueueMs" | "h2dMs" | "gpuMs" | "d2hMs"): Summary => summarizeTimes(phases.map((run) => run[field]));
    return {
      device: deviceName(engine.device.fingerprint),
      runs: latencies.length,
      latencyMs: summarizeTimes(latencies),
      enqueueMs: of("enqueueMs"),
      h2dMs: of("h2dMs"),
      gpuMs: of("gpuMs"),
      d2hMs: of("d2hMs"),
      throughput: (latencies.length / wall) * 1000,
      activationBytes: engine.describe().memory.activations,
      kernelCount: engine.describe().kernels.length,
      kernels: medians(kernels),
    };
  } finally {
    context.dispose();
  }
}

/** Calls `work` at least `times` times and for at least `ms` milliseconds. */
async function repeat(work: () => Promise<unknown>, times: number, ms: number): Promise<void> {
  const from = performance.now();
  for (let i = 0; i < times || performance.now() - from < ms; i++) await work();
}

async function profile(
  context: ExecutionContext,
  engine: Engine,
  feeds: Feeds,
  times: number,
  ms: number,
  everyKernel: boolean,
): Promise<RunProfile[]> {
  const profiler = new Profiler(engine.device, everyKernel);
  const runs: RunProfile[] = [];
  context.profiler = profiler;
  const from = performance.now();
  try {
    for (let i = 0; i < times && (i < 3 || performance.now() - from < ms); i++) {
      await context.execute(feeds);
      runs.push(await profiler.read());
    }
  } finally {
    context.profiler = undefined;
    profiler.dispose();
  }
  return runs;
}

/** Each kernel's median over the runs, in the order in which they run. */
function medians(runs: readonly RunProfile[]): Result["kernels"] {
  return [...(runs[0]?.kernels.keys() ?? [])].map((step) => ({
    name: step.label,
    ms: summarizeTimes(runs.map(({ kernels }) => kernels.get(step) ?? 0)).median,
  }));
}

function print(result: Result, { dumpProfile }: Flags): void {
  const row = (name: string, summary: Summary): string[] => [
    name,
    ...SUMMARY_FIELDS.map((field) => millisecondsText(summary[field])),
  ];
  say(`device: ${result.device}`);
  say(`throughput: ${result.throughput.toPrecision(5)} qps over ${plural(result.runs, "run")}, one at a time`);
  say(
    columns([
      ["ms", ...SUMMARY_FIELDS],
      row("latency", result.latencyMs),
      row("enqueue", result.enqueueMs),
      row("H2D", result.h2dMs),
      row("GPU compute", result.gpuMs),
      row("D2H", result.d2hMs),
    ]),
  );
  if (!dumpProfile) return;
  const total = result.kernels.reduce((sum, { ms }) => sum + ms, 0);
  say();
  if (total === 0) say("this device has no GPU timestamps: no times of kernels");
  else
    say(
      columns([
        ["kernel", "ms", "%"],
        ...result.kernels.map(({ name, ms }) => [name, ms.toFixed(4), ((100 * ms) / total).toFixed(1)]),
        ["total", total.toFixed(4), "100.0"],
      ]),
    );
}

/** Ratios are of the first variant: above 1 the first is better. */
function comparison(results: readonly Result[]): string {
  const [first] = results as [Result];
  const rows = results.map((result) => [
    result.variant ?? "",
    String(result.kernelCount),
    amountText(result.activationBytes),
    millisecondsText(result.latencyMs.median),
    millisecondsText(result.gpuMs.median),
    `${(result.latencyMs.median / first.latencyMs.median).toFixed(2)}x`,
    `${(result.gpuMs.median / first.gpuMs.median).toFixed(2)}x`,
  ]);
  return columns([["variant", "kernels", "activations", "latency ms", "GPU ms", "latency ratio", "GPU ratio"], ...rows]);
}
