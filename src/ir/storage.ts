// How a value's elements lie in a GPU buffer, and how they get there from the host's arrays and back. 64-bit integers narrow
// to 32 bits and are checked; f64 and bf16 are f32; f16 is f16 where the device has it; narrow integers are packed.

import { valueTooLarge } from "../util/errors.ts";
import { add, type Dim, floorDiv, mul, product } from "./dims.ts";
import { allocate, reader, sizeOf, type Tensor, type TypedArray, writer } from "./tensor.ts";
import { type DType, dtypeFacts } from "./types.ts";

/** One element an array item, or `lanes` elements in each u32. */
export interface Storage {
  readonly item: "f32" | "f16" | "i32" | "u32";
  readonly lanes: 1 | 2 | 4;
}

export function storageOf(
  value: { readonly dtype: DType; readonly wide?: boolean | undefined },
  caps: { readonly f16: boolean },
): Storage {
  const { scalar, bytes } = dtypeFacts[value.dtype];
  if (value.dtype === "f16") return { item: caps.f16 ? "f16" : "f32", lanes: 1 };
  if (scalar === "f32") return { item: "f32", lanes: 1 };
  if (bytes >= 4) return { item: scalar === "i32" ? "i32" : "u32", lanes: 1 };
  return value.wide ? { item: "u32", lanes: 1 } : { item: "u32", lanes: bytes === 1 ? 4 : 2 };
}

/** Bytes of `elements` elements, rounded up to whole words. */
export function bytesIn(storage: Storage, elements: Dim): Dim {
  if (storage.item === "f16") return mul(floorDiv(add(elements, 1), 2), 4);
  return mul(floorDiv(add(elements, storage.lanes - 1), storage.lanes), 4);
}

export const bytesOf = (value: { readonly shape: readonly Dim[] }, storage: Storage): Dim =>
  bytesIn(storage, product(value.shape));

/** A row-major tensor's elements in the order of a layout. */
function layOut({ dtype, shape, data }: Tensor, layout: readonly number[]): Tensor {
  const source = stridesOf(shape);
  const extents = layout.map((axis) => shape[axis]!);
  const strides = layout.map((axis) => source[axis]!);
  const target = allocate(dtype, data.length);
  const at = new Array<number>(extents.length).fill(0);
  for (let i = 0, from = 0; i < data.length; i++) {
    target[i] = data[from]!;
    for (let axis = extents.length - 1; axis >= 0; axis--) {
      from += strides[axis]!;
      if (++at[axis]! < extents[axis]!) break;
      from -= extents[axis]! * strides[axis]!;
      at[axis] = 0;
    }
  }
  return { dtype, shape, data: target };
}

const stridesOf = (shape: readonly number[]): number[] =>
  shape.map((_, axis) => shape.slice(axis + 1).reduce((size, dim) => size * dim, 1));

/** A constant's bytes as its buffer holds them, in the value's layout. */
export const constantBytes = (
  value: { readonly name: string; readonly layout?: readonly number[] | undefined },
  data: Tensor,
  storage: Storage,
): Uint8Array => toDevice(value.layout ? layOut(data, value.layout) : data, storage, `constant "${value.name}"`);

/** True when the host's array is already what the buffer holds. */
export function isHostLayout(dtype: DType, { item, lanes }: Storage): boolean {
  if (dtype === "f32" || dtype === "i32" || dtype === "u32") return true;
  if (dtype === "f16") return item === "f16";
  return lanes > 1;
}

/** A tensor's bytes as its buffer holds them. `place` names it should a 64-bit element not fit in 32 bits. */
export function toDevice({ dtype, data }: Pick<Tensor, "dtype" | "data">, storage: Storage, place: string): Uint8Array {
  if (isHostLayout(dtype, storage)) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  const target: TypedArray =
    storage.item === "f32"
      ? new Float32Array(data.length)
      : storage.item === "i32"
        ? new Int32Array(data.length)
        : new Uint32Array(data.length);
  if (dtype === "i64" || dtype === "u64") {
    const [low, high] = dtype === "i64" ? [-(2n ** 31n), 2n ** 31n - 1n] : [0n, 2n ** 32n - 1n];
    const wide = data as BigInt64Array;
    for (let i = 0; i < wide.length; i++) {
      if (wide[i]! < low || wide[i]! > high) throw valueTooLarge(place, i, String(wide[i]), dtype);
      target[i] = Number(wide[i]);
    }
    return new Uint8Array(target.buffer);
  }
  const read = reader({ dtype, data });
  for (let i = 0; i < data.length; i++) target[i] = read(i);
  return new Uint8Array(target.buffer);
}

/** The tensor that a buffer's bytes stand for. */
export function fromDevice(bytes: Uint8Array<ArrayBuffer>, dtype: DType, shape: readonly number[], storage: Storage): Tensor {
  const length = sizeOf(shape);
  const data = allocate(dtype, length);
  if (isHostLayout(dtype, storage)) {
    new Uint8Array(data.buffer).set(bytes.subarray(0, data.byteLength));
    return { dtype, shape, data };
  }
  const { buffer, byteOffset } = bytes;
  const signed = dtypeFacts[dtype].signed;
  const source =
    storage.item === "f32"
      ? new Float32Array(buffer, byteOffset, length)
      : signed
        ? new Int32Array(buffer, byteOffset, length)
        : new Uint32Array(buffer, byteOffset, length);
  const write = writer({ dtype, data });
  for (let i = 0; i < length; i++) write(i, source[i]!);
  return { dtype, shape, data };
}
