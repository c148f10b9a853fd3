// The same script with "kiln" and with onnxruntime-web's "wasm" on real models of ../shared: the same outputs.

import { join } from "node:path";
import * as ort from "onnxruntime-web";
import { describe, expect, it } from "vitest";
import { deviationOf } from "../../src/cli/compare.ts";
import { randomTensor } from "../../src/cli/random.ts";
import type { Tensor } from "../../src/ir/tensor.ts";
import { register } from "../../src/ort-node.ts";
import { realDevice } from "../gpu/open.ts";
import { isThere, SHARED } from "../models/networks.ts";

const device = await realDevice();
device?.destroy();
if (!isThere) console.log("skipped: 5 models, ../shared is not there");
else if (!device) console.log("skipped: 5 models, this machine has no GPU adapter");
register(ort);

type Outputs = Readonly<Record<string, ort.Tensor>>;
/** What a caller does with a session: all outputs of all its runs. */
type Script = (session: ort.InferenceSession) => Promise<readonly Outputs[]>;

const random = (shape: readonly number[], seed: number): ort.Tensor =>
  new ort.Tensor("float32", randomTensor("f32", shape, seed).data as Float32Array, shape);

/** A run for each shape of the only input, filled with -1…1. */
const runsOf =
  (...shapes: readonly (readonly number[])[]): Script =>
  async (session) => {
    const outputs: Outputs[] = [];
    for (const [seed, shape] of shapes.entries())
      outputs.push(await session.run({ [session.inputNames[0]!]: random(shape, seed) }));
    return outputs;
  };

/** Greedy decoding as transformers.js does it: the cache goes from one run's outputs into the next one's inputs. */
const tell =
  (prompt: readonly number[], steps: number): Script =>
  async (session) => {
    const outputs: Outputs[] = [];
    const pasts = session.inputNames.filter((name) => name.startsWith("past_"));
    let cache: Outputs = Object.fromEntries(pasts.map((name) => [name, new ort.Tensor("float32", [], [1, 4, 0, 8])]));
    let ids = prompt;
    for (let step = 0; step < steps; step++) {
      const result = await session.run({
        input_ids: new ort.Tensor("int64", ids.map(BigInt), [1, ids.length]),
        ...cache,
      });
      outputs.push(result);
      const { data, dims } = result.logits!;
      const last = (data as Float32Array).subarray(-dims.at(-1)!);
      ids = [last.indexOf(Math.max(...last))];
      cache = Object.fromEntries(pasts.map((name) => [name, result[name.replace("past_", "present_")]!]));
    }
    return outputs;
  };

const MODELS: Readonly<Record<string, Script>> = {
  "mnist-cntk/mnist.onnx": runsOf([1, 1, 28, 28]),
  "squeezenet-fp16/squeezenet_fp32_opset13.onnx": runsOf([1, 3, 224, 224]),
  "super-resolution/pytorch_super_resolution.onnx": runsOf([1, 1, 224, 224], [2, 1, 224, 224]),
  "cifar10-resnet/resnet_2b.onnx": runsOf([1, 3, 32, 32]),
  "stories260k/stories260k_kvcache_dynamic.onnx": tell([1, 403, 407], 6),
};

const asKiln = ({ type, dims, data }: ort.Tensor): Tensor => {
  expect(type).toBe("float32");
  return { dtype: "f32", shape: dims, data: data as Float32Array };
};

async function runScript(provider: string, model: string, script: Script): Promise<readonly Outputs[]> {
  const session = await ort.InferenceSession.create(join(SHARED, "models", model), { executionProviders: [provider] });
  const outputs = await script(session);
  await session.release();
  return outputs;
}

describe.skipIf(!isThere || !device)("the same script gives the same with kiln and wasm", () => {
  it.for(Object.entries(MODELS))("%s", { timeout: 180_000 }, async ([model, script]) => {
    const expected = await runScript("wasm", model, script);
    const actual = await runScript("kiln", model, script);
    expect(actual.length).toBe(expected.length);
    for (const [run, outputs] of expected.entries()) {
      expect(Object.keys(actual[run]!)).toEqual(Object.keys(outputs));
      for (const [name, reference] of Object.entries(outputs)) {
        const { ok, ...deviation } = deviationOf(asKiln(actual[run]![name]!), asKiln(reference));
        if (!ok) expect.fail(`run ${run}: output "${name}" differs: ${JSON.stringify(deviation)}`);
      }
    }
  });
});
