// What `kiln inspect` prints: kernels with shapes at the profile's largest, memory and its lower bound.

import { describe, expect, it } from "vitest";
import { describe as describePlan } from "../../src/engine/describe.ts";
import type { Plan } from "../../src/engine/plan.ts";
import type { Device } from "../../src/gpu/device.ts";
import { fingerprintOf } from "../../src/gpu/fingerprint.ts";
import { coreCaps } from "../../src/util/caps.ts";
import { buffer, dispatch, doubling, makePlan, mapShader } from "./plans.ts";

const fingerprint = fingerprintOf({ vendor: "mesa", architecture: "", device: "", description: "llvmpipe" }, coreCaps, [], "");
const device = { fingerprint } as Device;
const about = (plan: Plan, profile?: number) => describePlan(plan, device, profile);

/** x → a → b → c → y, where a and c share a slot. */
const chain = (n: string): Plan =>
  makePlan(
    [buffer("x", [n], "input"), buffer("a", [n], 0), buffer("b", [n, "2"], 1), buffer("c", [n], 0), buffer("y", [n], "output")],
    [mapShader("x0[i] + 1", 1)],
    [dispatch(0, [0], 1, n), dispatch(0, [1], 2, `${n}*2`), dispatch(0, [2], 3, n), dispatch(0, [3], 4, n)],
  );

describe("describe", () => {
  it("gives exactly the documented fields", () => {
    const description = about(doubling(["4"]));
    expect(Object.keys(description)).toEqual(["device", "precision", "kernels", "hostLayers", "memory", "profiles"]);
    expect(description).toMatchObject({ device: "llvmpipe", precision: "fp32", hostLayers: [], profiles: [] });
    expect(description.kernels).toEqual([
      {
        name: "kernel_1",
        tactic: "map.element",
        config: { size: 64 },
        nodes: ["node_1"],
        inputs: [{ name: "x", dtype: "f32", shape: [4] }],
        outputs: [{ name: "y", dtype: "f32", shape: [4] }],
        workgroups: [1, 1, 1],
        wgsl: mapShader("x0[i] * 2", 1),
      },
    ]);
    expect(description.memory).toEqual({ weights: 600, activations: 0, activationsLowerBound: 0, staging: 32 });
    expect(JSON.parse(JSON.stringify(description))).toEqual(description);
  });

  it("finds the step with the most live activations", () => {
    expect(about(chain("100")).memory).toEqual({ weights: 0, activations: 1200, activationsLowerBound: 1200, staging: 800 });
    const apart = chain("100");
    const wasteful = {
      ...apart,
      buffers: apart.buffers.map((one) =>
        one.name === "c" ? { ...one, home: { kind: "activation" as const, slot: 2 } } : one,
      ),
      slots: [...apart.slots, { bytes: ["400"] }],
    };
    expect(about(wasteful).memory).toMatchObject({ activations: 1600, activationsLowerBound: 1200 });
  });

  it("takes a profile's largest shapes", () => {
    const bounds = (max: number) => ({ name: `profile ${max}`, symbols: { N: { min: 1, opt: 2, max } } });
    const plan = { ...chain("N"), profiles: [bounds(10), bounds(1000)] };
    expect(about(plan).memory).toEqual({ weights: 0, activations: 120, activationsLowerBound: 120, staging: 80 });
    const { memory, kernels } = about(plan, 1);
    expect(memory).toEqual({ weights: 0, activations: 12000, activationsLowerBound: 12000, staging: 8000 });
    expect(kernels[1]).toMatchObject({ inputs: [{ shape: [1000] }], outputs: [{ shape: [1000, 2] }], workgroups: [32, 1, 1] });
    expect(() => about(plan, 2)).toThrow("K612 bad-profile  profile 2: the engine has 2, counted from 0");
  });

  it("is of the profile's own schedule", () => {
    const own = { steps: chain("N").steps.slice(0, 1), slots: [{ bytes: ["N*4"] }, { bytes: ["1000"] }] };
    const symbols = { N: { min: 1, opt: 2, max: 10 } };
    const plan = {
      ...chain("N"),
      profiles: [
        { name: "a", symbols },
        { name: "b", symbols, schedule: own },
      ],
    };
    expect(about(plan).kernels).toHaveLength(4);
    expect(about(plan, 1)).toMatchObject({ kernels: [{ name: about(plan).kernels[0]!.name }], memory: { activations: 1040 } });
  });

  it("prints dimensions where no profile bounds them", () => {
    const { memory, kernels } = about(chain("N"));
    expect(memory).toEqual({ weights: 0, activations: "N*12", activationsLowerBound: "N*12", staging: "N*8" });
    expect(kernels[1]).toMatchObject({ outputs: [{ shape: ["N", 2] }], workgroups: ["((N*2+63)/64)", 1, 1] });
  });

  it("keeps only sizes that could be the largest", () => {
    const two = makePlan(
      [buffer("x", ["N"], "input"), buffer("a", ["N"], 0), buffer("b", ["M"], 1), buffer("c", ["M", "3"], 2)],
      [mapShader("x0[i]", 1)],
      [dispatch(0, [0], 1, "N"), dispatch(0, [0], 2, "M"), dispatch(0, [0], 3, "M*3")],
    );
    expect(about(two).memory.activationsLowerBound).toBe("max(M*12, N*4)");
  });

  it("counts kernels in loops and branches, and loops as one step", () => {
    const [first, ...rest] = chain("8").steps;
    const looping: Plan = {
      ...chain("8"),
      steps: [
        first!,
        {
          kind: "loop",
          index: "t",
          count: "3",
          trips: null,
          condition: null,
          body: rest,
          carried: [],
          outputs: [4],
          scans: [],
        },
      ],
    };
    const { kernels, memory } = about(looping);
    expect(kernels.map(({ name }) => name)).toEqual(["kernel_1", "kernel_2", "kernel_3", "kernel_4"]);
    expect(memory.activationsLowerBound).toBe(8 * 4 * 4);
  });

  it("names the types in which values are stored", () => {
    const stored = (...buffers: Plan["buffers"]) => about(makePlan(buffers, [], [])).precision;
    const half = { ...buffer("h", ["4"], 0), dtype: "f16", storage: { item: "f16", lanes: 1 } } as const;
    expect(stored(half, buffer("x", [], 0))).toBe("fp16+fp32");
    expect(stored({ ...half, storage: { item: "f32", lanes: 1 } })).toBe("fp32");
    expect(stored(buffer("q", ["4"], 0, "u8"), buffer("x", [], 0), buffer("m", [], 0, "bool"))).toBe("fp32+int8");
    expect(stored(buffer("i", ["4"], 0, "i64"))).toBe("int32");
  });
});
