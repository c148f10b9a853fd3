// Images as inputs against a plain computation in doubles: every fit, channel order, layout and element type, random sizes.

import fc from "fast-check";
import { vec2 } from "gl-matrix";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Engine } from "../../src/engine/engine.ts";
import { type ImageOptions, image, type Pixels } from "../../src/engine/image.ts";
import type { PlanBuffer } from "../../src/engine/plan.ts";
import type { Device } from "../../src/gpu/device.ts";
import { numbersOf } from "../../src/ir/tensor.ts";
import { realDevice, rejection } from "../gpu/open.ts";
import { buffer, makePlan } from "./plans.ts";

let device: Device | undefined;
beforeAll(async () => {
  device = await realDevice({ portable: true });
});
afterAll(() => device?.destroy());

/** An engine that gives back its input. */
const echo = async (shape: readonly string[], dtype: "f32" | "f16" | "u8"): Promise<Engine> => {
  const half: Partial<PlanBuffer> = {
    storage: { item: "f16", lanes: 1 },
    bytes: `(${shape.map((dim) => `(${dim})`).join("*")}+1)/2*4`,
  };
  const end = (name: string, home: "input" | "output"): PlanBuffer =>
    dtype === "f16" ? { ...buffer(name, shape, home), dtype, ...half } : buffer(name, shape, home, dtype);
  const plan = makePlan([end("x", "input"), end("y", "output")], [], [{ kind: "copy", from: 0, to: 1 }]);
  return Engine.load(device!, plan, new Uint8Array(0), () => undefined);
};

interface Case {
  readonly picture: Pixels & { readonly bytes: number };
  readonly width: number;
  readonly height: number;
  readonly options: ImageOptions & { readonly region: NonNullable<ImageOptions["region"]> };
}

/** The expected input, [height][width][channel], and where the image lies: written from the options' words, not from the code. */
function reference({ picture, width, height, options }: Case): number[][][] {
  const { region, fit = "stretch", align = "center", channels = "rgb", scale = 1 / 255, mean = 0, std = 1 } = options;
  let [shownWidth, shownHeight, left, top] = [width, height, 0, 0];
  if (fit !== "stretch") {
    const ratios = [width / region.width, height / region.height] as const;
    const zoom = fit === "letterbox" ? Math.min(...ratios) : Math.max(...ratios);
    [shownWidth, shownHeight] = [region.width * zoom, region.height * zoom];
    if (fit === "letterbox")
      [shownWidth, shownHeight] = [Math.max(1, Math.round(shownWidth)), Math.max(1, Math.round(shownHeight))];
    if (align === "center") [left, top] = [(width - shownWidth) / 2, (height - shownHeight) / 2];
    if (fit === "letterbox") [left, top] = [Math.floor(left), Math.floor(top)];
  }
  const at = (x: number, y: number, channel: number): number => {
    const cx = Math.min(Math.max(x, 0), region.width - 1) + region.x;
    const cy = Math.min(Math.max(y, 0), region.height - 1) + region.y;
    return picture.data[(cy * picture.width + cx) * picture.bytes + (picture.bytes === 1 ? 0 : channel)]!;
  };
  const colorAt = (x: number, y: number): number[] => {
    const u = ((x + 0.5 - left) / shownWidth) * region.width;
    const v = ((y + 0.5 - top) / shownHeight) * region.height;
    const inside = x >= left && y >= top && x < left + shownWidth && y < top + shownHeight;
    return [0, 1, 2].map((channel) => {
      if (fit === "letterbox" && !inside) return (options.fill ?? [0, 0, 0])[channel]!;
      const [fx, fy] = [Math.floor(u - 0.5), Math.floor(v - 0.5)];
      const [tx, ty] = [u - 0.5 - fx, v - 0.5 - fy];
      const upper = at(fx, fy, channel) * (1 - tx) + at(fx + 1, fy, channel) * tx;
      const lower = at(fx, fy + 1, channel) * (1 - tx) + at(fx + 1, fy + 1, channel) * tx;
      return upper * (1 - ty) + lower * ty;
    });
  };
  const of = (value: number | readonly number[], channel: number): number =>
    typeof value === "number" ? value : value[channel]!;
  return Array.from({ length: height }, (_, y) =>
    Array.from({ length: width }, (_, x) => {
      const [r, g, b] = colorAt(x, y) as [number, number, number];
      const mixed = channels === "rgb" ? [r, g, b] : channels === "bgr" ? [b, g, r] : [0.299 * r + 0.587 * g + 0.114 * b];
      return mixed.map((value, channel) => (value * scale - of(mean, channel)) / of(std, channel));
    }),
  );
}

const cases = fc
  .record({
    imageWidth: fc.integer({ min: 1, max: 40 }),
    imageHeight: fc.integer({ min: 1, max: 40 }),
    bytes: fc.constantFrom(1, 3, 4),
    width: fc.integer({ min: 1, max: 33 }),
    height: fc.integer({ min: 1, max: 33 }),
    cut: fc.tuple(fc.double({ min: 0, max: 0.9, noNaN: true }), fc.double({ min: 0, max: 0.9, noNaN: true })),
    fit: fc.constantFrom("stretch", "letterbox", "crop") as fc.Arbitrary<NonNullable<ImageOptions["fit"]>>,
    align: fc.constantFrom("center", "start") as fc.Arbitrary<NonNullable<ImageOptions["align"]>>,
    channels: fc.constantFrom("rgb", "bgr", "grey") as fc.Arbitrary<NonNullable<ImageOptions["channels"]>>,
    layout: fc.constantFrom("nchw", "nhwc") as fc.Arbitrary<NonNullable<ImageOptions["layout"]>>,
    dtype: fc.constantFrom("f32", "f16", "u8") as fc.Arbitrary<"f32" | "f16" | "u8">,
    normalized: fc.boolean(),
    seed: fc.nat(),
  })
  .map(({ imageWidth, imageHeight, bytes, cut, width, height, normalized, seed, dtype, layout, ...rest }) => {
    const data = Uint8Array.from(
      { length: imageWidth * imageHeight * bytes },
      (_, i) => Math.imul(i + seed, 2654435761) >>> 24,
    );
    const [x, y] = [Math.floor(cut[0] * imageWidth), Math.floor(cut[1] * imageHeight)];
    const region = { x, y, width: Math.max(1, imageWidth - 2 * x), height: Math.max(1, imageHeight - 2 * y) };
    const count = rest.channels === "grey" ? 1 : 3;
    const norms = {
      mean: dtype === "u8" ? 0 : [0.485, 0.456, 0.406].slice(0, count),
      std: dtype === "u8" ? 1 : [0.229, 0.224, 0.225].slice(0, count),
    };
    const options = {
      ...rest,
      layout,
      region,
      fill: [114, 20, 255] as const,
      ...(dtype === "u8" ? { scale: 1 } : {}),
      ...(normalized ? norms : {}),
    };
    return { dtype, layout, count, picture: { data, width: imageWidth, height: imageHeight, bytes }, width, height, options };
  });

describe("image", () => {
  it("fits, mixes, scales and lays out as a plain computation does", async (task) => {
    if (!device) return task.skip("no GPU adapter");
    await fc.assert(
      fc.asyncProperty(cases, async ({ dtype, layout, count, ...one }) => {
        const { width, height } = one;
        const shape = (layout === "nchw" ? [1, count, height, width] : [1, height, width, count]).map(String);
        const engine = await echo(shape, dtype);
        const source = image(one.picture, one.options);
        const { y } = await engine.createExecutionContext().execute({ x: source });
        const expected = reference(one);
        const actual = numbersOf(y!);
        const tolerance = dtype === "u8" ? 0.51 : dtype === "f16" ? 4e-3 : 2e-4 * (one.options.scale === undefined ? 1 : 255);
        for (let row = 0; row < height; row++)
          for (let column = 0; column < width; column++)
            for (let c = 0; c < count; c++) {
              const at = layout === "nchw" ? (c * height + row) * width + column : (row * width + column) * count + c;
              const want = expected[row]![column]![c]!;
              if (Math.abs(actual[at]! - want) > tolerance)
                throw new Error(`row ${row}, column ${column}, channel ${c}: ${actual[at]}, expected ${want}`);
            }
        engine.dispose();
      }),
      { numRuns: 60 },
    );
    device.check();
  });

  it("maps boxes back", async (task) => {
    if (!device) return task.skip("no GPU adapter");
    const engine = await echo(["1", "3", "H", "W"], "f32");
    const data = new Uint8Array(200 * 100 * 3);
    const source = image(
      { data, width: 200, height: 100 },
      { fit: "letterbox", size: { width: 64, height: 64 }, region: { x: 100, y: 0, width: 100, height: 50 } },
    );
    expect(() => source.toImage).toThrow("K615");
    const { y } = await engine.createExecutionContext().execute({ x: source });
    expect(y!.shape).toEqual([1, 3, 64, 64]);
    // 100 by 50 becomes 64 by 32, with 16 rows above.
    for (const [inInput, inImage] of [
      [
        [0, 16],
        [100, 0],
      ],
      [
        [64, 48],
        [200, 50],
      ],
      [
        [32, 32],
        [150, 25],
      ],
    ] as const)
      expect([...vec2.transformMat2d(vec2.create(), inInput, source.toImage)]).toEqual(inImage);
    engine.dispose();
  });

  it("says what does not fit", async (task) => {
    if (!device) return task.skip("no GPU adapter");
    const picture = { data: new Uint8Array(12), width: 2, height: 2 };
    const wrong: readonly (readonly [readonly string[], Pixels, ImageOptions, string])[] = [
      [
        ["1", "3", "4", "4"],
        { ...picture, data: new Uint8Array(11) },
        {},
        'K615 bad-image  input "x": 11 bytes are not 2 by 2 pixels',
      ],
      [["1", "3", "4", "4"], picture, { channels: "grey" }, "its channels is 3, the image is to have 1"],
      [["1", "3", "H", "W"], picture, {}, "its height is free"],
      [["2", "3", "4", "4"], picture, {}, "its batch is 2, the image is to have 1"],
      [["4", "4"], picture, {}, "an image has 3 or 4 dimensions, the input 2"],
      [["3", "4", "4"], picture, { mean: [1, 2] }, "mean has 2 numbers for 3 channels"],
      [["3", "4", "4"], picture, { region: { x: 1, y: 0, width: 2, height: 1 } }, "reaches out of the image of 2 by 2 pixels"],
    ];
    for (const [shape, given, options, words] of wrong) {
      const engine = await echo(shape, "f32");
      expect((await rejection(engine.createExecutionContext().execute({ x: image(given, options) }))).message).toContain(words);
      engine.dispose();
    }
    device.check();
  });
});
