// Transforms as expressions, evaluated by the interpreter, against the sum that defines them.

import { describe, expect, it } from "vitest";
import { float, int, load } from "../../src/ir/expr.ts";
import { interpret, type Tensors } from "../../src/ir/interpret.ts";
import { numbersOf, tensor } from "../../src/ir/tensor.ts";
import { makeValue } from "../../src/ir/value.ts";
import { type Complex, transform } from "../../src/kernels/fft-terms.ts";
import { numbers } from "./problems.ts";

/** The transform of `count` points, complex or real. */
function evaluate(values: readonly number[], real: boolean, inverse: boolean): number[] {
  const count = values.length / 2;
  const x = makeValue("x", "f32", [count, 2]);
  const y = makeValue("y", "f32", [count, 2]);
  const points = Array.from({ length: count }, (_, i): Complex => {
    const [re, im] = [load(x, [int(i), int(0)]), load(x, [int(i), int(1)])];
    return real ? { re } : { re, im };
  });
  const stores = transform(points, inverse).flatMap(({ re, im = float(0) }, f) =>
    [re, im].map((expr, part) => ({ value: y, index: [int(f), int(part)], expr, mode: "set" as const })),
  );
  const tensors: Tensors = new Map([[x, tensor("f32", [count, 2], values)]]);
  interpret([{ kind: "map", name: "fft", origins: [], vars: [], stores }], tensors, new Map(), () => []);
  return numbersOf(tensors.get(y)!);
}

describe("a transform", () => {
  const cases = [1, 2, 4, 8, 16, 32].flatMap((count) =>
    [true, false].flatMap((real) => [true, false].map((inverse) => [count, real ? "real" : "complex", inverse] as const)),
  );
  it.each(cases)("of %i %s points, inverse %s", (count, kind, inverse) => {
    const values = numbers(2 * count, count).map((e, i) => Math.fround(kind === "real" && i % 2 === 1 ? 0 : e));
    const results = evaluate(values, kind === "real", inverse);
    for (let f = 0; f < count; f++) {
      let [re, im] = [0, 0];
      for (let i = 0; i < count; i++) {
        const angle = ((inverse ? 2 : -2) * Math.PI * f * i) / count;
        re += values[2 * i]! * Math.cos(angle) - values[2 * i + 1]! * Math.sin(angle);
        im += values[2 * i]! * Math.sin(angle) + values[2 * i + 1]! * Math.cos(angle);
      }
      expect(results[2 * f]).toBeCloseTo(re, 5);
      expect(results[2 * f + 1]).toBeCloseTo(im, 5);
    }
  });
});
