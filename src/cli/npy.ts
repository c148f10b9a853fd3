// NumPy's .npy files (https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html), versions 1 to 3: one array
// of numbers or bools.

import { allocate, arrayOfBytes, reader, sizeOf, type Tensor, tensor } from "../ir/tensor.ts";
import { type DType, dtypeFacts } from "../ir/types.ts";
import { badNpy } from "../util/errors.ts";

const DESCRIPTORS: Readonly<Record<string, DType>> = {
  f2: "f16",
  f4: "f32",
  f8: "f64",
  i1: "i8",
  u1: "u8",
  i2: "i16",
  u2: "u16",
  i4: "i32",
  u4: "u32",
  i8: "i64",
  u8: "u64",
  b1: "bool",
};
const MAGIC = "\x93NUMPY";

/** Reads an array; `file` names it in errors (K005). Fortran order and big-endian numbers are turned. */
export function readNpy(bytes: Uint8Array, file: string): Tensor {
  if (String.fromCharCode(...bytes.subarray(0, 6)) !== MAGIC) throw badNpy(file, "it is not a .npy file");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const long = bytes[6]! >= 2;
  const start = long ? 12 : 10;
  if (bytes.length < start) throw badNpy(file, "it is truncated");
  const end = start + (long ? view.getUint32(8, true) : view.getUint16(8, true));
  const header = new TextDecoder("latin1").decode(bytes.subarray(start, end));
  const descriptor = /'descr':\s*'([<>|=])(\w+)'/.exec(header);
  const order = /'fortran_order':\s*(True|False)/.exec(header);
  const dims = /'shape':\s*\(([\d,\s]*)\)/.exec(header);
  const dtype = descriptor && DESCRIPTORS[descriptor[2]!];
  if (!dtype)
    throw badNpy(file, `its element type is not supported: ${/'descr':\s*([^,]+)/.exec(header)?.[1] ?? "none is given"}`);
  if (!order || !dims) throw badNpy(file, "its header cannot be read");
  const shape = dims[1]!
    .split(",")
    .filter((dim) => dim.trim())
    .map(Number);
  const { bytes: width } = dtypeFacts[dtype];
  const length = sizeOf(shape) * width;
  if (bytes.length < end + length)
    throw badNpy(file, `it is truncated: shape (${shape.join(", ")}) needs ${length} bytes, it holds ${bytes.length - end}`);
  const data = bytes.slice(end, end + length);
  if (descriptor[1] === ">") for (let at = 0; at < length; at += width) data.subarray(at, at + width).reverse();
  const array: Tensor = { dtype, shape, data: arrayOfBytes(dtype, data) };
  return order[1] === "True" ? rowMajor(array) : array;
}

/** A copy of an array whose elements lie with the first axis fastest, with the last axis fastest. */
function rowMajor({ dtype, shape, data }: Tensor): Tensor {
  const turned = allocate(dtype, data.length);
  const index = shape.map(() => 0);
  for (let i = 0; i < data.length; i++) {
    turned[shape.reduce((offset, dim, axis) => offset * dim + index[axis]!, 0)] = data[i]!;
    for (let axis = 0; axis < shape.length && ++index[axis]! === shape[axis]; axis++) index[axis] = 0;
  }
  return { dtype, shape, data: turned };
}

/** The file's bytes. NumPy has no bfloat16: it is written as float32. */
export function writeNpy(array: Tensor): Uint8Array {
  if (array.dtype === "bf16")
    return writeNpy(
      tensor(
        "f32",
        array.shape,
        Float32Array.from({ length: array.data.length }, (_, i) => reader(array)(i)),
      ),
    );
  const { dtype, shape, data } = array;
  const code = Object.entries(DESCRIPTORS).find(([, known]) => known === dtype)![0];
  const order = dtypeFacts[dtype].bytes === 1 ? "|" : "<";
  const tuple = shape.length === 1 ? `${shape[0]},` : shape.join(", ");
  const text = `{'descr': '${order}${code}', 'fortran_order': False, 'shape': (${tuple}), }`;
  const start = Math.ceil((10 + text.length + 1) / 64) * 64;
  const file = new Uint8Array(start + data.byteLength);
  file.set([...`${MAGIC}\x01\x00`].map((letter) => letter.charCodeAt(0)));
  new DataView(file.buffer).setUint16(8, start - 10, true);
  file.set(new TextEncoder().encode(`${text.padEnd(start - 11)}\n`), 10);
  file.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), start);
  return file;
}
