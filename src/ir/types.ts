// Element types: ONNX's names for them, how the host holds them and which scalar type computes them on the GPU.

export const DTYPES = ["f32", "f16", "bf16", "f64", "i8", "u8", "i16", "u16", "i32", "u32", "i64", "u64", "bool"] as const;
export type DType = (typeof DTYPES)[number];

/** The type in which a kernel computes: narrower floats widen to f32; 64-bit types narrow (checked where values enter). */
export type Scalar = "f32" | "i32" | "u32" | "bool";

interface DTypeFacts {
  /** TensorProto.DataType. */
  readonly onnx: number;
  readonly onnxName: string;
  /** Bytes an element in host memory. */
  readonly bytes: number;
  readonly scalar: Scalar;
  readonly kind: "float" | "int" | "bool";
  readonly signed: boolean;
}

export const dtypeFacts: Readonly<Record<DType, DTypeFacts>> = {
  f32: { onnx: 1, onnxName: "float", bytes: 4, scalar: "f32", kind: "float", signed: true },
  f16: { onnx: 10, onnxName: "float16", bytes: 2, scalar: "f32", kind: "float", signed: true },
  bf16: { onnx: 16, onnxName: "bfloat16", bytes: 2, scalar: "f32", kind: "float", signed: true },
  f64: { onnx: 11, onnxName: "double", bytes: 8, scalar: "f32", kind: "float", signed: true },
  i8: { onnx: 3, onnxName: "int8", bytes: 1, scalar: "i32", kind: "int", signed: true },
  u8: { onnx: 2, onnxName: "uint8", bytes: 1, scalar: "u32", kind: "int", signed: false },
  i16: { onnx: 5, onnxName: "int16", bytes: 2, scalar: "i32", kind: "int", signed: true },
  u16: { onnx: 4, onnxName: "uint16", bytes: 2, scalar: "u32", kind: "int", signed: false },
  i32: { onnx: 6, onnxName: "int32", bytes: 4, scalar: "i32", kind: "int", signed: true },
  u32: { onnx: 12, onnxName: "uint32", bytes: 4, scalar: "u32", kind: "int", signed: false },
  i64: { onnx: 7, onnxName: "int64", bytes: 8, scalar: "i32", kind: "int", signed: true },
  u64: { onnx: 13, onnxName: "uint64", bytes: 8, scalar: "u32", kind: "int", signed: false },
  bool: { onnx: 9, onnxName: "bool", bytes: 1, scalar: "bool", kind: "bool", signed: false },
};

export const scalarOf = (dtype: DType): Scalar => dtypeFacts[dtype].scalar;
export const isFloat = (dtype: DType): boolean => dtypeFacts[dtype].kind === "float";
export const isInteger = (dtype: DType): boolean => dtypeFacts[dtype].kind === "int";

const BY_ONNX = new Map(DTYPES.map((dtype) => [dtypeFacts[dtype].onnx, dtype]));

/** The type for a TensorProto.DataType number, or undefined for strings, complex and 4- and 8-bit floats. */
export const dtypeOfOnnx = (code: number): DType | undefined => BY_ONNX.get(code);

/** TensorProto.DataType's names, for messages about those that Kiln does not hold. */
export const ONNX_TYPE_NAMES: Readonly<Record<number, string>> = {
  0: "undefined",
  8: "string",
  14: "complex64",
  15: "complex128",
  17: "float8e4m3fn",
  18: "float8e4m3fnuz",
  19: "float8e5m2",
  20: "float8e5m2fnuz",
  21: "uint4",
  22: "int4",
  23: "float4e2m1",
  24: "float8e8m0",
  25: "uint2",
  26: "int2",
};
