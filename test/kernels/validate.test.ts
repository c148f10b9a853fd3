// Every candidate of every tactic goes through Dawn's WGSL front end and pipeline limits, for each tier of device; no GPU.

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Device } from "../../src/gpu/device.ts";
import { PipelineCache } from "../../src/gpu/pipelines.ts";
import { allTactics, tacticsFor } from "../../src/kernels/index.ts";
import { openNodeDevice } from "../../src/node-device.ts";
import type { Caps } from "../../src/util/caps.ts";
import { coreTier, tensorTier } from "../support/tiers.ts";
import { PROBLEMS } from "./problems.ts";

let device: Device;
beforeAll(async () => {
  device = await openNodeDevice({ backend: "null" });
});
afterAll(() => device.destroy());

const tiers = (): readonly [string, Caps][] => [
  ["core", coreTier(device.caps)],
  ["tensor", tensorTier(device.caps)],
];

describe("every candidate compiles", () => {
  test.each(PROBLEMS.map(({ name, task }) => [name, task] as const))("%s", { timeout: 240_000 }, async (_, task) => {
    const pipelines = new PipelineCache(device);
    const seen = new Set<string>();
    for (const [tier, caps] of tiers()) {
      for (const tactic of tacticsFor(task, caps)) {
        let count = 0;
        const compiled: Promise<unknown>[] = [];
        for (const config of tactic.candidates(task, caps)) {
          if (count++ >= 40) break;
          for (const { wgsl, bindings, params } of tactic.emit(task, config, caps).steps) {
            const label = `${tier} ${tactic.name} ${JSON.stringify(config)}`;
            compiled.push(
              pipelines.compile({
                label,
                wgsl,
                bindings: [...bindings.map(({ access }) => access), ...(params.length > 0 ? (["uniform"] as const) : [])],
              }),
            );
          }
        }
        await Promise.all(compiled);
        if (count > 0) seen.add(tactic.name);
      }
    }
    expect(seen.size).toBeGreaterThan(0);
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

test("the first tactic of each kind applies to every problem", () => {
  for (const [, caps] of tiers()) for (const { task } of PROBLEMS) expect(tacticsFor(task, caps).length).toBeGreaterThan(0);
});
