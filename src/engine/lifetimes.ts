// What steps touch, and from when until when: dispatches below steps, buffers of a step, lifetimes of buffers.

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
