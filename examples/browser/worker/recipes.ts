// The networks that the page brings: where their models are and what they are built for.

import type { BuildOptions, Device } from "../../../src/index.ts";
import type { NEEDED, Subject } from "../protocol.ts";
import { GRID, LINE } from "./text.ts";

export interface Recipe {
  readonly id: string;
  readonly title: string;
  /** Gives the model's bytes; `arrived` is told which fraction of them is there. */
  readonly model: (arrived: (fraction: number) => void) => Promise<Uint8Array>;
  readonly options: BuildOptions;
}

export const DICTIONARY = "models/ppocr_keys_v1.txt";

/** WebGPU's flag for an implementation without a GPU. */
export const isSoftware = ({ device }: Device): boolean => device.adapterInfo.isFallbackAdapter;

/** How much effort a device is worth: to measure for long on a CPU helps nobody. */
export const effortOn = (device: Device): BuildOptions =>
  isSoftware(device) ? { optimizationLevel: 1, maxTuneTime: 8 } : { optimizationLevel: 3, maxTuneTime: 20, fp16: true };

/** The longest side of pictures for the text detector. */
export const longestFor = (device: Device): number => (isSoftware(device) ? 480 : 960);

export function recipes(device: Device): Readonly<Record<(typeof NEEDED)[Subject][number], Recipe>> {
  const effort = effortOn(device);
  const longest = longestFor(device);
  const lines = (width: number) => [1, 3, LINE.height, width];
  const picture = (height: number, width: number) => [1, 3, height, width];
  return {
    "text-detector": {
      id: "text-detector",
      title: "Text detector",
      model: (arrived) => download("models/ch_PP-OCRv4_det_infer.onnx", arrived),
      options: {
        ...effort,
        file: "PP-OCRv4 det",
        profiles: [
          { x: { min: picture(GRID, GRID), opt: picture((longest * 2) / 3, longest), max: picture(longest, longest) } },
        ],
      },
    },
    "text-recognizer": {
      id: "text-recognizer",
      title: "Text recognizer",
      model: (arrived) => download("models/ch_PP-OCRv4_rec_infer.onnx", arrived),
      options: {
        ...effort,
        file: "PP-OCRv4 rec",
        profiles: [{ x: { min: lines(LINE.shortest), opt: lines(320), max: lines(LINE.longest) } }],
      },
    },
    "face-detector": {
      id: "face-detector",
      title: "Face detector",
      model: (arrived) => download("models/face_detection_back_256x256_barracuda.onnx", arrived),
      options: { ...effort, maxTuneTime: 20, file: "BlazeFace" },
    },
  };
}

async function download(address: string, arrived: (fraction: number) => void): Promise<Uint8Array> {
  const response = await fetch(address);
  if (!response.ok || !response.body) throw new Error(`${address}: the server said ${response.status} ${response.statusText}`);
  const total = Number(response.headers.get("content-length"));
  let bytes = 0;
  const counted = new TransformStream<Uint8Array, Uint8Array>({
    transform(piece, controller) {
      bytes += piece.length;
      if (total > 0) arrived(Math.min(1, bytes / total));
      controller.enqueue(piece);
    },
  });
  return new Uint8Array(await new Response(response.body.pipeThrough(counted)).arrayBuffer());
}
