// kiln quantize: a float model → the same with explicit QuantizeLinear and DequantizeLinear, for any runtime.

import type { Command } from "commander";
import type { Int8Report } from "../calibrator/quantize.ts";
import { decodeModel } from "../importer/proto.ts";
import { Builder } from "../node.ts";
import { badFlag, cannotRead } from "../util/errors.ts";
import { addShapeFlags, type BuildFlags, buildOptionsOf, declaredInputs } from "./build-flags.ts";
import { writeOut } from "./files.ts";
import { addInt8Flags, type Int8Flags, int8OptionsOf, printSensitivity } from "./int8-flags.ts";
import { readNetwork, withDevice } from "./network.ts";
import { bytesText, plural, say } from "./print.ts";
import { showProgress } from "./progress.ts";

interface Flags extends BuildFlags, Int8Flags {
  readonly output?: string;
}
const LEVEL = 0;

export function addQuantize(program: Command): void {
  const command = program
    .command("quantize")
    .description("write a model with 8-bit integers as ONNX")
    .argument("<model.onnx>")
    .option("-o, --output <file>", "the model to write");
  addInt8Flags(addShapeFlags(command)).option("--quiet", "no progress").action(quantize);
}

async function quantize(file: string, flags: Flags): Promise<void> {
  if (flags.output === undefined) throw badFlag("-o", "it says where the model goes, and is missing", "-o model.int8.onnx");
  const { kind, bytes } = readNetwork(file);
  if (kind === "engine") throw cannotRead(file, "this is an engine, not a model", "give the .onnx file");
  const model = decodeModel(bytes, file);
  let report: Int8Report | undefined;
  const int8 = int8OptionsOf(flags, declaredInputs(model), (made) => {
    report = made;
  });
  const progress = showProgress(flags.quiet ?? false);
  await withDevice(async (device) => {
    try {
      const quantized = await new Builder(device).quantize(bytes, {
        ...buildOptionsOf({ ...flags, hostFallback: true, fusion: true }, file, model, LEVEL),
        int8,
        onProgress: progress.report,
      });
      writeOut(flags.output!, quantized);
      progress.stop();
      printSensitivity(report!);
      const { layers, kept, calibrator, samples, error, notes } = report!;
      say(
        `${flags.output}: ${bytesText(quantized.length)} (${file}: ${bytesText(bytes.length)}), ${plural(layers.length, "layer")} of integers, ${calibrator}${samples > 0 ? ` from ${plural(samples, "sample")}` : ""}`,
      );
      if (error !== undefined) say(`relative RMS error of the outputs: ${error.toPrecision(3)}`);
      for (const { layer, why } of kept) say(`"${layer}" stays in float: ${why}`);
      for (const note of notes) say(`note: ${note}`);
    } finally {
      progress.stop();
    }
  });
}
