// Kiln predicts what ONNX Runtime predicts, for every record of ../shared/data. Skipped where these are not there.

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Device } from "../../src/gpu/device.ts";
import { allocate, numbersOf, sizeOf, type Tensor, writer } from "../../src/ir/tensor.ts";
import type { DType } from "../../src/ir/types.ts";
import { realDevice } from "../gpu/open.ts";
import { isThere, modelBytes, type Network, openEngine, openReference } from "./networks.ts";
import { type Records, readCifar, readImagenet, readMnist, readPredictions } from "./records.ts";

interface Classifier {
  readonly model: string;
  readonly records: () => Records;
  readonly input: string;
  readonly dtype?: DType;
  /** Records a run; more than 1 where the model's batch is free. */
  readonly batch?: number;
  /** An element of a picture as the network takes it. */
  readonly prepare: (value: number, channel: number) => number;
  readonly bgr?: boolean;
}

const normalized =
  (mean: readonly number[], deviation: readonly number[]) =>
  (value: number, channel: number): number =>
    (value / 255 - mean[channel]!) / deviation[channel]!;

const imagenet = {
  records: readImagenet,
  input: "data_0",
  bgr: true,
  prepare: (value: number, channel: number): number => value - [103.94, 116.78, 123.68][channel]!,
};
const CIFAR_MEAN = [0.4914, 0.4822, 0.4465];

const CLASSIFIERS: readonly Classifier[] = [
  { model: "mnist-cntk/mnist.onnx", records: readMnist, input: "Input3", prepare: (value) => value },
  { model: "mnist-burn/mnist.onnx", records: readMnist, input: "input.1", prepare: normalized([0.1307], [0.3081]) },
  {
    model: "cifar10-resnet/resnet_2b.onnx",
    records: readCifar,
    input: "input.1",
    prepare: normalized(CIFAR_MEAN, [0.2471, 0.2435, 0.2616]),
  },
  {
    model: "cifar10-vit/pgd_2_3_16.onnx",
    records: readCifar,
    input: "input",
    batch: 100,
    prepare: normalized(CIFAR_MEAN, [0.2023, 0.1994, 0.201]),
  },
  { model: "squeezenet-fp16/squeezenet_fp32_opset13.onnx", ...imagenet },
  { model: "squeezenet-fp16/SqueezeNet_fp16.onnx", ...imagenet, dtype: "f16" },
  { model: "squeezenet-fp16/squeezenet_int8_qdq.onnx", ...imagenet },
];

/** Records `from` and following as one batch. */
function batchOf({ dtype = "f32", batch = 1, prepare, bgr }: Classifier, { shape, picture }: Records, from: number): Tensor {
  const [channels, height, width] = shape;
  const area = height * width;
  const tensor: Tensor = { dtype, shape: [batch, ...shape], data: allocate(dtype, batch * sizeOf(shape)) };
  const write = writer(tensor);
  for (let n = 0, at = 0; n < batch; n++) {
    const bytes = picture(from + n);
    for (let c = 0; c < channels; c++) {
      const source = (bgr ? channels - 1 - c : c) * area;
      for (let i = 0; i < area; i++) write(at++, prepare(bytes[source + i]!, c));
    }
  }
  return tensor;
}

const largest = (values: readonly number[]): number => values.reduce((best, value, i) => (value > values[best]! ? i : best), 0);

/** The class with the largest score, of each record in a batch. */
function classesOf(outputs: Readonly<Record<string, Tensor>>, batch: number): number[] {
  const scores = Array.from(numbersOf(Object.values(outputs)[0]!));
  const classes = scores.length / batch;
  return Array.from({ length: batch }, (_, n) => largest(scores.slice(n * classes, (n + 1) * classes)));
}

async function predict(classifier: Classifier, records: Records, network: Network): Promise<number[]> {
  const { batch = 1, input } = classifier;
  const classes: number[] = [];
  for (let from = 0; from < records.count; from += batch) {
    classes.push(...classesOf(await network.run({ [input]: batchOf(classifier, records, from) }), batch));
  }
  await network.close();
  return classes;
}

let device: Device | undefined;
beforeAll(async () => {
  device = isThere ? await realDevice() : undefined;
});
afterAll(() => device?.destroy());

describe.skipIf(!isThere)("every record is predicted as by ONNX Runtime", () => {
  it.for(CLASSIFIERS)("$model", { timeout: 240_000 }, async (classifier, { skip }) => {
    if (!device) return skip("no GPU adapter");
    const records = classifier.records();
    const bytes = modelBytes(classifier.model);
    const expected =
      readPredictions(classifier.model) ?? (await predict(classifier, records, await openReference(bytes, true)));
    const actual = await predict(classifier, records, await openEngine(device, bytes));
    const different = actual.flatMap((found, i) =>
      found === expected[i] ? [] : [`record ${i}: ${found}, not ${expected[i]}`],
    );
    expect(different).toEqual([]);
    expect(actual.length).toBe(records.count);
  });
});

if (!isThere) it.skip(`${CLASSIFIERS.length} classifiers over 22300 pictures: ../shared is not there`, () => {});
