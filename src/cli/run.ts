// kiln run: one inference of an engine or a model.

import { join } from "node:path";
import { type Command, Option } from "commander";
import { addBuildFlags, type BuildFlags } from "./build-flags.ts";
import { fileName, writeOut } from "./files.ts";
import { type InputFlags, prepareInputs } from "./inputs.ts";
import { openEngine, readNetwork, withDevice } from "./network.ts";
import { writeNpy } from "./npy.ts";
import { filesOption, numberOption } from "./options.ts";
import { columns, jsonElements, remark, say, summarize, tensorType } from "./print.ts";

interface Flags extends BuildFlags, InputFlags {
  readonly saveOutputs?: string;
  readonly json?: boolean;
  readonly shapes?: Readonly<Record<string, readonly number[]>>;
  readonly optShapes?: Readonly<Record<string, readonly number[]>>;
}
const LEVEL = 3;

/** Options that say what a run is fed. */
export function addInputFlags(command: Command): Command {
  return command
    .addOption(
      new Option("--loadInputs <files>", "name:in.npy,…: inputs from files; the others are random").argParser(
        filesOption("--loadInputs") as (text: string) => unknown,
      ),
    )
    .addOption(new Option("--seed <n>", "of random inputs").default(0).argParser(numberOption("--seed", 0, 2 ** 32 - 1, true)));
}

export function addRun(program: Command): void {
  const command = program.command("run").description("run an engine or a model once").argument("<net.engine|model.onnx>");
  addInputFlags(command)
    .option("--saveOutputs <dir>", "write each output as a .npy file")
    .option("--json", "print the outputs as JSON");
  addBuildFlags(command, LEVEL).action(run);
}

async function run(file: string, flags: Flags): Promise<void> {
  const network = readNetwork(file, flags);
  await withDevice(async (device) => {
    const engine = await openEngine(device, network, flags, LEVEL);
    const { tensors, remarks } = prepareInputs(engine.plan, flags);
    for (const line of remarks) remark(line);
    const context = engine.createExecutionContext();
    const outputs = await context.execute(tensors);
    if (flags.saveOutputs !== undefined) {
      for (const [name, output] of Object.entries(outputs)) {
        if (output.dtype === "bf16") remark(`output "${name}": bfloat16, saved as float32`);
        writeOut(join(flags.saveOutputs, `${fileName(name)}.npy`), writeNpy(output));
      }
    }
    if (flags.json)
      say(
        JSON.stringify(
          Object.fromEntries(
            Object.entries(outputs).map(([name, output]) => [
              name,
              { dtype: output.dtype, shape: output.shape, data: jsonElements(output) },
            ]),
          ),
        ),
      );
    else
      say(
        columns(
          Object.entries(outputs).map(([name, output]) => [name, tensorType(output), summarize(output)]),
          [0, 1, 2],
        ),
      );
    context.dispose();
    engine.dispose();
  });
}
