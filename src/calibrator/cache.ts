// The calibration cache: scales by tensor, in the text form that TensorRT writes. The first line names the writer, its
// version and the algorithm; then a line a tensor, `name: <big-endian hex of the float32 scale>`.

import { badCache, cacheMismatch } from "../util/errors.ts";
import { VERSION } from "../util/version.ts";

export interface CalibrationCache {
  /** "EntropyCalibration2" and the like. */
  readonly algorithm: string;
  /** Finite and above 0. */
  readonly scales: ReadonlyMap<string, number>;
}

const HEADER = /^[\w.]+-[\w.]+-([\w.]+)$/;
/** Names that would not read back are written as JSON. */
const UNSAFE = /[\r\n]|^"|^\s|\s$/;

export function writeCache({ algorithm, scales }: CalibrationCache): string {
  const lines = [...scales].map(([name, scale]) => `${UNSAFE.test(name) ? JSON.stringify(name) : name}: ${hexOf(scale)}`);
  return `${[`Kiln-${VERSION}-${algorithm}`, ...lines].join("\n")}\n`;
}

/** Reads a cache, TensorRT's too. `file` names it in errors: K703 for text that is none and for scales that cannot be. */
export function parseCache(text: string, file: string): CalibrationCache {
  const [first = "", ...lines] = text.split(/\r?\n/);
  const algorithm = HEADER.exec(first)?.[1];
  if (!algorithm) throw badCache(file, 1, `"${first.slice(0, 60)}" is no cache's first line`);
  const scales = new Map<string, number>();
  lines.forEach((line, i) => {
    if (line.trim() === "") return;
    const colon = line.lastIndexOf(": ");
    const hex = line.slice(colon + 2).trim();
    if (colon < 1 || !/^[0-9a-fA-F]{1,8}$/.test(hex))
      throw badCache(file, i + 2, `"${line.slice(0, 60)}" is not "name: scale"`);
    const name = nameOf(line.slice(0, colon));
    const scale = scaleOfHex(hex);
    if (!Number.isFinite(scale) || scale <= 0) throw badCache(file, i + 2, `the scale of "${name}" is ${scale}`);
    if (scales.has(name)) throw badCache(file, i + 2, `"${name}" has two scales`);
    scales.set(name, scale);
  });
  return { algorithm, scales };
}

/**
 * Checks that a cache is of this network: it has a scale for every tensor `needed`, and names only tensors that are `known`.
 * Error K704, which names those that do not fit.
 */
export function checkCache({ scales }: CalibrationCache, needed: Iterable<string>, known: ReadonlySet<string>): void {
  const missing = [...needed].filter((name) => !scales.has(name));
  const foreign = [...scales.keys()].filter((name) => !known.has(name));
  if (missing.length > 0 || foreign.length > 0) throw cacheMismatch(missing, foreign);
}

function nameOf(text: string): string {
  try {
    return text.startsWith('"') ? String(JSON.parse(text)) : text;
  } catch {
    return text;
  }
}

const view = new DataView(new ArrayBuffer(4));

function hexOf(scale: number): string {
  view.setFloat32(0, scale);
  return view.getUint32(0).toString(16).padStart(8, "0");
}

function scaleOfHex(hex: string): number {
  view.setUint32(0, Number.parseInt(hex, 16));
  return view.getFloat32(0);
}
