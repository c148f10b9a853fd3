// The words that the printer and the parser of graph text share: names, scopes, numbers and the digests of large tensors.

import { hash } from "../util/hash.ts";
import { allocate, reader, type Tensor, type TypedArray, writer } from "./tensor.ts";
import { DTYPES, isFloat } from "./types.ts";

/** Tensors by digest: what the text leaves out. */
export type TensorTable = Map<string, Tensor>;

/** Names that need no quotes; nor may they be one of WORDS. */
export const BARE = /^[A-Za-z_/][\w./#~-]*$/;
const WORDS: ReadonlySet<string> = new Set(["_", "graph", "input", "const", "output", "as", "from"]);
export const nameText = (name: string): string => (BARE.test(name) && !WORDS.has(name) ? name : JSON.stringify(name));

/** Names visible at a place: a graph's own, then those of the graphs around it. */
export class Scope<T> {
  readonly own = new Map<string, T>();
  constructor(readonly outer: Scope<T> | undefined) {}
  find(name: string): T | undefined {
    return this.own.get(name) ?? this.outer?.find(name);
  }
}

/** Names the tensor's type and bytes. */
export const digestOf = ({ dtype, data }: Tensor): string => hash(bytesOf(data), DTYPES.indexOf(dtype));
const bytesOf = (data: TypedArray): Uint8Array => new Uint8Array(data.buffer, data.byteOffset, data.byteLength);

/** The shortest decimal that `round` takes back to `x`. */
function shortest(x: number, round: (a: number) => number): string {
  if (Object.is(x, -0)) return "-0";
  for (let digits = 1; digits < 17; digits++) {
    const text = String(Number(x.toPrecision(digits)));
    if (round(Number(text)) === x) return text;
  }
  return String(x);
}
const SPECIAL: ReadonlyMap<number, string> = new Map([
  [Number.POSITIVE_INFINITY, "inf"],
  [Number.NEGATIVE_INFINITY, "-inf"],
  [Number.NaN, "nan"],
]);
export const numberOf = (text: string): number =>
  text === "inf"
    ? Number.POSITIVE_INFINITY
    : text === "-inf"
      ? Number.NEGATIVE_INFINITY
      : text === "nan"
        ? Number.NaN
        : Number(text);

/** A float attribute: always with a point or exponent; `f` says that it is the f32 nearest to the text. */
export function floatText(x: number): string {
  const special = SPECIAL.get(x);
  if (special) return special;
  const single = Object.is(Math.fround(x), x);
  const text = single ? shortest(x, Math.fround) : String(x);
  const pointed = /[.e]/.test(text) ? text : `${text}.0`;
  return Number(text) === x || !single ? pointed : `${pointed}f`;
}

/** All elements as text, a scalar without brackets; undefined when that would lose bits (NaN payloads). */
export function elementsText(tensor: Tensor): string | undefined {
  const { dtype, data, shape } = tensor;
  const back: Tensor = { dtype, shape, data: allocate(dtype, data.length) };
  const [read, write] = [reader(tensor), writer(back)];
  const rounded: Tensor = { dtype, shape: [], data: allocate(dtype, 1) };
  const [readRounded, writeRounded] = [reader(rounded), writer(rounded)];
  const round = (x: number): number => {
    writeRounded(0, x);
    return readRounded(0);
  };
  const items = Array.from({ length: data.length }, (_, i) => {
    if (dtype === "i64" || dtype === "u64") return String(data[i]);
    return (
      SPECIAL.get(read(i)) ??
      (dtype === "bool" ? String(data[i] !== 0) : isFloat(dtype) ? shortest(read(i), round) : String(read(i)))
    );
  });
  items.forEach((text, i) => storeElement(back, i, text, write));
  const [a, b] = [bytesOf(data), bytesOf(back.data)];
  if (!a.every((byte, i) => byte === b[i])) return undefined;
  return shape.length === 0 ? items[0] : `[${items.join(", ")}]`;
}

/** Stores what `elementsText` wrote for one element; `write` is the tensor's writer. */
export function storeElement(tensor: Tensor, i: number, text: string, write: (i: number, value: number) => void): void {
  if (tensor.dtype === "i64" || tensor.dtype === "u64") (tensor.data as BigInt64Array)[i] = BigInt(text);
  else write(i, tensor.dtype === "bool" ? Number(text === "true") : numberOf(text));
}
