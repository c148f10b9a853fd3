// What a run's time goes to on the host: WebGPU's own calls are counted and timed while the engine runs as it always does.

import { globals } from "webgpu";
import { MapMode } from "../src/gpu/constants.ts";
import { median } from "../src/gpu/timer.ts";

/** In the order of a run; `rest`: Kiln's own code between them. */
export const PHASES = ["upload", "encode", "submit", "wait", "copy", "rest"] as const;
export type Phase = (typeof PHASES)[number];

/** Microseconds. */
export interface Timeline {
  readonly phases: Readonly<Record<Phase, number>>;
  /** Until the queue has the first kernels, of inputs that come up by the queue's own copy. */
  readonly untilFirstKernels: number;
  /** Of the wait: encoding the next run. */
  readonly ahead: number;
  readonly total: number;
}

type Method = (this: unknown, ...given: unknown[]) => unknown;
type Named = readonly [type: string, method: string];

const TIMED: readonly Named[] = [
  ["GPUQueue", "writeBuffer"],
  ["GPUQueue", "submit"],
  ["GPUCommandEncoder", "beginComputePass"],
  ["GPUCommandEncoder", "finish"],
  ["GPUComputePassEncoder", "end"],
  ["GPUBuffer", "getMappedRange"],
  ["GPUBuffer", "unmap"],
];
const COUNTED: readonly Named[] = [
  ...TIMED,
  ["GPUBuffer", "mapAsync"],
  ["GPUCommandEncoder", "copyBufferToBuffer"],
  ["GPUComputePassEncoder", "setPipeline"],
  ["GPUComputePassEncoder", "setBindGroup"],
  ["GPUComputePassEncoder", "dispatchWorkgroups"],
  ["GPUDevice", "createBindGroup"],
  ["GPUDevice", "createBuffer"],
  ["GPUDevice", "createCommandEncoder"],
  ["GPUDevice", "pushErrorScope"],
  ["GPUDevice", "popErrorScope"],
];

/** Does `work` with other methods in the place of WebGPU's: each is given the name and the original. */
async function wrapped(
  names: readonly Named[],
  around: (name: string, original: Method) => Method,
  work: () => Promise<void>,
): Promise<void> {
  const undo = names.map(([type, name]) => {
    const { prototype } = (globals as Record<string, { prototype: Record<string, Method> }>)[type]!;
    const original = prototype[name]!;
    prototype[name] = around(name, original);
    return () => {
      prototype[name] = original;
    };
  });
  await work().finally(() => undo.forEach((restore) => restore()));
}

/** How often one run calls what of WebGPU. */
export async function callsOf(run: () => Promise<unknown>): Promise<ReadonlyMap<string, number>> {
  const calls = new Map<string, number>();
  const counting = (name: string, original: Method): Method =>
    function (...given) {
      calls.set(name, (calls.get(name) ?? 0) + 1);
      return original.apply(this, given);
    };
  await wrapped(COUNTED, counting, async () => void (await run()));
  return calls;
}

/** A kernel's launch, as WebGPU was given it. */
export interface Launch {
  readonly pipeline: GPUComputePipeline;
  readonly group: GPUBindGroup;
  readonly counts: readonly [number, number, number];
}

/** What other contexts encode ahead has ended by then, in milliseconds. */
const ENCODED_AHEAD = 50;

/** The launches of a context's first run, which encodes nothing for another. */
export async function launchesOf(run: () => Promise<unknown>): Promise<readonly Launch[]> {
  await new Promise((resolve) => setTimeout(resolve, ENCODED_AHEAD));
  const given = new Map<string, unknown[]>();
  const launches: Launch[] = [];
  const noting = (name: string, original: Method): Method =>
    function (...values) {
      given.set(name, values);
      if (name === "dispatchWorkgroups")
        launches.push({
          pipeline: given.get("setPipeline")![0] as GPUComputePipeline,
          group: given.get("setBindGroup")![1] as GPUBindGroup,
          counts: values as [number, number, number],
        });
      return original.apply(this, values);
    };
  const names = ["setPipeline", "setBindGroup", "dispatchWorkgroups"].map((name) => ["GPUComputePassEncoder", name] as const);
  await wrapped(names, noting, async () => void (await run()));
  return launches;
}

/** Medians over `times` runs, one at a time. */
export async function timelineOf(run: () => Promise<unknown>, times: number): Promise<Timeline> {
  let calls: { readonly name: string; readonly from: number; readonly to: number }[] = [];
  let mapped = 0;
  const timing = (name: string, original: Method): Method =>
    function (...given) {
      const from = performance.now();
      const result = original.apply(this, given);
      if (name !== "mapAsync") calls.push({ name, from, to: performance.now() });
      else if (given[0] === MapMode.READ) void (result as Promise<void>).then(() => (mapped = performance.now()));
      return result;
    };
  const timelines: Timeline[] = [];
  await wrapped([...TIMED, ["GPUBuffer", "mapAsync"]], timing, async () => {
    for (let i = 0; i < times; i++) {
      [calls, mapped] = [[], 0];
      const begin = performance.now();
      await run();
      const total = performance.now() - begin;
      const phases: Record<Phase, number> = { upload: 0, encode: 0, submit: 0, wait: 0, copy: 0, rest: 0 };
      const submitted = calls.reduce((last, { name, to }) => (name === "submit" ? to : last), begin);
      let [opened, range, untilFirstKernels, ahead] = [0, 0, 0, 0];
      for (const { name, from, to } of calls) {
        // After the last submit the next run is encoded, while this one is waited for.
        const waiting = from >= submitted;
        if (name === "beginComputePass") opened = from;
        else if (name === "end" && waiting) ahead += to - opened;
        else if (name === "end") phases.encode += to - opened;
        else if (name === "writeBuffer") phases.upload += to - from;
        else if (name === "getMappedRange") range = from;
        else if (name === "unmap") phases[mapped > 0 && from >= mapped ? "copy" : "upload"] += to - range;
        else if (!waiting) phases.submit += to - from;
        if (name === "submit") untilFirstKernels ||= to - begin;
      }
      phases.wait = Math.max(0, mapped - submitted);
      phases.rest = total - PHASES.reduce((sum, phase) => sum + phases[phase], 0);
      timelines.push({ phases, untilFirstKernels, ahead, total });
    }
  });
  const us = (of: (timeline: Timeline) => number): number => 1000 * median(timelines.map(of));
  return {
    phases: Object.fromEntries(PHASES.map((phase) => [phase, us(({ phases }) => phases[phase])])) as Record<Phase, number>,
    untilFirstKernels: us((one) => one.untilFirstKernels),
    ahead: us((one) => one.ahead),
    total: us(({ total }) => total),
  };
}
