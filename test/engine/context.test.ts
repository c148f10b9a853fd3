// Execution contexts on the machine's adapter: shapes, loops, branches, host layers, wrong inputs, many contexts, the end.

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Inputs } from "../../src/engine/ends.ts";
import { Engine, type HostOperator } from "../../src/engine/engine.ts";
import type { HostStep, LoopStep, Plan, PlanBuffer, Step } from "../../src/engine/plan.ts";
import { Memory } from "../../src/gpu/buffers.ts";
import type { Device } from "../../src/gpu/device.ts";
import { numbersOf, type Tensor, tensor } from "../../src/ir/tensor.ts";
import { realDevice, rejection } from "../gpu/open.ts";
import { buffer, dispatch, doubling, makePlan, mapShader, someWeights } from "./plans.ts";

// With WebGPU's core limits, which are the narrowest.
let device: Device;
let available = true;
beforeAll(async () => {
  const opened = await realDevice({ portable: true });
  if (opened) device = opened;
  else available = false;
});
afterAll(() => device?.destroy());

const hostOperators: Record<string, HostOperator> = {
  /** The elements above zero. */
  Positive: ([x]) => {
    const kept = numbersOf(x!).filter((value) => value > 0);
    return [tensor("f32", [kept.length], kept)];
  },
  Negate: ([x], { by }) => [
    tensor(
      "f32",
      x!.shape,
      numbersOf(x!).map((value) => -value * Number(by ?? 1)),
    ),
  ],
};
const load = (plan: Plan, weights = someWeights()): Promise<Engine> =>
  Engine.load(device, plan, weights, (op) => hostOperators[op]);

const f32 = (shape: readonly number[], values: readonly number[]): Tensor => tensor("f32", shape, values);
const copy = (from: number, to: number): Step => ({ kind: "copy", from, to });
const host = (
  op: string,
  inputs: readonly (number | null)[],
  outputs: readonly number[],
  attrs: HostStep["attrs"] = {},
): HostStep => ({
  kind: "host",
  node: `/${op}`,
  op,
  attrs,
  inputs,
  outputs,
});
const loop = (count: string, body: readonly Step[], more: Partial<LoopStep>): LoopStep => ({
  kind: "loop",
  index: "t",
  count,
  trips: null,
  condition: null,
  body,
  carried: [],
  outputs: [],
  scans: [],
  ...more,
});

/** A test on the adapter, with all that it loaded disposed of and the device found unharmed. */
const onDevice = (
  name: string,
  body: (execute: (plan: Plan, ...runs: Inputs[]) => Promise<Record<string, number[]>[]>) => Promise<void>,
): void =>
  it(name, async (task) => {
    if (!available) return task.skip("no GPU adapter");
    const loaded: Engine[] = [];
    await body(async (plan, ...runs) => {
      const engine = await load(plan);
      loaded.push(engine);
      const context = engine.createExecutionContext();
      const results = [];
      for (const inputs of runs) {
        const outputs = await context.execute(inputs);
        results.push(Object.fromEntries(Object.entries(outputs).map(([output, value]) => [output, numbersOf(value)])));
      }
      return results;
    });
    for (const engine of loaded) engine.dispose();
    await unharmed();
  });

/** WebGPU tells of errors some time after the call: waits that long. */
const unharmed = async (): Promise<void> => {
  await device.queue.onSubmittedWorkDone();
  await new Promise((resolve) => setTimeout(resolve, 20));
  device.check();
};

describe("an execution context", () => {
  onDevice("runs a static plan, again and again", async (execute) => {
    expect(await execute(doubling(), { x: f32([4], [1, 2, 3, 4]) }, { x: new Float32Array([5, 6, 7, 8]) })).toEqual([
      { y: [2, 4, 6, 8] },
      { y: [10, 12, 14, 16] },
    ]);
  });

  onDevice("runs what it serialized and read again", async () => {
    const engine = await load(doubling());
    const { Runtime } = await import("../../src/runtime.ts");
    const again = await new Runtime(device).deserialize(engine.serialize());
    const { y } = await again.createExecutionContext().execute({ x: f32([4], [1, 2, 3, 4]) });
    expect(numbersOf(y!)).toEqual([2, 4, 6, 8]);
    engine.dispose();
    again.dispose();
  });

  onDevice("follows a symbol up and down", async (execute) => {
    const scale = mapShader("x0[i] * f32(params[0][0]) + f32(params[0][1])", 1, 2);
    const plan = makePlan(
      [buffer("x", ["N"], "input"), buffer("h", ["N"], 0), buffer("y", ["N"], "output")],
      [scale],
      [dispatch(0, [0], 1, "N", ["N", "N*2"]), dispatch(0, [1], 2, "N", ["1", "0"])],
    );
    for (const n of [3, 1000, 3, 0, 64, 5000]) {
      const values = Array.from({ length: n }, (_, i) => i);
      const [result] = await execute(plan, { x: f32([n], values) });
      expect(result).toEqual({ y: values.map((value) => value * n + 2 * n) });
    }
    const sizes = [2, 700, 2, 0, 700, 1].map((n) => ({
      x: f32(
        [n],
        Array.from({ length: n }, () => 1),
      ),
    }));
    const results = await execute(plan, ...sizes);
    expect(results.map(({ y }) => [y!.length, y![0]])).toEqual([
      [2, 6],
      [700, 2100],
      [2, 6],
      [0, undefined],
      [700, 2100],
      [1, 3],
    ]);
  });

  onDevice("runs zero-size dimensions beside others", async (execute) => {
    const plan = makePlan(
      [buffer("x", ["N", "3"], "input"), buffer("y", ["N", "3"], "output"), buffer("s", [], "output")],
      [mapShader("x0[i] * 2", 1), mapShader("f32(params[0][0])", 1, 1)],
      [dispatch(0, [0], 1, "N*3"), dispatch(1, [0], 2, "1", ["N"])],
    );
    expect(await execute(plan, { x: f32([0, 3], []) }, { x: f32([1, 3], [1, 2, 3]) })).toEqual([
      { y: [], s: [0] },
      { y: [2, 4, 6], s: [1] },
    ]);
  });

  onDevice("gives outputs of every type and zero elements their shape", async () => {
    const shapes = makePlan(
      [
        buffer("x", ["N", "5"], "input", "u8"),
        buffer("n", ["2", "N"], "input", "i64"),
        buffer("y", ["N", "5"], "output", "u8"),
        buffer("m", ["2", "N"], "output", "i64"),
      ],
      [],
      [copy(0, 2), copy(1, 3)],
    );
    const engine = await load(shapes);
    const context = engine.createExecutionContext();
    for (const n of [1, 0, 3]) {
      const x = tensor(
        "u8",
        [n, 5],
        Array.from({ length: n * 5 }, (_, i) => 250 + i),
      );
      const given = tensor(
        "i64",
        [2, n],
        Array.from({ length: 2 * n }, (_, i) => -i),
      );
      expect(await context.execute({ x, n: given })).toEqual({ y: x, m: given });
    }
    engine.dispose();
  });

  onDevice("has params for more dispatches than one uniform binding holds", async (execute) => {
    const turns = 1000;
    const plan = makePlan(
      [buffer("x", ["N"], "input"), buffer("a", ["N"], 0), buffer("b", ["N"], 1), buffer("y", ["N"], "output")],
      [mapShader("x0[i] + f32(params[0][0])", 1, 1)],
      [loop(String(turns), [dispatch(0, [1], 2, "N", ["t"])], { carried: [{ init: 0, input: 1, output: 2, final: 3 }] })],
    );
    expect(await execute(plan, { x: f32([2], [0, 0.5]) })).toEqual([{ y: [499500, 499500.5] }]);
  });

  onDevice("copies, and gives one value as several outputs", async (execute) => {
    const plan = makePlan(
      [buffer("x", ["4"], "input"), buffer("y", ["4"], "output"), buffer("z", ["4"], "output")],
      [mapShader("x0[i] * 2", 1)],
      [dispatch(0, [0], 1, "4"), copy(1, 2)],
    );
    expect(await execute(plan, { x: f32([4], [1, 2, 3, 4]) })).toEqual([{ y: [2, 4, 6, 8], z: [2, 4, 6, 8] }]);
  });

  onDevice("reads weights, and moves large tensors", async (execute) => {
    const n = 3_000_000;
    const plan = makePlan(
      [buffer("x", ["N"], "input"), buffer("w", ["2"], { offset: 0, length: 8 }), buffer("y", ["N"], "output")],
      [mapShader("x0[i] + x1[i % 2]", 2)],
      [{ ...dispatch(0, [0, 1], 2, "N"), workgroups: ["(N+63)/64", "1", "1"] }],
    );
    const engine = await load(plan, new Uint8Array(new Float32Array([10, 20]).buffer));
    const { y } = await engine
      .createExecutionContext()
      .execute({ x: { dtype: "f32", shape: [n], data: new Float32Array(n).fill(1) } });
    expect([y!.data[0], y!.data[1], y!.data[n - 1], y!.data.length]).toEqual([11, 21, 21, n]);
    engine.dispose();
    expect(await execute(doubling(["N"]), { x: f32([1], [1]) })).toEqual([{ y: [2] }]);
  });
});

describe("loops", () => {
  const counted = (count: string, more: Partial<LoopStep> = {}): Plan =>
    makePlan(
      [
        buffer("x", ["2"], "input"),
        buffer("n", [], "input", "i64"),
        buffer("a", ["2"], 0),
        buffer("b", ["2"], 1),
        buffer("y", ["2"], "output"),
      ],
      [mapShader("x0[i] * 2 + f32(params[0][0])", 1, 1)],
      [loop(count, [dispatch(0, [2], 3, "2", ["t"])], { carried: [{ init: 0, input: 2, output: 3, final: 4 }], ...more })],
    );
  const one = tensor("i64", [], [1]);

  onDevice("turn as often as counted", async (execute) => {
    for (const [count, expected] of [
      ["0", [1, 3]],
      ["1", [2, 6]],
      ["3", [12, 28]],
    ] as const) {
      expect(await execute(counted(count), { x: f32([2], [1, 3]), n: one })).toEqual([{ y: expected }]);
    }
  });

  onDevice("turn as often as an input says", async (execute) => {
    const plan = counted("M", { trips: 1 });
    const runs = [3, 0, 1, -5].map((n) => ({ x: f32([2], [1, 3]), n: tensor("i64", [], [n]) }));
    expect((await execute(plan, ...runs)).map(({ y }) => y)).toEqual([
      [12, 28],
      [1, 3],
      [2, 6],
      [1, 3],
    ]);
  });

  onDevice("end by a condition, before the first turn too", async (execute) => {
    const small = `@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> c: array<u32>;
@compute @workgroup_size(1) fn main() { c[0] = select(0u, 1u, x[0] < 100); }`;
    const plan = makePlan(
      [
        buffer("x", ["2"], "input"),
        buffer("go", [], "input", "bool"),
        buffer("a", ["2"], 0),
        buffer("b", ["2"], 1),
        buffer("c", [], 2, "bool"),
        buffer("y", ["2"], "output"),
      ],
      [mapShader("x0[i] * 2", 1), small],
      [
        loop("1000", [dispatch(0, [2], 3, "2"), dispatch(1, [3], 4, "1")], {
          condition: { initial: 1, output: 4 },
          carried: [{ init: 0, input: 2, output: 3, final: 5 }],
        }),
      ],
    );
    const go = (value: number) => tensor("bool", [], [value]);
    expect(
      await execute(
        plan,
        { x: f32([2], [3, 1]), go: go(1) },
        { x: f32([2], [3, 1]), go: go(0) },
        { x: f32([2], [200, 1]), go: go(1) },
      ),
    ).toEqual([{ y: [192, 64] }, { y: [3, 1] }, { y: [400, 2] }]);
  });

  onDevice("swap carried values, and carry some unchanged", async (execute) => {
    const buffers = (last: PlanBuffer[]): PlanBuffer[] => [
      buffer("x", ["1"], "input"),
      buffer("z", ["1"], "input"),
      buffer("a", ["1"], 0),
      buffer("b", ["1"], 1),
      buffer("k", ["1"], 2),
      buffer("sum", ["1"], 3),
      buffer("ya", ["1"], "output"),
      buffer("yb", ["1"], "output"),
      buffer("yk", ["1"], "output"),
      ...last,
    ];
    // The body says (a, b, k) → (b, a + b, k), by way of a copy of b.
    const carried = [
      { init: 1, input: 3, output: 5, final: 7 },
      { init: 0, input: 2, output: 9, final: 6 },
      { init: 1, input: 4, output: 4, final: 8 },
    ];
    const fibonacci = (order: readonly number[], more: Partial<LoopStep> = {}) =>
      makePlan(
        buffers([buffer("b'", ["1"], 4), buffer("n", [], "input", "i64")]),
        [mapShader("x0[i] + x1[i]", 2)],
        [loop("6", [copy(3, 9), dispatch(0, [2, 3], 5, "1")], { carried: order.map((i) => carried[i]!), ...more })],
      );
    const inputs = { x: f32([1], [0]), z: f32([1], [1]), n: tensor("i64", [], [6]) };
    for (const order of [
      [0, 1, 2],
      [1, 2, 0],
      [2, 1, 0],
    ]) {
      for (const more of [{}, { trips: 10 }])
        expect(await execute(fibonacci(order, more), inputs)).toEqual([{ ya: [8], yb: [13], yk: [1] }]);
    }
  });

  onDevice("stack what their turns give, of sizes known only then", async (execute) => {
    const plan = makePlan(
      [
        buffer("x", ["3"], "input"),
        buffer("a", ["3"], 0),
        buffer("b", ["3"], 1),
        buffer("y", ["3"], "output"),
        buffer("s", ["S", "3"], "output"),
      ],
      [mapShader("x0[i] + f32(params[0][0]) + 1", 1, 1)],
      [
        loop("2", [dispatch(0, [1], 2, "3", ["t"])], {
          carried: [{ init: 0, input: 1, output: 2, final: 3 }],
          scans: [{ piece: 2, out: 4 }],
        }),
      ],
    );
    expect(await execute(plan, { x: f32([3], [0, 1, 2]) })).toEqual([{ y: [3, 4, 5], s: [1, 2, 3, 3, 4, 5] }]);
  });

  onDevice("hold host layers, and carry values that grow", async (execute) => {
    // Each turn appends nothing but keeps what is positive of x - t: 5 4 3 2 1 → four → three.
    const plan = makePlan(
      [
        buffer("x", ["N"], "input"),
        buffer("a", ["K"], 0),
        buffer("b", ["K"], 1),
        buffer("c", ["C"], 2),
        buffer("y", ["Y"], "output"),
      ],
      [mapShader("x0[i] - 1", 1)],
      [
        loop("2", [dispatch(0, [1], 2, "K"), host("Positive", [2], [3])], {
          carried: [{ init: 0, input: 1, output: 3, final: 4 }],
        }),
      ],
      { hostLayers: [{ node: "/Positive", op: "Positive", reason: "a test" }] },
    );
    expect(
      await execute(plan, { x: f32([5], [5, 4, 3, 2, 1]) }, { x: f32([2], [1, 2]) }, { x: f32([5], [9, 9, 9, 9, 2]) }),
    ).toEqual([{ y: [3, 2, 1] }, { y: [] }, { y: [7, 7, 7, 7] }]);
  });

  onDevice("do not keep what every shape ever seen needed", async () => {
    const plan = makePlan(
      [buffer("x", ["N"], "input"), buffer("a", ["N"], 0), buffer("b", ["N"], 1), buffer("y", ["N"], "output")],
      [mapShader("x0[i] + f32(params[0][0])", 1, 1)],
      [loop("3000", [dispatch(0, [1], 2, "N", ["N"])], { carried: [{ init: 0, input: 1, output: 2, final: 3 }] })],
    );
    const engine = await load(plan);
    const context = engine.createExecutionContext();
    for (const n of [2, 1, 2])
      expect(numbersOf((await context.execute({ x: f32([n], Array(n).fill(1)) })).y!)).toEqual(Array(n).fill(1 + 3000 * n));
    expect(context.deviceMemory).toBeLessThan(1_000_000);
    engine.dispose();
  });
});

describe("branches and host layers", () => {
  const branching = makePlan(
    [
      buffer("x", ["N"], "input"),
      buffer("c", [], "input", "bool"),
      buffer("t", ["N"], 0),
      buffer("p", ["P"], 1),
      buffer("y", ["Y"], "output"),
      buffer("z", ["Y"], "output"),
    ],
    [mapShader("x0[i] * 2", 1), mapShader("x0[i] + 1", 1)],
    [
      {
        kind: "if",
        condition: 1,
        then: [dispatch(0, [0], 2, "N")],
        else: [host("Positive", [0], [3])],
        results: [{ then: 2, else: 3, out: 4 }],
      },
      dispatch(1, [4], 5, "Y"),
    ],
    { hostLayers: [{ node: "/Positive", op: "Positive", reason: "a test" }] },
  );

  onDevice("are taken as the data says, with shapes that depend on it", async (execute) => {
    const runs = [1, 0, 1, 0].map((c, i) => ({ x: f32([3], [-1, 2 + i, 3]), c: tensor("bool", [], [c]) }));
    expect(await execute(branching, ...runs, { x: f32([2], [-1, -2]), c: tensor("bool", [], [0]) })).toEqual([
      { y: [-2, 4, 6], z: [-1, 5, 7] },
      { y: [3, 3], z: [4, 4] },
      { y: [-2, 8, 6], z: [-1, 9, 7] },
      { y: [5, 3], z: [6, 4] },
      { y: [], z: [] },
    ]);
  });

  onDevice("run between kernels, with attributes and missing inputs", async (execute) => {
    const plan = makePlan(
      [buffer("x", ["2"], "input"), buffer("a", ["2"], 0), buffer("b", ["2"], 1), buffer("y", ["2"], "output")],
      [mapShader("x0[i] + 1", 1)],
      [dispatch(0, [0], 1, "2"), host("Negate", [1, null], [2], { by: 3 }), dispatch(0, [2], 3, "2")],
      { hostLayers: [{ node: "/Negate", op: "Negate", reason: "a test" }] },
    );
    expect(await execute(plan, { x: f32([2], [1, 2]) })).toEqual([{ y: [-5, -8] }]);
  });
});

describe("wrong inputs", () => {
  const bounded = doubling(["N", "M"], {
    profiles: [
      { name: "profile 0", symbols: { N: { min: 1, opt: 2, max: 4 }, M: { min: 1, opt: 1, max: 2 } } },
      { name: "profile 1", symbols: { N: { min: 8, opt: 8, max: 8 }, M: { min: 1, opt: 1, max: 2 } } },
    ],
  });
  const cases: readonly (readonly [string, Plan, unknown, string])[] = [
    ["none", doubling(), {}, 'K602 missing-input  input "x": no tensor was given for it'],
    ["null", doubling(), { x: null }, 'K602 missing-input  input "x"'],
    [
      "an unknown name",
      doubling(),
      { x: new Float32Array(4), q: new Float32Array(4) },
      'K603 unknown-input  "q": the engine has no such input',
    ],
    [
      "another type",
      doubling(),
      { x: tensor("i32", [4], [1, 2, 3, 4]) },
      'K608 input-type  input "x": it is i32, the engine takes f32',
    ],
    [
      "another array",
      doubling(),
      { x: new Float64Array(4) },
      'K608 input-type  input "x" (f32): its data is Float64Array, expected Float32Array',
    ],
    ["a plain array", doubling(), { x: [1, 2, 3, 4] }, "K608"],
    ["a number", doubling(), { x: 3 }, "K608"],
    ["a tensor of a plain array", doubling(), { x: { dtype: "f32", shape: [4], data: [1, 2, 3, 4] } }, "K608"],
    ["too few elements", doubling(), { x: new Float32Array(3) }, "its data is 3 elements, expected 4 for shape [4]"],
    [
      "data that is not its shape's",
      doubling(["N"]),
      { x: { dtype: "f32", shape: [5], data: new Float32Array(4) } },
      "its data is 4 elements, expected 5 for shape [5]",
    ],
    [
      "another shape",
      doubling(),
      { x: f32([2, 2], [1, 2, 3, 4]) },
      'K604 input-shape  input "x": shape [2, 2] does not fit [4]',
    ],
    ["another size", doubling(["N", "3"]), { x: f32([2, 2], [1, 2, 3, 4]) }, "shape [2, 2] does not fit [N, 3]"],
    ["negative dimensions", doubling(["N", "M"]), { x: { dtype: "f32", shape: [-2, -2], data: new Float32Array(4) } }, "K604"],
    [
      "fractions of dimensions",
      doubling(["N", "M"]),
      { x: { dtype: "f32", shape: [0.5, 8], data: new Float32Array(4) } },
      "K604",
    ],
    ["no shape where it is free", doubling(["N"]), { x: new Float32Array(4) }, "K606 unbound-dimension  dimension N"],
    [
      "a shape above the profile",
      bounded,
      { x: f32([5, 1], [1, 2, 3, 4, 5]) },
      'K605 outside-profile  input "x" dimension 0: 5 is outside of [1, 4] of profile "profile 0"',
    ],
    ["a shape below the profile", bounded, { x: f32([0, 1], []) }, '0 is outside of [1, 4] of profile "profile 0"'],
    [
      "a shape between two profiles",
      bounded,
      { x: f32([8, 3], Array(24).fill(0)) },
      'input "x" dimension 1: 3 is outside of [1, 2] of profile "profile 1"',
    ],
  ];

  it.for(cases)("%s", async ([, plan, inputs, words], { skip }) => {
    if (!available) return skip("no GPU adapter");
    const engine = await load(plan);
    const context = engine.createExecutionContext();
    const error = await rejection(context.execute(inputs as Inputs));
    expect(error.message).toContain(words);
    engine.dispose();
    await unharmed();
  });

  onDevice("that disagree on a symbol, or on what the engine assumes", async () => {
    const two = makePlan(
      [buffer("a", ["N"], "input"), buffer("b", ["N", "2"], "input"), buffer("y", ["N"], "output")],
      [mapShader("x0[i]", 1)],
      [dispatch(0, [0], 2, "N")],
    );
    const engine = await load(two);
    const context = engine.createExecutionContext();
    const error = await rejection(context.execute({ a: f32([2], [1, 2]), b: f32([1, 2], [1, 2]) }));
    expect(error.message).toBe('K607 inconsistent-dimension  dimension "N": input "a" says 2, input "b" says 1');
    engine.dispose();
    const assuming = { ...doubling(), inputs: [{ ...doubling().inputs[0]!, assumed: ["1", "2", "3", "4"] }] };
    const assumed = await load(assuming);
    const other = assumed.createExecutionContext();
    expect(numbersOf((await other.execute({ x: f32([4], [1, 2, 3, 4]) })).y!)).toEqual([2, 4, 6, 8]);
    expect((await rejection(other.execute({ x: f32([4], [1, 2, 3, 5]) }))).code).toBe("K609");
    assumed.dispose();
  });

  onDevice("do not keep a context from running right ones", async () => {
    const engine = await load(doubling());
    const context = engine.createExecutionContext();
    const [bad, good] = await Promise.allSettled([context.execute({}), context.execute({ x: f32([4], [1, 2, 3, 4]) })]);
    expect(bad.status).toBe("rejected");
    expect(good.status === "fulfilled" && numbersOf(good.value.y!)).toEqual([2, 4, 6, 8]);
    engine.dispose();
  });

  onDevice("do not include Node's Buffers of bytes", async () => {
    const engine = await load(
      makePlan([buffer("x", ["8"], "input", "u8"), buffer("y", ["8"], "output", "u8")], [], [copy(0, 1)]),
    );
    const { y } = await engine.createExecutionContext().execute({ x: Buffer.from("12345678") });
    expect(String.fromCharCode(...numbersOf(y!))).toBe("12345678");
    engine.dispose();
  });
});

describe("lifetimes", () => {
  onDevice("two contexts of one engine run side by side", async () => {
    const engine = await load(doubling(["N"]));
    const contexts = [engine.createExecutionContext(), engine.createExecutionContext()];
    const runs = Array.from({ length: 20 }, (_, i) => contexts[i % 2]!.execute({ x: f32([i + 1], Array(i + 1).fill(i)) }));
    for (const [i, { y }] of (await Promise.all(runs)).entries()) expect(numbersOf(y!)).toEqual(Array(i + 1).fill(i * 2));
    contexts[0]!.dispose();
    expect(numbersOf((await contexts[1]!.execute({ x: f32([1], [21]) })).y!)).toEqual([42]);
    engine.dispose();
  });

  onDevice("what a context needs is known before it has it", async () => {
    const chain = makePlan(
      [
        buffer("x", ["N"], "input"),
        buffer("a", ["N"], 0),
        buffer("b", ["N", "2"], 1),
        buffer("c", ["N"], 0),
        buffer("y", ["N"], "output"),
      ],
      [mapShader("x0[i % arrayLength(&x0)] + 1", 1)],
      [dispatch(0, [0], 1, "N"), dispatch(0, [1], 2, "N*2"), dispatch(0, [2], 3, "N"), dispatch(0, [3], 4, "N")],
      { profiles: [10, 100].map((max) => ({ name: `${max}`, symbols: { N: { min: 1, opt: 2, max } } })) },
    );
    const engine = await load(chain);
    for (const [profile, n] of [
      [0, 10],
      [1, 100],
    ] as const) {
      const context = engine.createExecutionContext();
      expect([engine.deviceMemory(profile), context.deviceMemory]).toEqual([n * 20, 0]);
      await context.execute({ x: f32([n], Array(n).fill(0)) });
      expect(context.deviceMemory).toBe(n * 20);
    }
    engine.dispose();
    const unbounded = await load({ ...chain, profiles: [] });
    expect(() => unbounded.deviceMemory()).toThrow("K606");
    unbounded.dispose();
  });

  onDevice("activations may lie in the caller's buffers, shared by contexts that take turns", async () => {
    const chain = makePlan(
      [buffer("x", ["N"], "input"), buffer("a", ["N"], 0), buffer("b", ["N", "2"], 1), buffer("y", ["N"], "output")],
      [mapShader("x0[i % arrayLength(&x0)] + 1", 1)],
      [dispatch(0, [0], 1, "N"), dispatch(0, [1], 2, "N*2"), dispatch(0, [2], 3, "N")],
      { profiles: [{ name: "profile 0", symbols: { N: { min: 1, opt: 2, max: 10 } } }] },
    );
    const engine = await load(chain);
    expect(engine.activationMemory()).toEqual([40, 80]);
    const memory = new Memory(device);
    const activations = await Promise.all(engine.activationMemory().map((bytes) => memory.create({ label: "shared", bytes })));
    const contexts = [0, 1].map(() => engine.createExecutionContext({ activations }));
    for (const n of [3, 10, 1]) {
      for (const context of contexts) {
        const { y } = await context.execute({ x: f32([n], Array(n).fill(n)) });
        expect(numbersOf(y!)).toEqual(Array(n).fill(n + 3));
      }
    }
    expect(contexts[0]!.deviceMemory).toBe(80);
    expect(() => engine.createExecutionContext({ activations: activations.slice(1) })).toThrow(
      "2 buffers are needed, 1 were given",
    );
    const swapped = engine.createExecutionContext({ activations: [...activations].reverse() });
    const error = await rejection(swapped.execute({ x: f32([10], Array(10).fill(0)) }));
    expect(error.message).toBe("K613 wrong-buffer  activation memory 1: its buffer holds 40 bytes, it needs 80");
    engine.dispose();
    expect(memory.live).toBe(120);
    memory.dispose();
  });

  onDevice("shapes may be set ahead, and say what is missing and what comes out", async () => {
    const plan = makePlan(
      [
        buffer("a", ["N", "3"], "input"),
        buffer("b", ["N"], "input"),
        buffer("y", ["N*2"], "output"),
        buffer("z", ["Z"], "output"),
      ],
      [mapShader("x0[0]", 1)],
      [dispatch(0, [1], 2, "N*2"), host("Positive", [1], [3])],
      {
        hostLayers: [{ node: "/Positive", op: "Positive", reason: "a test" }],
        profiles: [{ name: "profile 0", symbols: { N: { min: 1, opt: 2, max: 4 } } }],
      },
    );
    const engine = await load(plan);
    const context = engine.createExecutionContext();
    expect(context.inferShapes()).toEqual({ missing: ["a", "b"], outputs: { y: undefined, z: undefined } });
    context.setInputShape("a", [2, 3]);
    expect(context.inferShapes().missing).toEqual(["b"]);
    expect((await rejection(context.execute({ a: new Float32Array(6), b: new Float32Array(2) }))).code).toBe("K606");
    context.setInputShape("b", [2]);
    expect(context.inferShapes()).toEqual({ missing: [], outputs: { y: [4], z: undefined } });
    const { y } = await context.execute({ a: new Float32Array(6), b: Float32Array.of(7, -1) });
    expect(numbersOf(y!)).toEqual([7, 7, 7, 7]);
    expect(() => context.setInputShape("a", [2, 4])).toThrow('K604 input-shape  input "a": shape [2, 4] does not fit [N, 3]');
    expect(() => context.setInputShape("q", [2])).toThrow("K603");
    context.setInputShape("b", [3]);
    expect(() => context.inferShapes()).toThrow("K607");
    expect(() => context.setInputShape("a", [5, 3])).toThrow('K605 outside-profile  input "a" dimension 0: 5 is outside of');
    engine.dispose();
  });

  onDevice("a disposed context says so, and its memory is free", async () => {
    const engine = await load(doubling());
    const context = engine.createExecutionContext();
    await context.execute({ x: f32([4], [1, 2, 3, 4]) });
    expect(context.deviceMemory).toBe(32);
    context.dispose();
    context.dispose();
    expect(context.deviceMemory).toBe(0);
    expect((await rejection(context.execute({ x: f32([4], [1, 2, 3, 4]) }))).code).toBe("K610");
    engine.dispose();
  });

  onDevice("disposing in the middle of a run lets it end and refuses the next", async () => {
    const engine = await load(doubling());
    const context = engine.createExecutionContext();
    await context.execute({ x: f32([4], [0, 0, 0, 0]) });
    const first = context.execute({ x: f32([4], [1, 2, 3, 4]) });
    const second = context.execute({ x: f32([4], [1, 2, 3, 4]) });
    await Promise.resolve();
    context.dispose();
    expect(numbersOf((await first).y!)).toEqual([2, 4, 6, 8]);
    expect((await rejection(second)).code).toBe("K610");
    expect(context.deviceMemory).toBe(0);
    engine.dispose();
  });

  onDevice("disposing of an engine ends its contexts, and not before their runs", async () => {
    const engine = await load(doubling());
    const context = engine.createExecutionContext();
    await context.execute({ x: f32([4], [0, 0, 0, 0]) });
    const run = context.execute({ x: f32([4], [1, 2, 3, 4]) });
    await Promise.resolve();
    engine.dispose();
    expect(numbersOf((await run).y!)).toEqual([2, 4, 6, 8]);
    expect((await rejection(context.execute({ x: f32([4], [1, 2, 3, 4]) }))).code).toBe("K610");
    expect(() => engine.createExecutionContext()).toThrow("K610");
    expect(engine.memory.live).toBe(0);
  });

  onDevice("what is encoded ahead for the next run is that of the same ends only", async () => {
    const engine = await load(doubling());
    const context = engine.createExecutionContext();
    const memory = new Memory(device);
    const run = (value: number, buffer: GPUBuffer) =>
      context.execute({ x: f32([4], [value, value, value, value]) }, { outputs: buffer });
    const first = async (buffer: GPUBuffer) => new Float32Array((await memory.download(buffer, 0, 4)).buffer)[0];
    const [a, b] = [await memory.create({ label: "a", bytes: 16 }), await memory.create({ label: "b", bytes: 16 })];
    for (const value of [1, 2, 3]) {
      await run(value, a);
      expect(await first(a)).toBe(2 * value);
    }
    await run(4, b);
    expect([await first(a), await first(b)]).toEqual([6, 8]);
    await run(5, a);
    expect([await first(a), await first(b)]).toEqual([10, 8]);
    memory.destroy(a);
    expect((await rejection(run(6, a))).code).toBe("K614");
    await run(7, b);
    expect(await first(b)).toBe(14);
    context.dispose();
    engine.dispose();
    memory.dispose();
  });

  onDevice("a device that is gone is told of by name", async () => {
    const own = (await realDevice())!;
    const engine = await Engine.load(own, doubling(), someWeights(), () => undefined);
    const context = engine.createExecutionContext();
    own.destroy();
    expect((await rejection(context.execute({ x: f32([4], [1, 2, 3, 4]) }))).code).toBe("K408");
    expect((await rejection(Engine.load(own, doubling(), someWeights(), () => undefined))).code).toBe("K408");
  });
});
