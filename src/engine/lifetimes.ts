// What steps touch, and from when until when: dispatches below steps, buffers of a step, lifetimes of buffers.

import { BufferUsage } from "../gpu/constants.ts";
import type { DispatchStep, Step } from "./plan.ts";

/** Positions of the first and the last step that touch a buffer. */
export interface Life {
  readonly first: number;
  readonly last: number;
}

/** Dispatch steps below a list of steps, in its order. */
export function dispatchesOf(steps: readonly Step[]): readonly DispatchStep[] {
  return steps.flatMap((step) => {
    switch (step.kind) {
      case "dispatch":
        return [step];
      case "loop":
        return dispatchesOf(step.body);
      case "if":
        return [...dispatchesOf(step.then), ...dispatchesOf(step.else)];
      default:
        return [];
    }
  });
}

/** Buffers that a step reads or writes, its inner steps included. */
export function buffersOf(step: Step): readonly number[] {
  switch (step.kind) {
    case "dispatch":
      return step.bindings.map(({ buffer }) => buffer);
    case "copy":
      return [step.from, step.to];
    case "host":
      return [...step.inputs.filter((buffer) => buffer !== null), ...step.outputs];
    case "loop": {
      const control = [step.trips, step.condition?.initial, step.condition?.output].filter((buffer) => buffer != null);
      const carried = step.carried.flatMap(({ init, input, output, final }) => [init, input, output, final]);
      return [
        ...control,
        ...step.body.flatMap(buffersOf),
        ...carried,
        ...step.outputs,
        ...step.scans.flatMap(({ piece, out }) => [piece, out]),
      ];
    }
    case "if":
      return [
        step.condition,
        ...step.then.flatMap(buffersOf),
        ...step.else.flatMap(buffersOf),
        ...step.results.flatMap((result) => [result.then, result.else, result.out]),
      ];
  }
}

/** First and last step that touches each buffer. */
export function lifetimes(steps: readonly Step[]): ReadonlyMap<number, Life> {
  const lives = new Map<number, Life>();
  steps.forEach((step, at) => {
    for (const buffer of buffersOf(step)) lives.set(buffer, { first: lives.get(buffer)?.first ?? at, last: at });
  });
  return lives;
}

/** How steps use each buffer: bound by kernels, copied from, copied to. Flags of BufferUsage. */
export function usesOf(steps: readonly Step[]): ReadonlyMap<number, number> {
  const uses = new Map<number, number>();
  const note = (flag: number, ...buffers: readonly (number | null | undefined)[]): void => {
    for (const buffer of buffers) if (buffer != null) uses.set(buffer, (uses.get(buffer) ?? 0) | flag);
  };
  const { STORAGE, COPY_SRC, COPY_DST } = BufferUsage;
  const visit = (step: Step): void => {
    switch (step.kind) {
      case "dispatch":
        note(STORAGE, ...step.bindings.map(({ buffer }) => buffer));
        break;
      case "copy":
        note(COPY_SRC, step.from);
        note(COPY_DST, step.to);
        break;
      case "host":
        note(COPY_SRC, ...step.inputs);
        note(COPY_DST, ...step.outputs);
        break;
      case "loop":
        note(COPY_SRC, step.trips, step.condition?.initial, step.condition?.output, ...step.scans.map(({ piece }) => piece));
        note(COPY_DST, ...step.scans.map(({ out }) => out));
        for (const { init, input, output, final } of step.carried) {
          note(COPY_SRC, init, input, output);
          note(COPY_DST, input, final);
        }
        step.body.forEach(visit);
        break;
      case "if":
        note(COPY_SRC, step.condition, ...step.results.flatMap((result) => [result.then, result.else]));
        note(COPY_DST, ...step.results.map(({ out }) => out));
        [...step.then, ...step.else].forEach(visit);
        break;
    }
  };
  steps.forEach(visit);
  return uses;
}
