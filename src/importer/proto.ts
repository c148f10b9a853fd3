// ONNX's protobuf, decoded by onnx-proto: bytes → ModelProto, with plain words for bytes that are something else.

import type { onnx } from "onnx-proto";
import onnxProto from "onnx-proto";
import { brokenOnnx, noGraph, notOnnx } from "../util/errors.ts";

export type ModelProto = onnx.IModelProto;
export type GraphProto = onnx.IGraphProto;
export type NodeProto = onnx.INodeProto;
export type TensorProto = onnx.ITensorProto;
export type SparseTensorProto = onnx.ISparseTensorProto;
export type AttributeProto = onnx.IAttributeProto;
export type FunctionProto = onnx.IFunctionProto;
export type ValueInfoProto = onnx.IValueInfoProto;

/** Protobuf integers arrive as numbers or as `long` objects. */
export const toNumber = (value: unknown): number =>
  typeof value === "number" ? value : value == null ? 0 : Number(String(value));
export const toBigInt = (value: unknown): bigint => BigInt(String(value ?? 0));

const SIGNATURES: readonly (readonly [string, string, string])[] = [
  ["KILN", "it begins like a Kiln engine", "run it with `kiln run`, it needs no build"],
  ["\x89PNG", "it begins like a PNG picture", "give the .onnx file"],
  ["\xff\xd8\xff", "it begins like a JPEG picture", "give the .onnx file"],
  [
    "PK\x03\x04",
    "it begins like a zip archive (a PyTorch or Keras file?)",
    "export the model to ONNX first: torch.onnx.export",
  ],
  ["version https://git-lfs", "it is a Git LFS pointer, not the file itself", "fetch the file: git lfs pull"],
  ["TFL3", "it begins like a TensorFlow Lite model", "convert it: tf2onnx"],
  ["{", "it begins like JSON text", "give the binary .onnx file"],
  ["<", "it begins like a web page or XML", "the download may have failed: fetch the file again"],
];

/** Decodes a model. `file` names it in errors. */
export function decodeModel(bytes: Uint8Array, file: string): ModelProto {
  if (bytes.length === 0) throw notOnnx(file, "it is empty", "export or fetch the model again");
  const start = String.fromCharCode(...bytes.subarray(0, 32));
  for (const [signature, looksLike, hint] of SIGNATURES) {
    if (start.startsWith(signature) || (signature === "TFL3" && start.slice(4, 8) === signature))
      throw notOnnx(file, looksLike, hint);
  }
  let model: ModelProto;
  try {
    model = onnxProto.onnx.ModelProto.decode(bytes);
  } catch (cause) {
    // A protobuf whose first field is ir_version (tag 8) is a model that was cut; anything else never was one.
    if (bytes[0] === 8) throw brokenOnnx(file, cause instanceof Error ? cause.message : String(cause));
    throw notOnnx(file, "its bytes are not ONNX's protobuf", "give the .onnx file that the exporter wrote");
  }
  if (!model.graph) {
    if (toNumber(model.irVersion) === 0)
      throw notOnnx(file, "its bytes are not ONNX's protobuf", "give the .onnx file that the exporter wrote");
    throw noGraph(file);
  }
  return model;
}

/** Decodes a TensorProto that stands alone, as ONNX's test data does. */
export const decodeTensorProto = (bytes: Uint8Array): TensorProto => onnxProto.onnx.TensorProto.decode(bytes);

/** Encodes a model. */
export const encodeModel = (model: ModelProto): Uint8Array => onnxProto.onnx.ModelProto.encode(model).finish();
