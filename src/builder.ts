// THE pipeline: ONNX bytes → Graph → passes → Program → fusion → kernels, chosen by measurement → Plan → Engine.
// The only file that knows the order of the stages.

import type { TimingCache } from "./autotuner/cache.ts";
import { type Choices, tune } from "./autotuner/tune.ts";
import { type Int8Options, quantize, type Runner } from "./calibrator/quantize.ts";
import { Engine } from "./engine/engine.ts";
import type { Device } from "./gpu/device.ts";
import { PipelineCache } from "./gpu/pipelines.ts";
import { exportModel } from "./importer/export.ts";
import { importModel } from "./importer/import.ts";
import type { ReadExternal } from "./importer/tensors.ts";
import type { Graph } from "./ir/graph.ts";
import type { Program, Task } from "./ir/task.ts";
import type { Tensor } from "./ir/tensor.ts";
import { FUSION_RULES, fuse } from "./lowering/fuse.ts";
import { sumIntegers } from "./lowering/integers.ts";
import { chooseLayouts } from "./lowering/layout.ts";
import { lowerGraph } from "./lowering/lower.ts";
import { lowerToHalf } from "./lowering/precision.ts";
import { foldScales } from "./lowering/scales.ts";
import { decideStorage } from "./lowering/storage.ts";
import { hostOperator } from "./ops/registry.ts";
import { NEWER_OPERATORS, runPasses } from "./passes/index.ts";
import { type RewriteLog, rewriteLog } from "./passes/rewrite/log.ts";
import { makePlan } from "./plan/plan.ts";
import { optimumOf, type ProfileShapes, planProfiles } from "./plan/profiles.ts";
import { hostFallbackRefused } from "./util/errors.ts";

export interface BuildOptions {
  /** Names the model in messages. */
  readonly file?: string;
  /** Reads external tensor data that lies beside the model. */
  readonly readExternal?: ReadExternal;
  /** Optimization profiles: min, opt and max shape of each input with free dimensions. */
  readonly profiles?: readonly ProfileShapes[];
  /** What inputs will hold, where shapes depend on it. The engine checks it at each run. */
  readonly shapeValues?: Readonly<Record<string, Tensor>>;
  /** Permission to hold activations and weights in f16; sums stay f32. Default false. */
  readonly fp16?: boolean;
  /** 0: the first kernel that runs, nothing measured … 5: every candidate. Default 3. */
  readonly optimizationLevel?: 0 | 1 | 2 | 3 | 4 | 5;
  readonly timingCache?: TimingCache;
  /** Seconds that measuring may take. */
  readonly maxTuneTime?: number;
  /** False: refuse a model of which a layer would run on the host. Default true. */
  readonly hostFallback?: boolean;
  /** False: every operator as its own kernels. Default true. */
  readonly fusion?: boolean;
  /** Rewrite rules to leave out, by name, and how many applications to stop after: to bisect a wrong result. */
  readonly disable?: readonly string[];
  readonly maxRewrites?: number;
  /** Permits 8-bit integers: how to calibrate, or the scales. */
  readonly int8?: Int8Options;
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
  constructor(readonly device: Device) {}

  /** Compiles a model. Errors: K1xx–K3xx for the model, K4xx for the device, K611 for a refused host layer, K7xx for calibration. */
  async build(onnx: Uint8Array, options: BuildOptions = {}): Promise<Engine> {
    const see: See = (stage, form) => {
      options.onProgress?.({ stage });
      options.onStage?.(stage, form);
    };
    const log = rewriteLog(options.maxRewrites);
    const { graph, notes } = await this.prepare(onnx, options, log, see);
    return this.compile(graph, options, log, see, notes);
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
  ): Promise<{ graph: Graph; notes: readonly string[] }> {
    const imported = importModel(onnx, {
      ...(options.file === undefined ? {} : { file: options.file }),
      ...(options.readExternal ? { readExternal: options.readExternal } : {}),
      ...(options.shapeValues ? { assumed: options.shapeValues } : {}),
    });
    see("import", imported);
    const known = new Set(
      imported.nodes.flatMap(({ inputs, outputs }) => [...inputs, ...outputs].map((value) => value?.name ?? "")),
    );
    const graph =
      options.fusion === false
        ? imported
        : runPasses(imported, { log, disable: (options.disable ?? []).filter((name) => !(name in FUSION_RULES)) });
    see("passes", graph);
    if (!options.int8) return { graph, notes: [] };
    const quantized = await quantize(
      graph,
      options.int8,
      known,
      (float, change) => this.runner(float, options, change),
      options.onProgress,
    );
    see("calibrate", quantized.graph);
    return quantized;
  }

  /** Compiles a graph; `change` rewrites its program. */
  private async compile(
    graph: Graph,
    options: BuildOptions,
    log: RewriteLog,
    see: See,
    said: readonly string[],
    change: (program: Program) => Program = (program) => program,
  ): Promise<Engine> {
    const { caps } = this.device;
    const disable = options.disable ?? [];
    const lowered = change(lowerGraph(graph));
    see("lower", lowered);
    const whole = options.fusion === false ? lowered : sumIntegers(lowered);
    const program = foldScales(fuse(whole, caps, { enabled: options.fusion ?? true, take: log.take, disable }));
    const notes = options.fp16
      ? caps.f16
        ? lowerToHalf(program)
        : ["fp16: this device has no f16, everything stays f32"]
      : [];
    decideStorage(program.tasks);
    if (options.fusion !== false) chooseLayouts(program);
    see("fuse", program);
    const host = program.tasks.find((task) => task.kind === "host");
    if (host?.kind === "host" && options.hostFallback === false) throw hostFallbackRefused(host.name, host.op, host.reason);
    const pipelines = new PipelineCache(this.device);
    const symbols = planProfiles(program.inputs, options.profiles ?? []);
    const choices = await tune(program, this.device, pipelines, optimumOf(symbols), options);
    see("tune", choices);
    const mayBundle = (task: Task): boolean =>
      options.fusion !== false && !disable.includes("bundle-kernels") && log.take("bundle-kernels", task.name);
    const { plan, weights } = makePlan(program, choices, { caps, profiles: symbols, notes: [...said, ...notes], mayBundle });
    return Engine.load(this.device, plan, weights, hostOperator, pipelines);
  }

  /** A graph made to run for calibration: a few hundred runs do not pay for tuning. */
  private async runner(graph: Graph, options: BuildOptions, change?: (program: Program) => Program): Promise<Runner> {
    const engine = await this.compile(
      graph,
      { ...options, optimizationLevel: 0, fp16: false },
      rewriteLog(),
      () => {},
      [],
      change,
    );
    const context = engine.createExecutionContext();
    return { run: (inputs) => context.execute(inputs), dispose: () => engine.dispose() };
  }
}

type See = (stage: Stage, form: Graph | Program | Choices) => void;
