// The .engine file. Little-endian; the first 64 bytes keep this layout in every version of the format:
//    0  "KILN"            8  length of the file (u64)      32  length of the manifest (u64)
//    4  format (u32)     16  checksum of all else          40  version of the compiler (text)
// Then the manifest (plan and fingerprint as JSON) and, from the next multiple of 256 to the end, the weights.

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
import { Hasher, hash } from "../util/hash.ts";
import { turnOfOthers } from "../util/turn.ts";
import { VERSION } from "../util/version.ts";
import { checkManifest } from "./check-manifest.ts";
import type { Plan } from "./plan.ts";

export interface EngineFile extends Manifest {
  /** A view of the file's bytes, or what was given for a stripped engine. */
  readonly weights: Uint8Array;
}
export interface Manifest {
  readonly plan: Plan;
  /** The device that it was built for. */
  readonly fingerprint: Fingerprint;
  /** Of an engine whose weights lie elsewhere: their length and hash. */
  readonly stripped?: { readonly bytes: number; readonly hash: string };
}
export interface Header {
  /** Of the file. */
  readonly length: number;
  readonly manifestBytes: number;
  /** Where the weights begin. */
  readonly weightsAt: number;
  readonly checksum: Uint8Array;
}

/** Rises whenever an engine that older readers accept would not run there as meant. */
const FORMAT = 1;
const MAGIC = "KILN";
export const HEADER_BYTES = 64;
export const CHECKSUM = { at: 16, bytes: 16 } as const;
const COMPILER = { at: 40, bytes: 24 } as const;
const ALIGNMENT = 256;

const weightsAt = (manifestBytes: number): number => Math.ceil((HEADER_BYTES + manifestBytes) / ALIGNMENT) * ALIGNMENT;

/**
 * The file for a plan and its weights, built for the device of `fingerprint`. Equal arguments give equal bytes. `stripped`: without
 * the weights, whose hash it carries.
 */
export function serialize(
  plan: Plan,
  weights: Uint8Array,
  fingerprint: Fingerprint,
  stripped = false,
): Uint8Array<ArrayBuffer> {
  const text = new TextEncoder();
  const apart = stripped ? { stripped: { bytes: weights.length, hash: hash(weights) } } : {};
  const manifest = text.encode(JSON.stringify({ fingerprint, plan, ...apart }, writeNumber));
  const file = new Uint8Array(weightsAt(manifest.length) + (stripped ? 0 : weights.length));
  const header = new DataView(file.buffer);
  text.encodeInto(MAGIC, file);
  header.setUint32(4, FORMAT, true);
  header.setBigUint64(8, BigInt(file.length), true);
  header.setBigUint64(32, BigInt(manifest.length), true);
  text.encodeInto(VERSION, file.subarray(COMPILER.at, COMPILER.at + COMPILER.bytes));
  file.set(manifest, HEADER_BYTES);
  if (!stripped) file.set(weights, weightsAt(manifest.length));
  file.set(checksumOf(file), CHECKSUM.at);
  return file;
}

/**
 * Reads what `serialize` wrote; `file` names it in errors, `weights` are a stripped engine's. Errors, in the order of the checks:
 * K501 not an engine, K502 cut off, K503 damaged, K504 format or compiler too new or old, K506 a plan that points nowhere,
 * K507 weights that are missing or of another engine.
 */
export function parseEngine(bytes: Uint8Array, file = "engine", weights?: Uint8Array): EngineFile {
  const header = wholeHeader(bytes, file);
  checkSum(checksumOf(bytes), header.checksum, file);
  return parseUnsummed(bytes, header, file, weights);
}

/** The header of a file that is there in all its length. Errors: K501–K503. */
export function wholeHeader(bytes: Uint8Array, file: string): Header {
  const header = readHeader(bytes, file);
  if (bytes.length < header.length) throw truncatedEngine(file, bytes.length, header.length);
  if (bytes.length > header.length)
    throw damagedEngine(file, `it holds ${bytes.length} bytes, its header says ${header.length}`);
  return header;
}

/** What comes after the checksum. Errors: K504, K506, K507. */
export function parseUnsummed(bytes: Uint8Array, header: Header, file: string, weights?: Uint8Array): EngineFile {
  checkVersions(bytes, file);
  const at = header.weightsAt;
  const text = bytes.subarray(HEADER_BYTES, HEADER_BYTES + header.manifestBytes);
  const manifest = readManifest(text, Math.max(0, header.length - at), file);
  return { ...manifest, weights: checkWeights(manifest, weights, file) ?? bytes.subarray(at) };
}

const PIECE = 8 << 20;

/** What the checksum is of: everything but its own place; in pieces, none of which takes long. */
function* summedPieces(file: Uint8Array): Iterable<Uint8Array> {
  yield file.subarray(0, CHECKSUM.at);
  for (let at = CHECKSUM.at + CHECKSUM.bytes; at < file.length; at += PIECE) yield file.subarray(at, at + PIECE);
}

/** The first 64 bytes. Errors: K501, K502. */
export function readHeader(bytes: Uint8Array, file: string): Header {
  checkMagic(bytes, file);
  if (bytes.length < HEADER_BYTES) throw truncatedEngine(file, bytes.length, HEADER_BYTES);
  const header = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const manifestBytes = Number(header.getBigUint64(32, true));
  return {
    length: Number(header.getBigUint64(8, true)),
    manifestBytes,
    weightsAt: weightsAt(manifestBytes),
    checksum: bytes.slice(CHECKSUM.at, CHECKSUM.at + CHECKSUM.bytes),
  };
}

/** The manifest's text; `weightBytes`: of the file. Error K506. */
export function readManifest(bytes: Uint8Array, weightBytes: number, file: string): Manifest {
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    return checkManifest(JSON.parse(text, readNumber) as unknown, weightBytes);
  } catch (cause) {
    throw invalidPlan(file, cause instanceof Error ? cause.message : String(cause));
  }
}

/** The weights given for a stripped engine; undefined for one that has its own. Error K507. */
export function checkWeights({ stripped }: Manifest, given: Uint8Array | undefined, file: string): Uint8Array | undefined {
  if (!stripped) return undefined;
  if (!given) throw wrongWeights(file, "its weights lie elsewhere, and were not given");
  if (given.length !== stripped.bytes)
    throw wrongWeights(file, `it needs ${stripped.bytes} bytes of weights, ${given.length} were given`);
  if (hash(given) !== stripped.hash) throw wrongWeights(file, "the weights given are those of another engine");
  return given;
}

/** Error K503 unless both are the same. */
export function checkSum(found: Uint8Array, said: Uint8Array, file: string): void {
  if (found.some((byte, i) => byte !== said[i])) throw damagedEngine(file, "its checksum does not match its contents");
}

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
export function checkVersions(bytes: Uint8Array, file: string): void {
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

function checksumOf(file: Uint8Array): Uint8Array {
  const hasher = new Hasher();
  for (const piece of summedPieces(file)) hasher.update(piece);
  return bytesOfHash(hasher.digest());
}

/** The same, with rests in which other work goes on. */
export async function checksumInPieces(file: Uint8Array): Promise<Uint8Array> {
  const hasher = new Hasher();
  for (const piece of summedPieces(file)) {
    await turnOfOthers();
    hasher.update(piece);
  }
  return bytesOfHash(hasher.digest());
}

/** The 16 bytes that hex digits stand for. */
export const bytesOfHash = (digest: string): Uint8Array =>
  Uint8Array.from(digest.match(/../g)!, (pair) => Number.parseInt(pair, 16));

// --- JSON with all numbers -----------------------------------------------------------------------------------------------

const writeNumber = (_key: string, value: unknown): unknown =>
  typeof value === "number" && (!Number.isFinite(value) || Object.is(value, -0))
    ? { number: Object.is(value, -0) ? "-0" : String(value) }
    : value;

const readNumber = (_key: string, value: unknown): unknown => {
  const { number } = (value ?? {}) as { number?: unknown };
  return typeof number === "string" && Object.keys(value as object).length === 1 ? Number(number) : value;
};
