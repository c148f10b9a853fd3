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

/** Of each of these one, the one of the smallest tile: an invocation computes every product of its subgroup by itself. */
const KINDS: readonly (readonly [string, (config: Config) => boolean])[] = [
  ["plain", ({ slices, stages, straight }) => slices === 1 && stages === 1 && straight !== true],
  ["straight", ({ straight }) => straight === true],
  ["sliced", ({ slices }) => (slices as number) > 1],
  ["two stages", ({ stages }) => stages === 2],
];
const sizeOf = ({ tileM, tileN, tileK }: Config): number => (tileM as number) * (tileN as number) * (tileK as number);

/** One problem: software drivers compile these kernels for seconds, those of others for minutes. */
const NAME = "gemm f16";

test(NAME, { timeout: 300_000 }, async ({ skip }) => {
  if (!device?.caps.f16) return skip("no GPU adapter with f16");
  const { task } = PROBLEMS.find(({ name }) => name === NAME)!;
  const caps = tensorTier(device.caps);
  const there: Device = Object.create(device, { caps: { value: caps } }) as Device;
  const { given, expected } = interpreted(task, 7, caps);
  const rig = new Rig(there, memory, new PipelineCache(device), SIZES, task, given);
  const configs = [...gemmMatrix.candidates(task as GemmTask, caps)].sort((a, b) => sizeOf(a) - sizeOf(b));
  try {
    for (const [kind, isOf] of KINDS) {
      const config = configs.find(isOf)!;
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
