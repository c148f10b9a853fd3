// The search itself, on Dawn's null backend, where every kernel gives zeros in no time: what is measured, when it stops, what
// a second build takes from the cache.

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { TimingCache } from "../../src/autotuner/cache.ts";
import { candidatesOf, learnedFrom } from "../../src/autotuner/candidates.ts";
import { contestsOf } from "../../src/autotuner/contests.ts";
import { type TuneOptions, tune } from "../../src/autotuner/tune.ts";
import type { Device } from "../../src/gpu/device.ts";
import { PipelineCache } from "../../src/gpu/pipelines.ts";
import type { KernelTask, Program } from "../../src/ir/task.ts";
import { nullDevice } from "../gpu/open.ts";
import { conv, gemm } from "../kernels/problems.ts";

let device: Device;
beforeAll(async () => {
  device = await nullDevice();
});
afterAll(() => device.destroy());

const programOf = (...tasks: readonly KernelTask[]): Program => ({ inputs: [], outputs: [], tasks, assumed: new Map() });
const small = (name: string): KernelTask => gemm(name, "f32", [], 8, 8, 8).task;

async function search(tasks: readonly KernelTask[], options: TuneOptions) {
  const tried: string[] = [];
  const choices = await tune(programOf(...tasks), device, { device, pipelines: new PipelineCache(device) }, new Map(), {
    ...options,
    onProgress: (progress) => {
      if (/ (gemm|conv)\./.test(progress.what)) tried.push(progress.what);
      options.onProgress?.(progress);
    },
  });
  return { choices, tried };
}

describe("a search", () => {
  it("measures nothing at level 0", async () => {
    const { choices, tried } = await search([small("a")], { optimizationLevel: 0 });
    expect([choices.size, tried]).toEqual([1, []]);
  });

  it("measures more at higher levels, at level 5 every candidate", async () => {
    const counts: number[] = [];
    for (const optimizationLevel of [1, 2, 3, 5] as const) {
      const timingCache = new TimingCache();
      await search([small("a")], { optimizationLevel, timingCache });
      counts.push(timingCache.size);
    }
    expect(counts).toEqual([...counts].sort((a, b) => a - b));
    expect(counts.at(-1)).toBe([...candidatesOf(small("a"), device)].length);
  });

  it("leaves of each task the choice and all that it was among, the rejected last", async () => {
    const timingCache = new TimingCache();
    const tasks = [small("a"), gemm("b", "f32", [], 32, 16, 8).task, small("c")];
    const { choices } = await search(tasks, { optimizationLevel: 2, timingCache });
    const [, last] = timingCache.list().at(-1)!;
    timingCache.set("loser", { ...last, tactic: "gemm.coarse", ns: Number.POSITIVE_INFINITY, rejected: "too coarse" });
    const [a, b, c] = contestsOf(choices, timingCache, device);
    expect([a, b, c].map((contest) => contest?.task)).toEqual(["a", "b", "c"]);
    expect(a!.contenders).toEqual(c!.contenders);
    expect(a!.contenders.length + b!.contenders.length).toBe(timingCache.size);
    expect(b!.contenders.at(-1)!.rejected).toBe("too coarse");
    for (const { tactic, config, contenders } of [a!, b!]) {
      const times = contenders.map(({ ns }) => ns);
      expect(times).toEqual([...times].sort((x, y) => (x === y ? 0 : x - y)));
      expect(contenders).toContainEqual(expect.objectContaining({ tactic, config, ns: times[0] }));
    }
    expect(contestsOf(choices, new TimingCache(), device)[0]!.contenders).toEqual([]);
  });

  it("searches equal tasks once, and in a second build none", async () => {
    const timingCache = new TimingCache();
    const first = await search([small("a"), small("b")], { optimizationLevel: 2, timingCache });
    const measured = new Set(first.tried.map((what) => what.split(" ")[1]));
    expect(measured).toEqual(new Set(["a"]));
    const size = timingCache.size;
    const reread = TimingCache.parse(timingCache.serialize());
    const second = await search([small("a"), small("b")], { optimizationLevel: 2, timingCache: reread });
    expect(second.tried).toEqual([]);
    expect(reread.size).toBe(size);
    const names = ({ choices }: typeof first) => [...choices.values()].map(({ tactic, config }) => [tactic, config]);
    expect(names(second)).toEqual(names(first));
  });

  it("searches again when the winner was deleted", async () => {
    const timingCache = new TimingCache();
    await search([small("a")], { optimizationLevel: 1, timingCache });
    for (const [key] of timingCache.list()) timingCache.delete(key);
    expect((await search([small("a")], { optimizationLevel: 1, timingCache })).tried.length).toBeGreaterThan(0);
  });

  it("keeps what was measured when it is interrupted, and goes on from there", async () => {
    const timingCache = new TimingCache();
    const abort = new AbortController();
    const stopped = search([small("a"), conv("b", { x: [1, 4, 6, 6], w: [4, 4, 3, 3] }).task], {
      optimizationLevel: 2,
      timingCache,
      signal: abort.signal,
      onProgress: ({ what }) => {
        if (what.startsWith("conv")) abort.abort();
      },
    });
    await expect(stopped).rejects.toMatchObject({ code: "K613" });
    expect(timingCache.size).toBeGreaterThan(0);
    const { tried } = await search([small("a")], { optimizationLevel: 2, timingCache });
    expect(tried).toEqual([]);
  });

  it("measures nothing when there is no time, and takes what is known", async () => {
    const timingCache = new TimingCache();
    const { choices, tried } = await search([small("a")], { maxTuneTime: 0, timingCache });
    expect([choices.size, tried, timingCache.size]).toEqual([1, [], 0]);
  });
});

describe("what the cache teaches", () => {
  it("a tactic that wins is worth more than one that loses", () => {
    const cache = new TimingCache();
    for (let i = 0; i < 8; i++) {
      cache.set(`w${i}`, { tactic: "gemm.vector", config: {}, ns: 100, task: `t${i}` });
      cache.set(`l${i}`, { tactic: "gemm.tiled", config: {}, ns: 1000, task: `t${i}` });
    }
    const learned = learnedFrom(cache);
    expect(learned.get("gemm.vector")!).toBeGreaterThan(1);
    expect(learned.get("gemm.tiled")!).toBeLessThan(0.6);
  });
});
