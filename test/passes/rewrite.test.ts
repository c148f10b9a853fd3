// The pattern engine: what matches, what a rewrite leaves behind, and what it costs.

import { describe, expect, it } from "vitest";
import type { Graph } from "../../src/ir/graph.ts";
import { parseGraph, printGraph } from "../../src/ir/text.ts";
import { verifyGraph } from "../../src/ir/verify.ts";
import { copyGraph } from "../../src/passes/copy.ts";
import { runPasses } from "../../src/passes/index.ts";
import type { PassContext } from "../../src/passes/pass.ts";
import { applyRules } from "../../src/passes/rewrite/driver.ts";
import { GraphEditor } from "../../src/passes/rewrite/editor.ts";
import {
  any,
  constant,
  either,
  ints,
  number,
  op,
  optional,
  type RewriteLog,
  type Rule,
  rewriteLog,
  rule,
} from "../../src/passes/rewrite/index.ts";
import { inferTypes } from "./evaluate.ts";

const graphOf = (lines: string): Graph => inferTypes(parseGraph(`graph "g" {\n${lines}\n}`));
function apply(graph: Graph, rules: readonly Rule[], log: RewriteLog = rewriteLog()): Graph {
  const context: PassContext = {
    log,
    enabled: () => true,
    strict: true,
    check: (editor, rule) => verifyGraph(editor.finish(), rule),
  };
  const editor = new GraphEditor(copyGraph(graph));
  applyRules(editor, editor.graph, rules, context);
  return editor.finish();
}
const ops = (graph: Graph): string => graph.nodes.map(({ op }) => op).join(" ");
const toAbs = (match: Parameters<typeof rule>[0]["match"]): Rule =>
  rule({ name: "test", match, rewrite: (captures, g) => g.node("Abs", [(captures as { x: Graph["inputs"][number] }).x]) });

describe("matching", () => {
  it("tries both orders of Add and Mul, and only of those", () => {
    const match = (name: string) => toAbs(op(name, [op("Relu", [any("x")]), any("y")]));
    const source = (name: string) =>
      graphOf(`input x: f32[2]\ninput y: f32[2]\nr = Relu.14(x) as r\nz = ${name}(y, r) as z\noutput z`);
    expect(ops(apply(source("Add.14"), [match("Add")]))).toBe("Abs");
    expect(ops(apply(source("Sub.14"), [match("Sub")]))).toBe("Relu Sub");
  });

  it("goes back over a choice that fails later", () => {
    // The first operand is a Neg too, but not of the captured x.
    const match = toAbs(op("Add", [op("Neg", [any("x")]), op("Neg", [op("Relu", [any("x")])])]));
    const graph = graphOf(
      "input x: f32[2]\nr = Relu.14(x) as r\na = Neg.13(r) as a\nb = Neg.13(x) as b\ny = Add.14(a, b) as y\noutput y",
    );
    expect(ops(apply(graph, [match]))).toBe("Abs");
  });

  it("takes a name that occurs twice for one value", () => {
    const match = toAbs(op("Mul", [any("x"), any("x")]));
    expect(ops(apply(graphOf("input x: f32[2]\ny = Mul.14(x, x) as y\noutput y"), [match]))).toBe("Abs");
    expect(ops(apply(graphOf("input x: f32[2]\ninput z: f32[2]\ny = Mul.14(x, z) as y\noutput y"), [match]))).toBe("Mul");
  });

  it("takes absent inputs where they are optional, and no more inputs than it lists", () => {
    const clip = (inputs: string) => graphOf(`input x: f32[2]\nconst c: f32[] = 1\ny = Clip.13(${inputs}) as y\noutput y`);
    const match = toAbs(op("Clip", [any("x"), optional(constant("low"))]));
    expect(ops(apply(clip("x"), [match]))).toBe("Abs");
    expect(ops(apply(clip("x, c"), [match]))).toBe("Abs");
    expect(ops(apply(clip("x, _, c"), [match]))).toBe("Clip");
  });

  it("takes numbers to the precision of their type, and the first alternative", () => {
    const match = toAbs(op("Mul", [any("x"), either(number(3), number(Math.SQRT1_2))]));
    const mul = (dtype: string, value: string) =>
      ops(apply(graphOf(`input x: ${dtype}[2]\nconst c: ${dtype}[1] = [${value}]\ny = Mul.14(x, c) as y\noutput y`), [match]));
    expect(mul("f32", "0.70710677")).toBe("Abs");
    expect(mul("f32", "0.7072")).toBe("Mul");
    expect(mul("f16", "0.707")).toBe("Abs");
    expect(mul("i32", "3")).toBe("Mul");
  });

  it("does not look at another graph's nodes or second outputs", () => {
    const match = toAbs(op("Neg", [op("TopK", [any("x"), any("k")])]));
    const graph = graphOf(
      "input x: f32[4]\nconst k: i64[1] = [2]\nv, i = TopK.11(x, k) as t\ny = Neg.13(i) as y\noutput y\noutput v",
    );
    expect(ops(apply(graph, [match]))).toBe("TopK Neg");
  });
});

describe("replacing", () => {
  const pair = rule({ name: "pair", match: op("Neg", [op("Neg", [any("x")], { singleUse: true })]), rewrite: ({ x }) => x });
  const chain = rule({
    name: "fuse",
    match: op("Relu", [op("Neg", [any("x")]).as("neg")]),
    rewrite: ({ x }, g) => g.node("Elu", [g.node("Abs", [x])]),
  });

  it("keeps the result's value, its name and the root's node name, and gathers origins", () => {
    const graph = graphOf("input x: f32[N]\na = Neg.13(x) as neg\ny = Relu.14(a) as relu\noutput y");
    const after = apply(graph, [chain]);
    expect(printGraph(after)).toContain(
      "relu/Abs: f32[N] = Abs.14(x) as relu/Abs from (neg, relu)\n  y: f32[N] = Elu.14(relu/Abs) as relu from (neg, relu)",
    );
  });

  it("leaves alone what has other readers", () => {
    const graph = graphOf("input x: f32[2]\na = Neg.13(x) as neg\ny = Relu.14(a) as relu\noutput y\noutput a");
    const after = apply(graph, [chain, pair]);
    expect(ops(after)).toBe("Neg Abs Elu");
    expect(after.nodes[2]!.origins).toEqual(["relu"]);
  });

  it("respects single use by results and by nested graphs", () => {
    const result = graphOf("input x: f32[2]\na = Neg.13(x) as a\ny = Neg.13(a) as b\noutput y\noutput a");
    expect(ops(apply(result, [pair]))).toBe("Neg Neg");
    const nested = graphOf(`input x: f32[2]\ninput c: bool[]\na = Neg.13(x) as a\ny = Neg.13(a) as b
      z = If.16(c) { then_branch: graph "t" {\n p = Abs.13(a) as abs\n output p\n }, else_branch: graph "e" {\n q = Exp.13(x) as exp\n output q\n } } as if\noutput y\noutput z`);
    expect(ops(apply(nested, [pair]))).toBe("Neg Neg If");
  });

  it("sees what becomes single-use", () => {
    // `a` has two readers when `b` is first looked at, and one when the Add is gone.
    const drop = rule({ name: "drop", match: op("Add", [any("y"), op("Exp", [any("x")])]), rewrite: ({ y }) => y });
    const graph = graphOf(
      "input x: f32[2]\na = Neg.13(x) as a\nb = Neg.13(a) as b\nc = Exp.13(a) as c\nd = Add.14(b, c) as d\noutput d",
    );
    expect(ops(apply(graph, [pair]))).toBe("Neg Neg Exp Add");
    expect(ops(apply(graph, [pair, drop]))).toBe("");
  });

  it("passes a value on to several results and to nested graphs", () => {
    const graph = graphOf(`input x: f32[2]\ninput c: bool[]\na = Neg.13(x) as a\nb = Neg.13(a) as b
      z = If.16(c) { then_branch: graph "t" {\n p = Abs.13(b) as abs\n output p\n }, else_branch: graph "e" {\n output b\n } } as if\noutput y = b\noutput w = b\noutput z`);
    expect(printGraph(apply(graph, [pair]))).toMatch(/Abs\.13\(x\)[\s\S]*output b = x[\s\S]*output y = x\n {2}output w = x/);
  });

  it("leaves the caller's graph as it was", () => {
    const graph = graphOf("input x: f32[2]\na = Neg.13(x) as a\ny = Neg.13(a) as b\noutput y");
    const text = printGraph(graph);
    expect(ops(apply(graph, [pair]))).toBe("");
    expect(printGraph(graph)).toBe(text);
  });

  it("leaves a match whose replacement has another type", () => {
    const wrong = rule({ name: "wrong", match: op("Neg", [any("x")]), rewrite: ({ x }, g) => g.node("IsNaN", [x]) });
    expect(ops(apply(graphOf("input x: f32[2]\ny = Neg.13(x) as n\noutput y"), [wrong]))).toBe("Neg");
    const wide = graphOf(
      "input x: f32[2]\ns = Sigmoid.13(x) as s\nconst a: f32[1, 1] = [2]\nm = Mul.14(x, a) as m\nt = Sigmoid.13(m) as t\ny = Mul.14(x, t) as y\noutput y",
    );
    expect(ops(runPasses(wide))).toBe("Mul Sigmoid Mul");
  });

  it("fails in development where inference refuses what a rule made", () => {
    const wrong = rule({
      name: "wrong",
      match: op("Neg", [any("x")]),
      rewrite: ({ x }, g) => g.node("Transpose", [x, x], { perm: ints([1, 0]) }),
    });
    expect(() => apply(graphOf("input x: f32[2]\ny = Neg.13(x) as n\noutput y"), [wrong])).toThrow(/K\d{3}/);
  });

  it("ends where rules undo each other", () => {
    const there = rule({ name: "there", match: op("Neg", [any("x")]), rewrite: ({ x }, g) => g.node("Abs", [x]) });
    const back = rule({ name: "back", match: op("Abs", [any("x")]), rewrite: ({ x }, g) => g.node("Neg", [x]) });
    expect(() => apply(graphOf("input x: f32[2]\ny = Neg.13(x) as n\noutput y"), [there, back])).toThrow(/finds no end/);
  });

  it("logs, counts and stops at the limit", () => {
    const graph = graphOf(
      "input x: f32[2]\na = Neg.13(x) as a\nb = Neg.13(a) as b\nc = Exp.13(b) as c\nd = Neg.13(c) as d\ny = Neg.13(d) as e\noutput y",
    );
    const log = rewriteLog(1);
    expect(ops(apply(graph, [pair], log))).toBe("Exp Neg Neg");
    expect(log.applied).toEqual([{ rule: "pair", node: "b" }]);
    expect([...log.counts]).toEqual([["pair", 1]]);
  });
});

it("refuses names that are no pass or rule", () => {
  expect(() => runPasses(graphOf("input x: f32[2]\noutput x"), { disable: ["fold-batchnrm"] })).toThrow(
    /K002 unknown-rewrite {2}"fold-batchnrm"/,
  );
});

describe("chains", () => {
  const chain = (count: number, link: (from: string, to: string, i: number) => string): Graph =>
    graphOf(
      `input x0: f32[4, 4]\nconst root: f32[] = 1.4142135\nconst one: f32[] = 1\nconst half: f32[] = 0.5\n${Array.from({ length: count }, (_, i) => link(`x${i}`, `x${i + 1}`, i)).join("\n")}\noutput x${count}`,
    );
  const kinds: readonly (readonly [string, number, (from: string, to: string, i: number) => string, number])[] = [
    ["identities", 1, (from, to, i) => `${to} = Identity.16(${from}) as n${i}`, 0],
    ["transposes", 1, (from, to, i) => `${to} = Transpose.13(${from}) { perm: [1, 0] } as n${i}`, 0],
    [
      "gelus",
      5,
      (from, to, i) =>
        `a${i} = Div.14(${from}, root) as a_${i}\nb${i} = Erf.13(a${i}) as b_${i}\nc${i} = Add.14(b${i}, one) as c_${i}\nd${i} = Mul.14(${from}, c${i}) as d_${i}\n${to} = Mul.14(d${i}, half) as e_${i}`,
      1,
    ],
    ["relus", 1, (from, to, i) => `${to} = Relu.14(${from}) as n${i}`, 1],
  ];
  /** Processor time: other programs on the machine do not count. */
  const time = (run: () => void): number => {
    const start = process.cpuUsage();
    run();
    const { user, system } = process.cpuUsage(start);
    return (user + system) / 1000;
  };

  it.each(kinds)("of 20000 nodes of %s take less than 2 s, and grow with the nodes", (_, size, link, left) => {
    const run = (count: number): number => {
      const graph = chain(count / size, link);
      let after: Graph | undefined;
      const spent = time(() => {
        after = runPasses(graph);
      });
      expect(after!.nodes.length).toBe((left * count) / size);
      return spent;
    };
    run(1000);
    const [small, large] = [run(5000), run(20000)];
    expect(large).toBeLessThan(2000);
    expect(large).toBeLessThan(12 * Math.max(small, 50));
  });
});
