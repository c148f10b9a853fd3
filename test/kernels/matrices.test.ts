// Kernels for tensor cores where there are none: their matrices are emulated (`emulated-matrices.ts`), all else is as it is.

import { afterAll, beforeAll, expect, test } from "vitest";
import { budgetOf, deviationOf } from "../../src/autotuner/accuracy.ts";
import { Rig } from "../../src/autotuner/rig.ts";
import { Memory } from "../../src/gpu/buffers.ts";
import type { Device } from "../../src/gpu/device.ts";
import { PipelineCache } from "../../src/gpu/pipelines.ts";
import type { GemmTask } from "../../src/ir/task.ts";
import { gemmMatrix } from "../../src/kernels/gemm-matrix.ts";
import type { Config } from "../../src/kernels/tactic.ts";
import { realDevice } from "../gpu/open.ts";
import { tensorTier } from "../support/tiers.ts";
import { withoutMatrices } from "./emulated-matrices.ts";
import { interpreted, SIZES } from "./interpreted.ts";
import { PROBLEMS } from "./problems.ts";

let device: Device | undefined;
let memory: Memory;
beforeAll(async () => {
  device = await realDevice({ toggles: "fast" });
  if (device) memory = new Memory(device);
});
afterAll(() => {
  if (device) memory.dispose();
  device?.destroy();
});

/** One of each kind, and small: an invocation computes every product of its subgroup by itself, which drivers compile for long. */
const PLAIN: Config = {
  tileM: 32,
  tileN: 32,
  tileK: 32,
  subM: 16,
  subN: 16,
  slices: 1,
  stages: 1,
  ahead: 1,
  straight: false,
};
const KINDS: Readonly<Record<string, Config>> = {
  plain: PLAIN,
  straight: { ...PLAIN, straight: true },
  sliced: { ...PLAIN, slices: 2, tileK: 64 },
  "two stages": { ...PLAIN, stages: 2 },
};

/** One problem: software drivers compile these kernels for seconds, those of others for minutes. */
const NAME = "gemm f16";

test(NAME, { timeout: 300_000 }, async ({ skip }) => {
  if (!device?.caps.f16) return skip("no GPU adapter with f16");
  const { task } = PROBLEMS.find(({ name }) => name === NAME)!;
  const caps = tensorTier(device.caps);
  const there: Device = Object.create(device, { caps: { value: caps } }) as Device;
  const { given, expected } = interpreted(task, 7, caps);
  const rig = new Rig(there, memory, new PipelineCache(device), SIZES, task, given);
  try {
    for (const [kind, config] of Object.entries(KINDS)) {
      const ready = await rig.prepare(withoutMatrices(gemmMatrix.emit(task as GemmTask, config, caps)));
      const { rms, peak } = deviationOf(await rig.run(ready), expected);
      ready.dispose();
      const label = `${kind}: ${JSON.stringify(config)} rms ${rms} peak ${peak}`;
      expect(rms, label).toBeLessThanOrEqual(budgetOf(task));
      expect(peak, label).toBeLessThanOrEqual(6 * budgetOf(task));
    }
  } finally {
    rig.dispose();
  }
});
