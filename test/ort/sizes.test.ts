// Which sizes engines are built for: whatever is seen, each scope admits it, and a growing size builds few engines.

import fc from "fast-check";
import { expect, it } from "vitest";
import { admits, type Scope, SizeHistory } from "../../src/ort/sizes.ts";

/** The scopes that a session would build for sizes in this order, keeping all of them. */
function scopesFor(runs: readonly ReadonlyMap<string, number>[]): Scope[] {
  const history = new SizeHistory();
  const scopes: Scope[] = [];
  for (const sizes of runs) {
    if (scopes.some((scope) => admits(scope, sizes))) continue;
    history.note(sizes);
    scopes.push(history.scope(sizes));
  }
  return scopes;
}

it("a scope admits the sizes it was made for and all that were noted before", () => {
  const sizes = fc.record({ n: fc.nat(40), length: fc.nat(5000) });
  fc.assert(
    fc.property(fc.array(sizes, { minLength: 1, maxLength: 20 }), (drawn) => {
      const history = new SizeHistory();
      const runs = drawn.map((each) => new Map(Object.entries(each)));
      for (const [i, run] of runs.entries()) {
        history.note(run);
        const scope = history.scope(run);
        for (const before of runs.slice(0, i + 1)) expect(admits(scope, before)).toBe(true);
        for (const { min, opt, max } of scope.ranges.values()) expect(min <= opt && opt <= max).toBe(true);
      }
    }),
  );
});

it("what never varies is fixed", () => {
  const [first, second] = scopesFor([
    new Map([
      ["n", 1],
      ["length", 7],
    ]),
    new Map([
      ["n", 1],
      ["length", 9],
    ]),
  ]);
  expect(first).toEqual({
    fixed: new Map([
      ["n", 1],
      ["length", 7],
    ]),
    ranges: new Map(),
  });
  expect(second).toEqual({ fixed: new Map([["n", 1]]), ranges: new Map([["length", { min: 1, opt: 9, max: 32 }]]) });
});

it("a cache that grows from 0 to 1000, one by one, builds an engine for every two bits of 1000", () => {
  const runs = Array.from({ length: 1001 }, (_, past) => new Map([["past", past]]));
  expect(scopesFor(runs).length).toBeLessThanOrEqual(7);
});
