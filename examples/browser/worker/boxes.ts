// From the detector's map of probabilities to boxes around lines of text: connected regions, the smallest rectangle around
// each, widened by what the detector was trained to leave out (DB: https://arxiv.org/abs/1911.08947).

import { polygonHull } from "d3-polygon";
import { vec2 } from "gl-matrix";

/** A rectangle, turned by any angle. */
export interface Box {
  readonly center: vec2;
  /** Half of its width along the reading direction, and half of its height below. */
  readonly across: vec2;
  readonly down: vec2;
  readonly score: number;
}

/** A pixel is text from this probability on, a region from this mean of them. */
const PIXEL = 0.3;
const REGION = 0.6;
/** How far a box is widened: area times this over its outline. */
const UNCLIP = 1.5;
const SMALLEST = 3;
/** From this proportion on a box is a line that runs downwards. */
const UPRIGHT = 1.5;

/** Boxes of a map of height × width probabilities, in its pixels and in reading order. */
export function boxesOf(map: Float32Array, width: number, height: number): Box[] {
  const boxes = regionsOf(map, width, height).flatMap(({ points, score }) => {
    const hull = score < REGION ? null : polygonHull(points);
    const box = hull && widened(smallestAround(hull, score));
    return box ? [box] : [];
  });
  return inReadingOrder(boxes);
}

/** Line after line from the top, each from its start. */
function inReadingOrder(boxes: readonly Box[]): Box[] {
  const ordered: Box[] = [];
  for (let rest = boxes.toSorted((a, b) => a.center[1] - b.center[1]); rest.length > 0; ) {
    const first = rest[0]!;
    const line = rest.filter((box) => onOneLine(first, box));
    ordered.push(...line.toSorted((a, b) => vec2.dot(a.center, first.across) - vec2.dot(b.center, first.across)));
    rest = rest.filter((box) => !line.includes(box));
  }
  return ordered;
}

/** One of them lies on the other's axis: on that of the longer one, which is known better. */
function onOneLine(a: Box, b: Box): boolean {
  const [long, short] = vec2.squaredLength(a.across) > vec2.squaredLength(b.across) ? [a, b] : [b, a];
  const away = vec2.dot(vec2.subtract(vec2.create(), short.center, long.center), long.down);
  return Math.abs(away) < vec2.squaredLength(long.down);
}

interface Region {
  /** The outermost corners of its pixels in each row: all that its hull depends on. */
  readonly points: [number, number][];
  readonly score: number;
}

/** Regions of pixels that touch, corners included. */
function regionsOf(map: Float32Array, width: number, height: number): Region[] {
  const seen = new Uint8Array(map.length);
  const regions: Region[] = [];
  for (let start = 0; start < map.length; start++) {
    if (seen[start] || map[start]! < PIXEL) continue;
    const rows = new Map<number, [left: number, right: number]>();
    let sum = 0;
    let count = 0;
    const open = [start];
    seen[start] = 1;
    for (let at = open.pop(); at !== undefined; at = open.pop()) {
      const [x, y] = [at % width, Math.floor(at / width)];
      const [left, right] = rows.get(y) ?? [x, x];
      rows.set(y, [Math.min(left, x), Math.max(right, x)]);
      sum += map[at]!;
      count++;
      for (let ny = Math.max(0, y - 1); ny <= Math.min(height - 1, y + 1); ny++) {
        for (let nx = Math.max(0, x - 1); nx <= Math.min(width - 1, x + 1); nx++) {
          const next = ny * width + nx;
          if (seen[next] || map[next]! < PIXEL) continue;
          seen[next] = 1;
          open.push(next);
        }
      }
    }
    const points = [...rows].flatMap(([y, [left, right]]): [number, number][] => [
      [left, y],
      [left, y + 1],
      [right + 1, y],
      [right + 1, y + 1],
    ]);
    regions.push({ points, score: sum / count });
  }
  return regions;
}

/** The rectangle of least area around a convex hull: one of its sides lies on one of the hull's. */
function smallestAround(hull: readonly [number, number][], score: number): Box {
  let best: { box: Box; area: number } | undefined;
  for (const [i, corner] of hull.entries()) {
    const side = vec2.subtract(vec2.create(), hull[(i + 1) % hull.length]!, corner);
    if (vec2.length(side) === 0) continue;
    const u = vec2.normalize(vec2.create(), side);
    const v = vec2.fromValues(-u[1], u[0]);
    const along = extent(hull.map((point) => vec2.dot(point, u)));
    const beside = extent(hull.map((point) => vec2.dot(point, v)));
    const area = along.size * beside.size;
    if (best && area >= best.area) continue;
    const center = vec2.scale(vec2.create(), u, along.middle);
    vec2.scaleAndAdd(center, center, v, beside.middle);
    const halves = [vec2.scale(vec2.create(), u, along.size / 2), vec2.scale(vec2.create(), v, beside.size / 2)] as const;
    best = { box: { center, score, ...asRead(...halves) }, area };
  }
  return best!.box;
}

const extent = (values: readonly number[]): { size: number; middle: number } => {
  const [least, most] = [Math.min(...values), Math.max(...values)];
  return { size: most - least, middle: (least + most) / 2 };
};

/** Which side is read along, and which way: to the right, or downwards where the box stands upright. */
function asRead(a: vec2, b: vec2): Pick<Box, "across" | "down"> {
  const [flat, steep] = Math.abs(a[0]) / vec2.length(a) >= Math.abs(b[0]) / vec2.length(b) ? [a, b] : [b, a];
  const right = flat[0] < 0 ? vec2.negate(flat, flat) : flat;
  const below = steep[1] < 0 ? vec2.negate(steep, steep) : steep;
  if (vec2.length(below) < UPRIGHT * vec2.length(right)) return { across: right, down: below };
  return { across: below, down: vec2.negate(right, right) };
}

/** Undefined where it is too small to be text. */
function widened({ center, across, down, score }: Box): Box | undefined {
  const [width, height] = [vec2.length(across), vec2.length(down)];
  if (2 * Math.min(width, height) < SMALLEST) return undefined;
  const by = (UNCLIP * width * height) / (width + height);
  const longer = (side: vec2, length: number): vec2 => vec2.scale(vec2.create(), side, (length + by) / length);
  return { center, score, across: longer(across, width), down: longer(down, height) };
}
