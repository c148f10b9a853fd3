// The command `kiln`. Exit status: 0 right, 1 the work failed or differed, 2 the call was wrong.

import { Command, CommanderError } from "commander";
import { KilnError } from "../util/errors.ts";
import { VERSION } from "../util/version.ts";
import { addBench } from "./bench.ts";
import { addBuild } from "./build.ts";
import { addConformance } from "./conformance.ts";
import { addConformanceWorker } from "./conformance-worker.ts";
import { addDevices } from "./devices.ts";
import { addInspect } from "./inspect.ts";
import { remark } from "./print.ts";
import { addQuantize } from "./quantize.ts";
import { restartWith } from "./restart.ts";
import { addRun } from "./run.ts";
import { addVerify } from "./verify.ts";
import { softwareVulkanEnv } from "./vulkan.ts";

const program = new Command("kiln")
  .description("An optimizing compiler for WebGPU: ONNX in, a tuned engine out.")
  .version(VERSION)
  .showHelpAfterError("(kiln help says more)")
  .exitOverride();
for (const add of [
  addBuild,
  addQuantize,
  addRun,
  addBench,
  addVerify,
  addConformance,
  addInspect,
  addDevices,
  addConformanceWorker,
])
  add(program);
for (const command of program.commands) command.copyInheritedSettings(program);

/** Errors of running that come from what the caller gave: names, types and shapes of inputs and profiles. */
const CALLERS_FAULT = /^K(00[1-5]|60[2-9]|612|70[2-7])$/;

// Whoever reads the output may stop reading: `kiln inspect x | head`.
process.stdout.on("error", (failure: NodeJS.ErrnoException) => process.exit(failure.code === "EPIPE" ? 0 : 1));
try {
  await program.parseAsync();
} catch (failure) {
  process.exitCode = await statusOf(failure);
}
// Dawn's threads would keep the process alive.
process.exit();

async function statusOf(failure: unknown): Promise<number> {
  if (failure instanceof CommanderError) return failure.exitCode === 0 ? 0 : 2;
  if (process.env.DEBUG) remark(failure instanceof Error ? (failure.stack ?? failure.message) : String(failure));
  if (!(failure instanceof KilnError)) {
    remark(
      `${failure instanceof Error ? failure.message : String(failure)}\n  hint: this is a defect in Kiln: please report it; DEBUG=1 shows the stack`,
    );
    return 1;
  }
  if (failure.code === "K401") {
    const env = softwareVulkanEnv();
    if (env) return restartWith(env);
  }
  remark(failure.format());
  return CALLERS_FAULT.test(failure.code) ? 2 : 1;
}
