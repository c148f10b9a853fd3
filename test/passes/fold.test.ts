// What constant folding computes, what it leaves alone, and that what becomes known sharpens the types behind it.

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Graph } from "../../src/ir/graph.ts";
import { numbersOf, sizeOf, type Tensor, tensor } from "../../src/ir/tensor.ts";
import { parseGraph, printGraph, type TensorTable } from "../../src/ir/text.ts";
import { rewriteLog, runPasses } from "../../src/passes/index.ts";
import { distance, evaluateGraph, inferTypes } from "./evaluate.ts";

const table: TensorTable = new Map();
const graphOf = (lines: string): Graph => inferTypes(parseGraph(`graph "g" {\n${lines}\n}`, table));
const ops = (graph: Graph): string => graph.nodes.map(({ op }) => op).join(" ");
/** The constant that a graph's only result has become. */
function folded(lines: string): Tensor {
  const after = runPasses(graphOf(lines), { verify: true });
  expect(ops(after)).toBe("");
  return after.outputs[0]!.value.data!;
}
/** Text for a large constant, whose tensor goes to the table. */
function large(name: string, data: Tensor): string {
  const digest = `${table.size}`.padStart(32, "0");
  table.set(digest, data);
  return `const ${name}: ${data.dtype}[${data.shape.join(", ")}] = #${digest}`;
}

describe("folds", () => {
  it("doubles exactly", () => {
    expect(folded("const a: f64[] = 1\nconst b: f64[] = 3\ny = Div.14(a, b) as n\noutput y").data[0]).toBe(1 / 3);
  });
  it("floats and halves as their types round", () => {
    expect(folded("const a: f32[] = 1\nconst b: f32[] = 3\ny = Div.14(a, b) as n\noutput y").data[0]).toBe(Math.fround(1 / 3));
    expect(numbersOf(folded("const a: f16[] = 1\nconst b: f16[] = 3\ny = Div.14(a, b) as n\noutput y"))).toEqual([
      0.333251953125,
    ]);
  });
  it("integers beyond 32 bits", () => {
    expect(folded("const a: i64[] = 4294967296\nconst b: i64[] = 3\ny = Mul.14(a, b) as n\noutput y").data[0]).toBe(
      12884901888n,
    );
  });
  it("operators that run on the host, and types that follow from what they gave", () => {
    const graph = graphOf(
      "input x: f32[7]\nconst a: f32[4] = [0, 2, 0, 3]\nn = NonZero.13(a) as nonzero\nconst flat: i64[1] = [-1]\ni = Reshape.14(n, flat) as flatten\ny = Gather.13(x, i) { axis: 0 } as gather\noutput y",
    );
    const after = runPasses(graph, { verify: true });
    expect(printGraph(after)).toContain("const i: i64[2] = [1, 3]\n  y: f32[2] = Gather.13(x, i)");
  });
  it("nested graphs over constants", () => {
    const after = runPasses(
      graphOf(`input x: f32[2]\ninput c: bool[]\ny = If.16(c) { then_branch: graph "t" {\nconst a: f32[2] = [1, 2]
      s = Mul.14(a, a) as square\np = Add.14(s, x) as add\noutput p\n}, else_branch: graph "e" {\noutput x\n} } as if\noutput y`),
      { verify: true },
    );
    expect(printGraph(after)).toContain("const s: f32[2] = [1, 4]");
  });
  it("a reshape of a constant without a copy", () => {
    const data = tensor("f32", [2, 300000], new Float32Array(600000).fill(1));
    const shape = folded(`${large("w", data)}\nconst s: i64[2] = [300000, 2]\ny = Reshape.14(w, s) as n\noutput y`);
    expect(shape.shape).toEqual([300000, 2]);
    expect(shape.data).toBe(data.data);
  });
  it("the transpose of large weights in no time", () => {
    const data = tensor(
      "f32",
      [2000, 3000],
      Float32Array.from({ length: 6e6 }, (_, i) => i),
    );
    const lines = `${large("w", data)}\ny = Transpose.13(w) { perm: [1, 0] } as n\noutput y`;
    const start = process.cpuUsage();
    const result = folded(lines);
    expect(process.cpuUsage(start).user / 1000).toBeLessThan(1000);
    expect(result.shape).toEqual([3000, 2000]);
    expect([result.data[1], result.data[2000], result.data[5999999]]).toEqual([3000, 1, 5999999]);
  });
  it("what moves elements as the interpreter does", () => {
    const shape = [2, 3, 4];
    const data = tensor(
      "i32",
      shape,
      Array.from({ length: sizeOf(shape) }, (_, i) => i),
    );
    const step = fc.constantFrom(1, 2, -1, -2);
    fc.assert(
      fc.property(fc.shuffledSubarray([0, 1, 2], { minLength: 3 }), fc.tuple(step, step, step), (perm, steps) => {
        const text = (
          expected: boolean,
        ): string => `${expected ? "input w: i32[2, 3, 4]" : large("w", data)}\nconst axes: i64[3] = [0, 1, 2]\nconst steps: i64[3] = [${steps.join(", ")}]
          const starts: i64[3] = [${steps.map((s) => (s > 0 ? 0 : -1)).join(", ")}]\nconst ends: i64[3] = [${steps.map((s) => (s > 0 ? 9 : -9)).join(", ")}]
          t = Transpose.13(w) { perm: [${perm.join(", ")}] } as t\ny = Slice.13(t, starts, ends, axes, steps) as s\noutput y`;
        const expected = evaluateGraph(graphOf(text(true)), new Map([["w", data]])).get("y")!;
        expect(distance(folded(text(false)), expected)).toBe(0);
      }),
      { numRuns: 40 },
    );
  });
  it("a cast of halves, which doubles the bytes", () => {
    const data: Tensor = { dtype: "f16", shape: [600000], data: new Uint16Array(600000).fill(0x3c00) };
    expect(folded(`${large("w", data)}\ny = Cast.13(w) { to: 1 } as n\noutput y`).data[599999]).toBe(1);
  });
});

describe("leaves", () => {
  const stays = (lines: string): void => {
    const graph = graphOf(lines);
    expect(ops(runPasses(graph, { verify: true }))).toBe(ops(graph));
  };
  it("what would grow beyond 1 MB", () => {
    stays(`${large("b", tensor("u8", [600000], new Uint8Array(600000)))}\ny = Cast.13(b) { to: 1 } as n\noutput y`);
    stays("const one: f32[] = 1\nconst s: i64[2] = [1000, 1000]\ny = Expand.13(one, s) as n\noutput y");
  });
  it("what is too much work", () => {
    const data = tensor("f32", [400, 400], new Float32Array(160000));
    stays(`${large("a", data)}\ny = MatMul.13(a, a) as n\noutput y`);
  });
  it("random numbers, each draw its own", () => {
    stays(
      "a = RandomNormal.1() { shape: [2] } as one\nb = RandomNormal.1() { shape: [2] } as two\ny = Sub.14(a, b) as n\noutput y",
    );
  });
  it("promises about inputs", () => {
    stays("input s: f32[2] assumed [1, 2]\ny = Neg.13(s) as n\noutput y");
  });
});

it("does not fold factors that the weights' type cannot hold", () => {
  const conv = (dtype: string) =>
    graphOf(
      `input x: ${dtype}[1, 1, 2, 2]\nconst w: ${dtype}[1, 1, 1, 1] = [3]\nconst c: ${dtype}[] = 30000\na = Conv.11(x, w) as conv\ny = Mul.14(a, c) as mul\noutput y`,
    );
  expect(ops(runPasses(conv("f16")))).toBe("Conv Mul");
  expect(ops(runPasses(conv("f32")))).toBe("Conv");
});

it("counts what it does", () => {
  const log = rewriteLog();
  runPasses(
    graphOf(
      "input x: f32[2]\nconst a: f32[2] = [1, 2]\nb = Neg.13(a) as b\nc = Abs.13(b) as c\ny = Add.14(x, c) as y\noutput y",
    ),
    { log },
  );
  expect(log.applied).toEqual([
    { rule: "fold-constants", node: "b" },
    { rule: "fold-constants", node: "c" },
  ]);
});
