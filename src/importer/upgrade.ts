// Nodes of old operator sets in the words of a newer one. What an operator took as an attribute it takes as an input later on,
// and some defaults changed. ONNX: https://onnx.ai/onnx/operators/ (the "diff" of each version)

import type { Attribute, GraphNode } from "../ir/graph.ts";
import { type Tensor, tensor } from "../ir/tensor.ts";
import { makeValue, type Value } from "../ir/value.ts";
import { AttributeReader } from "../ops/define.ts";
import { unsupportedAttribute } from "../util/errors.ts";

/** A node as it is written. */
export type Upgrade = Pick<GraphNode, "name" | "op" | "domain" | "inputs" | "outputs" | "attributes">;
type Attributes = Record<string, Attribute>;

interface Change {
  /** The version from which the operator has the new form. */
  readonly since: number;
  readonly ops: readonly string[];
  readonly change: (node: GraphNode, read: AttributeReader) => Partial<Upgrade>;
}

const int = (value: number): Attribute => ({ kind: "int", value });
const text = (value: string): Attribute => ({ kind: "string", value });
const constant = (node: GraphNode, role: string, data: Tensor): Value => ({
  ...makeValue(`${node.name}/${role}`, data.dtype, data.shape),
  data,
});
const i64 = (node: GraphNode, role: string, values: readonly number[]): Value =>
  constant(node, role, tensor("i64", [values.length], values));

/** The attributes without some, and with others. */
const attributes = (node: GraphNode, without: readonly string[], more: Attributes = {}): ReadonlyMap<string, Attribute> =>
  new Map([...[...node.attributes].filter(([name]) => !without.includes(name)), ...Object.entries(more)]);

/** The inputs with `value` at `at`. */
const withInput = ({ inputs }: GraphNode, at: number, value: Value | undefined): readonly (Value | undefined)[] =>
  value ? [...Array.from({ length: at }, (_, i) => inputs[i]), value, ...inputs.slice(at + 1)] : inputs;

/** A list of integers that becomes input `at`. */
const listToInput =
  (name: string, at: number) =>
  (node: GraphNode, read: AttributeReader): Partial<Upgrade> => {
    const values = read.ints(name);
    return { inputs: withInput(node, at, values && i64(node, name, values)), attributes: attributes(node, [name]) };
  };

/** Softmax and its kin flattened what is behind the axis; where that is nothing, or of size 1, it makes no difference. */
function lastAxisOnly(node: GraphNode, read: AttributeReader): Partial<Upgrade> {
  const shape = node.inputs[0]!.shape;
  const axis = read.int("axis", 1);
  const at = axis < 0 ? axis + shape.length : axis;
  if (!shape.slice(at + 1).every((dim) => dim === 1))
    throw unsupportedAttribute(
      node,
      `axis=${axis} of version ${node.opset}, which flattens what is behind it, cannot be written in version 13`,
      "the last axis",
    );
  return { attributes: attributes(node, [], { axis: int(at) }) };
}

const CHANGES: readonly Change[] = [
  {
    since: 5,
    ops: ["Reshape"],
    change: (node, read) => ({
      inputs: withInput(node, 1, i64(node, "shape", read.ints("shape") ?? [])),
      attributes: attributes(node, ["shape", "consumed_inputs"]),
    }),
  },
  {
    since: 7,
    ops: ["Add", "Sub", "Mul", "Div", "Pow", "And", "Or", "Xor", "Equal", "Greater", "Less", "Gemm", "PRelu"],
    change: (node, read) => {
      if (read.int("axis") !== undefined)
        throw unsupportedAttribute(
          node,
          `axis, by which version ${node.opset} broadcasts`,
          "operands that broadcast as NumPy's do",
        );
      return { attributes: attributes(node, ["broadcast", "consumed_inputs"]) };
    },
  },
  {
    since: 9,
    ops: ["BatchNormalization"],
    change: (node) => ({ attributes: attributes(node, ["spatial", "is_test", "consumed_inputs"]) }),
  },
  {
    since: 10,
    ops: ["Slice"],
    change: (node, read) => {
      const starts = read.ints("starts") ?? [];
      const lists = [starts, read.ints("ends") ?? [], read.ints("axes") ?? starts.map((_, i) => i)];
      return {
        inputs: [node.inputs[0], ...lists.map((values, i) => i64(node, ["starts", "ends", "axes"][i]!, values))],
        attributes: new Map(),
      };
    },
  },
  {
    since: 10,
    ops: ["TopK"],
    change: (node, read) => ({
      inputs: withInput(node, 1, i64(node, "k", [read.int("k", 1)])),
      attributes: attributes(node, ["k"]),
    }),
  },
  {
    since: 11,
    ops: ["Resize"],
    change: (node, read) => ({ inputs: [node.inputs[0], undefined, node.inputs[1]], attributes: resizeAsBefore(read) }),
  },
  {
    since: 11,
    ops: ["Upsample"],
    change: (node, read) => {
      const factors = read.floats("scales");
      const scales = factors ? constant(node, "scales", tensor("f32", [factors.length], factors)) : node.inputs[1];
      return { op: "Resize", inputs: [node.inputs[0], undefined, scales], attributes: resizeAsBefore(read) };
    },
  },
  {
    since: 11,
    ops: ["Clip"],
    change: (node, read) => {
      const bound = (name: string): Value | undefined => {
        const value = read.float(name);
        return value === undefined ? undefined : constant(node, name, tensor(node.inputs[0]!.dtype, [], [value]));
      };
      return { inputs: [node.inputs[0], bound("min"), bound("max")], attributes: new Map() };
    },
  },
  {
    since: 11,
    ops: ["Pad"],
    change: (node, read) => {
      const value = constant(node, "value", tensor(node.inputs[0]!.dtype, [], [read.float("value", 0)]));
      return {
        inputs: [node.inputs[0], i64(node, "pads", read.ints("pads") ?? read.ints("paddings") ?? []), value],
        attributes: attributes(node, ["pads", "paddings", "value"]),
      };
    },
  },
  {
    since: 12,
    ops: ["Dropout"],
    change: (node) => ({ op: "Identity", outputs: node.outputs.slice(0, 1), attributes: new Map() }),
  },
  { since: 13, ops: ["Softmax", "LogSoftmax", "Hardmax"], change: lastAxisOnly },
  { since: 13, ops: ["Squeeze", "Unsqueeze", "ReduceSum"], change: listToInput("axes", 1) },
  { since: 13, ops: ["Split"], change: listToInput("split", 1) },
  {
    since: 18,
    ops: [
      "ReduceMean",
      "ReduceMax",
      "ReduceMin",
      "ReduceProd",
      "ReduceL1",
      "ReduceL2",
      "ReduceLogSum",
      "ReduceLogSumExp",
      "ReduceSumSquare",
    ],
    change: listToInput("axes", 1),
  },
];

const resizeAsBefore = (read: AttributeReader): ReadonlyMap<string, Attribute> =>
  new Map(
    Object.entries({
      mode: text(read.string("mode", "nearest")),
      coordinate_transformation_mode: text("asymmetric"),
      nearest_mode: text("floor"),
    }),
  );

/** The node as version `opset` of ONNX's own operators has it; other domains' nodes as they are. Error K204 where it cannot be said. */
export function upgradeNode(node: GraphNode, opset: number): readonly Upgrade[] {
  if (node.domain !== "") return [node];
  let upgraded: GraphNode = node;
  for (const { since, ops, change } of CHANGES) {
    if (upgraded.opset >= since || opset < since || !ops.includes(upgraded.op)) continue;
    upgraded = { ...upgraded, ...change(upgraded, new AttributeReader(upgraded, upgraded.attributes)), opset: since };
  }
  return [upgraded];
}
