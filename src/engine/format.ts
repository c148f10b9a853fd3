// The .engine file. Little-endian; the first 64 bytes keep this layout in every version of the format:
//    0  "KILN"            8  length of the file (u64)      32  length of the manifest (u64)
//    4  format (u32)     16  checksum of all before W      40  version of the compiler (text)
// Then the manifest (plan, fingerprint and the weights' digest as JSON) and, from the next multiple of 256 (W) to the end, the weights.

import { compare, deviceName, type Fingerprint } from "../gpu/fingerprint.ts";
import { coreCaps, coreLimits, type LimitName, limitNames } from "../util/caps.ts";
import {
  damagedEngine,
  invalidPlan,
  notEngine,
  otherDevice,
  truncatedEngine,
  wrongEngineVersion,
  wrongWeights,
} from "../util/errors.ts";
import { Hasher } from "../util/hash.ts";
import { VERSION } from "../util/version.ts";
import { checkManifest } from "./check-manifest.ts";
import type { Plan } from "./plan.ts";

export interface Manifest {
  readonly plan: Plan;
  /** The device that it was built for. */
  readonly fingerprint: Fingerprint;
  /** Their length and what `digestOf` says of them. They lie behind the manifest or, of a stripped engine, elsewhere. */
  readonly weights: { readonly bytes: number; readonly digest: string };
}
export interface Header {
  /** Of the file. */
  readonly length: number;
  readonly manifestBytes: number;
  /** Where the weights begin, at most `length`. */
  readonly weightsAt: number;
}

/** Rises whenever an engine that older readers accept would not run there as meant. */
const FORMAT = 2;
const MAGIC = "KILN";
export const HEADER_BYTES = 64;
const CHECKSUM = { at: 16, bytes: 16 } as const;
const COMPILER = { at: 40, bytes: 24 } as const;
const ALIGNMENT = 256;

const weightsAt = (manifestBytes: number): number => Math.ceil((HEADER_BYTES + manifestBytes) / ALIGNMENT) * ALIGNMENT;

/**
 * The file for a plan and its weights, whose digest is that of `digestOf`, built for the device of `fingerprint`. Equal arguments
 * give equal bytes. `stripped`: without the weights.
 */
export function serialize(
  plan: Plan,
  weights: Uint8Array,
  digest: string,
  fingerprint: Fingerprint,
  stripped = false,
): Uint8Array<ArrayBuffer> {
  const text = new TextEncoder();
  const parts: Manifest = { fingerprint, plan, weights: { bytes: weights.length, digest } };
  const manifest = text.encode(JSON.stringify(parts, writeNumber));
  const at = weightsAt(manifest.length);
  const file = new Uint8Array(at + (stripped ? 0 : weights.length));
  const header = new DataView(file.buffer);
  text.encodeInto(MAGIC, file);
  header.setUint32(4, FORMAT, true);
  header.setBigUint64(8, BigInt(file.length), true);
  header.setBigUint64(32, BigInt(manifest.length), true);
  text.encodeInto(VERSION, file.subarray(COMPILER.at, COMPILER.at + COMPILER.bytes));
  file.set(manifest, HEADER_BYTES);
  if (!stripped) file.set(weights, at);
  file.set(checksumOf(file.subarray(0, at)), CHECKSUM.at);
  return file;
}

/** The header of a file that is there in all its length. Errors: K501–K503. */
export function wholeHeader(bytes: Uint8Array, file: string): Header {
  const header = readHeader(bytes, file);
  if (bytes.length < header.length) throw truncatedEngine(file, bytes.length, header.length);
  if (bytes.length > header.length)
    throw damagedEngine(file, `it holds ${bytes.length} bytes, its header says ${header.length}`);
  return header;
}

/** The first 64 bytes. Errors: K501, K502. */
export function readHeader(bytes: Uint8Array, file: string): Header {
  checkMagic(bytes, file);
  if (bytes.length < HEADER_BYTES) throw truncatedEngine(file, bytes.length, HEADER_BYTES);
  const header = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const [length, manifestBytes] = [8, 32].map((at) => Number(header.getBigUint64(at, true))) as [number, number];
  return {
    length,
    manifestBytes,
    weightsAt: Math.min(weightsAt(manifestBytes), length),
  };
}

/**
 * Checks all that comes before the weights, and reads it: `bytes` hold it, and perhaps more. `file` names it in errors.
 * Errors, in the order of the checks: K503 damaged, K504 format or compiler too new or old, K506 a plan that points nowhere.
 */
export function readManifest(bytes: Uint8Array, header: Header, file: string): Manifest {
  const sum = checksumOf(bytes.subarray(0, header.weightsAt));
  if (sum.some((byte, i) => byte !== bytes[CHECKSUM.at + i])) throw mismatched(file);
  checkVersions(bytes, file);
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(
      bytes.subarray(HEADER_BYTES, Math.min(HEADER_BYTES + header.manifestBytes, header.weightsAt)),
    );
    return checkManifest(JSON.parse(text, readNumber) as unknown);
  } catch (cause) {
    throw invalidPlan(file, cause instanceof Error ? cause.message : String(cause));
  }
}

/** An engine's weights: those in its file or, of a stripped one, those `given`. Error K507 where they are missing or of another length. */
export function weightsOf(
  { weights: { bytes } }: Manifest,
  inFile: Uint8Array,
  given: Uint8Array | undefined,
  file: string,
): Uint8Array {
  if (inFile.length === bytes) return inFile;
  if (!given) throw wrongWeights(file, "its weights lie elsewhere, and were not given");
  if (given.length !== bytes) throw wrongWeights(file, `it needs ${bytes} bytes of weights, ${given.length} were given`);
  return given;
}

/** For weights whose digest is another than the manifest's: K507 where they were `given`, K503 where they are the file's. */
export const otherWeights = (file: string, given: boolean): Error =>
  given ? wrongWeights(file, "the weights given are those of another engine") : mismatched(file);

const mismatched = (file: string): Error => damagedEngine(file, "its checksum does not match its contents");

/**
 * Whether an engine built for one device may run on another: warnings for people when it may (other versions of the driver),
 * error K505 when not. An engine that needs nothing beyond WebGPU's core runs anywhere.
 */
export function checkDevice(built: Fingerprint, here: Fingerprint, file = "engine"): readonly string[] {
  if (isPortable(built)) return [];
  const comparison = compare(built, here);
  switch (comparison.verdict) {
    case "same":
      return [];
    case "driver":
      return comparison.differences.map(
        (difference) => `${file}: ${difference}: it may run slower than it could, build it again to tune it`,
      );
    case "different":
      throw otherDevice(file, deviceName(built), deviceName(here), comparison.differences);
  }
}

/** True when what was built has kept to WebGPU's core: no features, and no more of any limit than every device has. */
function isPortable({ features, matrix, dot4, subgroupMaxSize, limits }: Fingerprint): boolean {
  const within = (name: LimitName): boolean =>
    name.startsWith("min") ? limits[name] >= coreLimits[name] : limits[name] <= coreLimits[name];
  return (
    features.length === 0 &&
    matrix.length === 0 &&
    dot4 === coreCaps.dot4 &&
    subgroupMaxSize === coreCaps.subgroupMaxSize &&
    limitNames.every(within)
  );
}

// --- checks --------------------------------------------------------------------------------------------------------------

const latin = (bytes: Uint8Array): string => String.fromCharCode(...bytes);

/** First bytes of files that are given by mistake, what they are, and what to do. */
const OTHERS: readonly (readonly [string, string, string?])[] = [
  ["\x89PNG", "it begins like a PNG picture"],
  ["\xff\xd8\xff", "it begins like a JPEG picture"],
  ["PK\x03\x04", "it begins like a zip archive"],
  ["\x1f\x8b", "it begins like a gzip archive", "unpack it first"],
  ["version https://git-lfs", "it is a Git LFS pointer, not the file itself", "fetch the file: git lfs pull"],
  ["{", "it begins like JSON text"],
  ["<", "it begins like a web page or XML", "the download may have failed: fetch the file again"],
];

function checkMagic(bytes: Uint8Array, file: string): void {
  if (bytes.length === 0) throw notEngine(file, "it is empty");
  const start = latin(bytes.subarray(0, 32));
  if (start.startsWith(MAGIC) || (bytes.length < MAGIC.length && MAGIC.startsWith(start))) return;
  if (isOnnx(bytes)) throw notEngine(file, "this is an ONNX file", "run `kiln build` on it");
  const [, looksLike, hint] = OTHERS.find(([signature]) => start.trimStart().startsWith(signature)) ?? [];
  throw notEngine(file, looksLike ?? `it does not begin with "${MAGIC}"`, hint);
}

/** A ModelProto as exporters write it: ir_version, then the tag of another of its fields. */
const isOnnx = ([first, version, next]: Uint8Array): boolean =>
  first === 8 && version! <= 32 && [0x12, 0x1a, 0x22, 0x28, 0x32, 0x3a, 0x42].includes(next!);

/** Error K504 for a header of a format or compiler that is not this one's. */
function checkVersions(bytes: Uint8Array, file: string): void {
  const format = new DataView(bytes.buffer, bytes.byteOffset).getUint32(4, true);
  const compiler = latin(bytes.subarray(COMPILER.at, COMPILER.at + COMPILER.bytes)).replace(/\0+$/, "");
  if (format !== FORMAT) throw wrongEngineVersion(file, "format", String(format), String(FORMAT), format > FORMAT);
  const order = compareVersions(compiler, VERSION);
  if (order !== 0) throw wrongEngineVersion(file, "compiler", compiler, `${series(VERSION).join(".")}.x`, order > 0);
}

/** The numbers in which compatible versions agree: the major one, and before 1.0 the minor one too. */
const series = (version: string): readonly number[] => {
  const [major = 0, minor = 0] = version.split(".").map((part) => Number.parseInt(part, 10) || 0);
  return major === 0 ? [major, minor] : [major];
};

const compareVersions = (a: string, b: string): number => {
  const [left, right] = [series(a), series(b)];
  return left[0]! - right[0]! || (left[1] ?? 0) - (right[1] ?? 0);
};

/** Of all that comes before the weights, but its own place. */
function checksumOf(head: Uint8Array): Uint8Array {
  return new Hasher()
    .update(head.subarray(0, CHECKSUM.at))
    .update(head.subarray(CHECKSUM.at + CHECKSUM.bytes))
    .bytes();
}

// --- JSON with all numbers -----------------------------------------------------------------------------------------------

const writeNumber = (_key: string, value: unknown): unknown =>
  typeof value === "number" && (!Number.isFinite(value) || Object.is(value, -0))
    ? { number: Object.is(value, -0) ? "-0" : String(value) }
    : value;

const readNumber = (_key: string, value: unknown): unknown => {
  const { number } = (value ?? {}) as { number?: unknown };
  return typeof number === "string" && Object.keys(value as object).length === 1 ? Number(number) : value;
};
