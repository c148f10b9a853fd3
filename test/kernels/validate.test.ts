// Every candidate of every tactic goes through Dawn's WGSL front end and pipeline limits, for each tier of device; no GPU.

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Device } from "../../src/gpu/device.ts";
import { PipelineCache } from "../../src/gpu/pipelines.ts";
import { allTactics, tacticsFor } from "../../src/kernels/index.ts";
import { openNodeDevice } from "../../src/node-device.ts";
import { type Caps, coreLimits } from "../../src/util/caps.ts";
import { PROBLEMS } from "./problems.ts";

let device: Device;
beforeAll(async () => {
  device = await openNodeDevice({ backend: "null" });
});
afterAll(() => device.destroy());

/** What the tiers of /design differ in, put over the null device's own limits. */
function tiers(): readonly [string, Caps][] {
  const { caps } = device;
  const core: Caps = {
    ...caps,
    tier: "core",
    f16: false,
    subgroups: false,
    matrix: [],
    matrixDialect: "none",
    limits: { ...caps.limits, ...coreLimits },
  };
  const tensor: Caps = {
    ...caps,
    tier: "tensor",
    f16: true,
    subgroups: true,
    subgroupMinSize: 32,
    subgroupMaxSize: 32,
    limits: { ...caps.limits, maxComputeWorkgroupStorageSize: 49152, maxComputeInvocationsPerWorkgroup: 1024 },
    matrixDialect: "template",
    matrix: [
      { component: "f16", result: "f32", m: 16, n: 16, k: 16 },
      { component: "i8", result: "i32", m: 16, n: 16, k: 32 },
    ],
  };
  return [
    ["core", core],
    ["tensor", tensor],
  ];
}

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

test("the first tactic of each kind applies to every problem", () => {
  for (const [, caps] of tiers()) for (const { task } of PROBLEMS) expect(tacticsFor(task, caps).length).toBeGreaterThan(0);
});
