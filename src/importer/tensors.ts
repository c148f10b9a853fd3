// TensorProto → Tensor: raw bytes, typed fields and external data, all element types that Kiln holds.

import { allocate, arrayOfBytes, sizeOf, type Tensor, writer } from "../ir/tensor.ts";
import { type DType, dtypeFacts, dtypeOfOnnx, ONNX_TYPE_NAMES } from "../ir/types.ts";
import { badTensor, missingExternal, unsupportedType } from "../util/errors.ts";
import { type SparseTensorProto, type TensorProto, toBigInt, toNumber } from "./proto.ts";

/** Reads `length` bytes (all from `offset` when undefined) of a file that lies beside the model. Throws when it cannot. */
export type ReadExternal = (file: string, offset: number, length: number | undefined) => Uint8Array;

export function dtypeOf(code: number, place: string): DType {
  const dtype = dtypeOfOnnx(code);
  if (!dtype) throw unsupportedType(place, ONNX_TYPE_NAMES[code] ?? `number ${code}`);
  return dtype;
}

export function decodeTensor(proto: TensorProto, readExternal: ReadExternal): Tensor {
  const name = proto.name ?? "";
  const dtype = dtypeOf(proto.dataType ?? 0, `tensor "${name}"`);
  const shape = (proto.dims ?? []).map(toNumber);
  if (shape.some((dim) => dim < 0)) throw badTensor(name, `its shape [${shape.join(", ")}] has a negative dimension`);
  const length = sizeOf(shape);
  const { bytes: width } = dtypeFacts[dtype];
  const check = (found: number, unit: string, expected = length): void => {
    if (found !== expected)
      throw badTensor(name, `its shape [${shape.join(", ")}] needs ${expected} ${unit}, it holds ${found}`);
  };
  if (proto.dataLocation === 1) {
    const bytes = externalBytes(proto, name, length * width, readExternal);
    check(bytes.length, "bytes", length * width);
    return { dtype, shape, data: arrayOfBytes(dtype, bytes) };
  }
  if (proto.rawData && (proto.rawData.length > 0 || length === 0)) {
    check(proto.rawData.length, "bytes", length * width);
    return { dtype, shape, data: arrayOfBytes(dtype, new Uint8Array(proto.rawData)) };
  }
  const data = allocate(dtype, length);
  const field =
    dtype === "f32"
      ? proto.floatData
      : dtype === "f64"
        ? proto.doubleData
        : dtype === "i64"
          ? proto.int64Data
          : dtype === "u64" || dtype === "u32"
            ? proto.uint64Data
            : proto.int32Data;
  const values = field ?? [];
  check(values.length, "elements");
  // Where protobuf has no 64-bit integers, they come as doubles: the largest one then lies outside of its type and saturates.
  const write = writer({ dtype, data });
  for (let i = 0; i < length; i++) {
    const value: unknown = values[i];
    if (typeof value !== "number" && (data instanceof BigInt64Array || data instanceof BigUint64Array))
      data[i] = toBigInt(value);
    else if (dtype === "f16" || dtype === "bf16") data[i] = toNumber(value);
    else write(i, toNumber(value));
  }
  return { dtype, shape, data };
}

/** A sparse tensor with its zeros. Its indices are positions in the flat tensor, or a coordinate for each axis. */
export function decodeSparse(proto: SparseTensorProto, readExternal: ReadExternal): Tensor {
  const name = proto.values?.name ?? "";
  const [values, indices] = [decodeTensor(proto.values ?? {}, readExternal), decodeTensor(proto.indices ?? {}, readExternal)];
  const shape = (proto.dims ?? []).map(toNumber);
  const depth = indices.shape.length === 2 ? shape.length : 1;
  if (indices.data.length !== values.data.length * depth)
    throw badTensor(name, `it has ${values.data.length} values and indices of shape [${indices.shape.join(", ")}]`);
  const data = allocate(values.dtype, sizeOf(shape)) as Float32Array; // or another kind of array: elements are only copied
  const steps = depth === 1 ? [1] : shape.map((_, axis) => sizeOf(shape.slice(axis + 1)));
  (values.data as Float32Array).forEach((value, i) => {
    const at = steps.reduce((flat, step, axis) => flat + step * Number(indices.data[i * depth + axis]), 0);
    if (at < 0 || at >= data.length) throw badTensor(name, `the index of value ${i} lies outside of [${shape.join(", ")}]`);
    data[at] = value;
  });
  return { dtype: values.dtype, shape, data };
}

function externalBytes(proto: TensorProto, name: string, expected: number, readExternal: ReadExternal): Uint8Array {
  const entries = new Map((proto.externalData ?? []).map(({ key, value }) => [key ?? "", value ?? ""]));
  const location = entries.get("location");
  if (!location) throw badTensor(name, "its data is external but no location is given");
  try {
    const length = entries.get("length");
    return readExternal(location, Number(entries.get("offset") ?? 0), length === undefined ? expected : Number(length));
  } catch (cause) {
    throw missingExternal(name, location, cause instanceof Error ? cause.message : String(cause));
  }
}
