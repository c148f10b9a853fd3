// ONNX Runtime's tensors and Kiln's: names of element types, what a session says of its inputs and outputs, arrays.

import type { InferenceSession, Tensor as OrtTensor } from "onnxruntime-common";
import type { Declared, Undeclared } from "../importer/signature.ts";
import { isStatic, loneSymbol } from "../ir/dims.ts";
import type { Tensor, TypedArray } from "../ir/tensor.ts";
import { DTYPES, type DType, dtypeFacts } from "../ir/types.ts";
import { unsupportedLocation, unsupportedType, wrongInputType } from "../util/errors.ts";

type Constructor = typeof OrtTensor;

/** ONNX Runtime's own names where they are not ONNX's. */
const OWN_NAMES: Partial<Record<DType, string>> = { f32: "float32", f64: "float64" };
const TYPES = new Map(
  DTYPES.filter((dtype) => dtype !== "bf16").map((dtype) => [dtype, OWN_NAMES[dtype] ?? dtypeFacts[dtype].onnxName]),
) as ReadonlyMap<DType, OrtTensor.Type>;

/** The type's name in JavaScript's ONNX Runtime. Error K202 for bfloat16, which it does not have. */
export function ortType(dtype: DType, place: string): OrtTensor.Type {
  const type = TYPES.get(dtype);
  if (!type) throw unsupportedType(place, `${dtypeFacts[dtype].onnxName} in ONNX Runtime's JavaScript API`);
  return type;
}

export const metadataOf = (tensor: Declared | Undeclared, role: string): InferenceSession.ValueMetadata =>
  tensor.dtype === undefined
    ? { name: tensor.name, isTensor: false }
    : {
        name: tensor.name,
        isTensor: true,
        type: ortType(tensor.dtype, `${role} "${tensor.name}"`),
        shape: tensor.shape.map((dim) => (isStatic(dim) ? dim : (loneSymbol(dim) ?? dim.text))),
      };

/** A Float16Array's bits; ONNX Runtime uses one where the language has it. */
const bitsOf = (data: TypedArray): TypedArray =>
  (data[Symbol.toStringTag] as string) === "Float16Array" ? new Uint16Array(data.buffer, data.byteOffset, data.length) : data;

/** Checks the type. Errors: K608 another type than the model's, K202 strings. */
export function checkType(input: string, { type }: OrtTensor, dtype: DType): void {
  if (type === "string") throw unsupportedType(`input "${input}"`, "string");
  const expected = ortType(dtype, `input "${input}"`);
  if (type !== expected) throw wrongInputType(input, type, expected);
}

/** A tensor in host memory as Kiln's; shares its array. Error K620 where it lies elsewhere. */
export function fromOrt(tensor: OrtTensor, place: string, dtype: DType): Tensor {
  const { location, dims } = tensor;
  if (location === "texture" || location === "ml-tensor") throw unsupportedLocation(place, location);
  return { dtype, shape: dims, data: bitsOf(tensor.data as TypedArray) };
}

/** Kiln's result as a tensor of the caller's ONNX Runtime; shares its array. */
export const toOrt = (Tensor: Constructor, { dtype, shape, data }: Tensor, name: string): OrtTensor =>
  new Tensor(ortType(dtype, `output "${name}"`) as "float32", data as Float32Array, [...shape]);
