// The small parts of the command line: option values, statistics, comparison, columns.

import { describe, expect, it } from "vitest";
import { profileOf } from "../../src/cli/build-flags.ts";
import { deviationOf } from "../../src/cli/compare.ts";
import { prepareInputs } from "../../src/cli/inputs.ts";
import { filesOption, shapesOption, tensorOfWords, valuesOption } from "../../src/cli/options.ts";
import { bytesText, columns, jsonElements, numberText, summarize } from "../../src/cli/print.ts";
import { normalNumbers, randomTensor } from "../../src/cli/random.ts";
import { summarizeTimes } from "../../src/cli/statistics.ts";
import { numbersOf, type Tensor, tensor } from "../../src/ir/tensor.ts";

describe("options", () => {
  it("read shapes", () => {
    const read = shapesOption("--shapes");
    expect(read("x:1x3x224x224,input:0:8,s:")).toEqual({ x: [1, 3, 224, 224], "input:0": [8], s: [] });
    expect(read("y:2", { x: [1] })).toEqual({ x: [1], y: [2] });
    for (const bad of ["", "x", ":1", "x:1,2", "x:-1", "x:1x"]) expect(() => read(bad)).toThrow("K001");
  });

  it("read files and values", () => {
    expect(filesOption("--loadInputs")("x:a.npy,input:0:dir/b.npy")).toEqual({ x: "a.npy", "input:0": "dir/b.npy" });
    expect(() => filesOption("--loadInputs")("a.npy")).toThrow("K001");
    expect(valuesOption("--shapeValues")("shape:1,-1,3,axes:0,empty:")).toEqual({
      shape: ["1", "-1", "3"],
      axes: ["0"],
      empty: [],
    });
  });

  it("make tensors of values in the model's type", () => {
    expect(tensorOfWords("--shapeValues", "k", ["5"], "i64", [])).toEqual({
      dtype: "i64",
      shape: [],
      data: BigInt64Array.of(5n),
    });
    expect(tensorOfWords("--shapeValues", "b", ["true", "0"], "bool", ["N"])).toEqual(tensor("bool", [2], [1, 0]));
    expect(tensorOfWords("--shapeValues", "m", ["1", "2", "3", "-inf"], "f32", ["N", 2])).toEqual(
      tensor("f32", [2, 2], [1, 2, 3, Number.NEGATIVE_INFINITY]),
    );
    expect(() => tensorOfWords("--shapeValues", "k", ["1", "2"], "i64", [])).toThrow("2 values do not fill shape []");
    expect(() => tensorOfWords("--shapeValues", "k", ["1.5"], "i64", [1])).toThrow('"1.5" is no int64');
  });

  it("complete profiles", () => {
    expect(profileOf({})).toBeUndefined();
    expect(profileOf({ optShapes: { x: [2] } })).toEqual({ x: { opt: [2] } });
    expect(profileOf({ minShapes: { x: [1] }, maxShapes: { x: [8] } })).toEqual({ x: { min: [1], max: [8] } });
    expect(profileOf({ shapes: { x: [4] }, maxShapes: { x: [8] } })).toEqual({ x: { min: [4], opt: [4], max: [8] } });
  });
});

describe("inputs", () => {
  const plan = {
    inputs: [
      { name: "x", dtype: "f32", shape: ["N", "2"], buffer: 0 },
      { name: "k", dtype: "i64", shape: ["1"], buffer: 1, assumed: ["3"] },
    ],
    profiles: [{ name: "profile 0", symbols: { N: { min: 1, opt: 4, max: 8 } } }],
  } as const;

  it("take free sizes from --shapes, then the profile, then 1", () => {
    expect(prepareInputs(plan, { shapes: { x: [3, 2] } }).tensors.x!.shape).toEqual([3, 2]);
    expect(prepareInputs(plan, {}).tensors.x!.shape).toEqual([4, 2]);
    expect(prepareInputs({ ...plan, profiles: [] }, {}).tensors.x!.shape).toEqual([1, 2]);
  });

  it("are what the engine was built for where it was built for something", () => {
    const { tensors, remarks } = prepareInputs(plan, {});
    expect(tensors.k).toEqual({ dtype: "i64", shape: [1], data: BigInt64Array.of(3n) });
    expect(remarks).toEqual(['input "x": random f32[4, 2], seed 0', 'input "k": what the engine was built for, i64[1]']);
    expect(() => prepareInputs(plan, { shapes: { z: [1] } })).toThrow("K603");
  });

  it("are random in a range that suits the type", () => {
    const values = (dtype: "f32" | "i64" | "u8" | "bool"): number[] => numbersOf(randomTensor(dtype, [1000], 1));
    expect(Math.min(...values("f32"))).toBeGreaterThanOrEqual(-1);
    expect(Math.max(...values("f32"))).toBeLessThan(1);
    expect(new Set(values("i64"))).toEqual(new Set([0, 1]));
    expect(new Set(values("bool"))).toEqual(new Set([0, 1]));
    expect(Math.max(...values("u8"))).toBeLessThan(128);
    const next = normalNumbers(1);
    const drawn = Array.from({ length: 10_000 }, next);
    expect(drawn.reduce((sum, x) => sum + x * x, 0) / drawn.length).toBeCloseTo(1, 1);
  });
});

describe("comparison", () => {
  const f32 = (...values: number[]): Tensor => tensor("f32", [values.length], values);

  it("measures in units of what is allowed", () => {
    const deviation = deviationOf(f32(1, 100.05), f32(1, 100));
    expect(deviation).toMatchObject({ ok: true, worstAt: 1 });
    expect(deviation.maxAbs).toBeCloseTo(0.05, 4);
    expect(deviation.worstRatio).toBeCloseTo(0.05 / (0.1 + 0.001), 2);
    expect(deviationOf(f32(1, 101), f32(1, 100))).toMatchObject({ ok: false });
    expect(deviationOf(f32(0.0005, 100), f32(0, 100))).toMatchObject({ ok: true });
    expect(deviationOf(f32(0.0005, 1), f32(0, 1))).toMatchObject({ ok: false });
  });

  it("wants the same NaN and infinities, types, shapes and integers", () => {
    expect(deviationOf(f32(Number.NaN, Number.POSITIVE_INFINITY), f32(Number.NaN, Number.POSITIVE_INFINITY))).toMatchObject({
      ok: true,
      maxAbs: 0,
    });
    expect(deviationOf(f32(Number.NaN), f32(0))).toMatchObject({ ok: false });
    expect(deviationOf(f32(0), f32(Number.NEGATIVE_INFINITY))).toMatchObject({ ok: false });
    expect(deviationOf(f32(0), tensor("f64", [1], [0]))).toMatchObject({ ok: false, mismatch: "type f32, expected f64" });
    expect(deviationOf(f32(0), f32(0, 0))).toMatchObject({ ok: false, mismatch: "shape [1], expected [2]" });
    expect(deviationOf(tensor("i64", [1], [3]), tensor("i64", [1], [4]))).toMatchObject({ ok: false });
    expect(deviationOf(tensor("u8", [1], [3]), tensor("u8", [1], [4]))).toMatchObject({ ok: true });
    expect(deviationOf(tensor("u8", [1], [3]), tensor("u8", [1], [5]))).toMatchObject({ ok: false });
  });
});

describe("printing", () => {
  it("summarizes times", () => {
    expect(summarizeTimes([4, 1, 3, 2])).toEqual({
      min: 1,
      max: 4,
      mean: 2.5,
      median: 2.5,
      p90: expect.closeTo(3.7, 9),
      p95: expect.closeTo(3.85, 9),
      p99: expect.closeTo(3.97, 9),
    });
    expect(summarizeTimes([5])).toEqual({ min: 5, max: 5, mean: 5, median: 5, p90: 5, p95: 5, p99: 5 });
  });

  it("aligns columns and writes sizes and numbers", () => {
    expect(
      columns([
        ["a", "1"],
        ["bcd", "22"],
      ]),
    ).toBe("a     1\nbcd  22");
    expect([0, 999, 1000, 1_550_000].map(bytesText)).toEqual(["0 B", "999 B", "1.00 kB", "1.55 MB"]);
    expect([0, 3, 0.123456, 1e-9, 1234567].map(numberText)).toEqual(["0", "3", "0.1235", "1.00e-9", "1.23e+6"]);
  });

  it("shows tensors", () => {
    expect(summarize(tensor("f32", [3], [1, Number.NaN, 3]))).toBe("min 1  max 3  mean 2  1 NaN  [1, NaN, 3]");
    expect(summarize(tensor("f32", [0], []))).toBe("empty");
    expect(jsonElements(tensor("f32", [2], [0.5, Number.POSITIVE_INFINITY]))).toEqual([0.5, "Infinity"]);
    expect(jsonElements({ dtype: "i64", shape: [2], data: BigInt64Array.of(1n, 2n ** 60n) })).toEqual([1, String(2n ** 60n)]);
    expect(jsonElements(tensor("bool", [2], [1, 0]))).toEqual([true, false]);
  });
});
