// kiln verify: results against onnxruntime on the CPU, per output and per layer.

import { type Command, Option } from "commander";
import type { Engine } from "../engine/engine.ts";
import { decodeModel, encodeModel, type ModelProto, type NodeProto } from "../importer/proto.ts";
import type { Tensor } from "../ir/tensor.ts";
import { readBeside } from "../node.ts";
import { cannotRead } from "../util/errors.ts";
import { addBuildFlags, type BuildFlags } from "./build-flags.ts";
import { type Deviation, deviationOf, type ScaledTolerance, toleranceFor } from "./compare.ts";
import { type InputFlags, prepareInputs } from "./inputs.ts";
import { compile, type NetworkFile, openEngine, readNetwork, withDevice } from "./network.ts";
import { numberOption } from "./options.ts";
import { columns, numberText, plural, remark, say, tensorType } from "./print.ts";
import { runReference, withInlineData } from "./reference.ts";
import { addInputFlags } from "./run.ts";

type Flags = BuildFlags & InputFlags & Partial<ScaledTolerance> & { readonly layers?: boolean };
type Feeds = Readonly<Record<string, Tensor>>;
const LEVEL = 0;
/** Intermediate values that are made outputs of one build: bounds what has to be held at once. */
const VALUES_PER_BUILD = 64;

export function addVerify(program: Command): void {
  const command = program.command("verify").description("compare with onnxruntime on the CPU").argument("<model.onnx>");
  addInputFlags(command)
    .option("--layers", "compare every intermediate value (built without fusion) and name the first that drifts")
    .addOption(new Option("--rtol <x>", "relative tolerance").argParser(numberOption("--rtol", 0)))
    .addOption(
      new Option("--atol <x>", "absolute tolerance, in units of a tensor's largest magnitude").argParser(
        numberOption("--atol", 0),
      ),
    );
  addBuildFlags(command, LEVEL).action(verify);
}

async function verify(file: string, flags: Flags): Promise<void> {
  const network = readNetwork(file, flags);
  if (network.kind === "engine")
    throw cannotRead(file, "this is an engine: onnxruntime needs the model", "kiln verify model.onnx");
  const model = decodeModel(network.bytes, file);
  const whole = { ...network, bytes: withInlineData(model, readBeside(file)) };
  const ok = await withDevice(async (device) => {
    const engine = await openEngine(device, whole, flags, LEVEL);
    const { tensors, remarks } = prepareInputs(engine.plan, flags);
    for (const line of remarks) remark(line);
    const actual = await execute(engine, tensors);
    const expected = await runReference(whole.bytes, file, tensors);
    say(toleranceLine(flags));
    const outputs = (model.graph?.output ?? []).map(({ name }) =>
      compareOne(name ?? "", "", actual.get(name ?? ""), expected.get(name ?? ""), flags),
    );
    const same = outputs.every(({ deviation }) => deviation.ok);
    say(table("output", outputs));
    if (!flags.layers) return same;
    say();
    const rebuild = (bytes: Uint8Array): Promise<Engine | undefined> =>
      compile(device, { ...whole, bytes }, { ...flags, quiet: true }, LEVEL, { fusion: false });
    return (await verifyLayers(decodeModel(whole.bytes, file), whole, tensors, flags, rebuild)) && same;
  });
  say(`verify: ${ok ? "agrees with onnxruntime" : "differs from onnxruntime"}`);
  if (!ok) process.exitCode = 1;
}

interface Compared {
  readonly name: string;
  /** The node that makes the value, for layers. */
  readonly node: string;
  readonly type: string;
  readonly deviation: Deviation;
}

async function execute(engine: Engine, feeds: Feeds): Promise<Map<string, Tensor>> {
  const context = engine.createExecutionContext();
  try {
    return new Map(Object.entries(await context.execute(feeds)));
  } finally {
    context.dispose();
    engine.dispose();
  }
}

function compareOne(
  name: string,
  node: string,
  actual: Tensor | undefined,
  expected: Tensor | undefined,
  given: Partial<ScaledTolerance>,
): Compared {
  if (actual && expected)
    return { name, node, type: tensorType(expected), deviation: deviationOf(actual, expected, tolerances(given)) };
  const mismatch = actual ? "onnxruntime gave no tensor" : "it is missing";
  return {
    name,
    node,
    type: "",
    deviation: {
      ok: false,
      maxAbs: Number.NaN,
      relRms: Number.NaN,
      worstRatio: Number.POSITIVE_INFINITY,
      worstAt: 0,
      mismatch,
    },
  };
}

/** Every value that a node of the outermost graph makes, in order; true when all agree. */
async function verifyLayers(
  model: ModelProto,
  { file }: NetworkFile,
  feeds: Feeds,
  flags: Flags,
  rebuild: (bytes: Uint8Array) => Promise<Engine | undefined>,
): Promise<boolean> {
  const values = (model.graph?.node ?? []).flatMap((node) =>
    (node.output ?? []).filter(Boolean).map((name) => ({ name, node })),
  );
  const compared: Compared[] = [];
  for (let from = 0; from < values.length; from += VALUES_PER_BUILD) {
    const part = values.slice(from, from + VALUES_PER_BUILD);
    const bytes = encodeModel({
      ...model,
      graph: {
        ...model.graph,
        output: part.map(({ name }) => model.graph?.output?.find((output) => output.name === name) ?? { name }),
      },
    });
    const expected = await runReference(bytes, file, feeds);
    const engine = await rebuild(bytes);
    const actual = engine ? await execute(engine, feeds) : new Map<string, Tensor>();
    for (const { name, node } of part)
      if (expected.has(name)) compared.push(compareOne(name, nodeText(node), actual.get(name), expected.get(name), flags));
  }
  say(table("layer", compared));
  const first = compared.find(({ deviation }) => !deviation.ok);
  if (first) say(`\nfirst that drifts: ${first.node}, value "${first.name}"`);
  else say(`\nno layer drifts: ${plural(compared.length, "value")} compared`);
  return !first;
}

const nodeText = (node: NodeProto): string => `${node.opType} "${node.name || (node.output?.[0] ?? "")}"`;

const tolerances = ({ rtol, atol }: Partial<ScaledTolerance>): Partial<ScaledTolerance> => ({
  ...(rtol === undefined ? {} : { rtol }),
  ...(atol === undefined ? {} : { atol }),
});

function toleranceLine(given: Partial<ScaledTolerance>): string {
  const { rtol, atol } = { ...toleranceFor("f32"), ...tolerances(given) };
  const half = toleranceFor("f16");
  const others =
    given.rtol === undefined && given.atol === undefined
      ? ` (f16: ${half.rtol} and ${half.atol}; 8-bit integers: one step; other integers: equal)`
      : "";
  return `tolerance: |a - e| <= ${rtol} |e| + max(${atol} max|e|, 1e-7)${others}`;
}

function table(what: string, compared: readonly Compared[]): string {
  const rows = compared.map(({ name, node, type, deviation: { ok, maxAbs, relRms, worstRatio, worstAt, mismatch } }) => [
    ok ? "ok" : "DIFFERS",
    name,
    node,
    type,
    ...(mismatch ? [mismatch] : [numberText(maxAbs), numberText(relRms), numberText(worstRatio), ok ? "" : `at ${worstAt}`]),
  ]);
  return columns(
    [["", what, what === "layer" ? "node" : "", "type", "max abs", "rel rms", "worst ratio", ""], ...rows],
    [0, 1, 2, 3],
  );
}
