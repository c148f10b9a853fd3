// Tensors in host memory: constants, inputs and outputs. The element types' natural typed arrays; f16 and bf16 as bits.

import { fromBfloat, fromHalf, toBfloat, toHalf } from "../util/f16.ts";
import { type DType, dtypeFacts } from "./types.ts";

export type TypedArray =
  | Float32Array
  | Float64Array
  | Int8Array
  | Uint8Array
  | Int16Array
  | Uint16Array
  | Int32Array
  | Uint32Array
  | BigInt64Array
  | BigUint64Array;

/** Row-major tensor in host memory. `data.length` is the product of `shape`. */
export interface Tensor {
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly data: TypedArray;
}

const ARRAYS = {
  f32: Float32Array,
  f64: Float64Array,
  f16: Uint16Array,
  bf16: Uint16Array,
  i8: Int8Array,
  u8: Uint8Array,
  i16: Int16Array,
  u16: Uint16Array,
  i32: Int32Array,
  u32: Uint32Array,
  i64: BigInt64Array,
  u64: BigUint64Array,
  bool: Uint8Array,
} as const;

export const sizeOf = (shape: readonly number[]): number => shape.reduce((total, dim) => total * dim, 1);

/** A zeroed array for `length` elements. */
export const allocate = (dtype: DType, length: number): TypedArray => new ARRAYS[dtype](length);

/** A view of bytes as the type's array; copies when `bytes` is not aligned to the element. */
export function arrayOfBytes(dtype: DType, bytes: Uint8Array): TypedArray {
  const { bytes: width } = dtypeFacts[dtype];
  const aligned = bytes.byteOffset % width === 0 ? bytes : new Uint8Array(bytes);
  return new ARRAYS[dtype](aligned.buffer as ArrayBuffer, aligned.byteOffset, Math.floor(aligned.byteLength / width));
}

/** The bytes of a typed array, without a copy. */
export const bytesOfArray = ({ buffer, byteOffset, byteLength }: TypedArray): Uint8Array =>
  new Uint8Array(buffer, byteOffset, byteLength);

/** A function that reads element i as a number (64-bit integers beyond 2^53 round). */
export function reader({ dtype, data }: Pick<Tensor, "dtype" | "data">): (i: number) => number {
  if (dtype === "f16") return (i) => fromHalf(data[i] as number);
  if (dtype === "bf16") return (i) => fromBfloat(data[i] as number);
  if (dtype === "i64" || dtype === "u64") return (i) => Number(data[i]);
  const numbers = data as Float32Array;
  return (i) => numbers[i]!;
}

/** A function that stores a number as element i: rounds to the type, wraps integers, saturates 64-bit ones. */
export function writer({ dtype, data }: Pick<Tensor, "dtype" | "data">): (i: number, value: number) => void {
  const numbers = data as Float32Array;
  if (dtype === "f16")
    return (i, value) => {
      numbers[i] = toHalf(value);
    };
  if (dtype === "bf16")
    return (i, value) => {
      numbers[i] = toBfloat(value);
    };
  if (dtype === "bool")
    return (i, value) => {
      numbers[i] = value ? 1 : 0;
    };
  if (dtype === "i64" || dtype === "u64") {
    const big = data as BigInt64Array;
    const [low, high] = dtype === "i64" ? [-(2 ** 63), 2 ** 63] : [0, 2 ** 64];
    return (i, value) => {
      const whole = Number.isNaN(value) ? 0 : Math.trunc(value);
      big[i] = whole >= high ? (dtype === "i64" ? 2n ** 63n - 1n : 2n ** 64n - 1n) : BigInt(Math.max(low, whole));
    };
  }
  return (i, value) => {
    numbers[i] = value;
  };
}

/** A tensor from plain numbers. */
export function tensor(dtype: DType, shape: readonly number[], values: ArrayLike<number>): Tensor {
  const result: Tensor = { dtype, shape, data: allocate(dtype, values.length) };
  const write = writer(result);
  for (let i = 0; i < values.length; i++) write(i, values[i]!);
  return result;
}

/** All elements as numbers. */
export function numbersOf(source: Tensor): number[] {
  const read = reader(source);
  return Array.from({ length: source.data.length }, (_, i) => read(i));
}

export const scalarTensor = (dtype: DType, value: number): Tensor => tensor(dtype, [], [value]);
