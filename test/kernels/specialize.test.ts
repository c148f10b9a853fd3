// Marks of shader files: filled, written out, insisted on.

import { describe, expect, it } from "vitest";
import { specialize } from "../../src/kernels/specialize.ts";

const SHADER = `// What a file says of itself stays out.
const COUNT = 1u;                //# spec
fn take(i: u32) -> f32 { return 0.0; }   //# hook
fn main() {
  for (var i = 0u; i < COUNT; i++) { //# unroll
    let once = take(i);
    for (var row = 0u; row < 2u; row++) { //# unroll
      sums[2u * i + row] = once;
    }
  }
}`;

describe("a shader's marks", () => {
  it("are replaced, loops by their turns, in braces where those declare names", () => {
    const text = specialize("test", SHADER, { specs: { COUNT: 2 }, hooks: { take: "  return 1.0;" } });
    expect(text.split("\n").map((line) => line.trim())).toEqual([
      "const COUNT = 2u;",
      "fn take(i: u32) -> f32 {",
      "return 1.0;",
      "}",
      "fn main() {",
      ...[0, 1].flatMap((i) => [
        "{",
        `let once = take(${i}u);`,
        ...[0, 1].map((row) => `sums[2u * ${i}u + ${row}u] = once;`),
        "}",
      ]),
      "}",
    ]);
  });

  it("choose branches", () => {
    const shader = [
      "const A = true;  //# spec",
      "  if (A) { //# choose",
      "    one();",
      "  } else {",
      "    two();",
      "  }",
      "  three();",
    ];
    const calls = (chosen: boolean): string[] =>
      specialize("test", shader.join("\n"), { specs: { A: chosen }, hooks: {} }).match(/\w+(?=\(\))/g) as string[];
    expect([calls(true), calls(false)]).toEqual([
      ["one", "three"],
      ["two", "three"],
    ]);
  });

  it("write loops out where a spec says so", () => {
    const shader = "const A = true;  //# spec\n  for (var i = 0u; i < 2u; i++) { //# unroll if A\n    call(i);\n  }";
    const text = (A: boolean): string => specialize("test", shader, { specs: { A }, hooks: {} });
    expect(text(true)).toBe("const A = true;\n    call(0u);\n    call(1u);");
    expect(text(false)).toBe("const A = false;\n  for (var i = 0u; i < 2u; i++) {\n    call(i);\n  }");
  });

  it("leave out what is not taken", () => {
    const shader = [
      "const COUNT = 4u; //# spec",
      "for (var i = 0u; i < 2u; i++) { //# unroll",
      "  for (var j = 0u; j < COUNT; j++) { //# unroll",
      "    if (2u * j / COUNT == i) { //# when",
      "      call(i, j);",
      "      if (i + j < 2u) { //# when",
      "        low(i, j);",
      "      }",
      "    }",
      "  }",
      "}",
    ].join("\n");
    const text = specialize("test", shader, { specs: { COUNT: 4 }, hooks: {} });
    expect(text.match(/\w+\(.*\)/g)).toEqual([
      "call(0u, 0u)",
      "low(0u, 0u)",
      "call(0u, 1u)",
      "low(0u, 1u)",
      "call(1u, 2u)",
      "call(1u, 3u)",
    ]);
    expect(text).not.toContain("if");
    expect(() => specialize("test", "if (a == 1u) { //# when\n}", { specs: {}, hooks: {} })).toThrow("no value");
  });

  it("must all be filled, and every filling have its mark", () => {
    const hooks = { take: "" };
    expect(() => specialize("test", SHADER, { specs: {}, hooks })).toThrow(/COUNT|loop/);
    expect(() => specialize("test", SHADER, { specs: { COUNT: 1, OTHER: 2 }, hooks })).toThrow(/OTHER/);
  });
});
