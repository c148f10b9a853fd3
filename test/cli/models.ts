// Tiny models for the command line's tests.

import onnxProto from "onnx-proto";
import { encodeModel } from "../../src/importer/proto.ts";
import { type Tensor, tensor } from "../../src/ir/tensor.ts";
import { dtypeFacts } from "../../src/ir/types.ts";
import { model } from "../support/onnx-model.ts";

export const range = (shape: readonly number[], scale = 1): Tensor =>
  tensor(
    "f32",
    shape,
    Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => scale * (i % 7) - scale * 3),
  );
export const ints = (values: readonly number[]): Tensor => tensor("i64", [values.length], values);

/** y = relu(x · w + c), two free rows. */
export const perceptron = (): Uint8Array =>
  model({
    opset: 17,
    inputs: { x: { dtype: "f32", shape: ["N", 4] } },
    outputs: ["y"],
    nodes: [
      { op: "MatMul", name: "/fc/MatMul", inputs: ["x", "w"], outputs: ["p"] },
      { op: "Add", name: "/fc/Add", inputs: ["p", "c"], outputs: ["s"] },
      { op: "Relu", name: "/act/Relu", inputs: ["s"], outputs: ["y"] },
    ],
    initializers: { w: range([4, 3], 0.5), c: range([3]) },
  });

/** y = x reshaped as the input `shape` says. */
export const reshaper = (): Uint8Array =>
  model({
    opset: 17,
    inputs: { x: { dtype: "f32", shape: [2, 3] }, shape: { dtype: "i64", shape: [2] } },
    outputs: ["y"],
    nodes: [{ op: "Reshape", name: "resize", inputs: ["x", "shape"], outputs: ["y"] }],
  });

/** One node over inputs of fixed shapes. */
export const single = (
  op: string,
  shapes: readonly (readonly number[])[],
  attributes: Readonly<Record<string, number>> = {},
): Uint8Array =>
  model({
    opset: 17,
    inputs: Object.fromEntries(shapes.map((shape, i) => [`x${i}`, { dtype: "f32" as const, shape }])),
    outputs: ["y"],
    nodes: [{ op, name: "the_node", inputs: shapes.map((_, i) => `x${i}`), outputs: ["y"], attributes }],
  });

/** A weight in a file "weights.bin" beside the model. */
export const external = (): Uint8Array =>
  encodeModel({
    irVersion: 8,
    opsetImport: [{ domain: "", version: 17 }],
    graph: {
      name: "g",
      node: [{ opType: "Add", name: "add", input: ["x", "w"], output: ["y"] }],
      input: [{ name: "x", type: { tensorType: { elemType: 1, shape: { dim: [{ dimValue: 4 }] } } } }],
      output: [{ name: "y" }],
      initializer: [
        {
          name: "w",
          dataType: 1,
          dims: [4],
          dataLocation: 1,
          externalData: [
            { key: "location", value: "weights.bin" },
            { key: "offset", value: "4" },
            { key: "length", value: "16" },
          ],
        },
      ],
    },
  });

/** The bytes of a TensorProto, as in test_data_set_0/input_0.pb. */
export const tensorFile = ({ dtype, shape, data }: Tensor): Uint8Array =>
  onnxProto.onnx.TensorProto.encode({
    dataType: dtypeFacts[dtype].onnx,
    dims: [...shape],
    rawData: new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
  }).finish();
