// Engines that arrive in pieces, without their weights, for other devices; and what is said of those that arrive damaged.

import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { TimingCache } from "../../src/autotuner/cache.ts";
import { Builder } from "../../src/builder.ts";
import { Engine } from "../../src/engine/engine.ts";
import { checkDevice, readManifest, serialize, wholeHeader } from "../../src/engine/format.ts";
import type { Device } from "../../src/gpu/device.ts";
import { numbersOf, type Tensor, tensor } from "../../src/ir/tensor.ts";
import { Runtime } from "../../src/runtime.ts";
import { digestOf } from "../../src/util/digest.ts";
import { nullDevice, realDevice, rejection } from "../gpu/open.ts";
import { model } from "../support/onnx-model.ts";
import { runOnnxRuntime } from "../support/onnxruntime.ts";
import { doubling, someWeights } from "./plans.ts";

const digest = await digestOf(someWeights());
let device: Device;
let real: Device | undefined;
beforeAll(async () => {
  [device, real] = await Promise.all([nullDevice(), realDevice()]);
});
afterAll(() => {
  device.destroy();
  real?.destroy();
});

const inPieces = (bytes: Uint8Array, cuts: readonly number[]): ReadableStream<Uint8Array> => {
  const at = [0, ...[...cuts].sort((a, b) => a - b), bytes.length];
  const pieces = at.slice(1).map((to, i) => bytes.slice(at[i], to));
  return new ReadableStream({
    async pull(controller) {
      await new Promise((resolve) => setTimeout(resolve));
      const next = pieces.shift();
      if (next) controller.enqueue(next);
      else controller.close();
    },
  });
};

describe("loading from a stream", () => {
  const whole = (): Uint8Array<ArrayBuffer> => serialize(doubling(), someWeights(), digest, device.fingerprint);

  it("gives the same engine however the bytes are cut, and tells how far it is", async () => {
    const file = whole();
    const runtime = new Runtime(device);
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat(file.length), { maxLength: 12 }), async (cuts) => {
        const told: number[] = [];
        const engine = await runtime.load(inPieces(file, cuts), {
          onProgress: ({ loaded, total }) => {
            expect(total).toBe(file.length);
            told.push(loaded);
          },
        });
        expect(engine.serialize()).toEqual(file);
        expect(told.at(-1)).toBe(file.length);
        expect([...told].sort((a, b) => a - b)).toEqual(told);
        engine.dispose();
      }),
      { numRuns: 30 },
    );
  });

  it("refuses what deserialize refuses, in the same words", async () => {
    const file = whole();
    const runtime = new Runtime(device);
    const damaged = fc.oneof(
      fc.record({ cut: fc.nat(file.length - 1) }).map(({ cut }) => file.slice(0, cut)),
      fc.record({ at: fc.nat(file.length - 1), bit: fc.nat(7) }).map(({ at, bit }) => {
        const copy = file.slice();
        copy[at]! ^= 1 << bit;
        return copy;
      }),
      fc.uint8Array({ maxLength: 200 }),
    );
    await fc.assert(
      fc.asyncProperty(damaged, fc.array(fc.nat(file.length), { maxLength: 4 }), async (bytes, cuts) => {
        const parsed = await rejection(runtime.deserialize(bytes, "net.engine"));
        const streamed = await rejection(runtime.load(inPieces(bytes, cuts), { file: "net.engine" }));
        // A length that is wrong shows as a cut or as damage, whichever the bytes come to first.
        const codes = ["K502", "K503"].includes(parsed.code) ? ["K502", "K503"] : [parsed.code];
        expect(codes, parsed.message).toContain(streamed.code);
        expect(streamed.hint).toBeTruthy();
      }),
      { numRuns: 60 },
    );
    await device.queue.onSubmittedWorkDone();
    device.check();
  });

  it("fetches from an address, or says why not", async () => {
    const file = whole();
    const server = createServer((request, response) => {
      if (request.url !== "/net.engine") response.writeHead(404, "Not Here").end();
      else response.end(file);
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const at = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const runtime = new Runtime(device);
    const engine = await runtime.load(`${at}/net.engine`);
    expect(engine.serialize()).toEqual(file);
    engine.dispose();
    expect((await rejection(runtime.load(new URL(`${at}/other`)))).format()).toContain(
      `K509 cannot-fetch  ${at}/other: the engine could not be fetched\n  the server said 404 Not Here`,
    );
    await new Promise((resolve) => server.close(resolve));
    expect((await rejection(runtime.load(`${at}/net.engine`))).why).toContain("ECONNREFUSED");
  });
});

describe("a stripped engine", () => {
  it("is the engine once its weights are with it again, and refuses others", async () => {
    const engine = await Engine.load(device, doubling(), someWeights(), () => undefined);
    const bytes = engine.serialize({ weights: false });
    expect(bytes.length).toBeLessThan(engine.serialize().length - 512);
    const runtime = new Runtime(device);
    const { weights } = engine;
    for (const again of [
      await runtime.deserialize(bytes, { weights }),
      await runtime.load(inPieces(bytes, [100]), { weights }),
    ]) {
      expect(again.serialize()).toEqual(engine.serialize());
      again.dispose();
    }
    const other = weights.slice();
    other[3]! ^= 1;
    for (const [given, words] of [
      [{}, "K507 wrong-weights  net.engine: its weights lie elsewhere, and were not given"],
      [{ weights: weights.subarray(4) }, "it needs 600 bytes of weights, 596 were given"],
      [{ weights: other }, "the weights given are those of another engine"],
    ] as const) {
      const options = { file: "net.engine", ...given };
      expect((await rejection(runtime.deserialize(bytes, options))).message).toContain(words);
      expect((await rejection(runtime.load(inPieces(bytes, []), options))).message).toContain(words);
    }
    engine.dispose();
  });
});

describe("engines for other devices", () => {
  const wave = (shape: readonly number[]): Tensor =>
    tensor(
      "f32",
      shape,
      Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => Math.sin(i * 0.7)),
    );
  const classifier = model({
    opset: 17,
    inputs: { x: { dtype: "f32", shape: [3, 20] } },
    outputs: ["y"],
    nodes: [
      { op: "MatMul", inputs: ["x", "w"], outputs: ["m"], name: "/fc" },
      { op: "Softmax", inputs: ["m"], outputs: ["y"], name: "/softmax", attributes: { axis: -1 } },
    ],
    initializers: { w: wave([20, 7]) },
  });

  it("portable ones keep to WebGPU's core and load anywhere", async (task) => {
    if (!real) return task.skip("no GPU adapter");
    const built = await new Builder(real).build(classifier, {
      hardwareCompatibility: "portable",
      fp16: true,
      optimizationLevel: 0,
    });
    expect(built.plan.notes.join()).toContain("no f16");
    const bytes = built.serialize();
    const { fingerprint } = readManifest(bytes, wholeHeader(bytes, "portable"), "portable");
    expect(checkDevice(fingerprint, { ...device.fingerprint, vendor: "other", device: "Z80" })).toEqual([]);
    const small = (await realDevice({ portable: true }))!;
    for (const there of [real, small]) {
      const engine = await new Runtime(there).deserialize(bytes);
      const { y } = await engine.createExecutionContext().execute({ x: wave([3, 20]) });
      const expected = (await runOnnxRuntime(classifier, { x: wave([3, 20]) })).y!;
      numbersOf(expected).forEach((value, i) => expect(numbersOf(y!)[i]).toBeCloseTo(value, 5));
      expect(engine.serialize()).toEqual(bytes);
      engine.dispose();
    }
    built.dispose();
    small.destroy();
    real.check();
  });

  it("of a device that is not here are built from its timing cache or by the cost model, and it is said", async () => {
    const timingCache = new TimingCache();
    const here = await new Builder(device).build(classifier, { timingCache, optimizationLevel: 1 });
    expect(timingCache.size).toBeGreaterThan(1);
    const other = await nullDevice({ portable: true });
    const elsewhere = new Builder(other);
    const target = { caps: device.caps, fingerprint: device.fingerprint };
    const cached = await elsewhere.buildFor(target, classifier, { timingCache, optimizationLevel: 1 });
    const header = wholeHeader(cached.file, "cached");
    const same = readManifest(cached.file, header, "cached");
    expect(cached.plan.notes).toEqual(["built for null-backend, which was not there: kernels chosen by its timing cache"]);
    expect({ ...same.plan, notes: [] }).toEqual({ ...here.plan, notes: [] });
    expect(cached.file.subarray(header.weightsAt)).toEqual(here.weights);
    const guessed = await elsewhere.buildFor(target, classifier, {});
    expect(guessed.plan.notes.at(-1)).toContain("chosen by the cost model");
    const partly = await elsewhere.buildFor(target, classifier, { timingCache: new TimingCache(), optimizationLevel: 1 });
    expect(partly.plan.notes.at(-1)).toMatch(/by its timing cache, \d of them by the cost model/);
    expect((await rejection(new Runtime(other).deserialize(cached.file))).code).toBe("K505");
    const engine = await new Runtime(device).deserialize(cached.file);
    expect(engine.outputs.map(({ shape }) => shape)).toEqual([["3", "7"]]);
    engine.dispose();
    here.dispose();
    other.destroy();
    device.check();
  });
});
