// Every error that a user can meet: one class, and one constructor function an error, so that wording, codes and hints
// stay in one place. Codes: K0xx the call, K1xx the model file, K2xx unsupported, K3xx the graph, K4xx the device,
// K5xx the engine file, K6xx running, K7xx calibration, K9xx a defect in Kiln itself.

export interface ErrorParts {
  /** Stable code, "K204". */
  readonly code: string;
  /** Stable kebab-case name of the error, "unsupported-attribute". */
  readonly name: string;
  /** Where: a node, tensor, file, flag or dimension, quoted as the user wrote it. */
  readonly place: string;
  /** What is wrong, in one sentence. */
  readonly what: string;
  readonly cause?: string;
  /** What to do about it. */
  readonly hint?: string;
}

/** An error with a code, a place, a cause and a hint; `message` holds the one-line form, `format()` the whole. */
export class KilnError extends Error {
  readonly code: string;
  readonly kind: string;
  readonly place: string;
  readonly hint: string | undefined;
  readonly why: string | undefined;

  constructor(parts: ErrorParts) {
    super(`${parts.code} ${parts.name}  ${parts.place ? `${parts.place}: ` : ""}${parts.what}`);
    this.name = "KilnError";
    this.code = parts.code;
    this.kind = parts.name;
    this.place = parts.place;
    this.why = parts.cause;
    this.hint = parts.hint;
  }

  /** The message, then the cause and the hint on indented lines of their own. */
  format(): string {
    const lines = [this.message];
    if (this.why) lines.push(...this.why.split("\n").map((line) => `  ${line}`));
    if (this.hint) lines.push(`  hint: ${this.hint}`);
    return lines.join("\n");
  }
}

const error = (code: string, name: string, place: string, what: string, cause?: string, hint?: string): KilnError =>
  new KilnError({
    code,
    name,
    place,
    what,
    ...(cause === undefined ? {} : { cause }),
    ...(hint === undefined ? {} : { hint }),
  });

/** `place`: how the adapter was asked for. `cause`: what the implementation said, if anything. */
export const noAdapter = (place: string, cause?: string): KilnError =>
  error(
    "K401",
    "no-adapter",
    place,
    "no GPU adapter was found",
    cause,
    "in a checkout run `npm run setup`; elsewhere install a Vulkan driver (mesa-vulkan-drivers), or enable WebGPU",
  );

export const deviceRefused = (place: string, cause: string): KilnError =>
  error(
    "K402",
    "device-refused",
    place,
    "the adapter gave no device",
    cause,
    "ask for fewer features or limits, or open it with `portable`",
  );

export const missingFeature = (place: string, feature: string, offered: readonly string[]): KilnError =>
  error(
    "K403",
    "missing-feature",
    place,
    `the device has no feature "${feature}"`,
    `it has: ${offered.length > 0 ? offered.join(", ") : "no optional feature"}`,
    "leave the feature out, or use another adapter or driver",
  );

/** `limit`: WebGPU's name of it. `wanted` and `have` in the unit of that limit. */
export const limitExceeded = (place: string, limit: string, wanted: number, have: number, hint?: string): KilnError =>
  error("K404", "limit-exceeded", place, `needs ${limit} = ${wanted}, the device allows ${have}`, undefined, hint);

/** `excerpt`: the lines around the error, with a caret. */
export const shaderInvalid = (kernel: string, line: number, message: string, excerpt: string): KilnError =>
  error(
    "K405",
    "shader-invalid",
    `kernel "${kernel}" line ${line}`,
    message,
    excerpt,
    "this is a defect in Kiln or in the browser's compiler: please report it with the text above",
  );

export const pipelineFailed = (kernel: string, cause: string): KilnError =>
  error("K406", "pipeline-failed", `kernel "${kernel}"`, "the GPU driver did not take the kernel", cause);

export const outOfMemory = (place: string, bytes: number, live: number): KilnError =>
  error(
    "K407",
    "out-of-memory",
    place,
    `the device has no room for ${bytes} bytes`,
    `${live} bytes are in use by this process's buffers on this device`,
    "use a smaller batch or profile, dispose of engines that are not needed, or close other programs that use the GPU",
  );

/** `reason`: WebGPU's word, "destroyed" or "unknown". */
export const deviceLost = (place: string, reason: string, message: string): KilnError =>
  error(
    "K408",
    "device-lost",
    place,
    reason === "destroyed" ? "the device was destroyed" : "the GPU device was lost",
    message,
    reason === "destroyed"
      ? "open a new device"
      : "a kernel may have run too long or the driver restarted: open a new device and load the engine again",
  );

/** `place`: the call or object that broke WebGPU's rules. */
export const gpuInvalid = (place: string, message: string): KilnError =>
  error("K409", "gpu-invalid", place, "WebGPU refused a call", message, "this is a defect in Kiln: please report it");

/** A broken promise inside Kiln: never the user's fault. */
export const internal = (place: string, what: string): KilnError =>
  error("K900", "internal", place, what, undefined, "this is a defect in Kiln: please report it with the model");

/** `after`: the rewrite that came last, if one did. */
export const brokenGraph = (place: string, what: string, after?: string): KilnError =>
  error(
    "K901",
    "broken-graph",
    place,
    what,
    after === undefined ? undefined : `after the rewrite "${after}"`,
    after === undefined ? undefined : `build with --disable-rewrite ${after} to go on, and please report it with the model`,
  );

// --- K0xx: the call ------------------------------------------------------------------------------------------------------

/** `flag`: as the user wrote it, "--shapes x:1xA". */
export const badFlag = (flag: string, what: string, expected?: string): KilnError =>
  error("K001", "bad-flag", flag, what, undefined, expected === undefined ? undefined : `expected: ${expected}`);
export const cannotRead = (file: string, what: string, hint?: string): KilnError =>
  error("K003", "cannot-read", file, what, undefined, hint);
export const cannotWrite = (file: string, cause: string): KilnError =>
  error("K004", "cannot-write", file, "it cannot be written", cause);
export const badNpy = (file: string, what: string): KilnError =>
  error("K005", "bad-npy", file, what, undefined, "write it with numpy.save: a plain array of numbers or bools");
export const noReference = (cause: string): KilnError =>
  error(
    "K006",
    "no-reference",
    "onnxruntime-node",
    "it cannot be loaded",
    cause,
    "`kiln verify` compares against it: npm install onnxruntime-node",
  );
export const referenceFailed = (file: string, cause: string): KilnError =>
  error("K007", "reference-failed", file, "onnxruntime refused the model or its inputs", cause);

export const unknownRewrite = (name: string, known: readonly string[]): KilnError =>
  error("K002", "unknown-rewrite", `"${name}"`, "there is no pass or rule of this name", `known: ${known.join(", ")}`);

// --- K1xx: the model file ------------------------------------------------------------------------------------------------

/** Begins like some other known file, or like nothing. */
export const notOnnx = (file: string, looksLike: string, hint: string): KilnError =>
  error("K101", "not-onnx", file, `this is not an ONNX model: ${looksLike}`, undefined, hint);
export const brokenOnnx = (file: string, cause: string): KilnError =>
  error(
    "K102",
    "broken-onnx",
    file,
    "the ONNX file cannot be decoded",
    cause,
    "the file is truncated or damaged: fetch or export it again",
  );
export const noGraph = (file: string): KilnError =>
  error("K103", "no-graph", file, "the model holds no graph", undefined, "export the model again");
export const missingExternal = (tensor: string, file: string, cause: string): KilnError =>
  error(
    "K104",
    "missing-external-data",
    `tensor "${tensor}"`,
    `its data is in "${file}", which cannot be read`,
    cause,
    "keep the model's data files beside it, under the names they were exported with",
  );
export const badTensor = (tensor: string, what: string): KilnError =>
  error(
    "K105",
    "bad-tensor",
    `tensor "${tensor}"`,
    what,
    undefined,
    "the model is damaged or was written wrongly: export it again",
  );
export const unknownInput = (node: string, input: string): KilnError =>
  error(
    "K106",
    "unknown-value",
    `node "${node}"`,
    `reads "${input}", which nothing produces`,
    undefined,
    "the model is damaged: check it with onnx.checker",
  );
export const cyclicGraph = (nodes: readonly string[]): KilnError =>
  error(
    "K107",
    "cyclic-graph",
    `node "${nodes[0]}"`,
    "the graph has a cycle",
    `through ${nodes
      .slice(0, 8)
      .map((name) => `"${name}"`)
      .join(" -> ")}`,
    "an ONNX graph must be acyclic: export it again",
  );
export const badGraphText = (line: number, what: string): KilnError => error("K109", "bad-graph-text", `line ${line}`, what);
export const duplicateValue = (node: string, value: string): KilnError =>
  error("K108", "duplicate-value", `node "${node}"`, `writes "${value}", which another node writes too`);

// --- K2xx: unsupported ---------------------------------------------------------------------------------------------------

export const unsupportedOps = (
  file: string,
  ops: readonly { op: string; opset: number; nodes: readonly string[]; why: string }[],
): KilnError =>
  error(
    "K201",
    "unsupported-operators",
    file,
    `${ops.length} operator${ops.length === 1 ? " is" : "s are"} not supported`,
    ops
      .map(
        ({ op, opset, nodes, why }) =>
          `${op} (opset ${opset}) at ${nodes
            .slice(0, 3)
            .map((name) => `"${name}"`)
            .join(", ")}${nodes.length > 3 ? ` and ${nodes.length - 3} more` : ""}: ${why}`,
      )
      .join("\n"),
    "export the model with other operators, or compute these parts outside",
  );
export const unsupportedType = (place: string, type: string): KilnError =>
  error(
    "K202",
    "unsupported-type",
    place,
    `element type ${type} is not supported`,
    "supported: float, float16, bfloat16, double, the 8- to 64-bit integers and bool",
    "cast it before export",
  );
export const unknownAttribute = (
  node: { name: string; op: string },
  names: readonly string[],
  known: readonly string[],
): KilnError =>
  error(
    "K203",
    "unknown-attribute",
    `${node.op} "${node.name}"`,
    `it has no attribute ${names.map((name) => `"${name}"`).join(", ")}`,
    `known: ${known.join(", ") || "none"}`,
    "the model is newer than Kiln or was written wrongly",
  );
export const unsupportedAttribute = (node: { name: string; op: string }, what: string, supported: string): KilnError =>
  error("K204", "unsupported-attribute", `${node.op} "${node.name}"`, what, `supported: ${supported}`);
export const badAttribute = (node: { name: string; op: string }, name: string, found: string, expected: string): KilnError =>
  error("K205", "bad-attribute", `${node.op} "${node.name}"`, `attribute "${name}" is ${found}`, `expected: ${expected}`);

// --- K3xx: the graph -----------------------------------------------------------------------------------------------------

export const shapeMismatch = (node: { name: string; op: string }, what: string, cause?: string): KilnError =>
  error("K301", "shape-mismatch", `${node.op} "${node.name}"`, what, cause);
export const valueNeeded = (
  node: { name: string; op: string },
  value: string,
  role: string,
  cause = "shapes would depend on it",
): KilnError =>
  error(
    "K302",
    "value-needed",
    `${node.op} "${node.name}"`,
    `its ${role} "${value}" must be known when the engine is built`,
    cause,
    `if "${value}" comes of an input, fix what that holds, --shapeValues NAME:..., or its sizes, --shapes NAME:...`,
  );
export const typeMismatch = (node: { name: string; op: string }, what: string): KilnError =>
  error("K303", "type-mismatch", `${node.op} "${node.name}"`, what);

// --- K6xx: running -------------------------------------------------------------------------------------------------------

export const valueTooLarge = (place: string, element: number, value: string, dtype: string): KilnError =>
  error(
    "K601",
    "value-too-large",
    place,
    `element ${element} is ${value}, which 32 bits cannot hold`,
    `${dtype} is computed as a 32-bit integer on the GPU`,
    "use smaller values, or keep this part of the model off the GPU",
  );
const shapeOf = (shape: readonly (number | string)[]): string => `[${shape.join(", ")}]`;
export const missingInput = (input: string, type: string): KilnError =>
  error("K602", "missing-input", `input "${input}"`, "no tensor was given for it", `it is ${type}`);
export const unknownInputs = (names: readonly string[], known: readonly string[]): KilnError =>
  error(
    "K603",
    "unknown-input",
    names.map((name) => `"${name}"`).join(", "),
    "the engine has no such input",
    `its inputs are ${known.map((name) => `"${name}"`).join(", ")}`,
  );
export const inputShapeMismatch = (input: string, given: readonly number[], expected: readonly string[]): KilnError =>
  error("K604", "input-shape", `input "${input}"`, `shape ${shapeOf(given)} does not fit ${shapeOf(expected)}`);
export const outsideProfile = (
  input: string,
  axis: number,
  value: number,
  min: number,
  max: number,
  profile: string,
): KilnError =>
  error(
    "K605",
    "outside-profile",
    `input "${input}" dimension ${axis}`,
    `${value} is outside of [${min}, ${max}] of profile "${profile}"`,
    undefined,
    "give a shape inside the profile, or build the engine with wider bounds",
  );
export const inconsistentSizes = (
  node: string,
  verb: string,
  shapes: readonly (readonly number[])[],
  sizes: readonly number[],
): KilnError =>
  error(
    "K618",
    "inconsistent-sizes",
    node,
    `${shapes.map((shape) => `[${shape.join(", ")}]`).join(" and ")} do not ${verb}: ${sizes.join(" against ")}`,
    "the network does not fit together at these shapes of its inputs",
    "give inputs of other shapes; images often must be a multiple of 32 in height and width",
  );
export const noSize = (value: string, bytes: number): KilnError =>
  error(
    "K618",
    "inconsistent-sizes",
    `value "${value}"`,
    `it would be of ${bytes} bytes`,
    "the network does not fit together at these shapes of its inputs",
    "give larger inputs",
  );
export const unboundSymbol = (dimension: string): KilnError =>
  error(
    "K606",
    "unbound-dimension",
    `dimension ${dimension}`,
    "it is not known yet",
    undefined,
    "give the input's shape with its data",
  );
export const inconsistentSymbol = (symbol: string, first: string, a: number, second: string, b: number): KilnError =>
  error("K607", "inconsistent-dimension", `dimension "${symbol}"`, `input "${first}" says ${a}, input "${second}" says ${b}`);
export const wrongInputType = (input: string, given: string, expected: string): KilnError =>
  error("K608", "input-type", `input "${input}"`, `it is ${given}, the engine takes ${expected}`);
export const wrongInputData = (input: string, given: string, expected: string, dtype: string): KilnError =>
  error("K608", "input-type", `input "${input}" (${dtype})`, `its data is ${given}, expected ${expected}`);
export const assumptionBroken = (input: string, built: string, given: string): KilnError =>
  error(
    "K609",
    "assumption-broken",
    `input "${input}"`,
    `the engine was built for its contents [${built}], it holds [${given}]`,
    "shapes inside the engine depend on it",
    "build another engine for these contents",
  );
export const disposedEngine = (): KilnError =>
  error("K610", "disposed", "engine", "it was disposed of", undefined, "load or build it again");
export const disposedContext = (): KilnError =>
  error("K610", "disposed", "execution context", "it was disposed of", undefined, "create a new one from the engine");

// --- K5xx: the engine file -----------------------------------------------------------------------------------------------

const REBUILD = "build it again with this version: `kiln build`";
const FETCH_AGAIN = "copy or download the file again, or build it again: `kiln build`";

/** `looksLike`: what the file seems to be instead, a whole clause. */
export const notEngine = (file: string, looksLike: string, hint = "give the file that `kiln build` wrote"): KilnError =>
  error("K501", "not-an-engine", file, `this is not a Kiln engine: ${looksLike}`, undefined, hint);
export const truncatedEngine = (file: string, has: number, wants: number): KilnError =>
  error("K502", "truncated-engine", file, `the engine is cut off: ${has} of ${wants} bytes are there`, undefined, FETCH_AGAIN);
export const damagedEngine = (file: string, cause: string): KilnError =>
  error("K503", "damaged-engine", file, "the engine is damaged", cause, FETCH_AGAIN);
/** `part`: "format" or "compiler". */
export const wrongEngineVersion = (file: string, part: string, built: string, here: string, newer: boolean): KilnError =>
  error(
    "K504",
    "engine-version",
    file,
    `the engine is too ${newer ? "new" : "old"}: its ${part} version is ${built}, this Kiln reads ${here}`,
    undefined,
    newer ? `update Kiln, or ${REBUILD}` : REBUILD,
  );
export const otherDevice = (file: string, built: string, here: string, differences: readonly string[]): KilnError =>
  error(
    "K505",
    "other-device",
    file,
    `the engine was built for ${built}, this device is ${here}`,
    differences.join("\n"),
    'build it again on this device, or build it with hardwareCompatibility: "portable", which loads anywhere',
  );
/** The checksum is right, so that not chance but a program wrote it so. */
export const invalidPlan = (file: string, cause: string): KilnError =>
  error("K506", "invalid-plan", file, "the engine's plan does not hold together", cause, REBUILD);
export const wrongWeights = (file: string, what: string): KilnError =>
  error(
    "K507",
    "wrong-weights",
    file,
    what,
    undefined,
    "give the weights that `Engine.weights` held when the engine was written: `runtime.deserialize(bytes, { weights })`",
  );
/** `known`: the weights that can be refitted. */
export const cannotRefit = (weight: string, what: string, known: readonly string[]): KilnError =>
  error(
    "K616",
    "cannot-refit",
    `weight "${weight}"`,
    what,
    known.length === 0
      ? "the engine was built without `refit: true`: its weights are folded and packed"
      : `it can refit ${listed(known)}`,
    known.length === 0
      ? "build it again with `refit: true`"
      : "give float weights by their names in the model, with their types and shapes there; constants that decided kernels are fixed",
  );
export const refitQuantized = (model: string): KilnError =>
  error(
    "K617",
    "refit-quantized",
    model,
    "8-bit weights cannot be refitted: their scales are part of the kernels",
    undefined,
    "build with `refit` or with `int8`, not with both",
  );
/** `cause`: what the network said. */
export const cannotFetch = (url: string, cause: string): KilnError =>
  error(
    "K509",
    "cannot-fetch",
    url,
    "the engine could not be fetched",
    cause,
    "check the address and the server, then try again",
  );
export const noHostOperator = (node: string, op: string): KilnError =>
  error(
    "K508",
    "host-layer",
    `${op} "${node}"`,
    "this engine has a host layer, and the lean runtime has no operators",
    undefined,
    'load it with the Runtime of "kiln-webgpu" or "kiln-webgpu/node"',
  );
export const hostFallbackRefused = (node: string, op: string, reason: string): KilnError =>
  error(
    "K611",
    "host-layer-refused",
    `${op} "${node}"`,
    "this layer would run on the host",
    reason,
    "allow it (drop --no-host-fallback), or export the model without it",
  );
export const unknownOutputs = (names: readonly string[], known: readonly string[]): KilnError =>
  error(
    "K603",
    "unknown-output",
    names.map((name) => `"${name}"`).join(", "),
    "the engine has no such output",
    `its outputs are ${known.map((name) => `"${name}"`).join(", ")}`,
  );
export const wrongBuffer = (end: string, what: string, hint?: string): KilnError =>
  error("K613", "wrong-buffer", end, what, undefined, hint);
export const badImage = (place: string, what: string, hint?: string): KilnError =>
  error("K615", "bad-image", place, what, undefined, hint);
export const runRefused = (cause: string): KilnError =>
  error(
    "K614",
    "run-refused",
    "this run",
    "WebGPU refused its commands",
    cause.trim(),
    "buffers given to a run must be of the engine's device and live until it has ended; if none was given, please report this",
  );
export const badProfile = (profile: string, input: string, what: string, cause?: string): KilnError =>
  error("K612", "bad-profile", `${profile}, input "${input}"`, what, cause);
export const noSuchProfile = (profile: number, count: number): KilnError =>
  error("K612", "bad-profile", `profile ${profile}`, `the engine has ${count}, counted from 0`);
/** `done` of `total` kernels were chosen. */
export const interrupted = (done: number, total: number): KilnError =>
  error(
    "K613",
    "interrupted",
    "build",
    `stopped while measuring, after ${done} of ${total} kernels`,
    undefined,
    "what was measured is in the timing cache: the same build goes on from there",
  );

// --- K7xx: calibration ---------------------------------------------------------------------------------------------------

/** `sample`: its number, where it is known. */
export const notFinite = (tensor: string, sample?: number): KilnError =>
  error(
    "K701",
    "not-finite",
    `tensor "${tensor}"`,
    `it holds NaN or infinity${sample === undefined ? "" : ` for sample ${sample}`}`,
    undefined,
    "check the calibration data and its preprocessing; if the float network itself overflows there, keep this layer in float",
  );
export const noSamples = (place: string, hint?: string): KilnError =>
  error("K702", "no-samples", place, "there is no calibration data", undefined, hint);
export const badCache = (file: string, line: number, what: string): KilnError =>
  error("K703", "bad-calibration-cache", `${file} line ${line}`, what, undefined, "delete the file and calibrate again");
const listed = (names: readonly string[]): string =>
  `${names
    .slice(0, 8)
    .map((name) => `"${name}"`)
    .join(", ")}${names.length > 8 ? ` and ${names.length - 8} more` : ""}`;
/** `missing`: tensors of the network without a scale; `foreign`: scales of tensors that the network does not have. */
export const cacheMismatch = (missing: readonly string[], foreign: readonly string[]): KilnError =>
  error(
    "K704",
    "cache-mismatch",
    "calibration cache",
    "it is of another network",
    [
      ...(missing.length > 0 ? [`no scale for ${listed(missing)}`] : []),
      ...(foreign.length > 0 ? [`scales for ${listed(foreign)}, which this network does not have`] : []),
    ].join("\n"),
    "calibrate this network: delete the cache, or name another",
  );
export const badDataset = (place: string, what: string, hint?: string): KilnError =>
  error("K705", "bad-dataset", place, what, undefined, hint);
export const badState = (file: string, what: string): KilnError =>
  error("K706", "bad-calibration-state", file, what, undefined, "delete the file to begin anew");
export const badScale = (node: { name: string; op: string }, scale: string, element: number, value: number): KilnError =>
  error(
    "K708",
    "bad-scale",
    `${node.op} "${node.name}"`,
    `element ${element} of its scale "${scale}" is ${value}`,
    "a scale is a finite number, and that of a quantization not 0",
    "calibrate and export the model again",
  );
export const badCalibrator = (name: string, known: readonly string[]): KilnError =>
  error("K707", "bad-calibrator", `"${name}"`, "there is no such calibrator", undefined, `expected: ${known.join(", ")}`);

// --- K62x: ONNX Runtime's API ---------------------------------------------------------------------------------------------

export const unsupportedLocation = (place: string, location: string): KilnError =>
  error(
    "K620",
    "tensor-location",
    place,
    `its location "${location}" is not supported`,
    undefined,
    'use "cpu" or "gpu-buffer"',
  );
export const fetchMismatch = (output: string, given: string, result: string): KilnError =>
  error(
    "K621",
    "fetch-mismatch",
    `output "${output}"`,
    `the tensor given for it is ${given}, the result is ${result}`,
    undefined,
    "give a tensor of the result's type and shape, or null",
  );
export const badSessionOption = (option: string, what: string, expected: string): KilnError =>
  error("K622", "bad-session-option", option, what, undefined, `expected: ${expected}`);
