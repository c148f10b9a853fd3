// Opens what a command is given, an engine file or a model, as an engine on this machine's device.

import type { BuildOptions, Stage } from "../builder.ts";
import type { Engine } from "../engine/engine.ts";
import type { Device } from "../gpu/device.ts";
import { decodeModel, encodeModel } from "../importer/proto.ts";
import {
  Builder,
  loadTimingCache,
  type NodeDeviceOptions,
  openNodeDevice,
  Runtime,
  readBeside,
  saveTimingCache,
} from "../node.ts";
import { badFlag, cannotWrite } from "../util/errors.ts";
import { type BuildFlags, buildOptionsOf } from "./build-flags.ts";
import { dumpKernels, dumpStages } from "./dump.ts";
import { readBytes } from "./files.ts";
import { plural, remark } from "./print.ts";
import { showProgress } from "./progress.ts";
import { randomizeWeights } from "./random-weights.ts";

/** A file read, not compiled yet. */
export interface NetworkFile {
  readonly file: string;
  readonly kind: "engine" | "onnx";
  readonly bytes: Uint8Array;
}

/** Reads an engine or a model. Errors: K003. */
export function readNetwork(file: string, flags: Pick<BuildFlags, "randomWeights"> = {}): NetworkFile {
  const bytes = readBytes(file, "engine or model");
  const kind = bytes[0] === 0x4b && bytes[1] === 0x49 && bytes[2] === 0x4c && bytes[3] === 0x4e ? "engine" : "onnx";
  if (kind === "engine" || flags.randomWeights === undefined) return { file, kind, bytes };
  return { file, kind, bytes: encodeModel(randomizeWeights(decodeModel(bytes, file), flags.randomWeights, readBeside(file))) };
}

/** Runs `work` on a device of its own. */
export async function withDevice<T>(work: (device: Device) => Promise<T>, options: NodeDeviceOptions = {}): Promise<T> {
  const device = await openNodeDevice(options);
  try {
    return await work(device);
  } finally {
    device.destroy();
  }
}

/** Loads an engine file, or compiles a model and says which layers run on the host. `level`: where no flag says another. */
export async function openEngine(device: Device, network: NetworkFile, flags: BuildFlags, level: number): Promise<Engine> {
  if (network.kind === "engine")
    return (await Runtime.create(device, { onWarning: remark })).deserialize(network.bytes, network.file);
  const engine = await compile(device, network, flags, level);
  if (!engine) throw badFlag(`--until ${flags.until}`, "this command needs the whole engine", "--until with kiln build");
  reportHostLayers(engine);
  return engine;
}

class Stopped extends Error {}

/** Compiles a model as the flags say; undefined when it stopped at --until. `changes` override the flags. */
export async function compile(
  device: Device,
  network: NetworkFile,
  flags: BuildFlags,
  level: number,
  changes: BuildOptions = {},
): Promise<Engine | undefined> {
  const engine = await building(network, flags, level, (options) =>
    new Builder(device).build(network.bytes, { ...options, ...changes }),
  );
  if (engine && flags.dump !== undefined) dumpKernels(flags.dump, engine);
  return engine;
}

/** What `build` makes with the flags' options; shows progress, keeps the timing cache. Undefined when it stopped at --until. */
export async function building<T>(
  { file, bytes }: NetworkFile,
  flags: BuildFlags,
  level: number,
  build: (options: BuildOptions) => Promise<T>,
): Promise<T | undefined> {
  const timingCache = flags.timingCacheFile === undefined ? undefined : loadTimingCache(flags.timingCacheFile, remark);
  const progress = showProgress(flags.quiet ?? false);
  // The first Ctrl-C ends measuring and keeps what was measured; a second one ends the process.
  const interrupt = new AbortController();
  const onInterrupt = (): void => interrupt.abort();
  process.once("SIGINT", onInterrupt);
  const dump = flags.dump === undefined ? undefined : dumpStages(flags.dump);
  const onStage = (stage: Stage, form: Parameters<NonNullable<BuildOptions["onStage"]>>[1]): void => {
    dump?.(stage, form);
    if (stage === flags.until) throw new Stopped();
  };
  try {
    const options = buildOptionsOf(flags, file, decodeModel(bytes, file), level);
    return await build({
      ...options,
      ...(timingCache ? { timingCache } : {}),
      signal: interrupt.signal,
      onStage,
      onProgress: progress.report,
    });
  } catch (failure) {
    if (failure instanceof Stopped) return undefined;
    throw failure;
  } finally {
    process.off("SIGINT", onInterrupt);
    progress.stop();
    if (timingCache && flags.timingCacheFile !== undefined) saveCache(timingCache, flags.timingCacheFile);
  }
}

function saveCache(cache: Parameters<typeof saveTimingCache>[0], file: string): void {
  try {
    saveTimingCache(cache, file);
  } catch (failure) {
    throw cannotWrite(file, (failure as Error).message);
  }
}

/** One line a host layer, with its reason. */
export function reportHostLayers({ plan }: Pick<Engine, "plan">, say: (line: string) => void = remark): void {
  for (const { node, op, reason } of plan.hostLayers) say(`host layer ${op} "${node}": ${reason}`);
  for (const note of plan.notes) say(`note: ${note}`);
}

/** "34 kernels, no host layer". */
export const engineSummary = (engine: Engine): string => {
  const { kernels, hostLayers } = engine.describe();
  return `${plural(kernels.length, "kernel")}, ${hostLayers.length === 0 ? "no host layer" : plural(hostLayers.length, "host layer")}`;
};
