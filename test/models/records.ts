// The labelled records of ../shared/data, and what ONNX Runtime predicted for them.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { SHARED } from "./networks.ts";

const read = (name: string): Buffer => readFileSync(join(SHARED, "data", name));
const unpack = (name: string): Uint8Array => gunzipSync(read(name));

/** Pictures of one data set, channels first, 0…255. */
export interface Records {
  readonly count: number;
  /** Of one picture. */
  readonly shape: readonly [channels: number, height: number, width: number];
  readonly picture: (at: number) => Uint8Array;
}

/** The MNIST test set: http://yann.lecun.com/exdb/mnist/ */
export function readMnist(): Records {
  const bytes = unpack("t10k-images-idx3-ubyte.gz");
  return { count: 10_000, shape: [1, 28, 28], picture: (at) => bytes.subarray(16 + at * 784, 16 + (at + 1) * 784) };
}

/** Records of a label and 3072 bytes: https://www.cs.toronto.edu/~kriz/cifar.html */
export function readCifar(): Records {
  const bytes = unpack("cifar10_test_1000.bin.gz");
  return { count: 1000, shape: [3, 32, 32], picture: (at) => bytes.subarray(at * 3073 + 1, (at + 1) * 3073) };
}

/** Pictures of ImageNet, stored as RGB triples. */
export function readImagenet(): Records {
  const bytes = unpack("imagenet_100_rgb224.bin.gz");
  const area = 224 * 224;
  const picture = (at: number): Uint8Array =>
    Uint8Array.from({ length: 3 * area }, (_, i) => bytes[(at * area + (i % area)) * 3 + Math.floor(i / area)]!);
  return { count: 100, shape: [3, 224, 224], picture };
}

/** Predictions by model, where they are stored: a class a record. */
export function readPredictions(model: string): readonly number[] | undefined {
  const stored = JSON.parse(read("expected.json").toString()) as Record<string, { pred?: string | readonly number[] }>;
  const { pred } = stored[model] ?? {};
  return typeof pred === "string" ? Array.from(pred, Number) : pred;
}
