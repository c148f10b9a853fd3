// "kiln-webgpu/ort" in Node: Kiln as an execution provider of ONNX Runtime, with models by path and devices of Dawn.

import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { openNodeDevice, readBeside } from "./node.ts";
import { adoptNodeDevice } from "./node-device.ts";
import { type OnnxRuntime, registerWith } from "./ort/backend.ts";
import { fetchBytes } from "./ort/files.ts";

export type { OnnxRuntime } from "./ort/backend.ts";
export type { KilnExecutionProvider } from "./ort/options.ts";

const isRemote = (path: string): boolean => /^(https?|data|blob):/.test(path);
const localPath = (path: string): string => (path.startsWith("file:") ? fileURLToPath(path) : path);

/** Makes "kiln" known as an execution provider of this ONNX Runtime: onnxruntime-common, onnxruntime-node or onnxruntime-web. */
export const register = (ort: OnnxRuntime): void =>
  registerWith(ort, {
    openDevice: () => openNodeDevice(),
    adoptDevice: adoptNodeDevice,
    readFile: (path) => (isRemote(path) ? fetchBytes(path) : readFile(localPath(path))),
    readBeside: (path) => (isRemote(path) ? undefined : readBeside(localPath(path))),
  });
