// The files of a model as ONNX Runtime's session options name them: bytes, blobs, paths and addresses.

import type { InferenceSession } from "onnxruntime-common";
import type { ReadExternal } from "../importer/tensors.ts";
import { cannotRead } from "../util/errors.ts";

type ExternalData = InferenceSession.SessionOptions["externalData"];
type FileType = Exclude<NonNullable<ExternalData>[number], string>["data"];

/** Reads a file by its path or address. */
export type ReadFile = (path: string) => Promise<Uint8Array>;

async function bytesOf(file: FileType, read: ReadFile): Promise<Uint8Array> {
  if (typeof file === "string") return read(file);
  if (file instanceof Uint8Array) return file;
  return new Uint8Array("arrayBuffer" in file ? await file.arrayBuffer() : file);
}

const withoutDot = (path: string): string => path.replace(/^\.\//, "");
const lastPart = (path: string): string => path.replace(/[?#].*$/, "").replace(/^.*[\\/]/, "");

/**
 * Fetches the external data that the options list and gives a reader of it: a tensor's file is found by its path, or by its
 * name alone where a file was listed by path or address. `beside` reads what is not listed.
 */
export async function readerOf(externalData: ExternalData, read: ReadFile, beside?: ReadExternal): Promise<ReadExternal> {
  const files = new Map<string, Uint8Array>();
  for (const item of externalData ?? []) {
    const bytes = await bytesOf(typeof item === "string" ? item : item.data, read);
    if (typeof item === "string") files.set(lastPart(item), bytes);
    files.set(withoutDot(typeof item === "string" ? item : item.path), bytes);
  }
  return (name, offset, length) => {
    const bytes = files.get(withoutDot(name));
    if (bytes) return bytes.subarray(offset, length === undefined ? undefined : offset + length);
    if (beside) return beside(name, offset, length);
    throw new Error("the session option `externalData` does not list it");
  };
}

/** Fetches an address. Error K003 where the server does not give it. */
export async function fetchBytes(address: string): Promise<Uint8Array> {
  const response = await fetch(address).catch((failure: unknown) => {
    throw cannotRead(address, failure instanceof Error ? failure.message : String(failure));
  });
  if (!response.ok) throw cannotRead(address, `the server answered ${response.status} ${response.statusText}`.trim());
  return new Uint8Array(await response.arrayBuffer());
}
