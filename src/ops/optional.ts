// Operators on optionals, where what they are given is a tensor: optional types themselves are not supported.
// ONNX: https://onnx.ai/onnx/operators/onnx__OptionalHasElement.html https://onnx.ai/onnx/operators/onnx__OptionalGetElement.html

import { scalarTensor } from "../ir/tensor.ts";
import { defineOp, need, type Operator } from "./define.ts";

export const optionals: readonly Operator[] = [
  defineOp({
    name: "OptionalHasElement",
    since: [15, 18],
    lower: (b, inputs) => [b.constant(scalarTensor("bool", Number(inputs[0] !== undefined)))],
  }),
  defineOp({
    name: "OptionalGetElement",
    since: [15, 18],
    lower: (_, inputs, __, node) => [need(node, inputs, 0)],
  }),
];
