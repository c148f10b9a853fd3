// kiln build: a model → an engine file.

import type { Command } from "commander";
import type { Device } from "../gpu/device.ts";
import { Builder } from "../node.ts";
import { badFlag, cannotRead } from "../util/errors.ts";
import { addBuildFlags, type BuildFlags } from "./build-flags.ts";
import { writeOut } from "./files.ts";
import { building, compile, engineSummary, type NetworkFile, readNetwork, reportHostLayers, withDevice } from "./network.ts";
import { amountText, bytesText, say } from "./print.ts";
import { readTarget } from "./target.ts";

interface Flags extends BuildFlags {
  readonly output?: string;
  readonly target?: string;
}
const LEVEL = 3;

export function addBuild(program: Command): void {
  const command = program
    .command("build")
    .description("compile a model into an engine")
    .argument("<model.onnx>")
    .option("-o, --output <file>", "the engine file to write")
    .option("--target <file>", "build for a device that is not here, as `kiln devices --json` printed it there");
  addBuildFlags(command, LEVEL).action(build);
}

async function build(file: string, flags: Flags): Promise<void> {
  if (flags.output === undefined && flags.until === undefined)
    throw badFlag("-o", "it says where the engine goes, and is missing", "-o net.engine");
  const network = readNetwork(file, flags);
  if (network.kind === "engine")
    throw cannotRead(file, "this is an engine already, not a model", "run it with `kiln run`, it needs no build");
  if (flags.target !== undefined) return buildForTarget(network, flags.target, flags);
  await withDevice(async (device) => {
    const from = performance.now();
    const engine = await compile(device, network, flags, LEVEL);
    if (!engine) return say(`stopped after ${flags.until}`);
    const bytes = engine.serialize();
    if (flags.output !== undefined) writeOut(flags.output, bytes);
    const { weights, activations, activationsLowerBound } = engine.describe().memory;
    say(
      `${flags.output ?? "engine"}: ${bytesText(bytes.length)}, ${engineSummary(engine)}, built in ${((performance.now() - from) / 1000).toFixed(1)} s`,
    );
    say(
      `memory: weights ${amountText(weights)}, activations ${amountText(activations)} (lower bound ${amountText(activationsLowerBound)})`,
    );
    reportHostLayers(engine, say);
    engine.dispose();
  });
}

/** A device is only needed where calibration runs the network. */
async function buildForTarget(network: NetworkFile, file: string, flags: Flags): Promise<void> {
  const target = readTarget(file);
  const work = async (device: Device): Promise<void> => {
    const built = await building(network, flags, LEVEL, (options) =>
      new Builder(device).buildFor(target, network.bytes, options),
    );
    if (!built) return say(`stopped after ${flags.until}`);
    if (flags.output !== undefined) writeOut(flags.output, built.file);
    say(`${flags.output ?? "engine"}: ${bytesText(built.file.length)}`);
    reportHostLayers(built, say);
  };
  await withDevice(work, flags.int8 ? {} : { backend: "null" });
}
