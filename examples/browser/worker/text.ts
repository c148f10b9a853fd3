// Reads a picture: PP-OCRv4's detector finds lines of text, each is turned upright and cropped, the recognizer reads it.
// How pictures are prepared: https://github.com/PaddlePaddle/PaddleOCR, DetResizeForTest and RecResizeImg.

import { mat2d, vec2 } from "gl-matrix";
import { type ExecutionContext, image, type Tensor } from "../../../src/runtime.ts";
import type { Finding, Point } from "../protocol.ts";
import { type Box, boxesOf } from "./boxes.ts";

/** The recognizer's input: lines of this height, no longer than this. */
export const LINE = { height: 48, shortest: 16, longest: 1600 } as const;
/** The detector's input has sides of multiples of this. */
export const GRID = 32;
const IMAGENET = { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] } as const;
/** What is read with less certainty is no text. */
const CERTAIN = 0.5;

export interface Readers {
  readonly detector: ExecutionContext;
  readonly recognizer: ExecutionContext;
  /** Class 0 is the blank of connectionist temporal classification. */
  readonly characters: readonly string[];
  /** The longest side that the detector is given. */
  readonly longest: number;
}

/** The lines of a picture. */
export async function readText(picture: ImageBitmap, readers: Readers): Promise<readonly Finding[]> {
  const { width, height } = picture;
  const scale = Math.min(1, readers.longest / Math.max(width, height));
  const onGrid = (side: number): number => Math.max(GRID, Math.round((side * scale) / GRID) * GRID);
  const source = image(picture, {
    size: { width: onGrid(width), height: onGrid(height) },
    channels: "bgr",
    ...IMAGENET,
  });
  const map = onlyOutput(await readers.detector.execute({ x: source }));
  const [, , rows, columns] = map.shape as [number, number, number, number];
  const boxes = boxesOf(map.data as Float32Array, columns, rows).map((box) => inPicture(box, source.toImage));
  const pixels = pixelsOf(picture);
  const lines = await Promise.all(
    boxes.map(async (box) => {
      const scores = onlyOutput(await readers.recognizer.enqueue({ x: crop(pixels, box) }));
      return { corners: cornersOf(box), ...decode(scores, readers.characters) };
    }),
  );
  return lines.filter(({ text, score }) => text !== "" && score >= CERTAIN);
}

const onlyOutput = (outputs: Record<string, Tensor>): Tensor => Object.values(outputs)[0]!;

/** A box of the detector's map in the picture. */
function inPicture({ center, across, down, score }: Box, toImage: mat2d): Box {
  const origin = vec2.transformMat2d(vec2.create(), [0, 0], toImage);
  const direction = (of: vec2): vec2 => vec2.subtract(vec2.create(), vec2.transformMat2d(vec2.create(), of, toImage), origin);
  const moved = vec2.transformMat2d(vec2.create(), center, toImage);
  return { center: moved, across: direction(across), down: direction(down), score };
}

function cornersOf({ center, across, down }: Box): readonly Point[] {
  const sides = [
    [-1, -1],
    [1, -1],
    [1, 1],
    [-1, 1],
  ] as const;
  return sides.map(([a, d]): Point => {
    const corner = vec2.scaleAndAdd(vec2.create(), center, across, a);
    vec2.scaleAndAdd(corner, corner, down, d);
    return [corner[0], corner[1]];
  });
}

function pixelsOf(picture: ImageBitmap): ImageData {
  const { width, height } = picture;
  const canvas = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true })!;
  canvas.drawImage(picture, 0, 0);
  return canvas.getImageData(0, 0, width, height);
}

/** The recognizer's input: the box turned upright, of the height that it reads, BGR from -1 to 1. */
function crop({ data, width, height }: ImageData, { center, across, down }: Box): Tensor {
  const proportion = vec2.length(across) / vec2.length(down);
  const columns = Math.round(Math.min(LINE.longest, Math.max(LINE.shortest, LINE.height * proportion)));
  const rows = LINE.height;
  // From pixels of the line to those of the picture: the box's sides are the axes.
  const toPicture = mat2d.fromValues(across[0], across[1], down[0], down[1], center[0], center[1]);
  mat2d.translate(toPicture, toPicture, [-1, -1]);
  mat2d.scale(toPicture, toPicture, [2 / columns, 2 / rows]);
  const line = new Float32Array(3 * rows * columns);
  const at = vec2.create();
  for (let y = 0; y < rows; y++) {
    for (let x = 0; x < columns; x++) {
      vec2.transformMat2d(at, [x + 0.5, y + 0.5], toPicture);
      const [u, v] = [at[0] - 0.5, at[1] - 0.5];
      const [left, top] = [Math.floor(u), Math.floor(v)];
      const offset = (i: number, j: number): number =>
        4 * (Math.min(height - 1, Math.max(0, j)) * width + Math.min(width - 1, Math.max(0, i)));
      const [a, b, c, d] = [offset(left, top), offset(left + 1, top), offset(left, top + 1), offset(left + 1, top + 1)];
      const [right, below] = [u - left, v - top];
      for (let channel = 0; channel < 3; channel++) {
        const [i, rgb] = [(channel * rows + y) * columns + x, 2 - channel];
        const upper = data[a + rgb]! * (1 - right) + data[b + rgb]! * right;
        const lower = data[c + rgb]! * (1 - right) + data[d + rgb]! * right;
        line[i] = (upper * (1 - below) + lower * below) / 127.5 - 1;
      }
    }
  }
  return { dtype: "f32", shape: [1, 3, rows, columns], data: line };
}

/** The most likely class of each step of [1, steps, classes], repeats and blanks dropped; the score is the mean of the rest. */
function decode({ data, shape }: Tensor, characters: readonly string[]): { text: string; score: number } {
  const [, steps, classes] = shape as [number, number, number];
  const scores = data as Float32Array;
  let [text, sum, count, before] = ["", 0, 0, 0];
  for (let step = 0; step < steps; step++) {
    let best = step * classes;
    for (let i = best + 1; i < (step + 1) * classes; i++) if (scores[i]! > scores[best]!) best = i;
    const kind = best - step * classes;
    if (kind !== 0 && kind !== before) {
      text += characters[kind] ?? "";
      sum += scores[best]!;
      count++;
    }
    before = kind;
  }
  return { text: text.trim(), score: count === 0 ? 0 : sum / count };
}
