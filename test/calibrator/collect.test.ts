// Collecting histograms on the device: the GPU's counts are those of the host, bit for bit, whatever the batches; the state
// can be put away; what cannot be calibrated is refused.

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Builder } from "../../src/builder.ts";
import { Collection, type Sample } from "../../src/calibrator/collect.ts";
import { Histogram } from "../../src/calibrator/histogram.ts";
import type { Int8Options } from "../../src/calibrator/quantize.ts";
import type { Device } from "../../src/gpu/device.ts";
import { scalarTensor, type Tensor, tensor } from "../../src/ir/tensor.ts";
import { realDevice, rejection } from "../gpu/open.ts";
import { model } from "../support/onnx-model.ts";
import { filled, generator } from "../support/random.ts";
import { normals } from "./histograms.ts";

// With WebGPU's core limits, which are the narrowest, and with workgroup memory that is as the last kernel left it.
let device: Device | undefined;
beforeAll(async () => {
  device = await realDevice({ portable: true, toggles: "fast" });
});
afterAll(() => device?.destroy());

const onDevice = (name: string, body: (device: Device) => Promise<void>): void =>
  it(name, async (task) => {
    if (!device) return task.skip("no GPU adapter");
    await body(device);
    device.check();
  });

/** r = relu(x) is read by a convolution: x is not quantized, r is. */
const network = (shape: readonly (number | string)[] = ["N", 2, 7, 9]): Uint8Array =>
  model({
    opset: 13,
    inputs: { x: { dtype: "f32", shape } },
    initializers: { w: filled("f32", [3, 2, 3, 3], generator(1)) },
    outputs: ["y"],
    nodes: [
      { op: "Relu", inputs: ["x"], outputs: ["r"] },
      { op: "Conv", inputs: ["r", "w"], outputs: ["y"] },
    ],
  });

const batch = (values: (i: number) => number, n = 2): Tensor =>
  tensor(
    "f32",
    [n, 2, 7, 9],
    Array.from({ length: n * 126 }, (_, i) => values(i)),
  );
const relu = ({ data }: Tensor): Float32Array => (data as Float32Array).map((value) => Math.max(0, value));

async function collect(
  device: Device,
  samples: Iterable<Sample> | AsyncIterable<Sample>,
  more: Partial<Int8Options> = {},
): Promise<{ state: string; cache: string }> {
  let [state, cache] = ["", ""];
  const engine = await new Builder(device).build(network(), {
    optimizationLevel: 0,
    int8: {
      calibration: samples,
      onState: (serialize) => {
        state = serialize();
      },
      onReport: (report) => {
        cache = report.cache;
      },
      ...more,
    },
  });
  engine.dispose();
  return { state, cache };
}

function expected(batches: readonly Tensor[]): Histogram {
  const histogram = new Histogram("r");
  for (const each of batches) histogram.add(relu(each));
  return histogram;
}

interface State {
  readonly values: readonly { readonly name: string }[];
}

const bins = ({ counts, width, peak }: Histogram) => ({ width, peak, counts: [...counts] });

describe("histograms on the device equal the host's", () => {
  const normal = normals(11);
  const exact = (name: string, batches: readonly Tensor[]): void =>
    onDevice(name, async (device) => {
      const { state } = await collect(
        device,
        batches.map((x) => ({ x })),
      );
      const collection = Collection.parse(state, ["r"], "state");
      expect(collection.samples).toBe(batches.length);
      expect(bins(collection.histograms[0]!)).toEqual(bins(expected(batches)));
    });

  exact("normal values", [batch(normal), batch(normal), batch(normal, 5)]);
  exact("batches that exceed the first, up to many windows", [
    batch(normal),
    batch((i) => 1.7 * i),
    batch((i) => i / 100),
    batch(() => 90),
    batch((i) => 3e6 * i),
  ]);
  exact("zeros first, then values", [batch(() => 0), batch(() => -1), batch((i) => i), batch(() => 0)]);
  exact("multiples of the width, and the range's end", [
    batch((i) => i % 129),
    batch((i) => (i % 17) / 16),
    batch(() => 128),
    batch((i) => 128 + (i % 2) / 16),
  ]);
  exact("the smallest and the largest floats", [
    batch((i) => 1e-45 * i),
    batch((i) => 1e-38 * i),
    batch((i) => (i === 77 ? 3.4e38 : 1e30)),
  ]);
});

onDevice("of many values at once too", async (device) => {
  const many = Array.from({ length: 18 }, (_, i) => i);
  const onnx = model({
    opset: 13,
    inputs: { x: { dtype: "f32", shape: ["N", 2, 7, 9] } },
    initializers: {
      w: filled("f32", [1, 2, 1, 1], generator(1)),
      ...Object.fromEntries(many.map((i) => [`c${i}`, scalarTensor("f32", i / 16)])),
    },
    outputs: many.map((i) => `y${i}`),
    nodes: many.flatMap((i) => [
      { op: "Max", inputs: ["x", `c${i}`], outputs: [`m${i}`] },
      { op: "Conv", inputs: [`m${i}`, "w"], outputs: [`y${i}`] },
    ]),
  });
  const batches = [batch(normals(5)), batch(normals(6), 3)];
  let state = "";
  const builder = new Builder(device);
  const int8: Int8Options = {
    calibration: batches.map((x) => ({ x })),
    onState: (serialize) => {
      state = serialize();
    },
  };
  await builder.quantize(onnx, { int8 });
  const names = many.map((i) => `m${i}`);
  const { histograms } = Collection.parse(
    state,
    (JSON.parse(state) as State).values.map(({ name }) => name),
    "state",
  );
  expect(histograms.map(({ name }) => name).sort()).toEqual(names.sort());
  for (const histogram of histograms) {
    const least = Math.fround(Number(histogram.name.slice(1)) / 16);
    const host = new Histogram(histogram.name);
    for (const { data } of batches) host.add((data as Float32Array).map((value) => Math.max(least, value)));
    expect(bins(histogram), histogram.name).toEqual(bins(host));
  }
});

onDevice("streams: a sample is asked for only when the one before was counted", async (device) => {
  const order: string[] = [];
  async function* samples(): AsyncGenerator<Sample> {
    for (let i = 0; i < 4; i++) {
      order.push(`ask ${i}`);
      yield { x: batch(normals(i)) };
    }
  }
  await collect(device, samples(), { onState: (_, done) => order.push(`done ${done}`) });
  expect(order).toEqual([0, 1, 2, 3].flatMap((i) => [`ask ${i}`, `done ${i + 1}`]));
});

onDevice("goes on from a state as if it had not stopped", async (device) => {
  const batches = [1, 2, 3, 4].map((seed) => ({ x: batch(normals(seed)) }));
  const whole = await collect(device, batches);
  const half = await collect(device, batches.slice(0, 2));
  const rest = await collect(device, batches, { state: half.state });
  expect(rest).toEqual(whole);
});

describe("refuses", () => {
  const refuses = (name: string, code: string, samples: Iterable<Sample>, more: Partial<Int8Options> = {}): void =>
    onDevice(name, async (device) => {
      expect((await rejection(collect(device, samples, more))).code).toBe(code);
    });
  refuses("an empty data set", "K702", []);
  refuses("NaN", "K701", [{ x: batch((i) => (i === 99 ? Number.NaN : 1)) }]);
  refuses("infinity", "K701", [{ x: batch(() => 1) }, { x: batch((i) => (i === 99 ? Number.POSITIVE_INFINITY : 1)) }]);
  refuses("a shape that is not the network's", "K604", [{ x: tensor("f32", [1, 2, 7], new Float32Array(14)) }]);
  refuses("a state of another network", "K706", [{ x: batch(() => 1) }], {
    state: '{"kind":"kiln calibration state 1","samples":1,"values":[]}',
  });
  refuses("a cache of another network", "K704", [], { cache: "TRT-1-EntropyCalibration2\nz: 3c010204\n" });
});
