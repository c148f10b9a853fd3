// Graph text reads back exactly: structure, types, symbols, attributes, constants to the bit.

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import * as dims from "../../src/ir/dims.ts";
import type { Attribute, Graph, GraphNode } from "../../src/ir/graph.ts";
import { allocate, arrayOfBytes, type Tensor, tensor } from "../../src/ir/tensor.ts";
import { parseGraph, printGraph, type TensorTable } from "../../src/ir/text.ts";
import { DTYPES, dtypeFacts } from "../../src/ir/types.ts";
import type { Value } from "../../src/ir/value.ts";

const N = dims.symbol("N");
const value = (name: string, shape: Value["shape"] = [N, 2], more: Partial<Value> = {}): Value => ({
  name,
  dtype: "f32",
  shape,
  ...more,
});
const node = (
  name: string,
  inputs: GraphNode["inputs"],
  outputs: GraphNode["outputs"],
  attributes: Record<string, Attribute> = {},
  more: Partial<GraphNode> = {},
): GraphNode => ({
  name,
  origins: [name],
  op: "Op",
  domain: "",
  opset: 13,
  inputs,
  outputs,
  attributes: new Map(Object.entries(attributes)),
  ...more,
});
/** Plain data of a graph in which values are told apart by name. */
const plain = (graph: Graph): unknown =>
  JSON.parse(
    JSON.stringify(graph, (_, v: unknown) => {
      if (v instanceof Map) return [...v];
      if (ArrayBuffer.isView(v))
        return `${v.constructor.name} ${Buffer.from(v.buffer, v.byteOffset, v.byteLength).toString("hex")}`;
      if (typeof v === "number") return Object.is(v, -0) ? "-0" : Number.isFinite(v) ? v : String(v);
      return v === undefined ? "absent" : v;
    }),
  );
function roundTrip(graph: Graph, inline?: number): string {
  const data: TensorTable = new Map();
  const text = printGraph(graph, inline === undefined ? { data } : { data, inline });
  const back = parseGraph(text, data);
  expect(plain(back)).toEqual(plain(graph));
  expect(printGraph(back, inline === undefined ? {} : { inline })).toBe(text);
  return text;
}

it("prints one line a value and node", () => {
  const x = value("x");
  const w: Value = { ...value("w", [2]), data: tensor("f32", [2], [0.1, -2]) };
  const y = value("y", [N, dims.add(dims.floorDiv(dims.symbol("H"), 2), 1)]);
  const graph: Graph = {
    name: "main",
    inputs: [x],
    nodes: [
      node(
        "/conv",
        [x, undefined, w],
        [y],
        { alpha: { kind: "float", value: Math.fround(0.1) } },
        { op: "Conv", origins: ["/conv", "bn"] },
      ),
    ],
    outputs: [
      { name: "y", value: y },
      { name: "again", value: y },
    ],
  };
  expect(roundTrip(graph)).toBe(`graph "main" {
  input x: f32[N, 2]
  const w: f32[2] = [0.1, -2]
  y: f32[N, (H/2)+1] = Conv.13(x, _, w) { alpha: 0.1f } as /conv from (/conv, bn)
  output y
  output again = y
}
`);
});

it("keeps every kind of attribute", () => {
  const [x, y] = [value("x"), value("y")];
  const attributes: Record<string, Attribute> = {
    int: { kind: "int", value: -3 },
    big: { kind: "int", value: Number.MAX_SAFE_INTEGER },
    float: { kind: "float", value: 2 },
    tenth: { kind: "float", value: 0.1 },
    single: { kind: "float", value: Math.fround(1e-7) },
    zero: { kind: "float", value: -0 },
    infinite: { kind: "float", value: Number.NEGATIVE_INFINITY },
    nan: { kind: "float", value: Number.NaN },
    string: { kind: "string", value: 'a "b"\n\\ü' },
    ints: { kind: "ints", value: [1, -2] },
    floats: { kind: "floats", value: [1, 0.5, Number.POSITIVE_INFINITY] },
    strings: { kind: "strings", value: ["", "_"] },
    noInts: { kind: "ints", value: [] },
    noFloats: { kind: "floats", value: [] },
    noStrings: { kind: "strings", value: [] },
    tensor: { kind: "tensor", value: tensor("i64", [], [7]) },
    "odd name": { kind: "tensor", value: tensor("f16", [2, 0], []) },
  };
  roundTrip({ name: "g", inputs: [x], nodes: [node("n", [x], [y], attributes)], outputs: [{ name: "y", value: y }] });
});

it("keeps contents, promises, absent outputs, domains and odd names", () => {
  const x = value("input", [2], { dtype: "i64", assumed: tensor("i64", [2], [3, 4]) });
  const y = value("_", [2], { dtype: "i64", contents: [N, dims.mul(N, -1)] });
  const z = value("a:0 ]", [], { dtype: "bool" });
  const graph: Graph = {
    name: "",
    inputs: [x],
    outputs: [{ name: "output", value: z }],
    nodes: [
      node("as", [x], [undefined, y], {}, { domain: "com.microsoft", origins: [] }),
      node("from", [y, undefined], [z, undefined], {}, { origins: ["a b", "from"] }),
    ],
  };
  roundTrip(graph);
});

it("keeps nested graphs and what they capture", () => {
  const [x, c] = [value("x", [2]), value("c", [], { dtype: "bool" })];
  const two: Value = { ...value("two", []), data: tensor("f32", [], [2]) };
  const branch = (name: string): Graph => {
    const inner = value("p", []);
    return { name, inputs: [], nodes: [node("mul", [x, two], [inner])], outputs: [{ name: "p", value: inner }] };
  };
  const y = value("y");
  roundTrip({
    name: "g",
    inputs: [x, c],
    outputs: [{ name: "y", value: y }],
    nodes: [
      node("if", [c], [y], {
        then_branch: { kind: "graph", value: branch("t") },
        else_branch: { kind: "graph", value: branch("e") },
      }),
    ],
  });
});

it("tells values of one name apart", () => {
  const [x, a, b] = [value("x"), value("same"), value("same")];
  const graph: Graph = {
    name: "g",
    inputs: [x],
    nodes: [node("one", [x], [a]), node("two", [a], [b])],
    outputs: [{ name: "y", value: b }],
  };
  const back = parseGraph(printGraph(graph));
  expect(back.nodes[1]!.inputs[0]).toBe(back.nodes[0]!.outputs[0]);
  expect(back.outputs[0]!.value).toBe(back.nodes[1]!.outputs[0]);
});

describe("constants", () => {
  const graphOf = (data: Tensor): Graph => ({
    name: "g",
    inputs: [],
    nodes: [],
    outputs: [{ name: "c", value: { name: "c", dtype: data.dtype, shape: data.shape, data } }],
  });

  it("are kept to the bit, whatever the bits", () => {
    const bytes = fc.uint8Array({ minLength: 48, maxLength: 48 });
    fc.assert(
      fc.property(fc.constantFrom(...DTYPES), bytes, (dtype, raw) => {
        const source = dtype === "bool" ? raw.map((b) => b & 1) : raw;
        const data = arrayOfBytes(dtype, source.slice(0, 6 * dtypeFacts[dtype].bytes));
        roundTrip(graphOf({ dtype, shape: [2, 3], data }));
      }),
      { numRuns: 300 },
    );
  });

  it("print floats as the shortest decimals of their type", () => {
    const text = (data: Tensor): string => /= (.*)\n/.exec(printGraph(graphOf(data)))![1]!;
    expect(text(tensor("f32", [5], [0.1, 1e-30, -0, 3, Number.POSITIVE_INFINITY]))).toBe("[0.1, 1e-30, -0, 3, inf]");
    expect(text(tensor("f16", [2], [0.1, 65504]))).toBe("[0.1, 65500]");
    expect(text(tensor("f64", [], [0.1]))).toBe("0.1");
    expect(text(tensor("bool", [2], [1, 0]))).toBe("[true, false]");
  });

  it("above the limit go to the table, equal ones once", () => {
    const data = tensor(
      "f32",
      [17],
      Array.from({ length: 17 }, (_, i) => i),
    );
    const table: TensorTable = new Map();
    const text = printGraph(graphOf(data), { data: table });
    printGraph(graphOf({ ...data, data: data.data.slice() }), { data: table });
    expect(table.size).toBe(1);
    expect(text).toMatch(/= #[0-9a-f]{32}\n/);
    expect(() => parseGraph(text)).toThrow(/K109 .*line 2.* not in the table/);
    roundTrip(graphOf({ dtype: "u8", shape: [300], data: allocate("u8", 300) }));
  });
});

it("says where text is wrong", () => {
  expect(() => parseGraph('graph "g" {\n  input x: f32[2]\n  y = Relu.14(z) as n\n}')).toThrow(
    'K109 bad-graph-text  line 3: no value "z" before this',
  );
  expect(() => parseGraph('graph "g" {\n  input x: f99[2]\n}')).toThrow('line 2: expected an element type, found "f99"');
  expect(() => parseGraph('graph "g" {\n  const x: f32[2] = [1]\n}')).toThrow("1 elements for the shape [2]");
  expect(() => parseGraph('graph "g" {\n  const x: f32[N] = [1]\n}')).toThrow("a constant of the shape [N]");
  expect(() => parseGraph('graph "g" {\n  input x: f32[N+]\n}')).toThrow("K109");
  expect(() => parseGraph('graph "g" {\n} more')).toThrow("expected the end of the text");
  expect(() => parseGraph('graph "g" {')).toThrow("K109");
  expect(() => parseGraph('graph "g" {\n  input x: f32[N\n}')).toThrow("K109");
});

it("reads any dimension that dims.ts prints", () => {
  const names = fc.constantFrom("N", "batch size", "max", "a.b", "x]y");
  const dim: fc.Arbitrary<dims.Dim> = fc.letrec<{ dim: dims.Dim }>((tie) => ({
    dim: fc.oneof(
      { maxDepth: 3 },
      fc.integer({ min: 0, max: 9 }),
      names.map(dims.symbol),
      fc
        .tuple(fc.constantFrom(dims.mul, dims.sub, dims.max, dims.min), tie("dim"), tie("dim"))
        .map(([combine, a, b]) => combine(a, b)),
      fc
        .tuple(fc.constantFrom(dims.floorDiv, dims.mod), tie("dim"), fc.integer({ min: 2, max: 5 }))
        .map(([divide, a, b]) => divide(a, b)),
    ),
  })).dim;
  fc.assert(
    fc.property(fc.array(dim, { maxLength: 4 }), (shape) => {
      fc.pre(shape.every((d) => (dims.isStatic(d) ? d >= 0 && Number.isSafeInteger(d) : true)));
      const x = value("x", shape);
      const back = parseGraph(printGraph({ name: "g", inputs: [x], nodes: [], outputs: [] }));
      expect(dims.shapeText(back.inputs[0]!.shape)).toBe(dims.shapeText(shape));
    }),
    { numRuns: 200 },
  );
});
