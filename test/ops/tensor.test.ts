// Shape, movement, gather, scatter, scan and sorting operators: symbolic shapes, errors, and properties against ONNX Runtime.

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { toleranceOf } from "../../src/cli/cases.ts";
import { importModel } from "../../src/importer/import.ts";
import { shapeText } from "../../src/ir/dims.ts";
import { numbersOf, sizeOf, type Tensor, tensor } from "../../src/ir/tensor.ts";
import { checkBoth, modelAgrees } from "../support/agreement.ts";
import { runInterpreted } from "../support/interpret-model.ts";
import { type AttributeSpec, type ModelSpec, model, type NodeSpec } from "../support/onnx-model.ts";

const RUNS = Number(process.env.RUNS ?? 300);
const i64 = (...values: number[]): Tensor => tensor("i64", [values.length], values);
const scalar = (value: number): Tensor => tensor("i64", [], [value]);
/** 0, 1, 2, … in a shape. */
const iota = (shape: readonly number[], dtype: Tensor["dtype"] = "f32"): Tensor =>
  tensor(
    dtype,
    shape,
    Array.from({ length: sizeOf(shape) }, (_, i) => i),
  );
const node = (
  op: string,
  inputs: readonly string[],
  outputs: readonly string[],
  attributes: Record<string, AttributeSpec> = {},
): NodeSpec => ({ op, inputs, outputs, attributes });

/** One node over a data input `x` and constants; `symbolic` leaves the sizes of x open. */
function single(
  op: string,
  x: Tensor,
  constants: Readonly<Record<string, Tensor>>,
  attributes: Record<string, AttributeSpec>,
  options: { opset?: number; symbolic?: boolean; outputs?: string[] } = {},
): ModelSpec {
  return {
    opset: options.opset ?? 18,
    inputs: { x: { dtype: x.dtype, shape: options.symbolic ? x.shape.map((_, axis) => `d${axis}`) : x.shape } },
    outputs: options.outputs ?? ["y"],
    initializers: constants,
    nodes: [node(op, ["x", ...Object.keys(constants)], options.outputs ?? ["y"], attributes)],
  };
}

/** The model gives the same here as in ONNX Runtime. */
async function agrees(spec: ModelSpec, inputs: Record<string, Tensor>): Promise<void> {
  await modelAgrees(model(spec), inputs, spec.outputs, toleranceOf("f32"));
}

/** Shapes (and the first output's contents) that the importer infers. */
const infer = (spec: ModelSpec): string => shapeText(importModel(model(spec)).outputs[0]!.value.shape);

describe("symbolic shapes", () => {
  const symbolic = (
    shape: readonly (number | string)[],
    nodes: readonly NodeSpec[],
    initializers: Record<string, Tensor> = {},
  ): ModelSpec => ({ opset: 18, inputs: { x: { dtype: "f32", shape } }, outputs: ["y"], nodes, initializers });

  test("Shape, Gather, Unsqueeze, Concat and Reshape carry a symbol through", () => {
    const spec = symbolic(
      ["N", 3, 4],
      [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "zero"], ["n"]),
        node("Unsqueeze", ["n", "axes"], ["n1"]),
        node("Concat", ["n1", "rest"], ["target"], { axis: 0 }),
        node("Reshape", ["x", "target"], ["y"]),
      ],
      { zero: scalar(0), axes: i64(0), rest: i64(-1) },
    );
    expect(infer(spec)).toBe("[N, 12]");
    const run = runInterpreted(model(spec), { x: iota([2, 3, 4]) });
    expect(run.y!.shape).toEqual([2, 12]);
  });

  test("heads are split and sequence lengths multiplied symbolically", () => {
    const spec = symbolic(
      ["B", "S", 64],
      [
        node("Shape", ["x"], ["b"], { end: 1 }),
        node("Shape", ["x"], ["s"], { start: 1, end: -1 }),
        node("Mul", ["b", "s"], ["bs"]),
        node("Concat", ["bs", "eight", "free"], ["target"], { axis: 0 }),
        node("Reshape", ["x", "target"], ["y"]),
      ],
      { eight: i64(8), free: i64(-1) },
    );
    expect(infer(spec)).toBe("[B*S, 8, 8]");
  });

  test.each([
    ["the last element", [-1], [2 ** 40], "[1]"],
    ["all but the first", [1], [2 ** 40], "[N-1]"],
    ["the last three", [-3], [2 ** 40], "[min(3, N)]"],
    ["all", [0], [2 ** 40], "[N]"],
    ["the first five", [0], [5], "[min(5, N)]"],
  ])("Slice takes %s", (_, starts, ends, expected) => {
    expect(
      infer(symbolic(["N"], [node("Slice", ["x", "starts", "ends"], ["y"])], { starts: i64(...starts), ends: i64(...ends) })),
    ).toBe(expected);
  });

  test("Range, Expand and ConstantOfShape take symbols", () => {
    const length = [node("Shape", ["x"], ["s"]), node("Squeeze", ["s"], ["n"])];
    expect(
      infer(symbolic(["N"], [...length, node("Range", ["zero", "n", "two"], ["y"])], { zero: scalar(0), two: scalar(2) })),
    ).toBe("[((N+1)/2)]");
    expect(infer(symbolic(["N"], [...length, node("ConstantOfShape", ["s"], ["y"])]))).toBe("[N]");
    expect(infer(symbolic(["N", 1], [node("Expand", ["x", "to"], ["y"])], { to: i64(4, 1, 5) }))).toBe("[4, N, 5]");
  });

  test("Reshape keeps a dimension of 0 beside -1", () => {
    const spec = symbolic([0, 3], [node("Reshape", ["x", "to"], ["y"])], { to: i64(0, -1) });
    expect(infer(spec)).toBe("[0, 3]");
  });

  test("a data-dependent count is a symbol of its own", () => {
    expect(infer(symbolic([2, 3], [node("NonZero", ["x"], ["y"])]))).toBe("[2, NonZero_0.count]");
    expect(runInterpreted(model(symbolic([2, 3], [node("NonZero", ["x"], ["y"])])), { x: iota([2, 3]) }).y!.shape).toEqual([
      2, 5,
    ]);
  });

  test("NonZero of a constant has a known shape", () => {
    expect(
      infer({
        opset: 18,
        inputs: {},
        outputs: ["y"],
        nodes: [node("ConstantOfShape", ["s"], ["ones"], { value: i64(1) }), node("NonZero", ["ones"], ["y"])],
        initializers: { s: i64(4) },
      }),
    ).toBe("[1, 4]");
  });
});

describe("errors", () => {
  const fails =
    (op: string, shape: number[], constants: Record<string, Tensor>, attributes: Record<string, AttributeSpec>): (() => void) =>
    () => {
      importModel(model(single(op, iota(shape), constants, attributes)));
    };
  test.each([
    ["Reshape", [2, 3], { shape: i64(4, 2) }, {}, /K301.*\[2, 3\] does not reshape to \[4, 2\]/],
    ["Reshape", [2, 3], { shape: i64(-1, -1) }, {}, /K301.*is not one to reshape to/],
    ["Reshape", [2, 3], { shape: i64(0, 0, 0) }, {}, /K301.*copies dimension 2/],
    ["Reshape", [2, 3], { shape: i64(0, -1) }, { allowzero: 1 }, /K301.*both 0 and -1/],
    ["Squeeze", [2, 3], { axes: i64(0) }, {}, /K301.*axis 0 of \[2, 3\] cannot be squeezed/],
    ["Unsqueeze", [2, 3], { axes: i64(0, -4) }, {}, /K301.*one axis twice/],
    ["Transpose", [2, 3], {}, { perm: [0, 0] }, /K205.*"perm"/],
    ["Slice", [2, 3], { starts: i64(0), ends: i64(1), axes: i64(2) }, {}, /K301.*axis 2 is outside of rank 2/],
    ["Slice", [2, 3], { starts: i64(0), ends: i64(1), axes: i64(0), steps: i64(0) }, {}, /K301.*a step is 0/],
    ["Pad", [2, 3], { pads: i64(1, 1) }, {}, /K301.*2 pads for 2 axes/],
    ["Pad", [2, 3], { pads: i64(1, 1, 1, 1) }, { mode: "mirror" }, /K205.*"mode"/],
    ["Tile", [2, 3], { repeats: i64(1) }, {}, /K301.*1 repeats/],
    ["Split", [2, 3], { split: i64(1, 2) }, {}, /K301.*do not sum to 2/],
    ["TopK", [2, 3], { k: i64(4) }, {}, /K301.*has fewer elements/],
    ["GatherND", [2, 3], { indices: tensor("i64", [1, 3], [0, 0, 0]) }, {}, /K301.*must be a number of axes/],
    [
      "ScatterND",
      [2, 3],
      { indices: tensor("i64", [1, 1], [0]), updates: iota([1, 2]) },
      {},
      /K301.*updates \[1, 2\] must be \[1, 3\]/,
    ],
    ["DepthToSpace", [1, 6, 2, 2], {}, { blocksize: 2 }, /K205.*"blocksize"/],
    ["CumSum", [2, 3], { axis: scalar(2) }, {}, /K301.*axis 2/],
  ] as [string, number[], Record<string, Tensor>, Record<string, AttributeSpec>, RegExp][])(
    "%s of %j",
    (op, shape, constants, attributes, message) => {
      expect(fails(op, shape, constants, attributes)).toThrow(message);
    },
  );

  test("a shape that is data must be fixed", () => {
    const spec: ModelSpec = {
      opset: 18,
      inputs: { x: { dtype: "f32", shape: [6] }, shape: { dtype: "i64", shape: [2] } },
      outputs: ["y"],
      nodes: [node("Reshape", ["x", "shape"], ["y"])],
    };
    expect(() => importModel(model(spec))).toThrow(/K302.*shape "shape" must be known/);
    expect(runInterpreted(model(spec), { x: iota([6]), shape: i64(2, 3) }, { assumed: { shape: i64(2, 3) } }).y!.shape).toEqual(
      [2, 3],
    );
  });
});

// --- properties ----------------------------------------------------------------------------------------------------------

const shapeOf = (least = 1, most = 4, size: { min?: number; max?: number } = {}): fc.Arbitrary<number[]> =>
  fc.array(fc.integer({ min: size.min ?? 1, max: size.max ?? 5 }), { minLength: least, maxLength: most });
const axisOf = (rank: number): fc.Arbitrary<number> => fc.integer({ min: -rank, max: rank - 1 });
const indexOf = (size: number): fc.Arbitrary<number> => fc.integer({ min: -size, max: size - 1 });
const manyOf = (one: fc.Arbitrary<number>, count: number): fc.Arbitrary<number[]> =>
  fc.array(one, { minLength: count, maxLength: count });
const distinctAxes = (rank: number): fc.Arbitrary<number[]> =>
  fc
    .tuple(
      fc.shuffledSubarray(
        Array.from({ length: rank }, (_, i) => i),
        { minLength: 1 },
      ),
      manyOf(fc.boolean().map(Number), rank),
    )
    .map(([axes, negative]) => axes.map((axis) => axis - rank * negative[axis]!));

describe("agrees with ONNX Runtime", () => {
  const property = <T>(name: string, arbitrary: fc.Arbitrary<T>, check: (value: T) => Promise<void>, numRuns = RUNS): void => {
    test(name, () => checkBoth(arbitrary, check, numRuns));
  };

  property(
    "Slice",
    shapeOf(1, 3).chain((shape) =>
      distinctAxes(shape.length).chain((axes) => {
        // INT_MAX is left out: backward, ONNX Runtime takes it for the front, where ONNX and NumPy clamp it to the back.
        const position = fc.oneof(fc.integer({ min: -8, max: 8 }), fc.constantFrom(-(2 ** 40), 2 ** 40, -(2 ** 31)));
        const step = fc.integer({ min: -3, max: 3 }).filter((by) => by !== 0);
        return fc.record({
          shape: fc.constant(shape),
          axes: fc.constant(axes),
          starts: manyOf(position, axes.length),
          ends: manyOf(position, axes.length),
          steps: manyOf(step, axes.length),
          symbolic: fc.boolean(),
        });
      }),
    ),
    ({ shape, axes, starts, ends, steps, symbolic }) =>
      agrees(
        single(
          "Slice",
          iota(shape),
          { starts: i64(...starts), ends: i64(...ends), axes: i64(...axes), steps: i64(...steps) },
          {},
          { symbolic },
        ),
        { x: iota(shape) },
      ),
  );

  property(
    "Pad",
    shapeOf(1, 3, { min: 2 }).chain((shape) =>
      distinctAxes(shape.length).chain((axes) =>
        fc.constantFrom("constant", "reflect", "edge", "wrap").chain((mode) =>
          fc.record({
            shape: fc.constant(shape),
            axes: fc.constant(axes),
            mode: fc.constant(mode),
            symbolic: fc.boolean(),
            // ONNX Runtime takes reflections within the size only, and negative pads reliably in constant mode only.
            pads: fc.tuple(
              ...[...axes, ...axes].map((axis) =>
                fc.integer({
                  min: mode === "constant" ? -1 : 0,
                  max: mode === "reflect" ? shape.at(axis)! - 1 : mode === "wrap" ? shape.at(axis)! : 4,
                }),
              ),
            ),
          }),
        ),
      ),
    ),
    ({ shape, axes, mode, pads, symbolic }) =>
      agrees(
        single(
          "Pad",
          iota(shape),
          { pads: i64(...pads), value: tensor("f32", [], [-7]), axes: i64(...axes) },
          { mode },
          { opset: 19, symbolic },
        ),
        { x: iota(shape) },
      ),
  );

  property(
    "Transpose",
    shapeOf(1, 5, { min: 0, max: 4 }).chain((shape) =>
      fc.record({
        shape: fc.constant(shape),
        perm: fc.shuffledSubarray(
          shape.map((_, i) => i),
          { minLength: shape.length },
        ),
        symbolic: fc.boolean(),
      }),
    ),
    ({ shape, perm, symbolic }) => agrees(single("Transpose", iota(shape), {}, { perm }, { symbolic }), { x: iota(shape) }),
  );

  property(
    "Concat",
    fc.tuple(shapeOf(1, 3), manyOf(fc.integer({ min: 0, max: 4 }), 9), fc.integer({ min: 1, max: 9 }), fc.nat(), fc.boolean()),
    ([shape, sizes, count, at, symbolic]) => {
      const axis = (at % (2 * shape.length)) - shape.length;
      const parts = sizes.slice(0, count).map((size, k) =>
        tensor(
          "f32",
          shape.with(axis, size),
          numbersOf(iota(shape.with(axis, size))).map((e) => e + 1000 * k),
        ),
      );
      const names = parts.map((_, k) => `x${k}`);
      return agrees(
        {
          opset: 18,
          outputs: ["y"],
          nodes: [node("Concat", names, ["y"], { axis })],
          inputs: Object.fromEntries(
            parts.map((part, k) => [
              names[k]!,
              {
                dtype: "f32",
                shape: symbolic
                  ? part.shape.map((dim, d) => (d === (axis + shape.length) % shape.length ? `s${k}` : dim))
                  : part.shape,
              },
            ]),
          ),
        },
        Object.fromEntries(parts.map((part, k) => [names[k]!, part])),
      );
    },
  );

  const gathering = shapeOf(1, 3).chain((shape) =>
    axisOf(shape.length).chain((axis) =>
      shapeOf(0, 2, { max: 4 }).chain((places) =>
        fc.record({
          shape: fc.constant(shape),
          axis: fc.constant(axis),
          places: fc.constant(places),
          indices: manyOf(indexOf(shape.at(axis)!), sizeOf(places)),
          symbolic: fc.boolean(),
        }),
      ),
    ),
  );
  property("Gather", gathering, ({ shape, axis, places, indices, symbolic }) =>
    agrees(single("Gather", iota(shape), { indices: tensor("i64", places, indices) }, { axis }, { symbolic }), {
      x: iota(shape),
    }),
  );

  const elements = shapeOf(1, 3).chain((shape) =>
    axisOf(shape.length).chain((axis) =>
      fc.tuple(...shape.map((dim) => fc.integer({ min: 1, max: dim }))).chain((part) =>
        fc.record({
          shape: fc.constant(shape),
          axis: fc.constant(axis),
          part: fc.constant(part as number[]),
          symbolic: fc.boolean(),
          reduction: fc.constantFrom("none", "add", "mul", "max", "min"),
          indices: manyOf(indexOf(shape.at(axis)!), sizeOf(part as number[])),
          /** Distinct along the axis, for writes without a reduction. */
          rotation: fc.nat(9),
          asData: fc.boolean(),
        }),
      ),
    ),
  );
  property("GatherElements", elements, ({ shape, axis, part, indices, symbolic }) =>
    agrees(single("GatherElements", iota(shape), { indices: tensor("i64", part, indices) }, { axis }, { symbolic }), {
      x: iota(shape),
    }),
  );

  property("ScatterElements", elements, ({ shape, axis, part, indices, symbolic, reduction, rotation, asData }) => {
    const size = shape.at(axis)!;
    const at = axis < 0 ? axis + shape.length : axis;
    const stride = sizeOf(part.slice(at + 1));
    const distinct = indices.map((_, flat) => ((Math.floor(flat / stride) % part[at]!) + rotation) % size);
    const places = tensor("i64", part, reduction === "none" ? distinct : indices);
    const updates = tensor(
      "f32",
      part,
      indices.map((_, k) => (k % 3) + 0.5),
    );
    const spec = single("ScatterElements", iota(shape), { indices: places, updates }, { axis, reduction }, { symbolic });
    if (!asData) return agrees(spec, { x: iota(shape) });
    return agrees(
      {
        ...spec,
        initializers: {},
        inputs: { ...spec.inputs, indices: { dtype: "i64", shape: part }, updates: { dtype: "f32", shape: part } },
      },
      { x: iota(shape), indices: places, updates },
    );
  });

  const coordinates = shapeOf(1, 3).chain((shape) =>
    fc.integer({ min: 1, max: shape.length }).chain((depth) =>
      fc.integer({ min: 1, max: 6 }).chain((count) =>
        fc.record({
          shape: fc.constant(shape),
          depth: fc.constant(depth),
          reduction: fc.constantFrom("add", "mul", "max", "min"),
          symbolic: fc.boolean(),
          rows: fc.array(fc.tuple(...shape.slice(0, depth).map(indexOf)) as fc.Arbitrary<number[]>, {
            minLength: count,
            maxLength: count,
          }),
        }),
      ),
    ),
  );
  property("GatherND", coordinates, ({ shape, depth, rows, symbolic }) =>
    agrees(single("GatherND", iota(shape), { indices: tensor("i64", [rows.length, depth], rows.flat()) }, {}, { symbolic }), {
      x: iota(shape),
    }),
  );
  property("ScatterND", coordinates, ({ shape, depth, rows, reduction, symbolic }) => {
    const updates = [rows.length, ...shape.slice(depth)];
    return agrees(
      single(
        "ScatterND",
        iota(shape),
        {
          indices: tensor("i64", [rows.length, depth], rows.flat()),
          updates: tensor(
            "f32",
            updates,
            Array.from({ length: sizeOf(updates) }, (_, i) => (i % 4) - 1.5),
          ),
        },
        { reduction },
        { symbolic },
      ),
      { x: iota(shape) },
    );
  });

  property(
    "TopK",
    shapeOf(1, 3, { max: 7 }).chain((shape) =>
      axisOf(shape.length).chain((axis) =>
        fc.record({
          shape: fc.constant(shape),
          axis: fc.constant(axis),
          k: fc.integer({ min: 0, max: shape.at(axis)! }),
          largest: fc.integer({ min: 0, max: 1 }),
          symbolic: fc.boolean(),
          values: manyOf(
            fc.constantFrom(-3, -1, -0.5, 0, 0.25, 1, 2, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY),
            sizeOf(shape),
          ),
        }),
      ),
    ),
    ({ shape, axis, k, largest, values, symbolic }) => {
      const x = tensor("f32", shape, values);
      return agrees(single("TopK", x, { k: i64(k) }, { axis, largest }, { symbolic, outputs: ["y", "indices"] }), { x });
    },
  );

  property(
    "GatherND with batches",
    fc.tuple(shapeOf(2, 4, { min: 1, max: 4 }), fc.nat(), fc.nat(), fc.boolean()),
    ([shape, seed, depthSeed, symbolic]) => {
      const batch = 1 + (seed % (shape.length - 1));
      const depth = 1 + (depthSeed % (shape.length - batch));
      const places = [...shape.slice(0, batch), 2, depth];
      const indices = Array.from({ length: sizeOf(places) }, (_, flat) => (flat * 7 + seed) % shape[batch + (flat % depth)]!);
      return agrees(
        single("GatherND", iota(shape), { indices: tensor("i64", places, indices) }, { batch_dims: batch }, { symbolic }),
        { x: iota(shape) },
      );
    },
  );

  property(
    "OneHot",
    fc.record({
      shape: shapeOf(1, 3),
      axis: fc.integer({ min: -2, max: 1 }),
      depth: fc.integer({ min: 1, max: 5 }),
      symbolic: fc.boolean(),
    }),
    ({ shape, axis, depth, symbolic }) => {
      const x = tensor(
        "i64",
        shape,
        numbersOf(iota(shape)).map((e) => (e % (2 * depth + 3)) - depth - 1),
      );
      return agrees(
        single("OneHot", x, { depth: scalar(depth), values: tensor("f32", [2], [-1, 5]) }, { axis }, { symbolic }),
        { x },
      );
    },
  );

  property("Split", fc.tuple(shapeOf(1, 3, { max: 9 }), fc.nat(), fc.integer({ min: 1, max: 4 })), ([others, at, count]) => {
    const axis = at % others.length;
    const shape = others.with(axis, Math.max(others[axis]!, count * count));
    const outputs = Array.from({ length: count }, (_, k) => `y${k}`);
    return agrees(single("Split", iota(shape), {}, { axis, num_outputs: count }, { outputs }), { x: iota(shape) });
  });

  property("Expand and Tile", fc.tuple(shapeOf(1, 3, { max: 3 }), fc.nat(), fc.boolean()), async ([shape, seed, symbolic]) => {
    const to = [2, ...shape.map((dim, axis) => ((seed >> axis) & 1 ? 1 : dim))];
    const narrow = shape.map((dim, axis) => ((seed >> (axis + 3)) & 1 ? 1 : dim));
    await agrees(single("Expand", iota(narrow), { to: i64(...to) }, {}, { symbolic }), { x: iota(narrow) });
    await agrees(
      single(
        "Tile",
        iota(shape),
        { repeats: i64(...shape.map((_, axis) => ((seed >> (2 * axis)) & 3) % 3)) },
        {},
        { symbolic },
      ),
      { x: iota(shape) },
    );
  });

  property(
    "Hardmax, before opset 13 and after",
    fc.tuple(shapeOf(1, 3), fc.nat(), fc.constantFrom(11, 13)),
    ([shape, at, opset]) => {
      const x = tensor(
        "f32",
        shape,
        Array.from({ length: sizeOf(shape) }, (_, i) => (i * 5 + at) % 4),
      );
      return agrees(single("Hardmax", x, {}, { axis: at % shape.length }, { opset }), { x });
    },
  );

  test("TopK thins long axes", async () => {
    const x = tensor(
      "f32",
      [2, 2600],
      Array.from({ length: 5200 }, (_, i) => (i * 7919) % 1013),
    );
    await agrees(single("TopK", x, { k: i64(70) }, {}, { outputs: ["y", "indices"] }), { x });
  });

  property(
    "CumSum",
    fc.tuple(shapeOf(1, 3), fc.integer({ min: 1, max: 1100 }), fc.nat(), fc.nat(1), fc.nat(1), fc.boolean()),
    ([others, size, at, exclusive, reverse, symbolic]) => {
      const shape = others.with(at % others.length, size);
      const x = tensor(
        "f32",
        shape,
        Array.from({ length: sizeOf(shape) }, (_, i) => (i % 7) - 2),
      );
      return agrees(single("CumSum", x, { axis: scalar(at % others.length) }, { exclusive, reverse }, { symbolic }), { x });
    },
    60,
  );

  property(
    "ArgMax and ArgMin",
    shapeOf(1, 3).chain((shape) =>
      fc.record({
        shape: fc.constant(shape),
        axis: axisOf(shape.length),
        op: fc.constantFrom("ArgMax", "ArgMin"),
        keepdims: fc.nat(1),
        last: fc.nat(1),
        values: manyOf(fc.integer({ min: -2, max: 2 }), sizeOf(shape)),
        symbolic: fc.boolean(),
      }),
    ),
    ({ shape, axis, op, keepdims, last, values, symbolic }) => {
      const x = tensor("f32", shape, values);
      return agrees(single(op, x, {}, { axis, keepdims, select_last_index: last }, { symbolic }), { x });
    },
  );

  property(
    "Unique",
    shapeOf(1, 3, { max: 4 }).chain((shape) =>
      fc.record({
        shape: fc.constant(shape),
        axis: fc.option(axisOf(shape.length), { nil: undefined }),
        sorted: fc.nat(1),
        values: manyOf(fc.integer({ min: 0, max: 2 }), sizeOf(shape)),
      }),
    ),
    ({ shape, axis, sorted, values }) => {
      const x = tensor("f32", shape, values);
      return agrees(
        single(
          "Unique",
          x,
          {},
          { sorted, ...(axis === undefined ? {} : { axis }) },
          { outputs: ["y", "indices", "inverse", "counts"] },
        ),
        { x },
      );
    },
  );

  property(
    "NonMaxSuppression",
    fc.record({
      boxes: manyOf(fc.integer({ min: 0, max: 12 }), 2 * 6 * 4),
      scores: fc.shuffledSubarray(
        Array.from({ length: 24 }, (_, i) => i / 24),
        { minLength: 24 },
      ),
      most: fc.nat(4),
      iou: fc.constantFrom(0, 0.3, 0.6, 1),
      least: fc.constantFrom(0, 0.35),
      center: fc.nat(1),
    }),
    ({ boxes, scores, most, iou, least, center }) => {
      const x = tensor("f32", [2, 6, 4], boxes);
      const one = (value: number): Tensor => tensor("f32", [1], [value]);
      return agrees(
        single(
          "NonMaxSuppression",
          x,
          { scores: tensor("f32", [2, 2, 6], scores), most: i64(most), iou: one(iou), least: one(least) },
          { center_point_box: center },
        ),
        { x },
      );
    },
  );

  test("Compress, with a known condition and with an unknown one", async () => {
    const condition = tensor("bool", [3], [1, 0, 1]);
    await agrees(single("Compress", iota([2, 4]), { condition }, { axis: 1 }), { x: iota([2, 4]) });
    await agrees(
      {
        opset: 18,
        inputs: { x: { dtype: "f32", shape: ["N", 4] }, c: { dtype: "bool", shape: [3] } },
        outputs: ["y"],
        nodes: [node("Compress", ["x", "c"], ["y"], { axis: 1 })],
      },
      { x: iota([2, 4]), c: condition },
    );
  });
});

test("BitCast between binary16 and its bits keeps every number", () => {
  const numbers = Array.from({ length: 65536 }, (_, i) => i).filter((bits) => (bits & 0x7fff) <= 0x7c00);
  const bits = tensor("u16", [numbers.length], numbers);
  const cast = (x: Tensor, to: number): Tensor =>
    runInterpreted(model(single("BitCast", x, {}, { to }, { opset: 26 })), { x }).y!;
  const halves = cast(bits, 10);
  expect(halves.data).toEqual(bits.data);
  expect(cast(halves, 4).data).toEqual(bits.data);
});

describe("random numbers", () => {
  const drawn = (op: string, attributes: Record<string, AttributeSpec>, name = "r"): number[] =>
    numbersOf(
      runInterpreted(
        model({
          opset: 18,
          inputs: {},
          outputs: ["y"],
          nodes: [{ ...node(op, [], ["y"], { shape: [32, 64], ...attributes }), name }],
        }),
        {},
      ).y!,
    );
  const mean = (values: readonly number[]): number => values.reduce((a, c) => a + c, 0) / values.length;

  test("uniform numbers fill their range evenly and neighbours are unrelated", () => {
    const values = drawn("RandomUniform", { low: -1.5, high: 0.5 });
    expect(Math.min(...values)).toBeGreaterThanOrEqual(-1.5);
    expect(Math.max(...values)).toBeLessThanOrEqual(0.5);
    expect(mean(values)).toBeCloseTo(-0.5, 1);
    expect(mean(values.map((e) => (e + 0.5) ** 2))).toBeCloseTo(1 / 3, 1);
    for (const lag of [1, 2, 64])
      expect(Math.abs(mean(values.slice(lag).map((e, i) => (e + 0.5) * (values[i]! + 0.5))))).toBeLessThan(0.04);
  });

  test("normal numbers have their mean and deviation", () => {
    const values = drawn("RandomNormal", { mean: { float: 3 }, scale: { float: 2 } });
    expect(Math.abs(mean(values) - 3)).toBeLessThan(0.15);
    expect(Math.abs(Math.sqrt(mean(values.map((e) => (e - 3) ** 2))) - 2)).toBeLessThan(0.15);
  });

  test("a seed repeats, another name or seed does not", () => {
    const few = (attributes: Record<string, AttributeSpec>, name: string): number[] =>
      drawn("RandomUniform", { shape: [8], ...attributes }, name);
    expect(few({ seed: { float: 1 } }, "p")).toEqual(few({ seed: { float: 1 } }, "q"));
    expect(few({}, "p")).not.toEqual(few({}, "q"));
    expect(few({ seed: { float: 1 } }, "p")).not.toEqual(few({ seed: { float: 2 } }, "p"));
  });

  test("Multinomial and Bernoulli follow their probabilities", () => {
    const logits = tensor("f32", [1, 3], [Math.log(0.2), Math.log(0.5), Math.log(0.3)]);
    const samples = numbersOf(
      runInterpreted(model(single("Multinomial", logits, {}, { sample_size: 1500 })), { x: logits }).y!,
    );
    [0.2, 0.5, 0.3].forEach((p, k) => expect(Math.abs(samples.filter((s) => s === k).length / 1500 - p)).toBeLessThan(0.04));
    const p = tensor("f32", [1500], new Array(1500).fill(0.25));
    expect(Math.abs(mean(numbersOf(runInterpreted(model(single("Bernoulli", p, {}, {})), { x: p }).y!)) - 0.25)).toBeLessThan(
      0.04,
    );
  });

  test("a training Dropout scales what it keeps", () => {
    const x = tensor(
      "f32",
      ["N"].map(() => 1500),
      new Array(1500).fill(1),
    );
    const spec = {
      ...single(
        "Dropout",
        x,
        { ratio: tensor("f32", [], [0.2]), training: tensor("bool", [], [1]) },
        {},
        { symbolic: true, outputs: ["y", "mask"] },
      ),
    };
    const { y, mask } = runInterpreted(model(spec), { x });
    expect(Math.abs(mean(numbersOf(mask!)) - 0.8)).toBeLessThan(0.04);
    expect(numbersOf(y!)).toEqual(numbersOf(mask!).map((kept) => (kept ? Math.fround(1.25) : 0)));
  });
});
