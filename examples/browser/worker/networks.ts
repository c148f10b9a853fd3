// Brings networks to where they run: from the browser's store, or by the compiler, which is loaded for that alone.

import type { Contest } from "../../../src/index.ts";
import { type Engine, type ExecutionContext, KilnError, type Runtime } from "../../../src/runtime.ts";
import type { Comparison, ContestReport, Listener, NetworkReport, Progress, Variant } from "../protocol.ts";
import type { Recipe } from "./recipes.ts";
import { keepEngine, keptEngine } from "./store.ts";
import { timeEngine } from "./timing.ts";
import { wordsFor } from "./words.ts";

export interface Network {
  readonly engine: Engine;
  readonly context: ExecutionContext;
  readonly report: NetworkReport;
  readonly contests: readonly Contest[];
  /** Of a network that was not given as an engine. */
  readonly recipe?: Recipe;
}

/** All networks on one device. */
export class Networks {
  private readonly open = new Map<string, Promise<Network>>();

  constructor(
    private readonly runtime: Runtime,
    private readonly listener: Listener,
  ) {}

  /** A network that was brought before. */
  async get(id: string): Promise<Network> {
    const network = await this.open.get(id);
    if (!network) throw new Error(`there is no network "${id}"`);
    return network;
  }

  /** The network of a recipe, brought once. */
  bring(recipe: Recipe): Promise<Network> {
    const known = this.open.get(recipe.id);
    if (known) return known;
    const bringing = this.fromStore(recipe).then((network) => network ?? this.build(recipe));
    return this.add(recipe.id, bringing);
  }

  /** Loads an engine file. */
  load(id: string, title: string, file: Uint8Array): Promise<Network> {
    const loading = async (): Promise<Network> => {
      const start = performance.now();
      const engine = await this.runtime.deserialize(file, title);
      return this.ready({ engine, contests: [] }, { id, title, from: "file", start, bytes: file.length });
    };
    return this.add(id, loading());
  }

  /** The network beside itself without fusion. */
  async compare(id: string): Promise<Comparison> {
    const { engine, recipe, contests } = await this.get(id);
    const kept = await keptEngine(id);
    if (kept?.comparison) return kept.comparison;
    if (!recipe) throw new Error(`${id} was given as an engine: there is no model to build without fusion`);
    const unfused = await this.compile(recipe, { fusion: false }, `${recipe.title} without fusion`);
    try {
      const comparison = { fused: await variantOf(engine), unfused: await variantOf(unfused.engine) };
      await keepEngine(id, { ...(kept ?? { engine: engine.serialize(), contests }), comparison });
      return comparison;
    } finally {
      unfused.engine.dispose();
    }
  }

  private add(id: string, bringing: Promise<Network>): Promise<Network> {
    this.open.set(id, bringing);
    bringing.then(
      ({ report }) => this.listener.network(report),
      () => this.open.delete(id),
    );
    return bringing;
  }

  /** Undefined where nothing is kept, or nothing that this version and device can use. */
  private async fromStore(recipe: Recipe): Promise<Network | undefined> {
    const start = performance.now();
    const kept = await keptEngine(recipe.id);
    if (!kept) return undefined;
    try {
      this.say({ title: `Loading the ${recipe.title.toLowerCase()}`, detail: "kept by an earlier visit" });
      const engine = await this.runtime.deserialize(kept.engine, recipe.title);
      return this.ready(
        { engine, contests: kept.contests, recipe },
        {
          ...recipe,
          from: "kept",
          start,
          bytes: kept.engine.length,
          comparison: kept.comparison,
        },
      );
    } catch (failure) {
      if (failure instanceof KilnError && /^K50/.test(failure.code)) return undefined;
      throw failure;
    }
  }

  private async build(recipe: Recipe): Promise<Network> {
    const start = performance.now();
    const { engine, contests } = await this.compile(recipe, {}, recipe.title);
    const file = engine.serialize();
    await keepEngine(recipe.id, { engine: file, contests });
    return this.ready({ engine, contests, recipe }, { ...recipe, from: "built", start, bytes: file.length });
  }

  private async compile(
    { model, options }: Recipe,
    changes: Recipe["options"],
    title: string,
  ): Promise<{ engine: Engine; contests: readonly Contest[] }> {
    const building = `Building the ${title.toLowerCase()}`;
    const onnx = await model((fraction) => this.say({ title: building, detail: "downloading the model", fraction }));
    this.say({ title: building, detail: "loading the compiler" });
    const { compile } = await import("./compiler.ts");
    return compile(this.runtime.device, onnx, {
      ...options,
      ...changes,
      onProgress: (progress) => this.say({ title: building, ...wordsFor(progress) }),
    });
  }

  private ready(
    made: Pick<Network, "engine" | "contests"> & { readonly recipe?: Recipe },
    how: Pick<NetworkReport, "id" | "title" | "from" | "bytes" | "comparison"> & { readonly start: number },
  ): Network {
    const { engine, contests } = made;
    const { kernels, ...description } = engine.describe();
    const byTask = new Map(contests.map((contest) => [contest.task, reportOf(contest)]));
    const { id, title, from, bytes, comparison } = how;
    const report: NetworkReport = {
      ...description,
      id,
      title,
      from,
      bytes,
      comparison,
      seconds: (performance.now() - how.start) / 1000,
      inputs: engine.inputs.map(typeOf),
      outputs: engine.outputs.map(typeOf),
      kernels: kernels.map((kernel) => ({
        ...kernel,
        contests: tasksOf(kernel.name).flatMap((task) => byTask.get(task) ?? []),
      })),
      comparable: made.recipe !== undefined,
    };
    return { ...made, context: engine.createExecutionContext(), report };
  }

  private said = 0;
  /** Tells what is done, no more often than a page is drawn. */
  private say(progress: Progress): void {
    const now = performance.now();
    if (now - this.said < 30 && progress.fraction !== undefined) return;
    this.said = now;
    this.listener.progress(progress);
  }
}

const typeOf = ({ name, dtype, shape }: Engine["inputs"][number]): string => `${name}  ${dtype}[${shape.join(", ")}]`;

/** A bundle's label joins those of its tasks; a tactic of several kernels numbers them. */
const tasksOf = (label: string): readonly string[] => label.split(" + ").map((part) => part.replace(/ \(\d+\/\d+\)$/, ""));

const reportOf = ({ task, tactic, config, contenders }: Contest): ContestReport => ({
  task,
  contenders: contenders.map(({ ns, ...entry }) => ({
    ...entry,
    ...(Number.isFinite(ns) ? { ms: ns / 1e6 } : {}),
    won: entry.tactic === tactic && JSON.stringify(entry.config) === JSON.stringify(config),
  })),
});

async function variantOf(engine: Engine): Promise<Variant> {
  const { kernels, memory } = engine.describe();
  const { latencyMs } = await timeEngine(engine);
  return { kernels: kernels.length, memory: Number(memory.activations), latencyMs };
}
