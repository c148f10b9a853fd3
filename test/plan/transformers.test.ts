// Transformers in the forms that PyTorch's exporter writes: seven kernels a layer, of which attention is one and the projections
// of queries, keys and values are one, whatever the forms; the fused program computes what ONNX Runtime does.

import { expect, it } from "vitest";
import { type TransformerSize, torchBert, torchVit } from "../../bench/networks/torch.ts";
import type { NetworkOptions } from "../../bench/networks/writer.ts";
import { deviationOf } from "../../src/cli/compare.ts";
import { importModel } from "../../src/importer/import.ts";
import { bindShape, interpret, type Tensors } from "../../src/ir/interpret.ts";
import type { Program } from "../../src/ir/task.ts";
import { type Tensor, tensor } from "../../src/ir/tensor.ts";
import { fuse } from "../../src/lowering/fuse.ts";
import { lowerGraph } from "../../src/lowering/lower.ts";
import { rewriteLog, runPasses } from "../../src/passes/index.ts";
import { coreCaps } from "../../src/util/caps.ts";
import { runOnnxRuntime } from "../support/onnxruntime.ts";
import { filled, generator } from "../support/random.ts";

const SIZE: TransformerSize = { tokens: 6, hidden: 16, heads: 2, layers: 2 };
const BATCH = 2;

/** Kernels beside those of layers: embedding and its normalization; patches, joined tokens, the last normalization, classifier. */
const MODELS = {
  BERT: {
    make: torchBert,
    beside: 1,
    inputs: {
      ids: tensor(
        "i64",
        [BATCH, SIZE.tokens],
        Array.from({ length: BATCH * SIZE.tokens }, (_, i) => 31 * i),
      ),
    },
  },
  ViT: { make: torchVit, beside: 4, inputs: { x: filled("f32", [BATCH, 3, 4, 4 * SIZE.tokens], generator(3), -1, 1) } },
};

function fused(bytes: Uint8Array): Program {
  const log = rewriteLog();
  return fuse(lowerGraph(runPasses(importModel(bytes), { log })), coreCaps, { enabled: true, take: log.take, disable: [] });
}

function run(program: Program, inputs: Readonly<Record<string, Tensor>>): Tensor {
  const bindings = new Map<string, number>();
  const tensors: Tensors = new Map();
  for (const value of program.inputs) {
    bindShape(value.shape, inputs[value.name]!.shape, bindings);
    tensors.set(value, inputs[value.name]!);
  }
  interpret(program.tasks, tensors, bindings, ({ op }) => expect.fail(`${op} runs on the host`));
  return tensors.get(program.outputs[0]!.value)!;
}

const forms: readonly NetworkOptions[] = [{ batch: BATCH }, { batch: "N" }, { batch: "N", layerNorm: "primitives" }];
const cases = Object.entries(MODELS).flatMap(([name, model]) => forms.map((options) => ({ name, model, options })));

it.for(cases)("$name, $options", { timeout: 120_000 }, async ({ model: { make, beside, inputs }, options }) => {
  const bytes = make(SIZE, options);
  const program = fused(bytes);
  const kinds = program.tasks.map(({ kind }) => kind);
  expect(kinds.filter((kind) => kind === "attention")).toHaveLength(SIZE.layers);
  expect(kinds).toHaveLength(7 * SIZE.layers + beside);
  const { y } = await runOnnxRuntime(bytes, inputs);
  const { ok, ...deviation } = deviationOf(run(program, inputs), y!);
  if (!ok) expect.fail(JSON.stringify(deviation));
});
