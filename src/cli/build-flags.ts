// The options of every command that compiles a model, and what the builder makes of them.

import { type Command, Option } from "commander";
import type { BuildOptions, Stage } from "../builder.ts";
import { type ModelProto, toNumber } from "../importer/proto.ts";
import { dtypeOf } from "../importer/tensors.ts";
import type { Tensor } from "../ir/tensor.ts";
import { readBeside } from "../node.ts";
import type { ProfileShapes, ShapeRange } from "../plan/profiles.ts";
import { badFlag } from "../util/errors.ts";
import { addInt8Flags, type Int8Flags, int8OptionsOf } from "./int8-flags.ts";
import { choiceOption, listOption, numberOption, shapesOption, tensorOfWords, valuesOption } from "./options.ts";

export const STAGES = ["import", "passes", "calibrate", "lower", "fuse", "tune"] as const satisfies readonly Stage[];

type Shapes = Readonly<Record<string, readonly number[]>>;

export interface BuildFlags extends Int8Flags {
  readonly minShapes?: Shapes;
  readonly optShapes?: Shapes;
  readonly maxShapes?: Shapes;
  readonly shapes?: Shapes;
  readonly shapeValues?: Readonly<Record<string, readonly string[]>>;
  readonly timingCacheFile?: string;
  readonly builderOptimizationLevel?: number;
  readonly maxTuneTime?: number;
  readonly dump?: string;
  readonly until?: Stage;
  readonly fp16?: boolean;
  readonly int8?: boolean;
  readonly hostFallback: boolean;
  readonly fusion: boolean;
  readonly maxRewrites?: number;
  readonly disableRewrite?: readonly string[];
  readonly randomWeights?: number;
  readonly hardwareCompatibility?: "device" | "portable";
  readonly refit?: boolean;
  readonly quiet?: boolean;
}

const option = (flags: string, text: string, parse: (text: string, before?: never) => unknown): Option =>
  new Option(flags, text).argParser(parse as (text: string) => unknown);

/** Adds the options that say what sizes free dimensions have. */
export function addShapeFlags(command: Command): Command {
  return command
    .addOption(
      option(
        "--shapes <shapes>",
        "name:1x3x224x224,…: shape of each input: --minShapes, --optShapes and --maxShapes in one",
        shapesOption("--shapes"),
      ),
    )
    .addOption(option("--minShapes <shapes>", "smallest shapes of the optimization profile", shapesOption("--minShapes")))
    .addOption(option("--optShapes <shapes>", "shapes to optimize for", shapesOption("--optShapes")))
    .addOption(option("--maxShapes <shapes>", "largest shapes of the optimization profile", shapesOption("--maxShapes")))
    .addOption(
      option(
        "--shapeValues <values>",
        "name:1,2,3: what an input will hold, where shapes depend on it",
        valuesOption("--shapeValues"),
      ),
    );
}

/** Adds the options; `level` is the optimization level where none is given. */
export function addBuildFlags(command: Command, level: number): Command {
  addShapeFlags(command)
    .option("--fp16", "permit f16 activations and weights; sums stay f32")
    .option("--int8", "permit 8-bit integers, calibrated on --calib");
  return addInt8Flags(command)
    .option("--timingCacheFile <file>", "measurements to start from and to add to")
    .addOption(
      option(
        "--builderOptimizationLevel <0-5>",
        `0 measures nothing, 5 everything (default ${level})`,
        numberOption("--builderOptimizationLevel", 0, 5, true),
      ),
    )
    .addOption(option("--maxTuneTime <seconds>", "how long measuring may take", numberOption("--maxTuneTime", 0)))
    .option("--dump <dir>", "write every stage's form and every kernel's WGSL into a folder")
    .addOption(option("--until <stage>", `stop after a stage: ${STAGES.join(", ")}`, choiceOption("--until", STAGES)))
    .addOption(
      option(
        "--hardwareCompatibility <level>",
        "portable: WebGPU's core only, loads on every device; device (default): all that this one has",
        choiceOption("--hardwareCompatibility", ["device", "portable"] as const),
      ),
    )
    .option("--refit", "keep float weights as they are, so that the engine can be refitted")
    .option("--no-host-fallback", "refuse a model of which a layer would run on the host")
    .option("--no-fusion", "every operator as its own kernels")
    .addOption(
      option(
        "--max-rewrites <n>",
        "stop rewriting after so many rewrites, to bisect",
        numberOption("--max-rewrites", 0, Number.MAX_SAFE_INTEGER, true),
      ),
    )
    .addOption(option("--disable-rewrite <names>", "leave out passes or rules by name", listOption))
    .addOption(
      option(
        "--random-weights <seed>",
        "random weights in place of those that ConstantOfShape nodes make",
        numberOption("--random-weights", 0, 2 ** 32 - 1, true),
      ),
    )
    .option("--quiet", "no progress");
}

/** The builder's options for a model file. Errors: K001 for flags that do not fit the model. */
export function buildOptionsOf(flags: BuildFlags, file: string, model: ModelProto, level: number): BuildOptions {
  const shapeValues = shapeValuesOf(flags, model);
  const profile = profileOf(flags);
  const chosen = (flags.builderOptimizationLevel ?? level) as 0 | 1 | 2 | 3 | 4 | 5;
  return {
    file,
    readExternal: readBeside(file),
    optimizationLevel: chosen,
    fp16: flags.fp16 ?? false,
    hostFallback: flags.hostFallback,
    fusion: flags.fusion,
    ...(flags.refit ? { refit: true } : {}),
    ...(flags.hardwareCompatibility ? { hardwareCompatibility: flags.hardwareCompatibility } : {}),
    ...(flags.int8 ? { int8: int8OptionsOf(flags, declaredInputs(model)) } : {}),
    ...(profile ? { profiles: [profile] } : {}),
    ...(shapeValues ? { shapeValues } : {}),
    ...(flags.maxTuneTime === undefined ? {} : { maxTuneTime: flags.maxTuneTime }),
    ...(flags.maxRewrites === undefined ? {} : { maxRewrites: flags.maxRewrites }),
    ...(flags.disableRewrite ? { disable: flags.disableRewrite } : {}),
  };
}

/** One profile from the shape options; `--shapes` stands for what is left out of an input's three. */
export function profileOf({
  shapes = {},
  minShapes = {},
  optShapes = {},
  maxShapes = {},
}: Pick<BuildFlags, "shapes" | "minShapes" | "optShapes" | "maxShapes">): ProfileShapes | undefined {
  const names = [...new Set([shapes, minShapes, optShapes, maxShapes].flatMap((each) => Object.keys(each)))];
  if (names.length === 0) return undefined;
  return Object.fromEntries(
    names.map((name): [string, ShapeRange] => {
      const bounds = { min: minShapes[name], opt: optShapes[name], max: maxShapes[name] };
      const given = Object.entries(bounds).map(([bound, shape]) => [bound, shape ?? shapes[name]] as const);
      return [name, Object.fromEntries(given.filter(([, shape]) => shape))];
    }),
  );
}

function shapeValuesOf({ shapeValues }: BuildFlags, model: ModelProto): Record<string, Tensor> | undefined {
  if (!shapeValues) return undefined;
  const inputs = declaredInputs(model);
  return Object.fromEntries(
    Object.entries(shapeValues).map(([name, words]) => {
      const input = inputs.find((candidate) => candidate.name === name);
      if (!input)
        throw badFlag(
          `--shapeValues ${name}:…`,
          "the model has no such input",
          inputs.map((candidate) => candidate.name).join(", ") || "none",
        );
      return [name, tensorOfWords("--shapeValues", name, words, input.dtype, input.shape)];
    }),
  );
}

/** Inputs that are no initializers, as the model declares them; free dimensions are text. */
export function declaredInputs(
  model: ModelProto,
): { readonly name: string; readonly dtype: Tensor["dtype"]; readonly shape: readonly (number | string)[] }[] {
  const constants = new Set((model.graph?.initializer ?? []).map(({ name }) => name));
  return (model.graph?.input ?? [])
    .filter(({ name }) => !constants.has(name))
    .flatMap(({ name, type }) => {
      const tensor = type?.tensorType;
      if (!tensor) return [];
      const shape = (tensor.shape?.dim ?? []).map((dim) =>
        dim.dimParam || dim.dimValue == null ? dim.dimParam || "?" : toNumber(dim.dimValue),
      );
      return [{ name: name ?? "", dtype: dtypeOf(tensor.elemType ?? 0, `input "${name}"`), shape }];
    });
}
