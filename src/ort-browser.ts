// "kiln-webgpu/ort" in the browser: Kiln as an execution provider of ONNX Runtime, with models by address and the page's GPU.

import { pageGpu } from "./browser.ts";
import { adoptDevice, openDevice } from "./gpu/device.ts";
import { type OnnxRuntime, registerWith } from "./ort/backend.ts";
import { fetchBytes } from "./ort/files.ts";

export type { OnnxRuntime } from "./ort/backend.ts";
export type { KilnExecutionProvider } from "./ort/options.ts";

/** Makes "kiln" known as an execution provider of this ONNX Runtime: onnxruntime-common or onnxruntime-web. */
export const register = (ort: OnnxRuntime): void =>
  registerWith(ort, {
    openDevice: async () => openDevice(pageGpu()),
    adoptDevice: async (device) => adoptDevice(pageGpu(), device),
    readFile: fetchBytes,
    readBeside: () => undefined,
  });
