// The options of --int8, and what the builder makes of them.

import { existsSync, statSync } from "node:fs";
import { type Command, Option } from "commander";
import type { Int8Options, Int8Report } from "../calibrator/quantize.ts";
import { calibratorNamed } from "../calibrator/thresholds.ts";
import { badFlag } from "../util/errors.ts";
import { openDataset } from "./dataset.ts";
import { readBytes, writeOut } from "./files.ts";
import { numberOption } from "./options.ts";
import { NO_PREPROCESS, type PictureInput, type Preprocess, preprocessOption } from "./preprocess.ts";
import { columns, numberText, remark } from "./print.ts";

export interface Int8Flags {
  readonly calib?: string;
  readonly calibrator?: string;
  readonly calibSamples?: number;
  readonly calibState?: string;
  readonly calibrationCacheFile?: string;
  readonly preprocess?: Preprocess;
  readonly int8MaxError?: number;
  readonly int8Keep?: string;
  readonly int8Sensitivity?: boolean;
  readonly int8First?: boolean;
  readonly int8Last?: boolean;
}

export function addInt8Flags(command: Command): Command {
  const option = (flags: string, text: string, parse: (text: string) => unknown): Option =>
    new Option(flags, text).argParser(parse);
  return command
    .option("--calib <dir|cache>", "calibration data: a folder of .npy files or pictures, or a calibration cache")
    .addOption(
      option("--calibrator <name>", "entropy (default), minmax, percentile, percentile:99.9, mse or auto", calibratorOption),
    )
    .addOption(
      option(
        "--preprocess <words>",
        "how pictures become inputs: size=224x224,scale=…,mean=…/…/…,std=…/…/…,bgr,layout=nchw",
        preprocessOption,
      ),
    )
    .addOption(
      option(
        "--calibSamples <n>",
        "use no more batches than this",
        numberOption("--calibSamples", 1, Number.MAX_SAFE_INTEGER, true),
      ),
    )
    .option("--calibState <file>", "keep the calibration's state in a file, and go on from it")
    .option(
      "--calibrationCacheFile <file>",
      "write the scales as a calibration cache; read instead of calibrating where it exists",
    )
    .addOption(
      option(
        "--int8-max-error <e>",
        "leave the worst layers in float until the outputs' relative RMS error is at most this",
        numberOption("--int8-max-error", 0),
      ),
    )
    .option("--int8-keep <n|names>", "leave the n worst layers, or those named, in float")
    .option("--int8-sensitivity", "show what each layer contributes to the error")
    .option("--no-int8-first", "leave the first layers in float")
    .option("--no-int8-last", "leave the last layers in float");
}

function calibratorOption(name: string): string {
  if (name !== "auto") calibratorNamed(name);
  return name;
}

/** Batches between two writings of the state. */
const STATE_EVERY = 20;

/** The builder's options for a network with these inputs. Errors: K001 no data is named, K003 and K705 what is wrong with it. */
export function int8OptionsOf(
  flags: Int8Flags,
  inputs: readonly PictureInput[],
  onReport: (report: Int8Report) => void = printSensitivity,
): Int8Options {
  const { calib, calibrationCacheFile: cacheFile, calibState: stateFile, int8Keep } = flags;
  const found =
    cacheFile !== undefined && existsSync(cacheFile) ? cacheFile : calib !== undefined && isFile(calib) ? calib : undefined;
  if (found === undefined && calib === undefined)
    throw badFlag(
      "--calib",
      "it says where the calibration data is, and is missing",
      "a folder of .npy files or pictures, or a calibration cache",
    );
  const data =
    calib === undefined || isFile(calib)
      ? undefined
      : openDataset(calib, inputs, flags.preprocess ?? NO_PREPROCESS, flags.calibSamples);
  const state = stateFile !== undefined && existsSync(stateFile) ? textOf(stateFile) : undefined;
  const keep =
    int8Keep === undefined
      ? {}
      : /^\d+$/.test(int8Keep)
        ? { keepWorst: Number(int8Keep) }
        : { keep: int8Keep.split(",").filter(Boolean) };
  return {
    ...keep,
    firstLayers: flags.int8First ?? true,
    lastLayers: flags.int8Last ?? true,
    sensitivity: flags.int8Sensitivity ?? false,
    ...(data ? { calibration: data.samples, samples: data.length } : {}),
    ...(found === undefined ? {} : { cache: textOf(found) }),
    ...(flags.calibrator === undefined ? {} : { calibrator: flags.calibrator }),
    ...(flags.int8MaxError === undefined ? {} : { maxError: flags.int8MaxError }),
    ...(state === undefined ? {} : { state }),
    ...(stateFile === undefined
      ? {}
      : {
          onState: (serialize, done) => {
            if (done % STATE_EVERY === 0 || done === data?.length) writeOut(stateFile, serialize());
          },
        }),
    onReport: (report) => {
      if (cacheFile !== undefined && found === undefined) writeOut(cacheFile, report.cache);
      onReport(report);
    },
  };
}

const isFile = (path: string): boolean => existsSync(path) && statSync(path).isFile();
const textOf = (file: string): string => new TextDecoder().decode(readBytes(file));

/** What each layer contributes, where that was measured; the build's notes say the rest. */
export function printSensitivity({ sensitivity }: Int8Report): void {
  if (!sensitivity) return;
  remark("relative RMS error of the outputs that each layer alone contributes:");
  remark(columns(sensitivity.map(({ layer, error }) => [layer, numberText(error)])));
}
