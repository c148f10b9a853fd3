// Rare and old forms: optionals that hold tensors, sparse tensors, attributes of the first versions, and what is refused.

import { describe, expect, test } from "vitest";
import { importModel } from "../../src/importer/import.ts";
import { decodeModel, encodeModel, type SparseTensorProto } from "../../src/importer/proto.ts";
import { numbersOf, type Tensor, tensor } from "../../src/ir/tensor.ts";
import { modelOf } from "../support/agreement.ts";
import { runInterpreted } from "../support/interpret-model.ts";
import { model } from "../support/onnx-model.ts";
import { runOnnxRuntime } from "../support/onnxruntime.ts";

const run = (spec: Parameters<typeof modelOf>[0]): Tensor => {
  const { bytes, fed } = modelOf(spec);
  return runInterpreted(bytes, fed).y!;
};
const x = tensor("f32", [2, 3], [1, 2, 3, 4, 5, 6]);

describe("optionals", () => {
  test("a tensor is an optional that has its element", () => {
    expect(run({ op: "OptionalGetElement", opset: 18, inputs: { x } })).toEqual(x);
    expect(run({ op: "OptionalHasElement", opset: 18, inputs: { x } })).toEqual(tensor("bool", [], [1]));
    expect(run({ op: "OptionalHasElement", opset: 18, inputs: {} })).toEqual(tensor("bool", [], [0]));
  });
});

describe("sparse tensors", () => {
  const i64 = (dims: number[], values: readonly number[]) => ({ dataType: 7, dims, int64Data: [...values] });
  const values = { name: "s", dataType: 1, dims: [3], floatData: [7, -8, 9] };
  const coordinates: readonly (readonly number[])[] = [
    [0, 1],
    [1, 0],
    [1, 2],
  ];
  const forms: Readonly<Record<string, SparseTensorProto>> = {
    "positions in the flat tensor": { values, indices: i64([3], [1, 3, 5]), dims: [2, 3] },
    "a coordinate for each axis": { values, indices: i64([3, 2], coordinates.flat()), dims: [2, 3] },
  };
  const sum = model({
    opset: 17,
    inputs: { x: { dtype: "f32", shape: [2, 3] } },
    outputs: ["y"],
    nodes: [{ op: "Add", inputs: ["x", "s"], outputs: ["y"] }],
    initializers: { s: x },
  });

  test.each(Object.entries(forms))("an initializer by %s", async (_, sparse) => {
    const { graph, ...rest } = decodeModel(sum, "sum");
    const bytes = encodeModel({ ...rest, graph: { ...graph, initializer: [], sparseInitializer: [sparse] } });
    const expected = numbersOf((await runOnnxRuntime(bytes, { x })).y!);
    expect(numbersOf(runInterpreted(bytes, { x }).y!)).toEqual(expected);
    expect(expected).toEqual([1, 9, 3, -4, 5, 15]);
  });

  test("a Constant", async () => {
    const { graph, ...rest } = decodeModel(sum, "sum");
    const sparseTensor = forms["positions in the flat tensor"]!;
    const constant = { opType: "Constant", output: ["s"], attribute: [{ name: "sparse_value", type: 11, sparseTensor }] };
    const bytes = encodeModel({ ...rest, graph: { ...graph, initializer: [], node: [constant, ...graph!.node!] } });
    expect(numbersOf(runInterpreted(bytes, { x }).y!)).toEqual(numbersOf((await runOnnxRuntime(bytes, { x })).y!));
  });

  test("an index outside is refused by name", () => {
    const { graph, ...rest } = decodeModel(sum, "sum");
    const sparseInitializer = [{ values, indices: i64([3], [1, 3, 6]), dims: [2, 3] }];
    expect(() => importModel(encodeModel({ ...rest, graph: { ...graph, initializer: [], sparseInitializer } }))).toThrow(
      /tensor "s".*value 2/,
    );
  });
});

describe("attributes of the first versions", () => {
  test("Pad has its widths in `paddings`, Reshape its sizes in `shape`", () => {
    const padded = run({ op: "Pad", opset: 1, attributes: { paddings: [0, 1, 0, 1], value: { float: 9 } }, inputs: { x } });
    expect(padded).toEqual(tensor("f32", [2, 5], [9, 1, 2, 3, 9, 9, 4, 5, 6, 9]));
    expect(run({ op: "Reshape", opset: 1, attributes: { shape: [3, -1] }, inputs: { x } })).toEqual({ ...x, shape: [3, 2] });
  });
});

test("Range takes its precision and makes elements in f32", () => {
  const scalar = (value: number): Tensor => tensor("f16", [], [value]);
  const inputs = { start: scalar(1), limit: scalar(2), delta: scalar(0.1) };
  const made = numbersOf(
    run({ op: "Range", opset: 27, attributes: { stash_type: 1 }, inputs, constants: Object.keys(inputs) }),
  );
  const delta = numbersOf(inputs.delta)[0]!;
  expect(made).toEqual(
    numbersOf(
      tensor(
        "f16",
        [11],
        Array.from({ length: 11 }, (_, i) => 1 + i * delta),
      ),
    ),
  );
});

test.each([
  ["SequenceEmpty", "sequences are not supported"],
  ["Optional", "optional types are not supported"],
  ["StringConcat", "strings are not supported"],
])("%s is refused: %s", (op, why) => {
  const { bytes } = modelOf({ op, opset: 20, inputs: { x } });
  expect(() => importModel(bytes)).toThrow(expect.objectContaining({ code: "K201", why: expect.stringContaining(why) }));
});
