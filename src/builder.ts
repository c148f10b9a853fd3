// THE pipeline: ONNX bytes → Graph → passes → Program → fusion → kernels, chosen by measurement → Plan → Engine.
// The only file that knows the order of the stages.

import { TimingCache } from "./autotuner/cache.ts";
import { fastest } from "./autotuner/layers.ts";
import { type Choices, type Target, type TuneOptions, tune } from "./autotuner/tune.ts";
import { type Form, type Int8Options, type Quantized, quantize, type Runner } from "./calibrator/quantize.ts";
import { Engine, type HostOperators } from "./engine/engine.ts";
import { serialize } from "./engine/format.ts";
import type { Plan } from "./engine/plan.ts";
import { asPortable, type Device } from "./gpu/device.ts";
import { deviceName } from "./gpu/fingerprint.ts";
import { PipelineCache } from "./gpu/pipelines.ts";
import { exportModel } from "./importer/export.ts";
import { importModel } from "./importer/import.ts";
import type { ReadExternal } from "./importer/tensors.ts";
import type { Graph } from "./ir/graph.ts";
import type { Program, Task } from "./ir/task.ts";
import type { Tensor } from "./ir/tensor.ts";
import { formBlocks } from "./lowering/blocks.ts";
import { doubleNotes } from "./lowering/doubles.ts";
import { fillWords } from "./lowering/fill-words.ts";
import { FUSION_RULES, fuse } from "./lowering/fuse.ts";
import { sumIntegers } from "./lowering/integers.ts";
import { chooseLayouts } from "./lowering/layout.ts";
import { writeLiterals } from "./lowering/literals.ts";
import { lowerGraph } from "./lowering/lower.ts";
import { lowerToHalf } from "./lowering/precision.ts";
import { foldScales } from "./lowering/scales.ts";
import { splitWeights } from "./lowering/split-weights.ts";
import { decideStorage } from "./lowering/storage.ts";
import { hostOperator } from "./ops/host.ts";
import { copyGraph } from "./passes/copy.ts";
import { exposeWeights } from "./passes/expose-weights.ts";
import { NEWER_OPERATORS, runPasses } from "./passes/index.ts";
import { type RewriteLog, rewriteLog } from "./passes/rewrite/log.ts";
import { makePlan } from "./plan/plan.ts";
import { completeProfiles, optimumOf, type ProfileShapes, planProfiles } from "./plan/profiles.ts";
import { digestOf } from "./util/digest.ts";
import { hostFallbackRefused, refitQuantized } from "./util/errors.ts";

export interface BuildOptions {
  /** Names the model in messages. */
  readonly file?: string;
  /** Reads external tensor data that lies beside the model. */
  readonly readExternal?: ReadExternal;
  /** Optimization profiles: min, opt and max shape of each input with free dimensions. */
  readonly profiles?: readonly ProfileShapes[];
  /** Sizes of free dimensions that are to be fixed, by name; one without a name is "input.axis". */
  readonly sizes?: Readonly<Record<string, number>>;
  /** What inputs will hold, where shapes depend on it. The engine checks it at each run. */
  readonly shapeValues?: Readonly<Record<string, Tensor>>;
  /** Permission to hold activations and weights in f16; sums stay f32. Default false. */
  readonly fp16?: boolean;
  /** 0: the first kernel that runs, nothing measured … 5: every candidate. Default 3. */
  readonly optimizationLevel?: 0 | 1 | 2 | 3 | 4 | 5;
  readonly timingCache?: TimingCache;
  /** Seconds that measuring may take. */
  readonly maxTuneTime?: number;
  /** Ends measuring with K613; what was measured stays in `timingCache`. */
  readonly signal?: AbortSignal;
  /** False: refuse a model of which a layer would run on the host. Default true. */
  readonly hostFallback?: boolean;
  /** False: every operator as its own kernels. Default true. */
  readonly fusion?: boolean;
  /** Rewrite rules to leave out, by name, and how many applications to stop after: to bisect a wrong result. */
  readonly disable?: readonly string[];
  readonly maxRewrites?: number;
  /** Permits 8-bit integers: how to calibrate, or the scales. */
  readonly int8?: Int8Options;
  /** Keeps float weights as the model has them, so that `Engine.refit` can change them; nothing is folded into or out of them. */
  readonly refit?: boolean;
  /** "portable": an engine of WebGPU's core, which loads on every device; slower where the device has more. Default "device". */
  readonly hardwareCompatibility?: "device" | "portable";
  /** Stops after a stage and throws nothing away: sees every intermediate form. */
  readonly onStage?: (stage: Stage, form: Graph | Program | Choices) => void;
  readonly onProgress?: (progress: BuildProgress) => void;
}

export type Stage = "import" | "passes" | "calibrate" | "lower" | "fuse" | "tune";

export interface BuildProgress {
  readonly stage: Stage | "plan" | "load";
  /** Tasks done of all, while tuning. */
  readonly done?: number;
  readonly total?: number;
  /** What is being tried, and the best so far. */
  readonly what?: string;
}

export class Builder {
  /** `hostOperators`: what runs layers that have no kernel. */
  constructor(
    readonly device: Device,
    private readonly hostOperators: HostOperators = hostOperator,
  ) {}

  /** Compiles a model. Errors: K1xx–K3xx for the model, K4xx for the device, K611 for a refused host layer, K7xx for calibration. */
  async build(onnx: Uint8Array, options: BuildOptions = {}): Promise<Engine> {
    const see = seeing(options);
    const log = rewriteLog(options.maxRewrites);
    const { form, weights } = await this.prepare(onnx, options, log, see);
    return this.compile(form, options, log, see, weights);
  }

  /**
   * The engine file for a device that is not here, as `kiln devices --json` describes it. Its kernels are chosen by what the
   * timing cache holds of that device, otherwise by the cost model; the plan's notes say which. Errors as `build`.
   */
  async buildFor(target: Target, onnx: Uint8Array, options: BuildOptions = {}): Promise<{ file: Uint8Array; plan: Plan }> {
    const see = seeing(options);
    const log = rewriteLog(options.maxRewrites);
    const { form, weights: exposed } = await this.prepare(onnx, options, log, see);
    let unmeasured = 0;
    const counting = { ...options, onUnmeasured: () => void unmeasured++ };
    const { plan, weights } = await this.plan(form, target, undefined, counting, log, see, exposed);
    const chosen =
      options.optimizationLevel === 0 || !options.timingCache
        ? "by the cost model"
        : `by its timing cache${unmeasured > 0 ? `, ${unmeasured} of them by the cost model` : ""}`;
    const note = `built for ${deviceName(target.fingerprint)}, which was not there: kernels chosen ${chosen}`;
    const said: Plan = { ...plan, notes: [...plan.notes, note] };
    return { file: serialize(said, weights, await digestOf(weights), target.fingerprint), plan: said };
  }

  /** A model with 8-bit integers in the words of ONNX: explicit QuantizeLinear and DequantizeLinear. Errors as `build`. */
  async quantize(onnx: Uint8Array, options: BuildOptions & { readonly int8: Int8Options }): Promise<Uint8Array> {
    const disable = [...(options.disable ?? []), ...NEWER_OPERATORS];
    const { form } = await this.prepare(onnx, { ...options, disable }, rewriteLog(options.maxRewrites), () => {});
    return exportModel(form.without([]).graph);
  }

  /** Model → simplified graph, quantized where that is asked for. */
  private async prepare(
    onnx: Uint8Array,
    options: BuildOptions,
    log: RewriteLog,
    see: See,
  ): Promise<{ form: Quantized; weights?: Weights }> {
    const imported = importModel(onnx, {
      ...(options.file === undefined ? {} : { file: options.file }),
      ...(options.readExternal ? { readExternal: options.readExternal } : {}),
      ...(options.sizes ? { sizes: options.sizes } : {}),
      profiles: completeProfiles(options.profiles ?? []).profiles,
      ...(options.shapeValues ? { assumed: options.shapeValues } : {}),
    });
    see("import", imported);
    if (options.refit && options.int8) throw refitQuantized(options.file ?? imported.name);
    const weights = options.refit ? { weights: exposeWeights(imported) } : {};
    const known = new Set(
      imported.nodes.flatMap(({ inputs, outputs }) => [...inputs, ...outputs].map((value) => value?.name ?? "")),
    );
    const graph =
      options.fusion === false
        ? imported
        : runPasses(imported, { log, disable: (options.disable ?? []).filter((name) => !(name in FUSION_RULES)) });
    see("passes", graph);
    if (!options.int8) return { form: inFloat(graph), ...weights };
    const form = await quantize(
      graph,
      options.int8,
      known,
      (float, change) => this.runner(float, options, change),
      options.onProgress,
    );
    see("calibrate", form.without([]).graph);
    return { form, ...weights };
  }

  /** Compiles a network; `change` rewrites its program. */
  private async compile(
    form: Quantized,
    options: Compiling,
    log: RewriteLog,
    see: See,
    exposed?: Weights,
    change?: (program: Program) => Program,
  ): Promise<Engine> {
    const device = options.hardwareCompatibility === "portable" ? asPortable(this.device) : this.device;
    const pipelines = new PipelineCache(device);
    const here = options.measures === false ? undefined : { device, pipelines };
    const { plan, weights } = await this.plan(form, device, here, options, log, see, exposed, change);
    return Engine.load(device, plan, weights, this.hostOperators, pipelines);
  }

  /** Network → Plan for a target, which is measured where it is `here`. */
  private async plan(
    form: Quantized,
    target: Target,
    here: Parameters<typeof tune>[2],
    options: Compiling,
    log: RewriteLog,
    see: See,
    exposed: Weights = new Map(),
    change: (program: Program) => Program = (program) => program,
  ): Promise<{ plan: Plan; weights: Uint8Array }> {
    const cached = { ...options, timingCache: options.timingCache ?? new TimingCache() };
    const timeLeft = timer(options.maxTuneTime);
    const { graph, notes: said } = await chooseForm(form, target, here, cached, change, timeLeft);
    const { program, notes, profiles, choices } = await tuned(
      graph,
      target,
      here,
      { ...cached, ...timeLeft(1) },
      log,
      see,
      change,
    );
    see("tune", choices[0]!);
    const { caps } = target;
    const may = mayOf(options, log);
    return makePlan(program, choices, {
      caps,
      profiles,
      notes: [...said, ...doubleNotes(graph), ...notes],
      weights: exposed,
      mayBundle: (task) => may("bundle-kernels", task),
    });
  }

  /** A graph made to run for calibration, by kernels that are known to be fast: a few hundred runs do not pay for tuning. */
  private async runner(graph: Graph, options: BuildOptions, change?: (program: Program) => Program): Promise<Runner> {
    const { onProgress: _, ...quiet } = options;
    const unmeasured = { ...quiet, fp16: false, measures: false };
    const engine = await this.compile(inFloat(copyGraph(graph)), unmeasured, rewriteLog(), () => {}, undefined, change);
    const context = engine.createExecutionContext();
    return { run: (inputs) => context.execute(inputs), dispose: () => engine.dispose() };
  }
}

/** Options of a compilation; `measures` false: kernels are chosen by what is known of them. */
type Compiling = BuildOptions & TuneOptions & { readonly measures?: boolean };

/** What is left of the seconds that measuring may take, or a share of it. */
type TimeLeft = (share: number) => { readonly maxTuneTime?: number };

function timer(seconds: number | undefined): TimeLeft {
  if (seconds === undefined) return () => ({});
  const until = performance.now() / 1000 + seconds;
  return (share) => ({ maxTuneTime: share * Math.max(0, until - performance.now() / 1000) });
}

/** Of the time that is left for measuring: what the form in 8 bits takes, then the one in float, then a mixed one. */
const TIME_SHARES = [0.6, 0.6, 0.8];

/** The network with those layers in 8 bits that are faster so; with all where nothing is measured. */
async function chooseForm(
  form: Quantized,
  target: Target,
  here: Parameters<typeof tune>[2],
  { onUnmeasured: _, ...options }: Compiling,
  change: (program: Program) => Program,
  timeLeft: TimeLeft,
): Promise<Form> {
  if (form.layers.length === 0 || options.optimizationLevel === 0) return form.without([]);
  const shares = [...TIME_SHARES];
  return fastest(form, async ({ graph }) => {
    const timing = { ...options, ...timeLeft(shares.shift()!), timeAll: true, profiles: options.profiles?.slice(0, 1) ?? [] };
    const { program, choices } = await tuned(
      copyGraph(graph),
      target,
      here,
      timing,
      rewriteLog(options.maxRewrites),
      () => {},
      change,
    );
    return { program, nsOf: (task) => choices[0]!.get(task)?.ns };
  });
}

/** A graph's program, and for each optimization profile (or for none) a kernel for each of its tasks. */
async function tuned(
  graph: Graph,
  target: Target,
  here: Parameters<typeof tune>[2],
  options: Compiling,
  log: RewriteLog,
  see: See,
  change: (program: Program) => Program,
) {
  const may = mayOf(options, log);
  const { program, notes } = programOf(graph, target.caps, options, log, may, see, change);
  const { profiles, notes: remarks } = planProfiles(program.inputs, options.profiles ?? []);
  const optima = profiles.length === 0 ? [new Map<string, number>()] : profiles.map(optimumOf);
  const mayPart = (block: Task): boolean => may("part-block", block);
  const timeLeft = timer(options.maxTuneTime);
  const choices: Choices[] = [];
  for (const [done, optimum] of optima.entries()) {
    const tuning = { ...options, ...timeLeft(1 / (optima.length - done)), mayPart };
    choices.push(await tune(program, target, here, optimum, tuning));
  }
  return { program, notes: [...remarks, ...notes], profiles, choices };
}

/** A network without layers of integers. */
const inFloat = (graph: Graph): Quantized => ({ layers: [], without: () => ({ graph, notes: [] }) });

/** Asks whether a rule may be applied to a task, and records it. */
type May = (rule: string, task: Task) => boolean;

const mayOf =
  ({ fusion, disable = [] }: BuildOptions, log: RewriteLog): May =>
  (rule, { name }) =>
    fusion !== false && !disable.includes(rule) && log.take(rule, name);

/** Graph → Program: lowered, fused, with types, layouts and storage decided; and what is to be said of that. */
function programOf(
  graph: Graph,
  caps: Target["caps"],
  options: BuildOptions,
  log: RewriteLog,
  may: May,
  see: See,
  change: (program: Program) => Program,
): { program: Program; notes: readonly string[] } {
  const { fusion: enabled = true, disable = [] } = options;
  const lowered = change(lowerGraph(graph));
  see("lower", lowered);
  const whole = enabled ? sumIntegers(lowered) : lowered;
  const merged = foldScales(fuse(whole, caps, { enabled, take: log.take, disable }));
  const fused = enabled ? writeLiterals(merged) : merged;
  const notes = options.fp16 ? (caps.f16 ? lowerToHalf(fused) : ["fp16: this device has no f16, everything stays f32"]) : [];
  const filled = enabled ? fillWords(fused) : fused;
  if (enabled) chooseLayouts(filled);
  decideStorage(filled.tasks);
  const outputs = new Set(filled.outputs.map(({ value }) => value));
  const tasks = formBlocks(splitWeights(filled.tasks, caps), outputs, (block) => may("fuse-block", block));
  const program = { ...filled, tasks };
  see("fuse", program);
  const host = program.tasks.find((task) => task.kind === "host");
  if (host?.kind === "host" && options.hostFallback === false) throw hostFallbackRefused(host.name, host.op, host.reason);
  return { program, notes };
}

/** Of a refittable engine: what its weights hold, by name. */
type Weights = ReadonlyMap<string, Tensor>;
type See = (stage: Stage, form: Graph | Program | Choices) => void;

const seeing =
  ({ onProgress, onStage }: BuildOptions): See =>
  (stage, form) => {
    onProgress?.({ stage });
    onStage?.(stage, form);
  };
