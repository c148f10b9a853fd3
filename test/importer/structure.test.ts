// What files are made of beside operators: functions, names, constants, inputs and outputs that are odd but allowed. Each model
// against ONNX Runtime, in the interpreter and on the device.

import { describe, test } from "vitest";
import { decodeModel, encodeModel, type FunctionProto, type NodeProto } from "../../src/importer/proto.ts";
import { type Tensor, tensor } from "../../src/ir/tensor.ts";
import { modelAgrees, onDevice } from "../support/agreement.ts";
import { type AttributeSpec, type ModelSpec, model, type NodeSpec } from "../support/onnx-model.ts";

const f32 = (shape: readonly number[], ...values: number[]): Tensor => tensor("f32", shape, values);
const x = f32([2, 3], 1, -2, 3, -4, 5, -6);
const declared = (inputs: Readonly<Record<string, Tensor>>): ModelSpec["inputs"] =>
  Object.fromEntries(Object.entries(inputs).map(([name, { dtype, shape }]) => [name, { dtype, shape }]));
const node = (op: string, inputs: string[], outputs: string[], attributes: Record<string, AttributeSpec> = {}): NodeSpec => ({
  op,
  inputs,
  outputs,
  attributes,
});

/** The model on both, with `inputs` as they are declared unless `spec` says otherwise. */
async function agrees(
  spec: Omit<ModelSpec, "inputs" | "opset"> & Partial<ModelSpec>,
  inputs: Readonly<Record<string, Tensor>> = { x },
): Promise<void> {
  await both(model({ opset: 17, inputs: declared(inputs), ...spec }), inputs, spec.outputs);
}
async function both(bytes: Uint8Array, inputs: Readonly<Record<string, Tensor>>, outputs: readonly string[]): Promise<void> {
  await modelAgrees(bytes, inputs, outputs);
  await onDevice(() => modelAgrees(bytes, inputs, outputs));
}

describe("values", () => {
  test("initializers, inputs and one value twice as outputs", () =>
    agrees({
      outputs: ["w", "x", "y", "z"],
      initializers: { w: f32([3], 7, 8, 9) },
      nodes: [node("Add", ["x", "w"], ["y"]), node("Identity", ["y"], ["z"])],
    }));

  test("inputs and results that nobody reads", () =>
    agrees(
      { outputs: ["y"], nodes: [node("Relu", ["x"], ["y"]), node("Exp", ["unread"], ["lost"])] },
      { x, unread: f32([1], 2) },
    ));

  test("a weight that is listed as an input", () =>
    agrees({
      inputs: { x: { dtype: "f32", shape: [2, 3] }, w: { dtype: "f32", shape: [3] } },
      outputs: ["y"],
      initializers: { w: f32([3], 7, 8, 9) },
      nodes: [node("Mul", ["x", "w"], ["y"])],
    }));

  test("optional inputs in the middle that are left out", () =>
    agrees({
      outputs: ["y", "z"],
      initializers: { high: f32([], 2), sizes: tensor("i64", [4], [1, 1, 4, 6]) },
      nodes: [
        node("Clip", ["x", "", "high"], ["y"]),
        node("Unsqueeze", ["x", "axes"], ["image"]),
        node("Constant", [], ["axes"], { value: tensor("i64", [2], [0, 1]) }),
        node("Resize", ["image", "", "", "sizes"], ["z"], { mode: "nearest" }),
      ],
    }));

  test("scalars", () =>
    agrees(
      {
        outputs: ["y", "z"],
        nodes: [
          node("Mul", ["a", "b"], ["y"]),
          node("ReduceSum", ["x"], ["sum"], { keepdims: 0 }),
          node("Add", ["sum", "a"], ["z"]),
        ],
      },
      { a: f32([], 3), b: f32([], -4), x },
    ));

  test("dimensions of no length", () =>
    agrees(
      {
        outputs: ["joined", "sums", "product", "nothing"],
        nodes: [
          node("Concat", ["empty", "x"], ["joined"], { axis: 0 }),
          node("ReduceSum", ["empty", "first"], ["sums"]),
          node("MatMul", ["thin", "flat"], ["product"]),
          node("Relu", ["empty"], ["nothing"]),
        ],
        initializers: { first: tensor("i64", [1], [0]) },
      },
      { empty: f32([0, 3]), x, thin: f32([2, 0]), flat: f32([0, 2]) },
    ));

  test("dimensions of no length that only the run knows", () =>
    agrees(
      {
        inputs: { past: { dtype: "f32", shape: ["P", 3] }, x: { dtype: "f32", shape: ["N", 3] } },
        outputs: ["present"],
        nodes: [node("Concat", ["past", "x"], ["present"], { axis: 0 })],
      },
      { past: f32([0, 3]), x },
    ));
});

describe("names", () => {
  const names = ["0", "a:b", "/layer.0/x", '{"json": [1]}', " ", "é𝛼", "constructor", "toString", "with\nline", "i0"];
  test("of values and nodes may be anything", () =>
    agrees(
      {
        outputs: names.slice(1),
        nodes: names.slice(1).map((name, i): NodeSpec => ({ ...node("Softsign", [names[i]!], [name]), name: names[i]! })),
      },
      { [names[0]!]: f32([2], -1, -2) },
    ));

  test("of nodes may be missing", () =>
    agrees({
      outputs: ["z"],
      nodes: [
        { ...node("Relu", ["x"], ["y"]), name: "" },
        { ...node("Relu", ["y"], ["z"]), name: "" },
      ],
    }));

  test("of dimensions may be those of values", () =>
    agrees({
      inputs: { x: { dtype: "f32", shape: ["x", "a*b"] } },
      outputs: ["y"],
      nodes: [node("Transpose", ["x"], ["y"])],
    }));
});

test("1800 Constant nodes, in no order", () => {
  const count = 1800;
  const constants = Array.from({ length: count }, (_, i) => node("Constant", [], [`c${i}`], { value: f32([], (i % 7) - 3) }));
  const sums = Array.from({ length: count }, (_, i) => node("Add", [i === 0 ? "x" : `s${i - 1}`, `c${i}`], [`s${i}`]));
  return agrees({ outputs: [`s${count - 1}`], nodes: [...sums, ...constants] });
});

describe("local functions", () => {
  const call = (op: string, input: string[], output: string[], alpha?: number): NodeProto => ({
    opType: op,
    domain: "local",
    input,
    output,
    attribute: alpha === undefined ? [] : [{ name: "alpha", type: 1, f: alpha }],
  });
  /** y = LeakyRelu(a) with the caller's alpha, plus b where there is one. */
  const leaky: FunctionProto = {
    name: "Leaky",
    domain: "local",
    input: ["a"],
    output: ["y"],
    attribute: ["alpha"],
    opsetImport: [{ domain: "", version: 17 }],
    node: [
      { opType: "LeakyRelu", input: ["a"], output: ["inner"], attribute: [{ name: "alpha", refAttrName: "alpha", type: 1 }] },
      { opType: "Identity", input: ["inner"], output: ["y"] },
    ],
  };
  /** Calls the other one twice. */
  const twice: FunctionProto = {
    name: "Twice",
    domain: "local",
    input: ["a"],
    output: ["first", "second"],
    opsetImport: [
      { domain: "", version: 17 },
      { domain: "local", version: 1 },
    ],
    node: [call("Leaky", ["a"], ["first"], 0.5), call("Leaky", ["first"], ["second"], 0.25)],
  };
  const withFunctions = (outputs: string[], nodes: NodeProto[]): Uint8Array => {
    const { graph, opsetImport, ...rest } = decodeModel(
      model({ opset: 17, inputs: declared({ x }), outputs, nodes: [] }),
      "functions",
    );
    return encodeModel({
      ...rest,
      opsetImport: [...opsetImport!, { domain: "local", version: 1 }],
      functions: [leaky, twice],
      graph: { ...graph, node: nodes },
    });
  };

  test("with attributes of the caller's, each call on its own", () =>
    both(withFunctions(["y", "z"], [call("Leaky", ["x"], ["y"], 0.1), call("Leaky", ["y"], ["z"], 0.3)]), { x }, ["y", "z"]));

  test("that call functions", () => both(withFunctions(["p", "q"], [call("Twice", ["x"], ["p", "q"])]), { x }, ["p", "q"]));
});
