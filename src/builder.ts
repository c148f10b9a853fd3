// THE pipeline: ONNX bytes → Graph → passes → Program → fusion → kernels, chosen by measurement → Plan → Engine.
// The only file that knows the order of the stages.

import type { TimingCache } from "./autotuner/cache.ts";
import { type Choices, type Target, type TuneOptions, tune } from "./autotuner/tune.ts";
import { type Int8Options, quantize, type Runner } from "./calibrator/quantize.ts";
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
import { FUSION_RULES, fuse } from "./lowering/fuse.ts";
import { sumIntegers } from "./lowering/integers.ts";
import { chooseLayouts } from "./lowering/layout.ts";
import { lowerGraph } from "./lowering/lower.ts";
import { lowerToHalf } from "./lowering/precision.ts";
import { foldScales } from "./lowering/scales.ts";
import { splitWeights } from "./lowering/split-weights.ts";
import { decideStorage } from "./lowering/storage.ts";
import { hostOperator } from "./ops/host.ts";
import { exposeWeights } from "./passes/expose-weights.ts";
import { NEWER_OPERATORS, runPasses } from "./passes/index.ts";
import { type RewriteLog, rewriteLog } from "./passes/rewrite/log.ts";
import { makePlan } from "./plan/plan.ts";
import { optimumOf, type ProfileShapes, planProfiles } from "./plan/profiles.ts";
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
    const { graph, notes, weights } = await this.prepare(onnx, options, log, see);
    return this.compile(graph, options, log, see, notes, weights);
  }

  /**
   * The engine file for a device that is not here, as `kiln devices --json` describes it. Its kernels are chosen by what the
   * timing cache holds of that device, otherwise by the cost model; the plan's notes say which. Errors as `build`.
   */
  async buildFor(target: Target, onnx: Uint8Array, options: BuildOptions = {}): Promise<{ file: Uint8Array; plan: Plan }> {
    const see = seeing(options);
    const log = rewriteLog(options.maxRewrites);
    const { graph, notes, weights: exposed } = await this.prepare(onnx, options, log, see);
    let unmeasured = 0;
    const counting = { ...options, onUnmeasured: () => void unmeasured++ };
    const { plan, weights } = await this.plan(graph, target, undefined, counting, log, see, notes, exposed);
    const chosen =
      options.optimizationLevel === 0 || !options.timingCache
        ? "by the cost model"
        : `by its timing cache${unmeasured > 0 ? `, ${unmeasured} of them by the cost model` : ""}`;
    const note = `built for ${deviceName(target.fingerprint)}, which was not there: kernels chosen ${chosen}`;
    const said: Plan = { ...plan, notes: [...plan.notes, note] };
    return { file: serialize(said, weights, target.fingerprint), plan: said };
  }

  /** A model with 8-bit integers in the words of ONNX: explicit QuantizeLinear and DequantizeLinear. Errors as `build`. */
  async quantize(onnx: Uint8Array, options: BuildOptions & { readonly int8: Int8Options }): Promise<Uint8Array> {
    const disable = [...(options.disable ?? []), ...NEWER_OPERATORS];
    const { graph } = await this.prepare(onnx, { ...options, disable }, rewriteLog(options.maxRewrites), () => {});
    return exportModel(graph);
  }

  /** Model → simplified graph, quantized where that is asked for; and what the build is to say of it. */
  private async prepare(
    onnx: Uint8Array,
    options: BuildOptions,
    log: RewriteLog,
    see: See,
  ): Promise<{ graph: Graph; notes: readonly string[]; weights?: Weights }> {
    const imported = importModel(onnx, {
      ...(options.file === undefined ? {} : { file: options.file }),
      ...(options.readExternal ? { readExternal: options.readExternal } : {}),
      ...(options.sizes ? { sizes: options.sizes } : {}),
      ...(options.profiles ? { profiles: options.profiles } : {}),
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
    if (!options.int8) return { graph, notes: [], ...weights };
    const quantized = await quantize(
      graph,
      options.int8,
      known,
      (float, change) => this.runner(float, options, change),
      options.onProgress,
    );
    see("calibrate", quantized.graph);
    return { ...quantized, ...weights };
  }

  /** Compiles a graph; `change` rewrites its program. */
  private async compile(
    graph: Graph,
    options: BuildOptions,
    log: RewriteLog,
    see: See,
    said: readonly string[],
    exposed?: Weights,
    change?: (program: Program) => Program,
  ): Promise<Engine> {
    const device = options.hardwareCompatibility === "portable" ? asPortable(this.device) : this.device;
    const pipelines = new PipelineCache(device);
    const { plan, weights } = await this.plan(graph, device, { device, pipelines }, options, log, see, said, exposed, change);
    return Engine.load(device, plan, weights, this.hostOperators, pipelines);
  }

  /** Graph → Plan for a target, which is measured where it is `here`. */
  private async plan(
    graph: Graph,
    target: Target,
    here: Parameters<typeof tune>[2],
    options: BuildOptions & TuneOptions,
    log: RewriteLog,
    see: See,
    said: readonly string[],
    exposed: Weights = new Map(),
    change: (program: Program) => Program = (program) => program,
  ): Promise<{ plan: Plan; weights: Uint8Array }> {
    const { caps } = target;
    const disable = options.disable ?? [];
    const lowered = change(lowerGraph(graph));
    see("lower", lowered);
    const whole = options.fusion === false ? lowered : sumIntegers(lowered);
    const fused = foldScales(fuse(whole, caps, { enabled: options.fusion ?? true, take: log.take, disable }));
    const notes = options.fp16 ? (caps.f16 ? lowerToHalf(fused) : ["fp16: this device has no f16, everything stays f32"]) : [];
    if (options.fusion !== false) chooseLayouts(fused);
    decideStorage(fused.tasks);
    const may = (rule: string, { name }: Task): boolean =>
      options.fusion !== false && !disable.includes(rule) && log.take(rule, name);
    const outputs = new Set(fused.outputs.map(({ value }) => value));
    const tasks = formBlocks(splitWeights(fused.tasks, caps), outputs, (block) => may("fuse-block", block));
    const program = { ...fused, tasks };
    see("fuse", program);
    const host = program.tasks.find((task) => task.kind === "host");
    if (host?.kind === "host" && options.hostFallback === false) throw hostFallbackRefused(host.name, host.op, host.reason);
    const symbols = planProfiles(program.inputs, options.profiles ?? []);
    const mayPart = (block: Task): boolean => may("part-block", block);
    const choices = await tune(program, target, here, optimumOf(symbols), { ...options, mayPart });
    see("tune", choices);
    return makePlan(program, choices, {
      caps,
      profiles: symbols,
      notes: [...said, ...doubleNotes(graph), ...notes],
      weights: exposed,
      mayBundle: (task) => may("bundle-kernels", task),
    });
  }

  /** A graph made to run for calibration: a few hundred runs do not pay for tuning. */
  private async runner(graph: Graph, options: BuildOptions, change?: (program: Program) => Program): Promise<Runner> {
    const engine = await this.compile(
      graph,
      { ...options, optimizationLevel: 0, fp16: false },
      rewriteLog(),
      () => {},
      [],
      undefined,
      change,
    );
    const context = engine.createExecutionContext();
    return { run: (inputs) => context.execute(inputs), dispose: () => engine.dispose() };
  }
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
