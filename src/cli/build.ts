// kiln build: a model → an engine file.

import type { Command } from "commander";
import { badFlag, cannotRead } from "../util/errors.ts";
import { addBuildFlags, type BuildFlags } from "./build-flags.ts";
import { writeOut } from "./files.ts";
import { compile, engineSummary, readNetwork, reportHostLayers, withDevice } from "./network.ts";
import { bytesText, say } from "./print.ts";

interface Flags extends BuildFlags {
  readonly output?: string;
}
const LEVEL = 3;

export function addBuild(program: Command): void {
  const command = program
    .command("build")
    .description("compile a model into an engine")
    .argument("<model.onnx>")
    .option("-o, --output <file>", "the engine file to write");
  addBuildFlags(command, LEVEL).action(build);
}

async function build(file: string, flags: Flags): Promise<void> {
  if (flags.output === undefined && flags.until === undefined)
    throw badFlag("-o", "it says where the engine goes, and is missing", "-o net.engine");
  const network = readNetwork(file, flags);
  if (network.kind === "engine")
    throw cannotRead(file, "this is an engine already, not a model", "run it with `kiln run`, it needs no build");
  await withDevice(async (device) => {
    const from = performance.now();
    const engine = await compile(device, network, flags, LEVEL);
    if (!engine) return say(`stopped after ${flags.until}`);
    const bytes = engine.serialize();
    if (flags.output !== undefined) writeOut(flags.output, bytes);
    const { weights, activations, activationsLowerBound } = engine.describe().memory;
    const size = (amount: number | string): string => (typeof amount === "number" ? bytesText(amount) : amount);
    say(
      `${flags.output ?? "engine"}: ${bytesText(bytes.length)}, ${engineSummary(engine)}, built in ${((performance.now() - from) / 1000).toFixed(1)} s`,
    );
    say(`memory: weights ${size(weights)}, activations ${size(activations)} (lower bound ${size(activationsLowerBound)})`);
    reportHostLayers(engine, say);
    engine.dispose();
  });
}
