// Real models through all passes: the graph stays whole, nothing is left to find, the text reads back, and those that the
// interpreter can run in a second compute the same. Skipped where the models are not there (../shared/models).

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { importModel } from "../../src/importer/import.ts";
import type { Graph } from "../../src/ir/graph.ts";
import { parseGraph, printGraph, type TensorTable } from "../../src/ir/text.ts";
import { verifyGraph } from "../../src/ir/verify.ts";
import { rewriteLog, runPasses } from "../../src/passes/index.ts";
import { distance, evaluateGraph, inputsFor } from "./evaluate.ts";

const FOLDER = join(import.meta.dirname, "../../../shared/models");
const there = existsSync(FOLDER);
const models = there
  ? (readdirSync(FOLDER, { recursive: true }) as string[]).filter((path) => path.endsWith(".onnx")).sort()
  : [];
const load = (path: string): Graph => importModel(readFileSync(join(FOLDER, path)), { file: path });

/** Counts of rewrites that show that a model's structure was understood. */
const EXPECTED: Readonly<Record<string, Readonly<Record<string, number>>>> = {
  "cifar10-vit/pgd_2_3_16.onnx": { "fold-batchnorm-before": 1 },
  "dtln/model_2.onnx": { "recognize-layernorm": 1, "fold-norm-scale": 1, "fold-norm-shift": 1 },
  "light/light_densenet121.onnx": { "fold-batchnorm": 59 },
  "mnist-burn/mnist.onnx": { "fold-batchnorm": 1 },
  "stories260k/stories260k_step_static.onnx": { "recognize-rmsnorm": 11, "recognize-swish": 5 },
  "yolox-nano/yolox_nano.onnx": { "recognize-swish": 104 },
};

describe.skipIf(!there)("models", () => {
  it.each(models)("%s stays whole", (path) => {
    const log = rewriteLog();
    const after = runPasses(load(path), { log });
    verifyGraph(after);
    for (const [rule, count] of Object.entries(EXPECTED[path] ?? {})) expect(log.counts.get(rule), rule).toBe(count);
    const again = rewriteLog();
    runPasses(after, { log: again });
    expect(again.applied).toEqual([]);
    const data: TensorTable = new Map();
    const text = printGraph(after, { data });
    expect(printGraph(parseGraph(text, data))).toBe(text);
  });

  const SIZES: Readonly<Record<string, Readonly<Record<string, number>>>> = {
    "mnist-burn/mnist.onnx": {},
    "mnist-cntk/mnist.onnx": {},
    "cifar10-vit/pgd_2_3_16.onnx": { batch_size: 2 },
    "dtln/model_1.onnx": {},
    "dtln/model_2.onnx": {},
    "silero-vad/silero_vad_op18_ifless.onnx": { batch: 1, sequence: 288 },
    "stories260k/stories260k_kvcache_dynamic.onnx": { seq: 2, past: 3 },
  };
  it.each(Object.entries(SIZES))("%s computes the same", (path, sizes) => {
    const before = load(path);
    const inputs = inputsFor(before, 1, sizes);
    const [expected, actual] = [evaluateGraph(before, inputs), evaluateGraph(runPasses(before), inputs)];
    for (const [name, tensor] of expected) expect(distance(actual.get(name)!, tensor), name).toBeLessThan(1e-5);
    expect([...expected.values()].some(({ data }) => Number.isNaN(Number(data[0])))).toBe(false);
  });
});
