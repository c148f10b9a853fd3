// Networks with labelled data to measure accuracy on. The data is not part of the project: it lies in a folder that the caller
// names, and what is missing there is left out and said so.

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import type { Sample } from "../src/calibrator/collect.ts";
import { openDataset } from "../src/cli/dataset.ts";
import { preprocessOption, toElements } from "../src/cli/preprocess.ts";
import { type Tensor, tensor } from "../src/ir/tensor.ts";

export interface LabelledBatch {
  readonly sample: Sample;
  readonly labels: readonly number[];
}

export interface LabelledNetwork {
  readonly name: string;
  /** Path of the model below the models' folder. */
  readonly model: string;
  readonly records: number;
  /** Batches of about `records` records in all. */
  readonly evaluation: (records: number) => Generator<LabelledBatch>;
  readonly calibration: (records: number) => AsyncIterable<Sample>;
}

interface Source {
  readonly name: string;
  readonly model: string;
  readonly needs: readonly string[];
  readonly open: (data: string) => Omit<LabelledNetwork, "name" | "model">;
}

/** Records of a fixed size as one input, `batch` at a time. */
function packed(
  count: number,
  labels: ArrayLike<number>,
  input: string,
  shape: readonly number[],
  batch: number,
  record: (i: number) => Float32Array,
): Omit<LabelledNetwork, "name" | "model"> {
  const size = shape.reduce((a, b) => a * b, 1);
  const batchAt = (from: number, to: number): Tensor => {
    const all = new Float32Array((to - from) * size);
    for (let i = from; i < to; i++) all.set(record(i), (i - from) * size);
    return tensor("f32", [to - from, ...shape], all);
  };
  function* batches(records: number): Generator<LabelledBatch> {
    for (let from = 0; from + batch <= Math.min(count, records); from += batch) {
      yield {
        sample: { [input]: batchAt(from, from + batch) },
        labels: Array.from({ length: batch }, (_, i) => labels[from + i]!),
      };
    }
  }
  return {
    records: count,
    evaluation: batches,
    async *calibration(records) {
      for (const { sample } of batches(records)) yield sample;
    },
  };
}

const cifar =
  (file: string, input: string, mean: readonly number[], std: readonly number[], batch: number) => (data: string) => {
    const bytes = gunzipSync(readFileSync(join(data, file)));
    const record = (i: number): Float32Array =>
      Float32Array.from(bytes.subarray(i * 3073 + 1, (i + 1) * 3073), (v, at) => (v / 255 - mean[at >> 10]!) / std[at >> 10]!);
    const labels = Array.from({ length: bytes.length / 3073 }, (_, i) => bytes[i * 3073]!);
    return packed(labels.length, labels, input, [3, 32, 32], batch, record);
  };

const mnist = (input: string, change: (v: number) => number) => (data: string) => {
  const images = gunzipSync(readFileSync(join(data, "t10k-images-idx3-ubyte.gz"))).subarray(16);
  const labels = gunzipSync(readFileSync(join(data, "t10k-labels-idx1-ubyte.gz"))).subarray(8);
  return packed(labels.length, labels, input, [1, 28, 28], 1, (i) =>
    Float32Array.from(images.subarray(i * 784, (i + 1) * 784), change),
  );
};

const imagenet = (input: string) => (data: string) => {
  const preprocess = preprocessOption("bgr,mean=103.94/116.78/123.68");
  const bytes = gunzipSync(readFileSync(join(data, "imagenet_100_rgb224.bin.gz")));
  const { labels } = JSON.parse(readFileSync(join(data, "imagenet_100_labels.json"), "utf8")) as { labels: number[] };
  const size = 224 * 224 * 3;
  const picture = { width: 224, height: 224, channels: 3, layout: "nchw" } as const;
  const test = packed(labels.length, labels, input, [3, 224, 224], 1, (i) =>
    toElements(bytes.subarray(i * size, (i + 1) * size), picture, preprocess),
  );
  return {
    ...test,
    calibration: (records: number) =>
      openDataset(
        join(data, "imagenet_calibration"),
        [{ name: input, dtype: "f32", shape: [1, 3, 224, 224] }],
        preprocess,
        records,
      ).samples,
  };
};

const SOURCES: readonly Source[] = [
  {
    name: "squeezenet",
    model: "squeezenet-fp16/squeezenet_fp32_opset13.onnx",
    needs: ["imagenet_100_rgb224.bin.gz", "imagenet_100_labels.json", "imagenet_calibration"],
    open: imagenet("data_0"),
  },
  {
    name: "resnet_2b",
    model: "cifar10-resnet/resnet_2b.onnx",
    needs: ["cifar10_test_1000.bin.gz"],
    open: cifar("cifar10_test_1000.bin.gz", "input.1", [0.4914, 0.4822, 0.4465], [0.2471, 0.2435, 0.2616], 1),
  },
  {
    name: "vit",
    model: "cifar10-vit/pgd_2_3_16.onnx",
    needs: ["cifar10_test_1000.bin.gz"],
    open: cifar("cifar10_test_1000.bin.gz", "input", [0.4914, 0.4822, 0.4465], [0.2023, 0.1994, 0.201], 50),
  },
  {
    name: "mnist-cntk",
    model: "mnist-cntk/mnist.onnx",
    needs: ["t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"],
    open: mnist("Input3", (v) => v),
  },
  {
    name: "mnist-burn",
    model: "mnist-burn/mnist.onnx",
    needs: ["t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"],
    open: mnist("input.1", (v) => (v / 255 - 0.1307) / 0.3081),
  },
];

/** The networks whose model and data are in `shared`; `missing` hears of the others. */
export function labelledNetworks(shared: string, missing: (name: string, what: string) => void): LabelledNetwork[] {
  return SOURCES.flatMap(({ name, model, needs, open }) => {
    const absent = [join("models", model), ...needs.map((file) => join("data", file))].filter(
      (file) => !existsSync(join(shared, file)),
    );
    if (absent.length > 0) {
      missing(name, absent.join(", "));
      return [];
    }
    return [{ name, model: join(shared, "models", model), ...open(join(shared, "data")) }];
  });
}
