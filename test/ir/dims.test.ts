// Dimensions and their text, which is all that plans and engine files keep of them.

import { describe, expect, it } from "vitest";
import {
  add,
  ceilDiv,
  type Dim,
  dimText,
  evaluate,
  floorDiv,
  loneSymbol,
  max,
  min,
  mod,
  mul,
  parseDim,
  sub,
  symbol,
} from "../../src/ir/dims.ts";

const N = symbol("N");

describe("a dimension's text", () => {
  it.each<[string, Dim]>([
    ["(H/2)+N*3", add(mul(N, 3), floorDiv(symbol("H"), 2))],
    ["((N+63)/64)", ceilDiv(N, 64)],
    ["((N-1)/(M+1))", floorDiv(sub(N, 1), add(symbol("M"), 1))],
    ["((N+1)%2)", mod(add(N, 1), 2)],
    ["max(0, N-2)", max(sub(N, 2), 0)],
    ['"batch size"', symbol("batch size")],
  ])("%s", (text, dim) => {
    expect(dimText(dim)).toBe(text);
    expect(parseDim(text)).toEqual(dim);
  });

  it("stands for the same dimension when read again", () => {
    let state = 7;
    const random = (below: number): number => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return (state >>> 8) % below;
    };
    const names = ["N", "M", "batch size", "seq.1"];
    const any = (depth: number): Dim => {
      if (depth === 0 || random(4) === 0) return random(2) ? random(20) - 8 : symbol(names[random(4)]!);
      const a = any(depth - 1);
      const both = [add, sub, mul, max, min][random(7)];
      return both ? both(a, any(depth - 1)) : (random(2) ? floorDiv : mod)(a, random(6) + 1);
    };
    for (let round = 0; round < 3000; round++) {
      const dim = any(4);
      const again = parseDim(dimText(dim));
      const bindings = new Map(names.map((name) => [name, random(50)]));
      expect(dimText(again)).toBe(dimText(dim));
      expect(evaluate(again, bindings)! + 0, dimText(dim)).toBe(evaluate(dim, bindings)! + 0);
    }
  });
});

it("loneSymbol names a symbol that is alone", () => {
  expect([N, symbol("a b"), add(N, 1), mul(N, 2), mul(N, N), floorDiv(N, 2), 3].map(loneSymbol)).toEqual([
    "N",
    "a b",
    undefined,
    undefined,
    undefined,
    undefined,
    undefined,
  ]);
});
