// Every candidate of every tactic goes through Dawn's WGSL front end and pipeline limits, for each tier of device; no GPU.

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { LAYERS, taskOf } from "../../bench/layers.ts";
import type { Device } from "../../src/gpu/device.ts";
import { PipelineCache } from "../../src/gpu/pipelines.ts";
import { allTactics, tacticsFor } from "../../src/kernels/index.ts";
import { openNodeDevice } from "../../src/node-device.ts";
import type { Caps } from "../../src/util/caps.ts";
import { coreTier, largeWorkgroups, tensorTier } from "../support/tiers.ts";
import { PROBLEMS } from "./problems.ts";

let device: Device;
beforeAll(async () => {
  device = await openNodeDevice({ backend: "null" });
});
afterAll(() => device.destroy());

const tiers = (): readonly [string, Caps][] => [
  ["core", coreTier(device.caps)],
  ["tensor", tensorTier(device.caps, largeWorkgroups)],
];

/** The front end alone: the null backend has less workgroup memory and smaller workgroups than devices of the tensor tier. */
async function parse(label: string, wgsl: string): Promise<void> {
  const { messages } = await device.device.createShaderModule({ label, code: wgsl }).getCompilationInfo();
  const [error] = messages.filter(({ type }) => type === "error");
  if (error) throw new Error(`${label}, line ${error.lineNum}: ${error.message}`);
}

describe("every candidate compiles", () => {
  test.each(PROBLEMS.map(({ name, task }) => [name, task] as const))("%s", { timeout: 240_000 }, async (_, task) => {
    const seen = new Set<string>();
    for (const [tier, caps] of tiers()) {
      const pipelines = new PipelineCache(device);
      for (const tactic of tacticsFor(task, caps)) {
        const compiled: Promise<unknown>[] = [];
        for (const config of tactic.candidates(task, caps)) {
          seen.add(tactic.name);
          for (const { wgsl, bindings, params } of tactic.emit(task, config, caps).steps) {
            const label = `${tier} ${tactic.name} ${JSON.stringify(config)}`;
            const access = [...bindings.map(({ access }) => access), ...(params.length > 0 ? (["uniform"] as const) : [])];
            compiled.push(tier === "tensor" ? parse(label, wgsl) : pipelines.compile({ label, wgsl, bindings: access }));
          }
        }
        await Promise.all(compiled);
      }
    }
    expect(seen.size).toBeGreaterThan(0);
  });

  test("but for what is wrong", async () => {
    await expect(parse("wrong", "fn main() { let x: f32 = 1u; }")).rejects.toThrow(/wrong, line 1/);
  });

  test("the problems reach every tactic", () => {
    const reached = new Set(
      tiers().flatMap(([, caps]) =>
        PROBLEMS.flatMap(({ task }) =>
          tacticsFor(task, caps)
            .filter((tactic) => [...tactic.candidates(task, caps)].length > 0)
            .map(({ name }) => name),
        ),
      ),
    );
    expect(allTactics.map(({ name }) => name).filter((name) => !reached.has(name))).toEqual([]);
  });
});

test("no candidate asks for more workgroups along an axis than there may be", () => {
  const most = 65_535;
  const layers = LAYERS.filter(({ name }) => /vgg16 3x3 (3>)?64 224/.test(name));
  for (const [tier, caps] of tiers()) {
    for (const layer of layers) {
      for (const dtype of ["f32", "f16", "i8"] as const) {
        const task = taskOf(layer, 128, dtype);
        for (const tactic of tacticsFor(task, caps)) {
          for (const config of tactic.candidates(task, caps)) {
            for (const { workgroups } of tactic.emit(task, config, caps).steps)
              expect(
                Math.max(...workgroups.map(Number)),
                `${tier} ${tactic.name} ${JSON.stringify(config)}`,
              ).toBeLessThanOrEqual(most);
          }
        }
      }
    }
  }
});

test("the first tactic of each kind applies to every problem", () => {
  for (const [, caps] of tiers()) for (const { task } of PROBLEMS) expect(tacticsFor(task, caps).length).toBeGreaterThan(0);
});
