// Calibration from the command line: folders of arrays and of pictures, the cache and state files, and what users get wrong.

import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import sharp from "sharp";
import { beforeAll, describe, expect, it } from "vitest";
import { openDataset } from "../../src/cli/dataset.ts";
import { writeNpy } from "../../src/cli/npy.ts";
import { preprocessOption, toElements } from "../../src/cli/preprocess.ts";
import { importModel } from "../../src/importer/import.ts";
import { numbersOf, tensor } from "../../src/ir/tensor.ts";
import { KilnError } from "../../src/util/errors.ts";
import { useKiln } from "../cli/kiln.ts";
import { realDevice } from "../gpu/open.ts";
import { model } from "../support/onnx-model.ts";
import { filled, generator } from "../support/random.ts";

const { dir, kiln, write } = useKiln();
const next = generator(8);
let hasDevice = false;

beforeAll(async () => {
  const device = await realDevice();
  hasDevice = device !== undefined;
  device?.destroy();
  write(
    "net.onnx",
    model({
      opset: 13,
      inputs: { image: { dtype: "f32", shape: [1, 3, 8, 8] } },
      outputs: ["y"],
      initializers: { w: filled("f32", [4, 3, 3, 3], next) },
      nodes: [{ op: "Conv", name: "only", inputs: ["image", "w"], outputs: ["y"] }],
    }),
  );
  for (let i = 0; i < 3; i++) write(`arrays/${i}.npy`, writeNpy(filled("f32", i === 1 ? [3, 8, 8] : [1, 3, 8, 8], next)));
  for (const [i, side] of [8, 20].entries()) {
    const pixels = Uint8Array.from({ length: side * side * 3 }, () => Math.floor(256 * next()));
    const raw = { width: side, height: side, channels: 3 } as const;
    write(`pictures/${i}.png`, await sharp(pixels, { raw }).png().toBuffer());
  }
  write("mixed/0.png", readFileSync(join(dir, "pictures/0.png")));
  write("mixed/0.npy", readFileSync(join(dir, "arrays/0.npy")));
  write("broken/0.jpg", "no picture");
  write("wrong/0.npy", writeNpy(filled("f32", [1, 3, 9, 8], next)));
  write("nan/0.npy", writeNpy(tensor("f32", [1, 3, 8, 8], new Float32Array(192).fill(Number.NaN))));
  write("other.cache", "Kiln-0.1.0-EntropyCalibration2\nelsewhere: 3c010204\n");
  mkdirSync(join(dir, "empty"));
});

const onDevice = (name: string, body: () => Promise<void>): void =>
  it(name, async (task) => {
    if (!hasDevice) return task.skip("no GPU adapter");
    await body();
  });

describe("kiln quantize", () => {
  onDevice("writes explicit Q/DQ, a cache, a state, and says what it did", async () => {
    const files = ["--calibrationCacheFile", "net.cache", "--calibState", "net.state"];
    const { status, stdout, stderr } = await kiln(
      "quantize",
      "net.onnx",
      "-o",
      "q.onnx",
      "--calib",
      "arrays",
      ...files,
      "--quiet",
    );
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    expect(stdout).toMatch(/^q\.onnx: [\d.]+ k?B \(net\.onnx: [\d.]+ k?B\), 1 layer of integers, entropy from 3 samples\n/);
    const graph = importModel(readFileSync(join(dir, "q.onnx")));
    expect(graph.nodes.map(({ op }) => op).sort()).toEqual(["Conv", "DequantizeLinear", "DequantizeLinear", "QuantizeLinear"]);
    expect(readFileSync(join(dir, "net.cache"), "utf8")).toMatch(/^Kiln-[\d.]+-EntropyCalibration2\nimage: [0-9a-f]{8}\n$/);
    expect(existsSync(join(dir, "net.state"))).toBe(true);
    const again = await kiln("quantize", "net.onnx", "-o", "q2.onnx", "--calib", "net.cache", "--quiet");
    expect(again.status).toBe(0);
    expect(readFileSync(join(dir, "q2.onnx"))).toEqual(readFileSync(join(dir, "q.onnx")));
  });

  onDevice("takes pictures, and kiln build takes them as well", async () => {
    const build = ["build", "net.onnx", "-o", "net.engine", "--builderOptimizationLevel", "0", "--quiet"];
    const int8 = ["--int8", "--calib", "pictures", "--preprocess", "scale=0.01,bgr", "--calibrator", "percentile"];
    const { status, stdout, stderr } = await kiln(...build, ...int8, "--int8-sensitivity");
    expect({ status }).toEqual({ status: 0 });
    expect(stdout).toContain("note: int8: 1 layer (percentile:99.99, 2 samples); relative RMS error of the outputs");
    expect(stderr).toMatch(/relative RMS error of the outputs that each layer alone contributes:\nonly +[\d.e-]+\n/);
  });

  const wrong: readonly (readonly [string, readonly string[], number, RegExp])[] = [
    ["no output", ["--calib", "arrays"], 2, /K001 .*-o/],
    ["no data", ["-o", "q.onnx"], 2, /K001 .*--calib/],
    ["a folder that is not there", ["-o", "q.onnx", "--calib", "nowhere"], 2, /K705 .*nowhere: there is no such folder/],
    ["an empty folder", ["-o", "q.onnx", "--calib", "empty"], 2, /K705 .*holds no \.npy file and no picture/],
    ["arrays and pictures together", ["-o", "q.onnx", "--calib", "mixed"], 2, /K705 .*both/],
    ["an array of another shape", ["-o", "q.onnx", "--calib", "wrong"], 2, /K705 .*\[1, 3, 9, 8\].*\[1, 3, 8, 8\]/],
    ["a file that is no picture", ["-o", "q.onnx", "--calib", "broken"], 2, /K705 .*0\.jpg: it cannot be decoded/],
    ["NaN", ["-o", "q.onnx", "--calib", "nan"], 1, /K701 .*"image".*NaN or infinity for sample 0/],
    [
      "another network's cache",
      ["-o", "q.onnx", "--calib", "other.cache"],
      2,
      /K704 [\s\S]*no scale for "image"[\s\S]*"elsewhere"/,
    ],
    ["a calibrator that is none", ["-o", "q.onnx", "--calib", "arrays", "--calibrator", "kl"], 2, /K707 .*"kl"/],
    [
      "preprocessing that is not understood",
      ["-o", "q.onnx", "--calib", "pictures", "--preprocess", "sharpen"],
      2,
      /K001 .*"sharpen"/,
    ],
  ];
  for (const [name, args, expected, text] of wrong) {
    onDevice(`refuses ${name}`, async () => {
      const { status, stderr } = await kiln("quantize", "net.onnx", ...args, "--quiet");
      expect(stderr).toMatch(text);
      expect(stderr).not.toMatch(/\n +at /);
      expect(status).toBe(expected);
    });
  }
});

describe("data sets", () => {
  const input = { name: "image", dtype: "f32", shape: [2, 3, 4, 4] } as const;
  const one = { dtype: "f32", shape: [1] } as const;

  it("batches pictures as the network takes them, scaled to cover its size", async () => {
    const { length, samples } = openDataset(join(dir, "pictures"), [input], preprocessOption("mean=10/20/30,std=2"));
    expect(length).toBe(1);
    for await (const sample of samples) {
      expect(sample.image!.shape).toEqual([2, 3, 4, 4]);
      expect(numbersOf(sample.image!).every((value) => value >= -15 && value <= 122.5)).toBe(true);
    }
  });

  it("reads one folder an input, in the order of numbers in names", async () => {
    for (const i of [10, 9, 1]) {
      write(`two/a/${i}.npy`, writeNpy(tensor("f32", [1], [i])));
      write(`two/b/${i}.npy`, writeNpy(tensor("i64", [1], [2 * i])));
    }
    const inputs = [
      { name: "a", ...one },
      { name: "b", dtype: "i64", shape: ["N"] },
    ] as const;
    const seen: number[][] = [];
    for await (const { a, b } of openDataset(join(dir, "two"), inputs, preprocessOption(""), 2).samples) {
      seen.push([...numbersOf(a!), ...numbersOf(b!)]);
    }
    expect(seen).toEqual([
      [1, 2],
      [9, 18],
    ]);
  });

  it("says what is missing for a network with several inputs", () => {
    const inputs = ["a", "c"].map((name) => ({ name, ...one }));
    expect(() => openDataset(join(dir, "two"), inputs, preprocessOption(""))).toThrow(KilnError);
  });

  it("puts channels where the network has them, in its order", () => {
    const pixels = Uint8Array.of(1, 2, 3, 4, 5, 6);
    const picture = { width: 2, height: 1, channels: 3 } as const;
    const words = preprocessOption("bgr,scale=2,mean=1/2/3,std=1/2/4");
    expect([...toElements(pixels, { ...picture, layout: "nchw" }, preprocessOption(""))]).toEqual([1, 4, 2, 5, 3, 6]);
    expect([...toElements(pixels, { ...picture, layout: "nhwc" }, words)]).toEqual([5, 1, -0.25, 11, 4, 1.25]);
  });
});
