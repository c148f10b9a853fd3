// GPU buffers as inputs and outputs, and runs in flight: what they hold, in which order, and what a wrong one is told.

import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Inputs, RunOptions } from "../../src/engine/ends.ts";
import { Engine } from "../../src/engine/engine.ts";
import type { Plan } from "../../src/engine/plan.ts";
import { Memory } from "../../src/gpu/buffers.ts";
import { BufferUsage } from "../../src/gpu/constants.ts";
import type { Device } from "../../src/gpu/device.ts";
import { numbersOf, type Tensor, tensor } from "../../src/ir/tensor.ts";
import { nullDevice, realDevice, rejection } from "../gpu/open.ts";
import { buffer, dispatch, doubling, makePlan, mapShader, someWeights } from "./plans.ts";

let device: Device;
let memory: Memory;
let available = true;
beforeAll(async () => {
  const opened = await realDevice({ portable: true });
  if (!opened) {
    available = false;
    return;
  }
  device = opened;
  memory = new Memory(device);
});
afterAll(() => device?.destroy());

const load = (plan: Plan): Promise<Engine> => Engine.load(device, plan, someWeights(), () => undefined);
const onDevice = (name: string, body: () => Promise<void>): void =>
  it(name, async (task) => {
    if (!available) return task.skip("no GPU adapter");
    await body();
    await device.queue.onSubmittedWorkDone();
    await new Promise((resolve) => setTimeout(resolve, 20));
    device.check();
  });
const f32 = (...values: number[]): Tensor => tensor("f32", [values.length], values);
/** A GPU buffer with these floats from byte `offset` on. */
const onGpu = async (values: readonly number[], offset = 0, usage?: number): Promise<GPUBuffer> => {
  const made = await memory.create({
    label: "given",
    bytes: offset + Math.max(4, values.length * 4),
    ...(usage ? { usage } : {}),
  });
  if (values.length > 0 && usage === undefined) memory.write(made, Float32Array.from(values), offset);
  return made;
};
const floats = async (from: GPUBuffer, count: number, offset = 0): Promise<number[]> =>
  Array.from(new Float32Array((await memory.download(from, offset, count * 4)).buffer));

/** a ← x + y; p ← a · 2, q ← a + n, r ← x: p by a kernel, q with a parameter, r by a copy. */
const mixing = makePlan(
  [
    buffer("x", ["N"], "input"),
    buffer("y", ["N"], "input"),
    buffer("a", ["N"], 0),
    buffer("p", ["N"], "output"),
    buffer("q", ["N"], "output"),
    buffer("r", ["N"], "output"),
  ],
  [mapShader("x0[i] + x1[i]", 2), mapShader("x0[i] * 2", 1), mapShader("x0[i] + f32(params[0][0])", 1, 1)],
  [dispatch(0, [0, 1], 2, "N"), dispatch(1, [2], 3, "N"), dispatch(2, [2], 4, "N", ["N"]), { kind: "copy", from: 0, to: 5 }],
);

describe("GPU buffers", () => {
  onDevice("come and go in any mix, shape after shape", async () => {
    const engine = await load(mixing);
    const context = engine.createExecutionContext();
    const end = fc.constantFrom("host", "bare", "offset") as fc.Arbitrary<"host" | "bare" | "offset">;
    const way = fc.constantFrom("host", "gpu", "given", "offset") as fc.Arbitrary<"host" | "gpu" | "given" | "offset">;
    const cases = fc.record({ n: fc.integer({ min: 0, max: 300 }), x: end, y: end, p: way, q: way, r: way });
    await fc.assert(
      fc.asyncProperty(cases, async ({ n, x, y, ...ways }) => {
        const made: GPUBuffer[] = [];
        const gpu = async (values: readonly number[], offset: number): Promise<GPUBuffer> => {
          made.push(await onGpu(values, offset));
          return made.at(-1)!;
        };
        const xs = Array.from({ length: n }, (_, i) => i + n);
        const ys = Array.from({ length: n }, (_, i) => i * i);
        const feed = async (how: string, values: number[]) => {
          if (how === "host") return f32(...values);
          const offset = how === "offset" ? 512 : 0;
          return { buffer: await gpu(values, offset), shape: [n], offset };
        };
        const outputs: Record<string, NonNullable<RunOptions["outputs"]>> = {};
        for (const [name, how] of Object.entries(ways)) {
          if (how === "host" || how === "gpu") outputs[name] = how;
          else if (how === "given") outputs[name] = await gpu(Array(n).fill(-1), 0);
          else outputs[name] = { buffer: await gpu(Array(n).fill(-1), 256), offset: 256 };
        }
        const results = await context.execute(
          { x: await feed(x, xs), y: await feed(y, ys) },
          { outputs: outputs as NonNullable<RunOptions["outputs"]> },
        );
        const expected = { p: xs.map((v, i) => (v + ys[i]!) * 2), q: xs.map((v, i) => v + ys[i]! + n), r: xs };
        for (const [name, values] of Object.entries(expected)) {
          const result = results[name]!;
          expect(result.shape).toEqual([n]);
          expect("buffer" in result).toBe(outputs[name] !== "host");
          if (!("buffer" in result)) expect(numbersOf(result)).toEqual(values);
          else {
            expect(await floats(result.buffer, n, result.offset)).toEqual(values);
            if (outputs[name] === "gpu") result.buffer.destroy();
          }
        }
        for (const one of made) memory.destroy(one);
      }),
      { numRuns: 60 },
    );
    engine.dispose();
  });

  onDevice("pass from one engine to the next and to the caller's own work, without a copy", async () => {
    const engine = await load(doubling());
    const [first, second] = [engine.createExecutionContext(), engine.createExecutionContext()];
    const { y } = await first.enqueue({ x: f32(1, 2, 3, 4) }, { outputs: "gpu" });
    if (!("buffer" in y!)) throw new Error("y is on the host");
    const before = second.deviceMemory;
    const last = await onGpu([0, 0, 0, 0]);
    const result = await second.execute({ x: y }, { outputs: { y: last } });
    expect(result.y).toEqual({ dtype: "f32", shape: [4], buffer: last, offset: 0 });
    expect(await floats(last, 4)).toEqual([4, 8, 12, 16]);
    // No input or output of its own was made.
    expect(second.deviceMemory).toBe(before);
    y.buffer.destroy();
    expect(engine.inputs).toEqual([{ name: "x", dtype: "f32", shape: ["4"], storage: { item: "f32", lanes: 1 } }]);
    engine.dispose();
    // What the run gave away outlives it.
    expect(await floats(last, 4)).toEqual([4, 8, 12, 16]);
    memory.destroy(last);
  });

  onDevice("hold packed and narrowed elements", async () => {
    const plan = makePlan(
      [
        buffer("b", ["N"], "input", "u8"),
        buffer("n", ["N"], "input", "i64"),
        buffer("c", ["N"], "output", "u8"),
        buffer("m", ["N"], "output", "i64"),
      ],
      [],
      [
        { kind: "copy", from: 0, to: 2 },
        { kind: "copy", from: 1, to: 3 },
      ],
    );
    const engine = await load(plan);
    const context = engine.createExecutionContext();
    const { c, m } = await context.execute(
      { b: tensor("u8", [5], [1, 2, 3, 254, 255]), n: tensor("i64", [5], [-1, 2, -3, 4, 5]) },
      { outputs: "gpu" },
    );
    if (!("buffer" in c!) || !("buffer" in m!)) throw new Error("an output is on the host");
    expect([...(await memory.download(c.buffer, 0, 8))]).toEqual([1, 2, 3, 254, 255, 0, 0, 0]);
    expect([...new Int32Array((await memory.download(m.buffer, 0, 20)).buffer)]).toEqual([-1, 2, -3, 4, 5]);
    const back = await context.execute({ b: c, n: m });
    expect([numbersOf(back.c!), numbersOf(back.m!)]).toEqual([
      [1, 2, 3, 254, 255],
      [-1, 2, -3, 4, 5],
    ]);
    for (const { buffer: made } of [c, m]) made.destroy();
    engine.dispose();
  });

  onDevice("that are wrong are told so, and the next run is right", async () => {
    const engine = await load(doubling());
    const context = engine.createExecutionContext();
    const x = f32(1, 2, 3, 4);
    const [good, small, mapped] = [
      await onGpu([1, 2, 3, 4]),
      await onGpu([1, 2, 3]),
      device.device.createBuffer({ size: 16, usage: BufferUsage.STORAGE, mappedAtCreation: true }),
    ];
    const copied = await onGpu([0, 0, 0, 0], 0, BufferUsage.COPY_SRC | BufferUsage.COPY_DST);
    const gone = await onGpu([0, 0, 0, 0]);
    memory.destroy(gone);
    const other = (await realDevice({ portable: true }))!;
    const foreign = await new Memory(other).create({ label: "theirs", bytes: 16 });
    const wrong: readonly (readonly [unknown, RunOptions, string])[] = [
      [{ x: small }, {}, 'K613 wrong-buffer  input "x": its buffer holds 12 bytes, it needs 16'],
      [{ x: { buffer: good, shape: [4], offset: 256 } }, {}, "its buffer holds 0 bytes from byte 256 on, it needs 16"],
      [{ x: { buffer: good, shape: [4], offset: 4 } }, {}, "offset 4 is not a multiple of 256"],
      [{ x: { buffer: good, shape: [5] } }, {}, 'K604 input-shape  input "x": shape [5] does not fit [4]'],
      [{ x: { buffer: good, shape: [4], dtype: "i32" } }, {}, "K608"],
      [{ x: { buffer: new Float32Array(4), shape: [4] } }, {}, "`buffer` is not a GPUBuffer"],
      [{ x: mapped }, {}, 'input "x": its buffer is mapped'],
      [{ x: copied }, {}, 'input "x": its buffer was made without STORAGE'],
      [{ x }, { outputs: { y: small } }, 'output "y": its buffer holds 12 bytes, it needs 16'],
      [{ x }, { outputs: { y: copied } }, 'output "y": its buffer was made without STORAGE'],
      [{ x }, { outputs: { z: "gpu" } }, 'K603 unknown-output  "z": the engine has no such output'],
      [{ x }, { outputs: { y: "cloud" } } as unknown as RunOptions, 'output "y": its destination is cloud'],
      [{ x: good }, { outputs: { y: good } }, 'output "y": its buffer is that of input "x" too'],
      [{ x: gone }, {}, "K614 run-refused"],
      [{ x }, { outputs: { y: gone } }, "K614 run-refused"],
      [{ x: foreign }, {}, "K614 run-refused"],
    ];
    for (const [inputs, options, words] of wrong) {
      const [failed, fine] = await Promise.allSettled([
        context.enqueue(inputs as Inputs, options),
        context.enqueue({ x: good }),
      ]);
      expect(failed.status === "rejected" && String(failed.reason)).toContain(words);
      expect(fine.status === "fulfilled" && numbersOf(fine.value.y!)).toEqual([2, 4, 6, 8]);
    }
    const assuming = await load({ ...doubling(), inputs: [{ ...doubling().inputs[0]!, assumed: ["1", "2", "3", "4"] }] });
    const error = await rejection(assuming.createExecutionContext().execute({ x: good }));
    expect(error.message).toContain("its contents decide shapes");
    assuming.dispose();
    engine.dispose();
    for (const one of [good, small, copied]) memory.destroy(one);
    mapped.destroy();
    other.destroy();
  });
});

describe("runs in flight", () => {
  onDevice("give each its own result, in order, whatever their number and shapes", async () => {
    const engine = await load(mixing);
    for (const inFlight of [1, 2, 5]) {
      const context = engine.createExecutionContext({ inFlight });
      const order: number[] = [];
      const runs = Array.from({ length: 40 }, (_, k) => {
        const n = 1 + ((k * 37) % 11) * 50;
        const x = f32(...Array(n).fill(k));
        return context.enqueue({ x, y: x }).then((outputs) => {
          order.push(k);
          expect(numbersOf(outputs.q!)).toEqual(Array(n).fill(2 * k + n));
          expect(numbersOf(outputs.r!)).toEqual(Array(n).fill(k));
        });
      });
      await Promise.all(runs);
      expect(order).toEqual(runs.map((_, k) => k));
      context.dispose();
    }
    engine.dispose();
  });

  onDevice("keep outputs apart that are larger than a staging buffer", async () => {
    const n = 2_500_000;
    const engine = await load({
      ...doubling(["N"]),
      steps: [{ ...dispatch(0, [0], 1, "N"), workgroups: ["(N+63)/64", "1", "1"] }],
    });
    const context = engine.createExecutionContext();
    const runs = [1, 2, 3].map((k) => context.enqueue({ x: { dtype: "f32", shape: [n], data: new Float32Array(n).fill(k) } }));
    for (const [k, { y }] of (await Promise.all(runs)).entries())
      expect(y!.data.every((value) => value === 2 * (k + 1))).toBe(true);
    engine.dispose();
  });

  onDevice("end by a signal: before they begin, while they wait, once the queue has them", async () => {
    const engine = await load(doubling());
    const context = engine.createExecutionContext({ inFlight: 1 });
    const x = f32(1, 2, 3, 4);
    const reason = await context.execute({ x }, { signal: AbortSignal.abort() }).catch((error: unknown) => error);
    expect((reason as Error).name).toBe("AbortError");
    const controllers = [0, 1, 2, 3].map(() => new AbortController());
    const runs = controllers.map(({ signal }) => context.enqueue({ x }, { signal }));
    await Promise.resolve();
    controllers[2]!.abort("not needed");
    controllers[0]!.abort("too late");
    const ends = await Promise.allSettled(runs);
    expect(ends.map((end) => (end.status === "rejected" ? end.reason : numbersOf(end.value.y!)))).toEqual([
      "too late",
      [2, 4, 6, 8],
      "not needed",
      [2, 4, 6, 8],
    ]);
    engine.dispose();
  });

  onDevice("are let end when the context is disposed of; the others are refused", async () => {
    const engine = await load(doubling());
    const context = engine.createExecutionContext({ inFlight: 2 });
    const runs = Array.from({ length: 6 }, (_, k) => context.enqueue({ x: f32(k, k, k, k) }));
    await runs[0];
    engine.dispose();
    const ends = await Promise.allSettled(runs);
    const refused = ends.filter(({ status }) => status === "rejected").length;
    expect(refused).toBeGreaterThanOrEqual(3);
    for (const [k, end] of ends.entries()) {
      if (k >= 6 - refused) expect(end.status === "rejected" && String(end.reason)).toContain("K610");
      else expect(end.status === "fulfilled" && numbersOf(end.value.y!)).toEqual(Array(4).fill(2 * k));
    }
    expect([context.deviceMemory, engine.memory.live]).toEqual([0, 0]);
  });

  onDevice("all fail with the device, and a new one works", async () => {
    const own = (await realDevice({ portable: true }))!;
    const engine = await Engine.load(own, doubling(), someWeights(), () => undefined);
    const context = engine.createExecutionContext();
    const runs = [0, 1, 2, 3, 4].map(() => context.enqueue({ x: f32(1, 2, 3, 4) }));
    own.destroy();
    for (const end of await Promise.allSettled(runs)) expect(end.status === "rejected" && String(end.reason)).toContain("K408");
    engine.dispose();
    const again = await load(doubling());
    expect(numbersOf((await again.createExecutionContext().execute({ x: f32(1, 2, 3, 4) })).y!)).toEqual([2, 4, 6, 8]);
    again.dispose();
  });

  it("that need more memory than there is fail alone, and their context goes on", async () => {
    const own = await nullDevice(); // the null backend pretends to have 512 MiB
    const slots = [0, 1, 2, 3, 4, 5];
    const hungry = makePlan(
      [
        buffer("x", ["N"], "input"),
        ...slots.map((slot) => buffer(`a${slot}`, ["N", "1000"], slot)),
        buffer("y", ["N"], "output"),
      ],
      [mapShader("x0[0]", 1)],
      [...slots.map((slot) => dispatch(0, [slot], slot + 1, "N")), dispatch(0, [6], 7, "N")],
    );
    const engine = await Engine.load(own, hungry, new Uint8Array(0), () => undefined);
    const context = engine.createExecutionContext();
    const sized = (n: number): Inputs => ({ x: { dtype: "f32", shape: [n], data: new Float32Array(n) } });
    const [before, failed, after] = await Promise.allSettled([1, 25_000, 2].map((n) => context.enqueue(sized(n))));
    expect(failed!.status === "rejected" && String(failed!.reason)).toContain("K407 out-of-memory");
    expect([before!.status, after!.status]).toEqual(["fulfilled", "fulfilled"]);
    context.dispose();
    expect(context.deviceMemory).toBe(0);
    const again = engine.createExecutionContext();
    expect((await again.execute(sized(3))).y!.shape).toEqual([3]);
    engine.dispose();
    own.check();
    own.destroy();
  });
});
