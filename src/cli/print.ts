// How commands show things: columns, sizes, shapes, tensors.

import { parseDim, symbolsOf } from "../ir/dims.ts";
import { reader, type Tensor } from "../ir/tensor.ts";

/** Rows with their columns aligned: the first to the left, the others as `left` says (right unless listed). */
export function columns(rows: readonly (readonly string[])[], left: readonly number[] = [0]): string {
  const widths: number[] = [];
  for (const row of rows)
    row.forEach((cell, i) => {
      widths[i] = Math.max(widths[i] ?? 0, cell.length);
    });
  return rows
    .map((row) =>
      row
        .map((cell, i) => (left.includes(i) ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!)))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

/** "1.5 MB": powers of 1000, three digits. */
export function bytesText(bytes: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  const unit = Math.min(units.length - 1, bytes < 1000 ? 0 : Math.floor(Math.log10(bytes) / 3));
  return `${unit === 0 ? bytes : (bytes / 1000 ** unit).toPrecision(3)} ${units[unit]}`;
}

/** Longer formulas are named by what they depend on. */
const MAX_FORMULA = 60;

/** An amount of bytes that may be a formula of free sizes. */
export function amountText(amount: number | string): string {
  if (typeof amount === "number") return bytesText(amount);
  return amount.length <= MAX_FORMULA ? `${amount} bytes` : `by ${[...symbolsOf(parseDim(amount))].join(", ")}`;
}

/** A small number with four significant digits, large exponents in e-notation. */
export const numberText = (value: number): string =>
  Number.isInteger(value) && Math.abs(value) < 1e6
    ? String(value)
    : Math.abs(value) >= 1e-3 && Math.abs(value) < 1e6
      ? String(Number(value.toPrecision(4)))
      : value.toExponential(2);

export const millisecondsText = (ms: number): string => (ms < 10 ? ms.toFixed(3) : ms < 1000 ? ms.toFixed(2) : ms.toFixed(0));

export const plural = (count: number, noun: string): string => `${count} ${noun}${count === 1 ? "" : "s"}`;

/** "f32[1, 10]". */
export const tensorType = ({
  dtype,
  shape,
}: {
  readonly dtype: string;
  readonly shape: readonly (number | string)[];
}): string => `${dtype}[${shape.join(", ")}]`;

/** Range, mean and the first elements of a tensor, in words. */
export function summarize(tensor: Tensor): string {
  const read = reader(tensor);
  const { length } = tensor.data;
  if (length === 0) return "empty";
  let [min, max, sum, nans] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 0, 0];
  for (let i = 0; i < length; i++) {
    const value = read(i);
    if (Number.isNaN(value)) nans++;
    else [min, max, sum] = [Math.min(min, value), Math.max(max, value), sum + value];
  }
  const first = Array.from({ length: Math.min(6, length) }, (_, i) => numberText(read(i)));
  const range =
    nans === length ? "" : `min ${numberText(min)}  max ${numberText(max)}  mean ${numberText(sum / (length - nans))}  `;
  return `${range}${nans > 0 ? `${nans} NaN  ` : ""}[${first.join(", ")}${length > 6 ? ", …" : ""}]`;
}

/** Elements for JSON: 64-bit integers beyond 2^53 as text, NaN and infinities as text. */
export function jsonElements(tensor: Tensor): readonly (number | string | boolean)[] {
  const read = reader(tensor);
  return Array.from({ length: tensor.data.length }, (_, i) => {
    const element = tensor.data[i]!;
    if (tensor.dtype === "bool") return element !== 0;
    const value = read(i);
    if (typeof element === "bigint" && !Number.isSafeInteger(value)) return String(element);
    return Number.isFinite(value) ? value : String(value);
  });
}

export const say = (line = ""): void => {
  process.stdout.write(`${line}\n`);
};
/** For people, beside the result: warnings and notes. */
export const remark = (line: string): void => {
  process.stderr.write(`${line}\n`);
};
