// Finds faces with BlazeFace (https://arxiv.org/abs/1907.05047): boxes and six points around anchors of two grids, those that
// mean the same face blended.

import { type ReadonlyMat2d, vec2 } from "gl-matrix";
import { type ExecutionContext, image, type Tensor } from "../../../src/runtime.ts";
import type { Finding, Point } from "../protocol.ts";

/** Pixels of the network's square input. */
const SIDE = 256;
const GRIDS = [
  { scores: "Identity:0", boxes: "Identity_2:0", cells: 16, anchors: 2 },
  { scores: "Identity_1:0", boxes: "Identity_3:0", cells: 8, anchors: 6 },
] as const;
/** Values of a box: its centre, its size, and six points. */
const VALUES = 16;
const CERTAIN = 0.5;
/** Boxes that share this much of their area mean one face. */
const SAME = 0.3;

/** In pixels of the input: centre, size and points as the network orders them. */
interface Candidate {
  readonly values: readonly number[];
  readonly score: number;
}

export async function findFaces(picture: ImageBitmap, network: ExecutionContext): Promise<readonly Finding[]> {
  const source = image(picture, { fit: "letterbox", layout: "nhwc", scale: 1 / 127.5, mean: 1 });
  const outputs = await network.execute({ "input:0": source });
  const candidates = GRIDS.flatMap((grid) => candidatesOf(outputs, grid)).sort((a, b) => b.score - a.score);
  return blended(candidates).map((face) => asFinding(face, source.toImage));
}

function candidatesOf(outputs: Record<string, Tensor>, { scores, boxes, cells, anchors }: (typeof GRIDS)[number]): Candidate[] {
  const logits = outputs[scores]!.data as Float32Array;
  const values = outputs[boxes]!.data as Float32Array;
  const found: Candidate[] = [];
  for (const [i, logit] of logits.entries()) {
    const score = 1 / (1 + Math.exp(-logit));
    if (score < CERTAIN) continue;
    const cell = Math.floor(i / anchors);
    const anchor = [cell % cells, Math.floor(cell / cells)].map((at) => ((at + 0.5) * SIDE) / cells) as [number, number];
    // All are relative to the anchor but the size.
    const own = Array.from(values.subarray(i * VALUES, (i + 1) * VALUES), (value, at) =>
      at === 2 || at === 3 ? value : value + anchor[at % 2]!,
    );
    found.push({ values: own, score });
  }
  return found;
}

/** One of each face: the mean of all that overlap the best, by score. */
function blended(candidates: readonly Candidate[]): Candidate[] {
  const faces: Candidate[] = [];
  for (let rest = candidates; rest.length > 0; ) {
    const best = rest[0]!;
    const same = rest.filter((other) => other === best || overlap(best, other) > SAME);
    const total = same.reduce((sum, { score }) => sum + score, 0);
    const values = best.values.map((_, i) => same.reduce((sum, { values, score }) => sum + values[i]! * score, 0) / total);
    faces.push({ values, score: best.score });
    rest = rest.filter((other) => !same.includes(other));
  }
  return faces;
}

/** The area that two boxes share over the area that they cover. */
function overlap({ values: a }: Candidate, { values: b }: Candidate): number {
  const shared = (axis: 0 | 1): number => {
    const [sizeA, sizeB] = [a[axis + 2]!, b[axis + 2]!];
    return Math.max(
      0,
      Math.min(a[axis]! + sizeA / 2, b[axis]! + sizeB / 2) - Math.max(a[axis]! - sizeA / 2, b[axis]! - sizeB / 2),
    );
  };
  const both = shared(0) * shared(1);
  return both / (a[2]! * a[3]! + b[2]! * b[3]! - both);
}

function asFinding({ values, score }: Candidate, toImage: ReadonlyMat2d): Finding {
  const inImage = (x: number, y: number): Point => {
    const point = vec2.transformMat2d(vec2.create(), [x, y], toImage);
    return [point[0], point[1]];
  };
  const [x, y, width, height] = values as [number, number, number, number];
  const [left, top, right, bottom] = [x - width / 2, y - height / 2, x + width / 2, y + height / 2];
  return {
    corners: [inImage(left, top), inImage(right, top), inImage(right, bottom), inImage(left, bottom)],
    score,
    marks: Array.from({ length: (VALUES - 4) / 2 }, (_, i) => inImage(values[4 + 2 * i]!, values[5 + 2 * i]!)),
  };
}
