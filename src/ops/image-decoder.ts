// ImageDecoder: the platform decodes the picture, on the host. ONNX: https://onnx.ai/onnx/operators/onnx__ImageDecoder.html

import { symbol } from "../ir/dims.ts";
import type { HostAttributes } from "../ir/task.ts";
import { type Tensor, tensor } from "../ir/tensor.ts";
import { defineOp, need, type Operator } from "./define.ts";

export const PIXEL_FORMATS = ["RGB", "BGR", "Grayscale"] as const;

/** A decoded picture: rows from the top, four bytes a pixel, red first. */
export interface Picture {
  readonly width: number;
  readonly height: number;
  readonly rgba: Uint8Array;
}
/** Decodes a picture file; rejects with an Error that says why it cannot. */
export type DecodePicture = (file: Uint8Array) => Promise<Picture>;

export const imageDecoder: Operator = defineOp({
  name: "ImageDecoder",
  place: "host: pictures are decoded by the platform",
  since: [20],
  attrs: (read) => read.string("pixel_format", "RGB", PIXEL_FORMATS),
  lower: (b, inputs, format, node) =>
    b.host(
      "ImageDecoder",
      { format },
      [need(node, inputs, 0)],
      [
        {
          dtype: "u8",
          shape: [symbol(`${node.name}.height`), symbol(`${node.name}.width`), format === "Grayscale" ? 1 : 3],
        },
      ],
      "pictures are decoded by the platform",
    ),
});

/** The host layer with a platform's decoder. Grey is ITU-R 601's luma in 16-bit fixed point, as Pillow computes it. */
export const decodeImage =
  (decode: DecodePicture) =>
  async ([file]: readonly (Tensor | undefined)[], { format }: HostAttributes): Promise<readonly Tensor[]> => {
    const { width, height, rgba } = await decode(file!.data as Uint8Array);
    const pixels = Array.from({ length: width * height }, (_, i) => 4 * i);
    const at = (offset: number): number => rgba[offset]!;
    const grey = (i: number): number => (19595 * at(i) + 38470 * at(i + 1) + 7471 * at(i + 2) + 0x8000) >> 16;
    const channels =
      format === "Grayscale"
        ? pixels.map(grey)
        : pixels.flatMap((i) => (format === "BGR" ? [at(i + 2), at(i + 1), at(i)] : [at(i), at(i + 1), at(i + 2)]));
    return [tensor("u8", [height, width, format === "Grayscale" ? 1 : 3], channels)];
  };
