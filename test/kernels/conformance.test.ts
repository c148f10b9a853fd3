// Candidates of every tactic of products and convolutions run on the device, over random problems, against the interpreter.

import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { budgetOf, deviationOf } from "../../src/autotuner/accuracy.ts";
import { Rig } from "../../src/autotuner/rig.ts";
import { Memory } from "../../src/gpu/buffers.ts";
import type { Device } from "../../src/gpu/device.ts";
import { PipelineCache } from "../../src/gpu/pipelines.ts";
import { tacticsFor } from "../../src/kernels/index.ts";
import type { Kernel } from "../../src/kernels/tactic.ts";
import { openNodeDevice } from "../../src/node-device.ts";
import { interpreted, SIZES } from "./interpreted.ts";
import { block, conv, gemm, PROBLEMS, type Problem } from "./problems.ts";

let device: Device;
let memory: Memory;
beforeAll(async () => {
  device = await openNodeDevice({ toggles: "fast" });
  memory = new Memory(device);
});
afterAll(() => {
  memory.dispose();
  device.destroy();
});

/** Candidates of a tactic that are looked at for one problem; the one of the shortest text is run: software drivers compile for seconds. */
const CANDIDATES = 3;
const textOf = ({ steps }: Kernel): number => steps.reduce((sum, { wgsl }) => sum + wgsl.length, 0);
/** What transforms in f16 or over many points may lose beyond a layer's budget: the tuner then drops them. */
const LOSSY = 10;

async function check({ name, task }: Problem, seed: number): Promise<string[]> {
  const { given, expected } = interpreted(task, seed, device.caps);
  const rig = new Rig(device, memory, new PipelineCache(device), SIZES, task, given);
  const ran: string[] = [];
  try {
    for (const tactic of tacticsFor(task, device.caps)) {
      const candidates = [...tactic.candidates(task, device.caps)];
      const picked = Array.from({ length: Math.min(CANDIDATES, candidates.length) }, (_, i) => {
        const config = candidates[(seed + Math.floor((i * candidates.length) / CANDIDATES)) % candidates.length]!;
        return { config, kernel: tactic.emit(task, config, device.caps) };
      });
      if (picked.length === 0) continue;
      const { config, kernel } = picked.reduce((a, b) => (textOf(b.kernel) < textOf(a.kernel) ? b : a));
      const ready = await rig.prepare(kernel);
      const { rms, peak } = deviationOf(await rig.run(ready), expected);
      ready.dispose();
      const label = `${name}: ${tactic.name} ${JSON.stringify(config)} rms ${rms} peak ${peak}`;
      const budget = budgetOf(task) * (config.half === true || config.outputs === 6 ? LOSSY : 1);
      expect(rms, label).toBeLessThanOrEqual(budget);
      expect(peak, label).toBeLessThanOrEqual(6 * budget);
      ran.push(tactic.name);
    }
  } finally {
    rig.dispose();
  }
  return ran;
}

/** The problems that reach every tactic in f32 and f16; the others are compiled only. */
const RUN: ReadonlySet<string> = new Set([
  "histogram",
  "map channels last",
  "map symbolic",
  "map shifted",
  "map shifted f16",
  "map requantized i8",
  "map requantized u8",
  "map requantized odd",
  "conv first bytes",
  "conv first bytes, each place",
  "conv first bytes, by three",
  "conv bytes in sixteens",
  "pool f16",
  "pool f32",
  "reduce long",
  "rows",
  "rows in runs",
  "rows in runs f16",
  "rows symbolic",
  "gemm few rows",
  "gemm a row a batch",
  "gemm rows of all batches",
  "gemm deep",
  "gemm siblings",
  "gemm siblings by four",
  "gemm siblings odd",
  "conv 3x3 known",
  "conv 3x3 known f16",
  "conv 3x3 known grouped",
  "conv 1x3 known",
  "conv 7x7 known",
  "conv 3 channels known",
  "conv 3 channels known f16",
  "conv depthwise large",
  "block residual f16",
  "block depthwise first",
  "block dilated symbolic",
]);

describe("the problems", () => {
  test.each(PROBLEMS.filter(({ name }) => RUN.has(name)).map((problem) => [problem.name, problem] as const))(
    "%s",
    { timeout: 300_000 },
    async (_, problem) => {
      expect((await check(problem, 7)).length).toBeGreaterThan(0);
    },
  );
});

const dtype = fc.constantFrom("f32" as const, "f16" as const);
const size = (max: number): fc.Arbitrary<number> => fc.integer({ min: 1, max });

test("random convolutions", { timeout: 600_000 }, async () => {
  const problems = fc.record({
    dtype,
    batch: size(2),
    groups: fc.constantFrom(1, 1, 1, 2, 5),
    ic: fc.constantFrom(1, 3, 4, 8, 13, 16),
    oc: fc.constantFrom(1, 2, 4, 8, 19, 32),
    spatial: fc.array(fc.integer({ min: 5, max: 13 }), { minLength: 1, maxLength: 2 }),
    kernel: fc.constantFrom(1, 2, 3, 3, 3, 4, 5, 7),
    stride: fc.constantFrom(1, 1, 1, 2, 3),
    pad: fc.integer({ min: 0, max: 3 }),
    dilation: fc.constantFrom(1, 1, 1, 2),
    last: fc.boolean(),
    constant: fc.constantFrom(true, true, false),
    seed: fc.integer({ min: 1, max: 1e6 }),
  });
  await fc.assert(
    fc.asyncProperty(problems, async ({ batch, groups, ic, oc, spatial, kernel, seed, ...rest }) => {
      const { pad, dilation } = rest;
      fc.pre(spatial.every((extent) => extent + 2 * pad >= dilation * (kernel - 1) + 1));
      const x = [batch, groups * ic, ...spatial];
      await check(conv("random", { x, w: [groups * oc, ic, ...spatial.map(() => kernel)], groups, ...rest }), seed);
    }),
    { numRuns: 4 },
  );
});

test("random products", { timeout: 600_000 }, async () => {
  const problems = fc.record({
    dtype,
    batch: fc.constantFrom([], [], [2], [2, 3]),
    m: fc.constantFrom(1, 2, 5, 16, 64, 67),
    n: fc.constantFrom(1, 3, 16, 20, 64, 70),
    k: fc.constantFrom(1, 4, 7, 64, 130, 256),
    transposed: fc.boolean(),
    seed: fc.integer({ min: 1, max: 1e6 }),
  });
  await fc.assert(
    fc.asyncProperty(problems, async ({ dtype: type, batch, m, n, k, transposed, seed }) => {
      await check(gemm("random", type, batch, m, n, k, transposed), seed);
    }),
    { numRuns: 4 },
  );
});

test("random blocks", { timeout: 600_000 }, async () => {
  const problems = fc.record({
    dtype,
    batch: size(2),
    channels: fc.tuple(fc.constantFrom(undefined, 4, 8, 20), fc.constantFrom(8, 24, 32), fc.constantFrom(4, 12, 36)),
    size: fc.tuple(fc.integer({ min: 3, max: 12 }), fc.integer({ min: 3, max: 12 })),
    kernel: fc.constantFrom(3, 3, 5),
    stride: fc.constantFrom(1, 2, 3),
    dilation: fc.constantFrom(1, 1, 2),
    seed: fc.integer({ min: 1, max: 1e6 }),
  });
  await fc.assert(
    fc.asyncProperty(problems, async ({ seed, ...problem }) => {
      await check(block("random", problem), seed);
    }),
    { numRuns: 3 },
  );
});
