// The memory plan against brute force on small random plans: the lower bound is one, no two live values overlap, and no
// more is taken than a tenth above the best that any placement can do.

import fc from "fast-check";
import { expect, it } from "vitest";
import { describeMemory } from "../../src/engine/describe.ts";
import type { Step } from "../../src/engine/plan.ts";
import { parseDim } from "../../src/ir/dims.ts";
import { planMemory } from "../../src/plan/memory.ts";
import { buffer, dispatch, makePlan } from "../engine/plans.ts";

const LARGEST = 2 ** 30;
/** Sizes are multiples of what offsets are aligned to, so that alignment costs nothing. */
const UNIT = 256;

/** Each step makes one value, of `size` units, from some of those before. */
const drawn = fc.array(fc.record({ size: fc.integer({ min: 1, max: 6 }), reads: fc.array(fc.nat(), { maxLength: 3 }) }), {
  minLength: 1,
  maxLength: 6,
});

interface Live {
  readonly size: number;
  readonly first: number;
  readonly last: number;
}

function planOf(makers: readonly { readonly size: number; readonly reads: readonly number[] }[]) {
  const buffers = [buffer("x", ["1"], "input")];
  const steps: Step[] = makers.map(({ size, reads }, at) => {
    buffers.push(buffer(`v${at}`, [String((size * UNIT) / 4)], 0));
    return dispatch(0, at === 0 ? [0] : [...new Set(reads.map((read) => 1 + (read % at)))], at + 1, "1");
  });
  const lives = makers.map(({ size }, at): Live => {
    const touched = steps.flatMap((step, i) =>
      step.kind === "dispatch" && step.bindings.some((binding) => binding.buffer === at + 1) ? [i] : [],
    );
    return { size: size * UNIT, first: Math.min(...touched), last: Math.max(...touched) };
  });
  return { buffers, steps, lives };
}

const meet = (a: Live, b: Live): boolean => a.first <= b.last && b.first <= a.last;

/** Each order of placing as low as possible: some order gives any placement that could not be pushed lower. */
function leastBytes(left: readonly Live[], placed: readonly (Live & { readonly offset: number })[] = []): number {
  if (left.length === 0) return Math.max(0, ...placed.map(({ offset, size }) => offset + size));
  return Math.min(
    ...left.map((item, i) => {
      const offset = Math.max(0, ...placed.filter((other) => meet(item, other)).map((other) => other.offset + other.size));
      return leastBytes(left.toSpliced(i, 1), [...placed, { ...item, offset }]);
    }),
  );
}

it("is between the lower bound and a tenth above the best placement", () => {
  fc.assert(
    fc.property(drawn, (makers) => {
      const { buffers, steps, lives } = planOf(makers);
      const bound = Math.max(
        ...steps.map((_, at) =>
          lives.filter(({ first, last }) => first <= at && at <= last).reduce((sum, { size }) => sum + size, 0),
        ),
      );
      const best = leastBytes(lives);
      expect(describeMemory(makePlan(buffers, [], steps), new Map()).activationsLowerBound).toBe(bound);
      expect(best).toBeGreaterThanOrEqual(bound);

      const tenants = buffers.map(({ bytes, home }) => ({ shared: home.kind === "activation", bytes: parseDim(bytes) }));
      const { homes, slots } = planMemory(steps, tenants, { sizes: new Map(), largest: LARGEST });
      const taken = slots.reduce((sum, sizes) => sum + Math.max(...sizes.map(Number)), 0);
      expect(taken).toBeGreaterThanOrEqual(best);
      expect(taken).toBeLessThanOrEqual(1.1 * best);
      lives.forEach((a, i) => {
        lives.slice(0, i).forEach((b, j) => {
          const [one, other] = [homes.get(i + 1)!, homes.get(j + 1)!];
          if (one.slot !== other.slot || !meet(a, b)) return;
          const [from, to] = [Number(one.offset), Number(other.offset)];
          expect(from + a.size <= to || to + b.size <= from, `v${i} and v${j} overlap`).toBe(true);
        });
      });
    }),
    { numRuns: Number(process.env.RUNS ?? 300) },
  );
});
