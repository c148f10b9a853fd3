// Kernels of several steps in an engine: scratch memory and packed constants, against the interpreter.

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Candidate, candidatesOf } from "../../src/autotuner/candidates.ts";
import { Engine } from "../../src/engine/engine.ts";
import type { Device } from "../../src/gpu/device.ts";
import { interpret, type Tensors } from "../../src/ir/interpret.ts";
import { type KernelTask, type Program, readsOf, writesOf } from "../../src/ir/task.ts";
import { numbersOf, sizeOf, type Tensor, tensor } from "../../src/ir/tensor.ts";
import { makePlan } from "../../src/plan/plan.ts";
import { realDevice } from "../gpu/open.ts";
import { conv, gemm, numbers } from "../kernels/problems.ts";

let device: Device | undefined;
beforeAll(async () => {
  device = await realDevice({ portable: true });
});
afterAll(() => device?.destroy());

const N = 2;
const textOf = ({ kernel }: Candidate): number => kernel.steps.reduce((sum, { wgsl }) => sum + wgsl.length, 0);

const cases: readonly [string, KernelTask][] = [
  ["conv.winograd", conv("winograd", { x: [N, 4, 7, 9], w: [8, 4, 3, 3], pad: 1, constant: true }).task],
  ["conv.im2col", conv("im2col", { x: [N, 3, 7, 9], w: [8, 3, 3, 3], stride: 2, constant: true }).task],
  ["conv.first-layer", conv("first", { x: [N, 3, 7, 9], w: [8, 3, 3, 3], stride: 2, pad: 1, constant: true }).task],
  ["gemm.split-k", gemm("split", "f32", [N], 5, 6, 256).task],
];

describe("an engine of one task", () => {
  it.each(cases)("%s", async (tactic, task) => {
    if (!device) return;
    const here = device;
    const inputs = readsOf(task).filter(({ data }) => !data);
    const [output] = writesOf(task);
    const program: Program = { inputs, outputs: [{ name: "y", value: output! }], tasks: [task], assumed: new Map() };
    const feeds = Object.fromEntries(
      inputs.map((value): [string, Tensor] => {
        const shape = value.shape.map(Number);
        return [value.name, tensor("f32", shape, numbers(sizeOf(shape), 3))];
      }),
    );
    const tensors: Tensors = new Map(inputs.map((value) => [value, feeds[value.name]!]));
    interpret([task], tensors, new Map(), () => []);
    const candidates = [...candidatesOf(task, here)].filter((candidate) => candidate.tactic === tactic);
    const choice = candidates.reduce((a, b) => (textOf(b) < textOf(a) ? b : a));
    const { plan, weights } = makePlan(program, [new Map([[task, choice]])], { caps: here.caps, profiles: [], notes: [] });
    expect(plan.steps.length).toBeGreaterThan(1);
    const engine = await Engine.load(here, plan, weights, () => undefined);
    const { y } = await engine.createExecutionContext().execute(feeds);
    const expected = numbersOf(tensors.get(output!)!);
    numbersOf(y!).forEach((value, i) => expect(value).toBeCloseTo(expected[i]!, 4));
    engine.dispose();
  });
});
