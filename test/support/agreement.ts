// Property tests against ONNX Runtime: a case is one node and its tensors, drawn from a seed so that shapes shrink well.
// Hundreds of cases run in the interpreter, and of each property a few on the device.

import fc from "fast-check";
import { afterAll, expect, test } from "vitest";
import { Builder } from "../../src/builder.ts";
import { difference } from "../../src/cli/cases.ts";
import type { Device } from "../../src/gpu/device.ts";
import { importModel } from "../../src/importer/import.ts";
import { numbersOf, type Tensor } from "../../src/ir/tensor.ts";
import { isFloat } from "../../src/ir/types.ts";
import { fuse } from "../../src/lowering/fuse.ts";
import { lowerGraph } from "../../src/lowering/lower.ts";
import { findOperator, fusionOf } from "../../src/ops/registry.ts";
import { coreCaps } from "../../src/util/caps.ts";
import { realDevice } from "../gpu/open.ts";
import { runInterpreted } from "./interpret-model.ts";
import { type AttributeSpec, model, type NodeSpec } from "./onnx-model.ts";
import { runOnnxRuntime } from "./onnxruntime.ts";
import { generator } from "./random.ts";

export interface Case {
  readonly op: string;
  readonly domain?: string;
  readonly opset?: number;
  readonly attributes?: Readonly<Record<string, AttributeSpec>>;
  /** By name, in the order of the node's inputs; an absent one is left out. */
  readonly inputs: Readonly<Record<string, Tensor | undefined>>;
  /** Names of inputs that are initializers of the model. */
  readonly constants?: readonly string[];
  /** "" leaves an output out. */
  readonly outputs?: readonly string[];
  /** Sizes of the model's inputs are symbols: `x.0`, `x.1`, … */
  readonly symbolic?: boolean;
}

/** The model of a case, the tensors that are its inputs, and its outputs' names. `then` reads the first output as `from`. */
export function modelOf(
  { op, domain = "", opset = 17, attributes = {}, inputs, constants = [], outputs = ["y"], symbolic }: Case,
  then?: (from: string) => NodeSpec,
): { bytes: Uint8Array; fed: Record<string, Tensor>; names: readonly string[] } {
  const given = Object.entries(inputs).filter((entry): entry is [string, Tensor] => entry[1] !== undefined);
  const fed = Object.fromEntries(given.filter(([name]) => !constants.includes(name)));
  const next = then?.(outputs.find((name) => name !== "")!);
  const names = next?.outputs ?? outputs.filter((name) => name !== "");
  const wired = Object.entries(inputs).map(([name, value]) => (value ? name : ""));
  while (wired.at(-1) === "") wired.pop();
  const bytes = model({
    opset,
    inputs: Object.fromEntries(
      Object.entries(fed).map(([name, { dtype, shape }]) => [
        name,
        { dtype, shape: symbolic ? shape.map((_, axis) => `${name}.${axis}`) : shape },
      ]),
    ),
    initializers: Object.fromEntries(given.filter(([name]) => constants.includes(name))),
    outputs: names,
    nodes: [{ op, domain, attributes, inputs: wired, outputs }, ...(next ? [next] : [])],
  });
  return { bytes, fed, names };
}

export interface Slack {
  readonly rtol?: number;
  readonly atol?: number;
  /** How far integers may be apart: 1 where a rounding tie turns on the last bit of a float. */
  readonly steps?: number;
}

/** Fails unless the case gives the same here as in ONNX Runtime. */
export async function agrees(spec: Case, slack: Slack = {}): Promise<void> {
  const { bytes, fed, names } = modelOf(spec);
  await modelAgrees(bytes, fed, names, slack);
}

type Tensors = Readonly<Record<string, Tensor>>;

/** Fails unless a model gives the same here, on the device within `onDevice`, as in ONNX Runtime. */
export async function modelAgrees(
  bytes: Uint8Array,
  fed: Tensors,
  names: readonly string[],
  { rtol = 1e-4, atol = 1e-5, steps = 0 }: Slack = {},
): Promise<void> {
  const expected = await runOnnxRuntime(bytes, fed);
  const actual = running ? await runOn(running, bytes, fed) : runInterpreted(bytes, fed);
  for (const name of names) {
    const [a, e] = [actual[name]!, expected[name]!];
    if (steps > 0 && !isFloat(e.dtype) && a.dtype === e.dtype && a.shape.join() === e.shape.join()) {
      const [mine, theirs] = [numbersOf(a), numbersOf(e)];
      expect(Math.max(0, ...mine.map((value, i) => Math.abs(value - theirs[i]!))), name).toBeLessThanOrEqual(steps);
    } else expect(difference(a, e, { rtol, atol }), name).toBeUndefined();
  }
}

/** A device of this file's, opened when it is first asked for. */
let device: Promise<Device | undefined> | undefined;
afterAll(async () => (await device)?.destroy());
/** Where models run, within `onDevice`. */
let running: Device | undefined;

/** Lets models run on the device; without an adapter `work` is left out. */
export async function onDevice(work: () => Promise<void>): Promise<void> {
  device ??= realDevice();
  running = await device;
  try {
    if (running) await work();
    running?.check();
  } finally {
    running = undefined;
  }
}

async function runOn(where: Device, bytes: Uint8Array, fed: Tensors): Promise<Tensors> {
  const engine = await new Builder(where).build(bytes, { optimizationLevel: 0 });
  try {
    return await engine.createExecutionContext().execute(fed);
  } finally {
    engine.dispose();
  }
}

const RUNS = Number(process.env.RUNS ?? 200);
/** Cases of a property on the device, where a kernel's compilation takes most of the time. */
const DEVICE_RUNS = Number(process.env.DEVICE_RUNS ?? 2);

/** Checks an arbitrary's values in the interpreter, and a few of them on the device. */
export async function checkBoth<T>(
  arbitrary: fc.Arbitrary<T>,
  check: (value: T) => Promise<void>,
  numRuns: number,
): Promise<void> {
  const property = fc.asyncProperty(arbitrary, check);
  await fc.assert(property, { numRuns });
  if (DEVICE_RUNS > 0) await onDevice(() => fc.assert(property, { numRuns: DEVICE_RUNS, endOnFailure: true }));
}

/** Kernels of a case and, where it gives f32, of a Relu after it. */
function kernelsOf(spec: Case): number {
  const graph = importModel(modelOf(spec).bytes);
  const relu = (from: string): NodeSpec => ({ op: "Relu", inputs: [from], outputs: ["after"] });
  const whole = graph.outputs[0]!.value.dtype === "f32" ? importModel(modelOf(spec, relu).bytes) : graph;
  return fuse(lowerGraph(whole), coreCaps, { enabled: true, take: () => true, disable: [] }).tasks.length;
}

/** Operators of which the README says that they are one kernel with their neighbours, and the fewest that a case had. */
class Claims {
  private readonly fewest = new Map<string, number>();

  note(spec: Case): void {
    const operator = findOperator(spec.domain ?? "", spec.op)!;
    if (["mixed", "control", "host"].includes(fusionOf(operator)) || this.fewest.get(spec.op)! <= 1) return;
    this.fewest.set(spec.op, Math.min(kernelsOf(spec), this.fewest.get(spec.op) ?? Number.POSITIVE_INFINITY));
  }
  check(): void {
    expect([...this.fewest].filter(([, kernels]) => kernels > 1)).toEqual([]);
  }
}

/** A test that cases drawn from a record of arbitraries agree, with numbers and with symbols for sizes; `share` of the usual runs. */
export function property<T extends object>(
  name: string,
  shapes: { [K in keyof T]: fc.Arbitrary<T[K]> },
  build: (drawn: T, next: () => number) => Omit<Case, "symbolic">,
  slack?: Slack,
  share = 1,
): void {
  test(name, async () => {
    const drawn = fc.record({ drawn: fc.record(shapes), seed: fc.nat(), symbolic: fc.boolean() });
    const claims = new Claims();
    await checkBoth(
      drawn,
      async ({ drawn: values, seed, symbolic }) => {
        const spec = { ...build(values as T, generator(seed)), symbolic };
        claims.note(spec);
        await agrees(spec, slack);
      },
      Math.ceil(RUNS * share),
    );
    claims.check();
  });
}

/** `property` for a com.microsoft operator, with fewer runs. */
export const microsoftProperty = <T extends object>(
  name: string,
  shapes: { [K in keyof T]: fc.Arbitrary<T[K]> },
  build: (drawn: T, next: () => number) => Omit<Case, "symbolic">,
  slack: Slack = { rtol: 1e-3, atol: 1e-4 },
): void => property<T>(name, shapes, (drawn, next) => ({ domain: "com.microsoft", ...build(drawn, next) }), slack, 0.3);

/** A size in [min, max]. */
export const size = (max: number, min = 1): fc.Arbitrary<number> => fc.integer({ min, max });

/** `length` draws. */
export const list = <T>(item: fc.Arbitrary<T>, length: number): fc.Arbitrary<T[]> =>
  fc.array(item, { minLength: length, maxLength: length });

/** A shape of rank [minRank, maxRank] with sizes in [1, max]. */
export const shapeOf = (maxRank: number, max = 4, minRank = 1): fc.Arbitrary<number[]> =>
  fc.array(size(max), { minLength: minRank, maxLength: maxRank });

/** Extents of dilated kernels. */
export const spanOf = (kernel: readonly number[], dilations: readonly number[]): number[] =>
  kernel.map((k, i) => (k - 1) * dilations[i]! + 1);
