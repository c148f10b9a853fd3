// Expressions with others in the place of their variables.

import { expect, it } from "vitest";
import { add, int, mul, substitute, variable } from "../../src/ir/expr.ts";

const [x, y] = [variable("x", 8), variable("y", 8)];
const STEPS = [-3, -2, -1, 0, 1, 2, 3];

it.each(STEPS)("a variable that %i is added to moves once, whatever it meets", (step) => {
  for (const offset of STEPS)
    expect(substitute(add(x, int(offset)), new Map([[x, add(x, int(step))]]))).toBe(add(x, int(offset + step)));
});

it("two variables change places", () => {
  const swap = new Map([
    [x, y],
    [y, x],
  ]);
  expect(substitute(add(mul(x, int(2)), y), swap)).toBe(add(mul(y, int(2)), x));
});
