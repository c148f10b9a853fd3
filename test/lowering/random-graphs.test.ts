// Fused is unfused: random networks against ONNX Runtime, with all rewrites, with as many as a limit allows and without one
// of them. Programs run in the interpreter, and a few networks on the GPU: KILN_RANDOM_GRAPHS=300 asks for so many,
// KILN_RANDOM_SEED for others. A failure names its seed and what was left out.

import { afterAll, beforeAll, expect, it } from "vitest";
import { deviationOf } from "../../src/cli/compare.ts";
import type { Device } from "../../src/gpu/device.ts";
import { importModel } from "../../src/importer/import.ts";
import { bindShape, interpret } from "../../src/ir/interpret.ts";
import type { Program } from "../../src/ir/task.ts";
import type { Tensor } from "../../src/ir/tensor.ts";
import type { Value } from "../../src/ir/value.ts";
import { FUSION_RULES, fuse } from "../../src/lowering/fuse.ts";
import { lowerGraph } from "../../src/lowering/lower.ts";
import { rewriteLog, runPasses } from "../../src/passes/index.ts";
import { coreCaps } from "../../src/util/caps.ts";
import { realDevice } from "../gpu/open.ts";
import { runOnnxRuntime } from "../support/onnxruntime.ts";
import { batchesOf, faultsOf } from "../support/random-agreement.ts";
import { type RandomGraph, randomGraph } from "../support/random-graph.ts";

const ASKED = process.env.KILN_RANDOM_GRAPHS;
const FIRST = Number(process.env.KILN_RANDOM_SEED ?? 0);
/** Seeds in tests of twenty. */
const seeds = (count: number): { readonly from: number; readonly seeds: readonly number[] }[] =>
  Array.from({ length: Math.ceil(count / 20) }, (_, i) => {
    const from = FIRST + 20 * i;
    return { from, seeds: Array.from({ length: Math.min(20, count - 20 * i) }, (_, j) => from + j) };
  });

const LONG = { timeout: 600_000 };

type Tensors = Readonly<Record<string, Tensor>>;

function expectSame(actual: Tensors, expected: Tensors, where: string): void {
  for (const [name, reference] of Object.entries(expected)) {
    const { ok, ...deviation } = deviationOf(actual[name]!, reference);
    if (!ok) expect.fail(`${where}: output "${name}" differs: ${JSON.stringify(deviation)}`);
  }
}

/** The program after at most `limit` rewrites, without the rules of `disable`; and how many there were. */
function fused({ bytes }: RandomGraph, limit?: number, disable: readonly string[] = []): { program: Program; count: number } {
  const log = rewriteLog(limit);
  const lowered = lowerGraph(runPasses(importModel(bytes), { log }));
  const program = fuse(lowered, coreCaps, { enabled: true, take: log.take, disable });
  return { program, count: log.applied.length };
}

function interpreted(program: Program, inputs: Tensors): Tensors {
  const bindings = new Map<string, number>();
  const tensors = new Map<Value, Tensor>();
  for (const value of program.inputs) {
    bindShape(value.shape, inputs[value.name]!.shape, bindings);
    tensors.set(value, inputs[value.name]!);
  }
  interpret(program.tasks, tensors, bindings, ({ op }) => expect.fail(`${op} runs on the host`));
  return Object.fromEntries(program.outputs.map(({ name, value }) => [name, (tensors.get(value) ?? value.data)!]));
}

const title = (seed: number, { text, isDynamic }: RandomGraph): string =>
  `seed ${seed}${isDynamic ? ", any batch" : ""}: ${text}`;

it.for(seeds(Number(ASKED ?? 200)))("the interpreter agrees with ONNX Runtime from seed $from", LONG, async ({ seeds }) => {
  const rules = Object.keys(FUSION_RULES);
  for (const seed of seeds) {
    const graph = randomGraph(seed);
    const all = fused(graph);
    const limit = Math.floor((all.count * (seed % 10)) / 10);
    const rule = rules[seed % rules.length]!;
    const variants = {
      "every rewrite": () => all.program,
      [`--max-rewrites ${limit}`]: () => fused(graph, limit).program,
      [`without ${rule}`]: () => fused(graph, undefined, [rule]).program,
    };
    const runs = await Promise.all(
      batchesOf(graph).map(async (batch) => {
        const inputs = graph.inputs(batch);
        return { inputs, expected: await runOnnxRuntime(graph.bytes, inputs) };
      }),
    );
    for (const [what, build] of Object.entries(variants)) {
      const where = `${what}, ${title(seed, graph)}`;
      try {
        const program = build();
        for (const { inputs, expected } of runs) expectSame(interpreted(program, inputs), expected, where);
      } catch (failure) {
        throw new Error(where, { cause: failure });
      }
    }
  }
});

let device: Device | undefined;
beforeAll(async () => {
  device = await realDevice();
});
afterAll(() => device?.destroy());

it.for(seeds(Number(ASKED ?? 8)))("the GPU agrees, fused and not, from seed $from", LONG, async ({ seeds }, { skip }) => {
  if (!device) return skip("no GPU adapter");
  for (const seed of seeds) {
    const graph = randomGraph(seed);
    expect(await faultsOf(device, graph), title(seed, graph)).toEqual([]);
  }
  device.check();
});
