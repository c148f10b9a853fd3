// Optimization profiles by TensorRT's rules: what is refused, what is filled in and said, and a schedule for each.

import { describe, expect, it } from "vitest";
import { candidatesOf } from "../../src/autotuner/candidates.ts";
import type { Choices } from "../../src/autotuner/tune.ts";
import { fingerprintOf } from "../../src/gpu/fingerprint.ts";
import { symbol } from "../../src/ir/dims.ts";
import * as x from "../../src/ir/expr.ts";
import { Lowering } from "../../src/ir/lower.ts";
import { isKernelTask, type KernelTask } from "../../src/ir/task.ts";
import { makeValue } from "../../src/ir/value.ts";
import { makePlan } from "../../src/plan/plan.ts";
import { optimumOf, type ProfileShapes, planProfiles } from "../../src/plan/profiles.ts";
import { coreCaps } from "../../src/util/caps.ts";

const inputs = [makeValue("x", "f32", [symbol("N"), 3, symbol("W")]), makeValue("m", "f32", [symbol("N"), symbol("K")])];
const planned = (...profiles: ProfileShapes[]) => planProfiles(inputs, profiles);

describe("a profile", () => {
  it("bounds the symbols of its inputs, shared ones once", () => {
    const { profiles, notes } = planned({
      x: { min: [1, 3, 8], opt: [2, 3, 16], max: [4, 3, 64] },
      m: { min: [1, 5], opt: [2, 5], max: [4, 9] },
    });
    const symbols = { N: { min: 1, opt: 2, max: 4 }, W: { min: 8, opt: 16, max: 64 }, K: { min: 5, opt: 5, max: 9 } };
    expect(profiles).toEqual([{ name: "profile 0", symbols }]);
    expect(notes).toEqual([]);
    expect(Object.fromEntries(optimumOf(profiles[0]!))).toEqual({ N: 2, W: 16, K: 5 });
  });

  it.each<[string, ProfileShapes, string]>([
    ["an unknown input", { y: { opt: [1] } }, 'profile 0, input "y": the model has no such input'],
    [
      "unequal ranks",
      { x: { min: [1, 3], opt: [1, 3, 4], max: [1, 3, 4] } },
      "its shapes have 2, 3, 3 dimensions, the input 3",
    ],
    ["a rank that is not the input's", { x: { opt: [1, 3] } }, "its shapes have 2, 2, 2 dimensions, the input 3"],
    [
      "min above opt",
      { x: { min: [2, 3, 9], opt: [2, 3, 8], max: [2, 3, 9] } },
      "dimension 2: min 9, opt 8, max 9 are not in order",
    ],
    [
      "opt above max",
      { x: { min: [1, 3, 9], opt: [3, 3, 9], max: [2, 3, 9] } },
      "dimension 0: min 1, opt 3, max 2 are not in order",
    ],
    ["a fixed dimension that differs", { x: { opt: [1, 4, 9] } }, "dimension 1 is fixed at 3, the profile says 4 to 4"],
    ["a size below 0", { x: { min: [-1, 3, 9], max: [1, 3, 9] } }, "dimension 0: min -1, opt 1, max 1 are not all sizes"],
    ["nothing of an input", { x: {} }, "it has none of min, opt and max"],
    [
      "a shared symbol in two ranges",
      { x: { opt: [1, 3, 9] }, m: { min: [1, 1], opt: [2, 1], max: [2, 1] } },
      'dimension 0 ("N") is min 1, opt 2, max 2 here, in another input min 1, opt 1, max 1',
    ],
  ])("refuses %s", (_, profile, words) => {
    expect(() => planned(profile)).toThrow(words);
    expect(() => planned(profile)).toThrow(/^K612 bad-profile /);
  });

  it("takes what is left out from what is there, and says so", () => {
    const { profiles, notes } = planned({ x: { min: [1, 3, 8], max: [4, 3, 64] } });
    expect(profiles[0]!.symbols).toEqual({ N: { min: 1, opt: 4, max: 4 }, W: { min: 8, opt: 64, max: 64 } });
    expect(notes).toEqual([
      'profile 0 gives input "x" no opt: it takes opt [4, 3, 64]',
      'profile 0 does not bound dimension 1 of input "m": any size is taken, none is tuned for',
    ]);
    expect(planned({ x: { opt: [1, 3, 8] }, m: { opt: [1, 2] } }).notes).toEqual([
      'profile 0 gives input "x" no min and no max: it takes min [1, 3, 8], max [1, 3, 8]',
      'profile 0 gives input "m" no min and no max: it takes min [1, 2], max [1, 2]',
    ]);
  });
});

describe("a plan of two profiles", () => {
  const target = {
    caps: coreCaps,
    fingerprint: fingerprintOf({ vendor: "", architecture: "", device: "", description: "" }, coreCaps, [], ""),
  };
  const b = new Lowering("/net");
  const input = makeValue("x", "f32", [symbol("N"), 64]);
  const weights = b.constant({ dtype: "f32", shape: [64, 64], data: new Float32Array(4096) });
  const product = b.gemm(
    "f32",
    { batch: [], m: symbol("N"), n: 64, k: 64 },
    (_, i, k) => x.load(input, [i, k]),
    (_, k, j) => x.load(weights, [k, j]),
  );
  const twice = b.map("f32", [symbol("N"), 64], (i) => x.add(x.load(product, [...i]), x.load(input, [...i])));
  const outputs = [
    { name: "y", value: b.map("f32", [symbol("N"), 64], (i) => x.mul(x.load(twice, [...i]), x.load(twice, [...i]))) },
  ];
  const program = { inputs: [input], outputs, tasks: b.tasks, assumed: new Map() };
  const { profiles } = planProfiles(
    [input],
    [{ x: { min: [1, 64], opt: [1, 64], max: [8, 64] } }, { x: { min: [1, 64], opt: [512, 64], max: [512, 64] } }],
  );
  const choose = (tactic: (task: KernelTask) => string | undefined): Choices =>
    new Map(
      b.tasks.filter(isKernelTask).map((task) => {
        const all = [...candidatesOf(task, target)];
        return [task, all.find((candidate) => candidate.tactic === tactic(task)) ?? all[0]!];
      }),
    );
  const { plan, weights: block } = makePlan(program, [choose(() => "gemm.direct"), choose(() => "gemm.tiled")], {
    caps: coreCaps,
    profiles,
    notes: [],
  });
  const tactics = (steps: typeof plan.steps) => steps.flatMap((step) => (step.kind === "dispatch" ? [step.tactic] : []));

  it("has the kernels of each, and the weights once", () => {
    expect(tactics(plan.steps)).toContain("gemm.direct");
    expect(plan.profiles[0]!.schedule).toBeUndefined();
    expect(tactics(plan.profiles[1]!.schedule!.steps)).toContain("gemm.tiled");
    expect(block.length).toBe(4096 * 4);
  });

  it("gives each activations of its own in slots that they share by number", () => {
    const activations = (steps: typeof plan.steps) =>
      new Set(
        steps
          .flatMap((step) => (step.kind === "dispatch" ? step.bindings.map(({ buffer }) => buffer) : []))
          .filter((buffer) => plan.buffers[buffer]!.home.kind === "activation"),
      );
    const [first, second] = [activations(plan.steps), activations(plan.profiles[1]!.schedule!.steps)];
    expect(first.size).toBeGreaterThan(0);
    expect([...first].filter((buffer) => second.has(buffer))).toEqual([]);
    for (const [own, { slots }] of [
      [first, plan],
      [second, plan.profiles[1]!.schedule!],
    ] as const)
      for (const buffer of own) {
        const { home, bytes } = plan.buffers[buffer]!;
        expect(home.kind === "activation" && slots[home.slot]!.bytes).toContain(bytes);
      }
  });
});
