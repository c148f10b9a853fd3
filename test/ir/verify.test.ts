// Each rule that a graph must keep, broken once.

import { expect, it } from "vitest";
import type { Graph } from "../../src/ir/graph.ts";
import { tensor } from "../../src/ir/tensor.ts";
import { parseGraph } from "../../src/ir/text.ts";
import { verifyGraph } from "../../src/ir/verify.ts";
import { KilnError } from "../../src/util/errors.ts";

const good = (): Graph =>
  parseGraph(`graph "g" {
  input x: f32[2]
  input c: bool[]
  const two: f32[2] = [2, 2]
  a: f32[2] = Mul.14(x, two) as mul
  b: f32[2] = Relu.14(a) as relu
  y: f32[2] = If.16(c) { then_branch: graph "then" {
    p: f32[2] = Neg.13(a) as neg
    output p
  }, else_branch: graph "else" {
    p: f32[2] = Abs.13(b) as abs
    output p
  } } as if
  output y
}`);
const nested = (graph: Graph): Graph => {
  const attribute = graph.nodes[2]!.attributes.get("then_branch")!;
  if (attribute.kind !== "graph") throw new Error("no graph");
  return attribute.value;
};

it("accepts a good graph, constants that a node makes and results that are inputs", () => {
  const graph = good();
  graph.outputs = [
    ...graph.outputs,
    { name: "same", value: graph.inputs[0]! },
    { name: "two", value: graph.nodes[0]!.inputs[1]! },
  ];
  graph.nodes[1]!.outputs[0]!.data = tensor("f32", [2], [1, 2]);
  expect(() => verifyGraph(graph)).not.toThrow();
});

const broken: readonly (readonly [string, (graph: Graph) => void, RegExp])[] = [
  [
    "a reader before its producer",
    (g) => {
      g.nodes = [g.nodes[1]!, g.nodes[0]!, g.nodes[2]!];
    },
    /Relu "relu": reads "a", which nothing before it defines/,
  ],
  [
    "a nested reader of nothing",
    (g) => {
      nested(g).nodes[0]!.inputs = [{ name: "lost", dtype: "f32", shape: [2] }];
    },
    /Neg "neg": reads "lost"/,
  ],
  [
    "two producers",
    (g) => {
      g.nodes[1]!.outputs = g.nodes[0]!.outputs;
    },
    /Relu "relu": value "a" is defined twice/,
  ],
  [
    "a node that writes an input",
    (g) => {
      g.nodes[0]!.outputs = [g.inputs[0]!];
    },
    /value "x" is defined twice/,
  ],
  [
    "two values of one name",
    (g) => {
      g.nodes[1]!.outputs[0]!.name = "a";
    },
    /the name "a" belongs to two values/,
  ],
  [
    "a nested value with an outer name",
    (g) => {
      nested(g).nodes[0]!.outputs[0]!.name = "b";
    },
    /the name "b" belongs to two values/,
  ],
  [
    "two nodes of one name",
    (g) => {
      g.nodes = g.nodes.map((node) => ({ ...node, name: "same" }));
    },
    /two nodes have this name/,
  ],
  [
    "a node without outputs",
    (g) => {
      g.nodes = [...g.nodes, { ...g.nodes[0]!, name: "empty", outputs: [undefined] }];
    },
    /it has no output/,
  ],
  [
    "a result that nothing makes",
    (g) => {
      g.nodes = g.nodes.slice(0, 2);
    },
    /output "y": reads "y"/,
  ],
  [
    "two results of one name",
    (g) => {
      g.outputs = [g.outputs[0]!, g.outputs[0]!];
    },
    /output "y": two results have this name/,
  ],
  [
    "a constant of another type",
    (g) => {
      g.nodes[0]!.inputs[1]!.dtype = "i32";
    },
    /constant "two" is f32\[2\] but its type says i32\[2\]/,
  ],
  [
    "a constant of another shape",
    (g) => {
      g.nodes[0]!.inputs[1]!.shape = [1, 2];
    },
    /constant "two" is f32\[2\] but its type says f32\[1, 2\]/,
  ],
  [
    "a constant with too few elements",
    (g) => {
      g.nodes[0]!.inputs[1]!.data = { dtype: "f32", shape: [2], data: new Float32Array(1) };
    },
    /1 elements for the shape \[2\]/,
  ],
  [
    "contents of another length",
    (g) => {
      g.nodes[0]!.outputs[0]!.contents = [1];
    },
    /1 known elements for the shape \[2\]/,
  ],
  [
    "a negative dimension",
    (g) => {
      g.nodes[0]!.outputs[0]!.shape = [-1];
    },
    /the shape \[-1\]/,
  ],
];

it.each(broken)("refuses %s", (_, breakIt, message) => {
  const graph = good();
  breakIt(graph);
  expect(() => verifyGraph(graph)).toThrow(message);
});

it("names the rewrite that came last", () => {
  const graph = good();
  graph.nodes = [];
  try {
    verifyGraph(graph, "fold-batchnorm");
    expect.unreachable();
  } catch (error) {
    expect(error).toBeInstanceOf(KilnError);
    expect((error as KilnError).code).toBe("K901");
    expect((error as KilnError).format()).toContain('after the rewrite "fold-batchnorm"');
  }
});
