// Resize, sampling, regions, Fourier transforms, Einsum and Det: properties against ONNX Runtime, or against the definition
// where ONNX Runtime has less than ONNX.

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { difference } from "../../src/cli/cases.ts";
import { numbersOf, sizeOf, type Tensor, tensor } from "../../src/ir/tensor.ts";
import { agrees, list, modelOf, property, shapeOf, size, spanOf } from "../support/agreement.ts";
import { runInterpreted } from "../support/interpret-model.ts";
import { model } from "../support/onnx-model.ts";
import { filled, generator } from "../support/random.ts";

const flag = fc.constantFrom(0, 1);
const f32 = (values: readonly number[], shape: readonly number[] = [values.length]): Tensor => tensor("f32", shape, values);
const i64 = (values: readonly number[], shape: readonly number[] = [values.length]): Tensor => tensor("i64", shape, values);
const run = (spec: Parameters<typeof modelOf>[0]): Tensor => {
  const { bytes, fed, names } = modelOf(spec);
  return runInterpreted(bytes, fed)[names[0]!]!;
};

describe("resize", () => {
  const coordinates = fc.constantFrom(
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
  );
  const nearest = fc.constantFrom("round_prefer_floor", "round_prefer_ceil", "floor", "ceil");
  // Ratios that are exact in float32: at a tie ONNX Runtime's pixel turns on how it rounds others.
  const scale = fc.constantFrom(0.5, 0.75, 1, 1.5, 2, 2.5, 3);

  property<{ h: number; w: number; mode: string; coordinates: string; out: number[]; outside: number; a: number }>(
    "to sizes",
    {
      h: size(8),
      w: size(8),
      mode: fc.constantFrom("linear", "cubic"),
      coordinates,
      out: list(size(12), 2),
      outside: flag,
      a: fc.constantFrom(-0.5, -0.75),
    },
    ({ h, w, mode, coordinates, out, outside, a }, next) => ({
      op: "Resize",
      opset: 19,
      attributes: {
        mode,
        coordinate_transformation_mode: coordinates,
        ...(mode === "cubic" ? { cubic_coeff_a: a, exclude_outside: outside } : {}),
      },
      inputs: { x: filled("f32", [1, 2, h, w], next), roi: undefined, scales: undefined, sizes: i64([1, 2, ...out]) },
      constants: ["sizes"],
    }),
    { rtol: 1e-3, atol: 1e-4 },
  );

  property<{ h: number; w: number; coordinates: string; nearest: string; times: number[] }>(
    "to the nearest pixels",
    { h: size(8), w: size(8), coordinates, nearest, times: list(fc.constantFrom(0.5, 1, 2, 3, 4), 2) },
    ({ h, w, coordinates, nearest, times }, next) => ({
      op: "Resize",
      opset: 19,
      attributes: { mode: "nearest", coordinate_transformation_mode: coordinates, nearest_mode: nearest },
      // Twice the sizes, so that half of them is whole.
      inputs: {
        x: filled("f32", [1, 1, 2 * h, 2 * w], next),
        roi: undefined,
        scales: undefined,
        sizes: i64([1, 1, 2 * h * times[0]!, 2 * w * times[1]!]),
      },
      constants: ["sizes"],
    }),
  );

  property<{ h: number; w: number; mode: string; coordinates: string; scales: number[] }>(
    "by scales",
    {
      h: fc.constantFrom(2, 4, 6, 8),
      w: fc.constantFrom(4, 8),
      mode: fc.constantFrom("nearest", "linear", "cubic"),
      coordinates,
      scales: list(scale, 2),
    },
    ({ h, w, mode, coordinates, scales }, next) => ({
      op: "Resize",
      opset: 13,
      // ONNX's reference takes the corner of a size that is no whole number as it is, ONNX Runtime rounds it down.
      attributes: {
        mode,
        coordinate_transformation_mode: [h, w].every((n, k) => Number.isInteger(n * scales[k]!)) ? coordinates : "half_pixel",
      },
      inputs: { x: filled("f32", [1, 2, h, w], next), roi: undefined, scales: f32([1, 1, ...scales]) },
      constants: ["scales"],
    }),
    { rtol: 1e-3, atol: 1e-4 },
  );

  property<{ h: number; w: number; mode: string; out: number[]; outside: number; coordinates: string }>(
    "antialiased",
    {
      h: size(9),
      w: size(9),
      mode: fc.constantFrom("linear", "cubic"),
      out: list(size(9), 2),
      outside: flag,
      coordinates: fc.constantFrom("half_pixel", "asymmetric"),
    },
    ({ h, w, mode, out, outside, coordinates }, next) => ({
      op: "Resize",
      opset: 18,
      attributes: {
        mode,
        antialias: 1,
        coordinate_transformation_mode: coordinates,
        ...(mode === "cubic" ? { exclude_outside: outside } : {}),
      },
      inputs: { x: filled("f32", [1, 2, h, w], next), roi: undefined, scales: undefined, sizes: i64([1, 2, ...out]) },
      constants: ["sizes"],
    }),
    { rtol: 1e-3, atol: 1e-3 },
    0.5,
  );

  property<{ h: number; w: number; mode: string; start: number[]; extent: number[] }>(
    "a crop",
    {
      h: size(6, 2),
      w: size(6, 2),
      mode: fc.constantFrom("nearest", "linear"),
      start: list(fc.integer({ min: -2, max: 4 }), 2),
      extent: list(size(10, 3), 2),
    },
    ({ h, w, mode, start, extent }, next) => ({
      op: "Resize",
      opset: 13,
      attributes: { mode, coordinate_transformation_mode: "tf_crop_and_resize", extrapolation_value: { float: 7 } },
      // A region's ends are off the pixel grid, so that none falls on an edge by a rounding error.
      inputs: {
        x: filled("f32", [1, 1, h, w], next),
        roi: f32([0, 0, ...start.map((s) => s / 10 + 0.013), 1, 1, ...start.map((s, k) => (s + extent[k]!) / 10 + 0.017)]),
        scales: undefined,
        sizes: i64([1, 1, h + 3, w + 2]),
      },
      constants: ["sizes"],
    }),
    { rtol: 1e-3, atol: 1e-4 },
    0.5,
  );

  property<{ h: number; w: number; mode: string; scales: number[]; version: number }>(
    "as before opset 11",
    {
      h: size(6, 2),
      w: size(6, 2),
      mode: fc.constantFrom("nearest", "linear"),
      scales: list(fc.constantFrom(1, 2, 3), 2),
      version: fc.constantFrom(7, 9, 10),
    },
    ({ h, w, mode, scales, version }, next) => ({
      op: version === 10 ? "Resize" : "Upsample",
      opset: version,
      attributes: { mode, ...(version === 7 ? { scales: { floats: [1, 1, ...scales] } } : {}) },
      inputs: { x: filled("f32", [1, 2, h, w], next), ...(version === 7 ? {} : { scales: f32([1, 1, ...scales]) }) },
      constants: ["scales"],
    }),
    {},
    0.25,
  );

  test("keeps the aspect ratio", async () => {
    for (const policy of ["not_larger", "not_smaller"])
      for (const [h, w] of [
        [3, 5],
        [7, 2],
        [4, 4],
      ] as const) {
        const attributes = { mode: "linear", keep_aspect_ratio_policy: policy, axes: [2, 3] };
        await agrees({
          op: "Resize",
          opset: 18,
          attributes,
          inputs: { x: filled("f32", [1, 1, h, w], generator(3)), roi: undefined, scales: undefined, sizes: i64([6, 8]) },
          constants: ["sizes"],
        });
      }
  });

  test("a volume, cubic over three axes", () => {
    const value = filled("f32", [3, 4, 2], generator(5));
    const resized = run({
      op: "Resize",
      opset: 13,
      attributes: { mode: "cubic" },
      inputs: { x: value, roi: undefined, scales: undefined, sizes: i64([5, 3, 4]) },
      constants: ["sizes"],
    });
    const oneByOne = [5, 3, 4].reduce(
      (x, out, axis) =>
        run({
          op: "Resize",
          opset: 18,
          attributes: { mode: "cubic", axes: [axis] },
          inputs: { x, roi: undefined, scales: undefined, sizes: i64([out]) },
          constants: ["sizes"],
        }),
      value,
    );
    expect(difference(resized, oneByOne, { rtol: 1e-4, atol: 1e-5 })).toBeUndefined();
  });

  test("sizes made from a symbolic shape", () => {
    const bytes = model({
      opset: 17,
      inputs: { x: { dtype: "f32", shape: [1, 1, "H", "W"] } },
      outputs: ["y"],
      initializers: { two: i64([1, 1, 2, 2]) },
      nodes: [
        { op: "Shape", inputs: ["x"], outputs: ["s"] },
        { op: "Mul", inputs: ["s", "two"], outputs: ["sizes"] },
        {
          op: "Resize",
          inputs: ["x", "", "", "sizes"],
          outputs: ["y"],
          attributes: { mode: "nearest", coordinate_transformation_mode: "asymmetric", nearest_mode: "floor" },
        },
      ],
    });
    const { y } = runInterpreted(bytes, { x: f32([1, 2, 3, 4], [1, 1, 2, 2]) });
    expect(y!.shape).toEqual([1, 1, 4, 4]);
    expect(numbersOf(y!)).toEqual([1, 1, 2, 2, 1, 1, 2, 2, 3, 3, 4, 4, 3, 3, 4, 4]);
  });
});

describe("sampling", () => {
  property<{ h: number; w: number; out: number[]; mode: string; padding: string; align: number }>(
    "GridSample",
    {
      h: size(5, 2),
      w: size(5, 2),
      out: list(size(4), 2),
      mode: fc.constantFrom("linear", "cubic", "nearest"),
      padding: fc.constantFrom("zeros", "border", "reflection"),
      align: flag,
    },
    ({ h, w, out, mode, padding, align }, next) => ({
      op: "GridSample",
      opset: 20,
      attributes: { mode, padding_mode: padding, align_corners: align },
      inputs: { x: filled("f32", [2, 2, h, w], next), grid: filled("f32", [2, ...out, 2], next, -2.5, 2.5) },
    }),
    { rtol: 1e-3, atol: 1e-4 },
  );

  property<{ sizes: number[]; out: number[]; mode: string; padding: string; align: number; ties: boolean }>(
    "GridSample in a volume",
    {
      mode: fc.constantFrom("linear", "nearest"),
      ties: fc.boolean(),
      sizes: list(size(4, 2), 3),
      out: list(size(3), 3),
      padding: fc.constantFrom("zeros", "border", "reflection"),
      align: flag,
    },
    ({ sizes, out, mode, padding, align, ties }, next) => {
      const grid = filled("f32", [1, ...out, 3], next, -2, 2);
      return {
        op: "GridSample",
        opset: 20,
        attributes: { mode, padding_mode: padding, align_corners: align },
        inputs: {
          x: filled("f32", [1, 2, ...sizes], next),
          // Quarters fall between two pixels, and on the ends.
          grid: ties
            ? f32(
                numbersOf(grid).map((e) => Math.round(4 * e) / 4),
                grid.shape,
              )
            : grid,
        },
      };
    },
    { rtol: 1e-3, atol: 1e-4 },
    0.5,
  );

  property<{ sizes: number[]; align: number }>(
    "AffineGrid",
    { sizes: fc.array(size(5, 2), { minLength: 2, maxLength: 3 }), align: flag },
    ({ sizes, align }, next) => ({
      op: "AffineGrid",
      opset: 20,
      attributes: { align_corners: align },
      inputs: { theta: filled("f32", [2, sizes.length, sizes.length + 1], next), size: i64([2, 3, ...sizes]) },
      constants: ["size"],
    }),
    {},
    0.25,
  );

  property<{
    kernel: number[];
    strides: number[];
    dilations: number[];
    pads: number[];
    more: number[];
    groups: number;
    offsets: number;
    bias: boolean;
    mask: boolean;
  }>(
    "DeformConv",
    {
      kernel: list(size(3), 2),
      strides: list(size(2), 2),
      dilations: list(size(2), 2),
      pads: list(size(1, 0), 4),
      more: list(size(3, 0), 2),
      groups: size(2),
      offsets: size(2),
      bias: fc.boolean(),
      mask: fc.boolean(),
    },
    ({ kernel, strides, dilations, pads, more, groups, offsets, bias, mask }, next) => {
      const spans = spanOf(kernel, dilations);
      const sizes = spans.map((span, k) => span + more[k]!);
      const out = sizes.map((n, k) => Math.floor((n + pads[k]! + pads[k + 2]! - spans[k]!) / strides[k]!) + 1);
      const points = sizeOf(kernel) * offsets;
      return {
        op: "DeformConv",
        opset: 19,
        attributes: { kernel_shape: kernel, strides, dilations, pads, group: groups, offset_group: offsets },
        inputs: {
          x: filled("f32", [1, 4, ...sizes], next),
          w: filled("f32", [4, 4 / groups, ...kernel], next),
          offset: filled("f32", [1, 2 * points, ...out], next),
          b: bias ? filled("f32", [4], next) : undefined,
          mask: mask ? filled("f32", [1, points, ...out], next) : undefined,
        },
      };
    },
    { rtol: 1e-3, atol: 1e-3 },
    0.25,
  );

  property<{ kernel: number[]; strides: number[]; dilations: number[]; pads: number[]; more: number[] }>(
    "Col2Im",
    {
      kernel: list(size(3), 2),
      strides: list(size(2), 2),
      dilations: list(size(2), 2),
      pads: list(size(2, 0), 4),
      more: list(size(3, 0), 2),
    },
    ({ kernel, strides, dilations, pads, more }, next) => {
      const spans = spanOf(kernel, dilations);
      const image = spans.map((span, k) => span + more[k]!);
      const blocks = image.map((n, k) => Math.floor((n + pads[k]! + pads[k + 2]! - spans[k]!) / strides[k]!) + 1);
      return {
        op: "Col2Im",
        opset: 18,
        attributes: { strides, dilations, pads },
        inputs: { x: filled("f32", [2, 2 * sizeOf(kernel), sizeOf(blocks)], next), image: i64(image), block: i64(kernel) },
        constants: ["image", "block"],
      };
    },
    {},
    0.5,
  );
});

describe("regions", () => {
  property<{
    h: number;
    w: number;
    out: number[];
    samples: number;
    mode: string;
    half: boolean;
    corners: number[];
    scale: number;
  }>(
    "RoiAlign",
    {
      h: size(8, 2),
      w: size(8, 2),
      out: list(size(3), 2),
      samples: size(3, 0),
      mode: fc.constantFrom("avg", "max"),
      half: fc.boolean(),
      corners: list(fc.integer({ min: -20, max: 160 }), 8),
      scale: fc.constantFrom(1, 0.5),
    },
    ({ h, w, out, samples, mode, half, corners, scale }, next) => ({
      op: "RoiAlign",
      opset: 16,
      attributes: {
        mode,
        output_height: out[0]!,
        output_width: out[1]!,
        sampling_ratio: samples,
        spatial_scale: { float: scale },
        coordinate_transformation_mode: half ? "half_pixel" : "output_half_pixel",
      },
      inputs: {
        x: filled("f32", [2, 2, h, w], next),
        // Odd parts keep the number of samples and their pixels off ties.
        rois: f32(
          [0, 4].flatMap((at) =>
            [0, 1, 2, 3].map(
              (k) => (k < 2 ? corners[at + k]! : corners[at + k - 2]! + Math.abs(corners[at + k]!)) / 11 + 0.0137 + 0.0031 * k,
            ),
          ),
          [2, 4],
        ),
        batch: i64([1, 0]),
      },
    }),
    { rtol: 1e-3, atol: 1e-3 },
    0.5,
  );

  property<{ h: number; w: number; out: number[]; corners: number[]; extent: number[]; scale: number }>(
    "MaxRoiPool",
    {
      h: size(7),
      w: size(7),
      out: list(size(3), 2),
      corners: list(fc.integer({ min: -1, max: 7 }), 4),
      extent: list(size(8, 0), 4),
      scale: fc.constantFrom(1, 0.5),
    },
    ({ h, w, out, corners, extent, scale }, next) => ({
      op: "MaxRoiPool",
      attributes: { pooled_shape: out, spatial_scale: { float: scale } },
      inputs: {
        x: filled("f32", [2, 2, h, w], next),
        rois: f32(
          [0, 2].flatMap((at) => [
            at / 2,
            corners[at]!,
            corners[at + 1]!,
            corners[at]! + extent[at]!,
            corners[at + 1]! + extent[at + 1]!,
          ]),
          [2, 5],
        ),
      },
    }),
    {},
    0.25,
  );
});

/** The transform by its definition: numbers as [re, im]. */
function transform(signal: readonly (readonly [number, number])[], inverse: boolean): [number, number][] {
  const length = signal.length;
  return signal.map((_, k) => {
    let [re, im] = [0, 0];
    signal.forEach(([a, b], n) => {
      const angle = ((inverse ? 2 : -2) * Math.PI * ((k * n) % length)) / length;
      re += a * Math.cos(angle) - b * Math.sin(angle);
      im += a * Math.sin(angle) + b * Math.cos(angle);
    });
    return inverse ? [re / length, im / length] : [re, im];
  });
}

describe("signal", () => {
  const lengths = fc.oneof(size(20), fc.constantFrom(131, 150, 192, 256));
  const close = (actual: Tensor, expected: readonly number[], shape: readonly number[]): void => {
    expect(actual.shape).toEqual(shape);
    const worst = Math.max(0, ...numbersOf(actual).map((value, i) => Math.abs(value - expected[i]!)));
    expect(worst).toBeLessThan(1e-4);
  };

  test("DFT is its definition, on any axis, padded or cut", () => {
    const shapes = fc.record({
      length: lengths,
      dft: fc.option(size(24), { nil: undefined }),
      before: size(3),
      parts: size(2),
      inverse: fc.boolean(),
      half: fc.boolean(),
      opset: fc.constantFrom(17, 20),
      seed: fc.nat(),
    });
    fc.assert(
      fc.property(shapes, ({ length, dft, before, parts, inverse, half, opset, seed }) => {
        const onesided = half && !inverse && parts === 1;
        const x = filled("f32", [before, length, 2, parts], generator(seed));
        const at = (n: number, k: number, rest: number): [number, number] =>
          k < length
            ? [
                x.data[((n * length + k) * 2 + rest) * parts] as number,
                parts === 2 ? (x.data[((n * length + k) * 2 + rest) * parts + 1] as number) : 0,
              ]
            : [0, 0];
        const size = dft ?? length;
        const out = onesided ? Math.floor(size / 2) + 1 : size;
        const expected: number[] = [];
        for (let n = 0; n < before; n++) {
          const columns = [0, 1].map((rest) =>
            transform(
              Array.from({ length: size }, (_, k) => at(n, k, rest)),
              inverse,
            ),
          );
          for (let k = 0; k < out; k++) for (const column of columns) expected.push(...column[k]!);
        }
        const actual = run({
          op: "DFT",
          opset,
          attributes: { inverse: Number(inverse), onesided: Number(onesided), ...(opset === 17 ? { axis: 1 } : {}) },
          inputs: {
            x,
            length: dft === undefined ? undefined : i64([dft], []),
            ...(opset === 20 ? { axis: i64([-3], []) } : {}),
          },
          constants: ["length", "axis"],
        });
        close(actual, expected, [before, out, 2, 2]);
      }),
      { numRuns: 60 },
    );
  });

  test("DFT of a length that only the run knows", () => {
    const bytes = model({
      opset: 17,
      inputs: { x: { dtype: "f32", shape: ["N", "L", 1] } },
      outputs: ["y"],
      nodes: [{ op: "DFT", inputs: ["x"], outputs: ["y"], attributes: { axis: 1, onesided: 1 } }],
    });
    const x = filled("f32", [2, 9, 1], generator(2));
    const expected = [0, 1].flatMap((n) =>
      transform(
        Array.from({ length: 9 }, (_, k) => [x.data[n * 9 + k] as number, 0] as const),
        false,
      )
        .slice(0, 5)
        .flat(),
    );
    close(runInterpreted(bytes, { x }).y!, expected, [2, 5, 2]);
  });

  test("half a spectrum comes back as the real signal", () => {
    for (const length of [2, 8, 10, 130]) {
      const x = filled("f32", [3, length, 1], generator(length));
      const spectrum = run({
        op: "DFT",
        opset: 20,
        attributes: { onesided: 1 },
        inputs: { x, length: undefined, axis: i64([1], []) },
        constants: ["axis"],
      });
      expect(spectrum.shape).toEqual([3, length / 2 + 1, 2]);
      const back = run({
        op: "DFT",
        opset: 20,
        attributes: { onesided: 1, inverse: 1 },
        inputs: { x: spectrum, length: undefined, axis: i64([1], []) },
        constants: ["axis"],
      });
      close(back, numbersOf(x), [3, length, 1]);
    }
  });

  test("STFT transforms windowed frames", () => {
    const shapes = fc.record({
      size: size(40, 16),
      frame: size(16, 2),
      step: size(6),
      parts: size(2),
      windowed: fc.boolean(),
      sided: fc.boolean(),
      seed: fc.nat(),
    });
    fc.assert(
      fc.property(shapes, ({ size: length, frame, step, parts, windowed, sided, seed }) => {
        const onesided = sided && parts === 1;
        const next = generator(seed);
        const x = filled("f32", [2, length, parts], next);
        const window = filled("f32", [frame], next);
        const frames = Math.floor((length - frame) / step) + 1;
        const bins = onesided ? Math.floor(frame / 2) + 1 : frame;
        const expected: number[] = [];
        for (let n = 0; n < 2; n++)
          for (let t = 0; t < frames; t++) {
            const signal = Array.from({ length: frame }, (_, k): [number, number] => {
              const weight = windowed ? (window.data[k] as number) : 1;
              const from = (n * length + t * step + k) * parts;
              return [weight * (x.data[from] as number), parts === 2 ? weight * (x.data[from + 1] as number) : 0];
            });
            expected.push(...transform(signal, false).slice(0, bins).flat());
          }
        const actual = run({
          op: "STFT",
          attributes: { onesided: Number(onesided) },
          inputs: {
            x,
            step: i64([step], []),
            window: windowed ? window : undefined,
            length: windowed ? undefined : i64([frame], []),
          },
          constants: ["step", "length"],
        });
        close(actual, expected, [2, frames, bins, 2]);
      }),
      { numRuns: 40 },
    );
  });

  test("windows", async () => {
    for (const op of ["HannWindow", "HammingWindow", "BlackmanWindow"])
      for (const periodic of [0, 1])
        for (const length of [2, 5, 16])
          await agrees(
            { op, attributes: { periodic }, inputs: { size: i64([length], []) }, constants: ["size"] },
            { atol: 1e-6 },
          );
  });

  test("MelWeightMatrix has triangles between equally spaced mels", () => {
    const inputs = {
      bands: i64([8], []),
      length: i64([16], []),
      rate: i64([8192], []),
      low: f32([0], []),
      high: f32([4096], []),
    };
    const matrix = run({ op: "MelWeightMatrix", inputs, constants: ["bands", "length"] });
    expect(matrix.shape).toEqual([9, 8]);
    // ONNX's own example (operator test melweightmatrix).
    const rows = Array.from({ length: 9 }, (_, bin) => numbersOf(matrix).slice(8 * bin, 8 * bin + 8));
    expect(rows[0]).toEqual([1, 1, 0, 0, 0, 0, 0, 0]);
    expect(rows[1]).toEqual([0, 0, 1, 1, 0, 0, 0, 0]);
    expect(rows[8]).toEqual([0, 0, 0, 0, 0, 0, 0, 0]);
  });
});

describe("algebra", () => {
  const LETTERS = ["a", "b", "c", "d", "e"];

  property<{ terms: string[][]; output: string[]; sizes: number[]; dots: number[] }>(
    "Einsum",
    {
      terms: fc.array(fc.uniqueArray(fc.constantFrom(...LETTERS), { minLength: 1, maxLength: 3 }), {
        minLength: 1,
        maxLength: 3,
      }),
      output: fc.uniqueArray(fc.constantFrom(...LETTERS)),
      sizes: list(size(4), 5),
      dots: fc.array(size(3), { maxLength: 2 }),
    },
    ({ terms, output, sizes, dots }, next) => {
      const used = new Set(terms.flat());
      const ellipsis = dots.length > 0 ? "..." : "";
      return {
        op: "Einsum",
        opset: 13,
        attributes: {
          equation: `${terms.map((term) => ellipsis + term.join("")).join(",")}->${ellipsis}${output.filter((label) => used.has(label)).join("")}`,
        },
        inputs: Object.fromEntries(
          terms.map((term, i) => [
            `x${i}`,
            filled("f32", [...dots, ...term.map((label) => sizes[LETTERS.indexOf(label)]!)], next),
          ]),
        ),
      };
    },
    { rtol: 1e-3, atol: 1e-4 },
  );

  test("Einsum takes diagonals and orders implied labels", () => {
    const x = filled("f32", [3, 3, 2], generator(1));
    const at = (...i: number[]): number => x.data[(i[0]! * 3 + i[1]!) * 2 + i[2]!] as number;
    const of = (equation: string): number[] => numbersOf(run({ op: "Einsum", attributes: { equation }, inputs: { x } }));
    expect(of("iij->ij")).toEqual([0, 1, 2].flatMap((i) => [0, 1].map((j) => at(i, i, j))));
    expect(of("i i j")).toEqual([0, 1].map((j) => Math.fround(at(0, 0, j) + at(1, 1, j) + at(2, 2, j))));
    expect(of("zya")).toEqual([0, 1].flatMap((a) => [0, 1, 2].flatMap((y) => [0, 1, 2].map((z) => at(z, y, a)))));
  });

  property<{ batch: number[]; n: number }>(
    "Det",
    { batch: shapeOf(2, 3, 0), n: size(6) },
    ({ batch, n }, next) => ({ op: "Det", opset: 11, inputs: { x: filled("f32", [...batch, n, n], next) } }),
    { rtol: 1e-3, atol: 1e-3 },
    0.25,
  );

  test("Det of a singular matrix is 0", () => {
    const rows = [1, 2, 3, 4, 2, 4, 6, 8, 0, 1, 0, 1, 5, 5, 5, 5];
    expect(numbersOf(run({ op: "Det", opset: 11, inputs: { x: f32(rows, [4, 4]) } }))).toEqual([0]);
  });
});
