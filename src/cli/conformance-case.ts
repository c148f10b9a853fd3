// One conformance case: compiles its model, runs its data sets and compares. Never throws.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Device } from "../gpu/device.ts";
import { importModel } from "../importer/import.ts";
import { decodeModel, type ModelProto } from "../importer/proto.ts";
import { bindShape, interpret } from "../ir/interpret.ts";
import type { Tensor } from "../ir/tensor.ts";
import type { Value } from "../ir/value.ts";
import { lowerGraph } from "../lowering/lower.ts";
import { Builder, readBeside } from "../node.ts";
import { hostOperator } from "../ops/host.ts";
import { findOperator } from "../ops/registry.ts";
import { internal, KilnError } from "../util/errors.ts";
import { declaredInputs } from "./build-flags.ts";
import { type CaseData, difference, readCaseData } from "./cases.ts";

export interface CaseResult {
  readonly status: "passed" | "failed" | "skipped";
  readonly reason: string;
  readonly hostLayers: readonly { readonly node: string; readonly op: string; readonly reason: string }[];
}

/** Inputs of more elements than this never decide shapes. */
const SHAPE_VALUES = 64;

/** `device`: where to run; undefined interprets on the host. */
export async function runCase(folder: string, device: Device | undefined): Promise<CaseResult> {
  const hostLayers: CaseResult["hostLayers"][number][] = [];
  let prepared: Prepared | undefined;
  try {
    const bytes = readFileSync(join(folder, "model.onnx"));
    const model = decodeModel(bytes, "model.onnx");
    const names = declaredInputs(model).map(({ name }) => name);
    prepared = device ? await onDevice(device, bytes, folder, hostLayers) : onHost(bytes, folder);
    for (const { inputs, outputs } of readCaseData(folder)) {
      const feeds = Object.fromEntries(names.flatMap((name, i) => (inputs[i] ? [[name, inputs[i]]] : [])));
      const results = await prepared.run(feeds);
      for (const [i, expected] of outputs.entries()) {
        const [name, actual] = results[i] ?? [`output ${i}`, undefined];
        const differs = actual ? difference(actual, expected) : "it is missing";
        if (differs && actual && isSameType(actual, expected) && drawsAtRandom(model))
          return { status: "skipped", reason: `${name}: random, and the types and shapes are right`, hostLayers };
        if (differs) return { status: "failed", reason: `${name}: ${differs}`, hostLayers };
      }
    }
    return { status: "passed", reason: "", hostLayers };
  } catch (failure) {
    return { ...judge(failure), hostLayers };
  } finally {
    try {
      prepared?.dispose();
    } catch {
      // The case's own failure is the one to tell.
    }
  }
}

/** True where the standard leaves the numbers to the implementation. */
const drawsAtRandom = ({ graph }: ModelProto): boolean =>
  graph?.node?.some(({ domain, opType }) => findOperator(domain ?? "", opType ?? "")?.random === true) ?? false;

const isSameType = (a: Tensor, b: Tensor): boolean => a.dtype === b.dtype && a.shape.join() === b.shape.join();

type Feeds = Readonly<Record<string, Tensor>>;

interface Prepared {
  /** Outputs in order. */
  readonly run: (feeds: Feeds) => Promise<readonly (readonly [string, Tensor])[]>;
  readonly dispose: () => void;
}

/** Contents of the small inputs of the first data set, by name: what shapes may depend on. */
function shapeValuesOf(bytes: Uint8Array, [first]: readonly CaseData[]): Record<string, Tensor> {
  const names = declaredInputs(decodeModel(bytes, "model.onnx")).map(({ name }) => name);
  return Object.fromEntries(
    names.flatMap((name, i) =>
      first?.inputs[i] && first.inputs[i].data.length <= SHAPE_VALUES ? [[name, first.inputs[i]]] : [],
    ),
  );
}

/** Calls `build` without knowing what inputs hold; where shapes depend on that, once more with what the data holds. */
async function withValues<T>(
  bytes: Uint8Array,
  folder: string,
  build: (shapeValues: Record<string, Tensor>) => T | Promise<T>,
): Promise<T> {
  try {
    return await build({});
  } catch (failure) {
    if (!(failure instanceof KilnError && failure.code === "K302")) throw failure;
    return await build(shapeValuesOf(bytes, readCaseData(folder)));
  }
}

async function onDevice(
  device: Device,
  bytes: Uint8Array,
  folder: string,
  hostLayers: CaseResult["hostLayers"][number][],
): Promise<Prepared> {
  const builder = new Builder(device);
  const file = join(folder, "model.onnx");
  const engine = await withValues(bytes, folder, (shapeValues) =>
    builder.build(bytes, { file: "model.onnx", readExternal: readBeside(file), optimizationLevel: 0, shapeValues }),
  );
  hostLayers.push(...engine.plan.hostLayers);
  const context = engine.createExecutionContext();
  return {
    run: async (feeds) => {
      const outputs = await context.execute(feeds);
      return engine.plan.outputs.map(({ name }) => [name, outputs[name]!] as const);
    },
    dispose: () => {
      context.dispose();
      engine.dispose();
    },
  };
}

function onHost(bytes: Uint8Array, folder: string): Prepared {
  const run: Prepared["run"] = async (feeds) => {
    const program = await withValues(bytes, folder, (assumed) =>
      lowerGraph(importModel(bytes, { file: "model.onnx", assumed })),
    );
    const bindings = new Map<string, number>();
    const tensors = new Map<Value, Tensor>();
    for (const value of program.inputs) {
      const given = feeds[value.name];
      if (!given) throw internal(`input "${value.name}"`, "the case has no data for it");
      bindShape(value.shape, given.shape, bindings);
      tensors.set(value, given);
    }
    interpret(program.tasks, tensors, bindings, ({ op, attrs }, read) => {
      const reference = hostOperator(op);
      if (!reference) throw internal(op, "it has no reference");
      return reference(read, attrs);
    });
    return program.outputs.map(({ name, value }) => [name, (tensors.get(value) ?? value.data)!] as const);
  };
  return { run, dispose: () => undefined };
}

/** What Kiln says it does not attempt (kinds of types, training) counts as skipped; anything else failed. */
function judge(failure: unknown): Pick<CaseResult, "status" | "reason"> {
  if (!(failure instanceof KilnError))
    return { status: "failed", reason: failure instanceof Error ? `${failure.name}: ${failure.message}` : String(failure) };
  const outOfScope =
    failure.code === "K202" ||
    (failure.code === "K201" && /(sequences|optional types|strings|training) (is|are) not supported/.test(failure.why ?? ""));
  return {
    status: outOfScope ? "skipped" : "failed",
    reason: [failure.message, failure.why].filter(Boolean).join(": ").replaceAll("\n", "; "),
  };
}
