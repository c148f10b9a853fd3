// Reads the values of command-line options. Everything here throws K001 for what it cannot read.

import { allocate, sizeOf, type Tensor, tensor } from "../ir/tensor.ts";
import { type DType, dtypeFacts } from "../ir/types.ts";
import { badFlag } from "../util/errors.ts";

/** "x:1x3,y:2" → pairs. The name ends at the last colon, for there are names like "input:0". */
function namedItems(flag: string, text: string, expected: string): (readonly [string, string])[] {
  return text.split(",").map((item) => {
    const colon = item.lastIndexOf(":");
    if (colon < 1) throw badFlag(`${flag} ${text}`, `"${item}" has no name`, expected);
    return [item.slice(0, colon), item.slice(colon + 1)] as const;
  });
}

/** "x:1x3x224x224,y:8": shapes by input; "x:" is a scalar. */
export function shapesOption(
  flag: string,
): (text: string, before?: Record<string, readonly number[]>) => Record<string, readonly number[]> {
  const expected = "name:1x3x224x224, several separated by commas";
  return (text, before = {}) => {
    const shapes = { ...before };
    for (const [name, dims] of namedItems(flag, text, expected)) {
      if (!/^(\d+(x\d+)*)?$/.test(dims)) throw badFlag(`${flag} ${text}`, `"${dims}" is no shape`, expected);
      shapes[name] = dims === "" ? [] : dims.split("x").map(Number);
    }
    return shapes;
  };
}

/** "x:in.npy,y:b.npy": files by input. */
export function filesOption(flag: string): (text: string, before?: Record<string, string>) => Record<string, string> {
  return (text, before = {}) => {
    const items = namedItems(flag, text, "name:file.npy, several separated by commas");
    for (const [name, file] of items)
      if (!file)
        throw badFlag(`${flag} ${text}`, `no file is given for "${name}"`, "name:file.npy, several separated by commas");
    return { ...before, ...Object.fromEntries(items) };
  };
}

/** "shape:1,2,3,axes:0": the words of each input; a piece with a colon begins the next. */
export function valuesOption(
  flag: string,
): (text: string, before?: Record<string, readonly string[]>) => Record<string, readonly string[]> {
  return (text, before = {}) => {
    const values: Record<string, string[]> = {};
    let current: string[] | undefined;
    for (const piece of text.split(",")) {
      const colon = piece.lastIndexOf(":");
      if (colon > 0) current = values[piece.slice(0, colon)] = [];
      if (!current) throw badFlag(`${flag} ${text}`, `"${piece}" has no name`, "name:1,2,3");
      const word = piece.slice(colon + 1);
      if (word !== "") current.push(word);
    }
    return { ...before, ...values };
  };
}

/** A tensor from the words of `valuesOption`, in the type and rank that the model declares for the input. */
export function tensorOfWords(
  flag: string,
  name: string,
  words: readonly string[],
  dtype: DType,
  declared: readonly (number | string)[],
): Tensor {
  const place = `${flag} ${name}:${words.join(",")}`;
  const known = declared.filter((dim) => typeof dim === "number");
  const free = declared.length - known.length;
  const fixed = sizeOf(known);
  if (free > 1 || (free === 0 ? fixed !== words.length : fixed === 0 || words.length % fixed !== 0))
    throw badFlag(place, `${words.length} values do not fill shape [${declared.join(", ")}]`);
  const shape = declared.map((dim) => (typeof dim === "number" ? dim : words.length / fixed));
  const bad = words.find(
    (word) =>
      !(
        dtypeFacts[dtype].kind === "bool"
          ? /^(true|false|[01])$/
          : dtypeFacts[dtype].kind === "int"
            ? /^-?\d+$/
            : /^-?(\d|\.\d|inf|nan)/i
      ).test(word),
  );
  if (bad !== undefined) throw badFlag(place, `"${bad}" is no ${dtypeFacts[dtype].onnxName}`);
  if (dtype === "i64" || dtype === "u64") {
    const data = allocate(dtype, words.length) as BigInt64Array;
    words.forEach((word, i) => {
      data[i] = BigInt(word);
    });
    return { dtype, shape, data };
  }
  return tensor(
    dtype,
    shape,
    words.map((word) => (word === "true" ? 1 : word === "false" ? 0 : Number(word.replace(/inf.*/i, "Infinity")))),
  );
}

/** A number in [min, max]. */
export function numberOption(
  flag: string,
  min: number,
  max = Number.POSITIVE_INFINITY,
  whole = false,
): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (text.trim() === "" || !(value >= min && value <= max) || (whole && !Number.isInteger(value))) {
      const range = max === Number.POSITIVE_INFINITY ? `of at least ${min}` : `from ${min} to ${max}`;
      throw badFlag(`${flag} ${text}`, "this value cannot be used", `a ${whole ? "whole number" : "number"} ${range}`);
    }
    return value;
  };
}

/** Adds each "a,b" to the list. */
export const listOption = (text: string, before: readonly string[] = []): readonly string[] => [
  ...before,
  ...text.split(",").filter(Boolean),
];

/** One of a list of words. */
export function choiceOption<T extends string>(flag: string, words: readonly T[]): (text: string) => T {
  return (text) => {
    const word = words.find((candidate) => candidate === text);
    if (!word) throw badFlag(`${flag} ${text}`, "there is no such choice", words.join(", "));
    return word;
  };
}
