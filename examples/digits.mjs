// A network small enough to read: digits of a 5×7 font, wherever they stand in a picture. Its weights are the font: a
// convolution correlates the picture with each digit, the best place counts, and a softmax makes scores of it.

import onnxProto from "onnx-proto";

const FONT = `
.###. ..#.. .###. .###. ...#. ##### ..##. ##### .###. .###.
#...# .##.. #...# #...# ..##. #.... .#... ....# #...# #...#
#..## ..#.. ....# ....# .#.#. ####. #.... ...#. #...# #...#
#.#.# ..#.. ...#. ..##. #..#. ....# ####. ..#.. .###. .####
##..# ..#.. ..#.. ....# ##### ....# #...# ..#.. #...# ....#
#...# ..#.. .#... #...# ...#. #...# #...# ..#.. #...# ...#.
.###. .###. ##### .###. ...#. .###. .###. ..#.. .###. .##..`;
const [GLYPH_ROWS, GLYPH_COLUMNS] = [7, 5];
const lines = FONT.trim().split("\n");
const hasInk = (digit, row, column) => lines[row]?.split(" ")[digit][column] === "#";

export const [ROWS, COLUMNS] = [16, 12];
/** Shapes of up to `most` pictures as an optimization profile. */
export const picturesUpTo = (most) => {
  const shape = (count) => [count, 1, ROWS, COLUMNS];
  return { picture: { min: shape(1), opt: shape(most), max: shape(most) } };
};

/** The network's ONNX bytes: picture [n, 1, 16, 12] in, scores [n, 10] out. */
export function network() {
  // Each template has a margin of one pixel, mean 0 and length 1, so that ink where there should be none counts against it.
  const [height, width] = [GLYPH_ROWS + 2, GLYPH_COLUMNS + 2];
  const templates = Array.from({ length: 10 }, (_, digit) => {
    const ink = Array.from({ length: height * width }, (_, i) =>
      Number(hasInk(digit, Math.floor(i / width) - 1, (i % width) - 1)),
    );
    const mean = ink.reduce((sum, value) => sum + value) / ink.length;
    const length = Math.hypot(...ink.map((value) => value - mean));
    return ink.map((value) => (value - mean) / length);
  });
  const sharpen = Array.from({ length: 100 }, (_, i) => (i % 11 === 0 ? 8 : 0));
  const weight = (name, dims, values) => {
    const rawData = new Uint8Array(Float32Array.from(values).buffer);
    return { name, dataType: 1, dims, rawData };
  };
  const node = (opType, input, output) => ({ opType, name: opType, input, output: [output] });
  const dims = (shape) => ({ dim: shape.map((size) => (typeof size === "string" ? { dimParam: size } : { dimValue: size })) });
  const value = (name, shape) => ({ name, type: { tensorType: { elemType: 1, shape: dims(shape) } } });
  const graph = {
    name: "digits",
    input: [value("picture", ["n", 1, ROWS, COLUMNS])],
    output: [value("scores", ["n", 10])],
    initializer: [weight("templates", [10, 1, height, width], templates.flat()), weight("sharpen", [10, 10], sharpen)],
    node: [
      node("Conv", ["picture", "templates"], "likeness"),
      node("Relu", ["likeness"], "positive"),
      node("GlobalMaxPool", ["positive"], "best"),
      node("Flatten", ["best"], "flat"),
      node("MatMul", ["flat", "sharpen"], "logits"),
      node("Softmax", ["logits"], "scores"),
    ],
  };
  return onnxProto.onnx.ModelProto.encode({ irVersion: 8, opsetImport: [{ version: 17 }], graph }).finish();
}

/** A picture of a digit at a random place, ink 1 on 0, with noise of this standard deviation (roughly). */
export function draw(digit, noise = 0, random = Math.random) {
  const top = 1 + Math.floor(random() * (ROWS - GLYPH_ROWS - 2));
  const left = 1 + Math.floor(random() * (COLUMNS - GLYPH_COLUMNS - 2));
  return Float32Array.from({ length: ROWS * COLUMNS }, (_, i) => {
    const ink = hasInk(digit, Math.floor(i / COLUMNS) - top, (i % COLUMNS) - left);
    return Number(ink) + noise * 2 * (random() + random() + random() - 1.5);
  });
}

/** Pictures as one input of the network. */
export function batchOf(pictures) {
  const data = new Float32Array(pictures.length * ROWS * COLUMNS);
  for (const [i, picture] of pictures.entries()) data.set(picture, i * picture.length);
  return { dtype: "f32", shape: [pictures.length, 1, ROWS, COLUMNS], data };
}

/** Of scores [n, 10]: the digit of each picture and how sure the network is. */
export const answersOf = ({ data }) =>
  Array.from({ length: data.length / 10 }, (_, i) => {
    const scores = data.subarray(10 * i, 10 * (i + 1));
    const score = Math.max(...scores);
    return { digit: scores.indexOf(score), score };
  });
