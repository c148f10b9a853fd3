// The demo's boxes around text, against rectangles drawn at known places and angles.

import { vec2 } from "gl-matrix";
import { expect, it } from "vitest";
import { type Box, boxesOf } from "../../examples/browser/worker/boxes.ts";

const [WIDTH, HEIGHT] = [320, 200];
interface Drawn {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
  /** Degrees, clockwise. */
  readonly turn: number;
  readonly score?: number;
}

/** A map that holds these rectangles' scores, by a test of every pixel. */
function draw(...rectangles: readonly Drawn[]): Float32Array {
  const map = new Float32Array(WIDTH * HEIGHT);
  for (const { x, y, width, height, turn, score = 0.9 } of rectangles) {
    const [cos, sin] = [Math.cos((turn * Math.PI) / 180), Math.sin((turn * Math.PI) / 180)];
    for (let row = 0; row < HEIGHT; row++) {
      for (let column = 0; column < WIDTH; column++) {
        const [dx, dy] = [column + 0.5 - x, row + 0.5 - y];
        if (Math.abs(dx * cos + dy * sin) <= width / 2 && Math.abs(dy * cos - dx * sin) <= height / 2)
          map[row * WIDTH + column] = score;
      }
    }
  }
  return map;
}

const angle = ({ across }: Box): number => (Math.atan2(across[1], across[0]) * 180) / Math.PI;

it.each([0, 5, -12, 30, -30, 44])("finds a line turned by %d degrees, widened as the detector's training wants it", (turn) => {
  const drawn = { x: 160, y: 100, width: 120, height: 24, turn };
  const [box, ...others] = boxesOf(draw(drawn), WIDTH, HEIGHT);
  expect(others).toEqual([]);
  expect(vec2.distance(box!.center, [160, 100])).toBeLessThan(1);
  expect(Math.abs(angle(box!) - turn)).toBeLessThan(2);
  // Area times 1.5 over the outline, on each side; a turned outline is a staircase, up to a pixel and a half outside.
  const by = (1.5 * 120 * 24) / (2 * (120 + 24));
  expect(Math.abs(2 * vec2.length(box!.across) - (120 + 2 * by))).toBeLessThan(4);
  expect(Math.abs(2 * vec2.length(box!.down) - (24 + 2 * by))).toBeLessThan(4);
  expect(Math.sign(box!.across[0] * box!.down[1] - box!.across[1] * box!.down[0])).toBe(1);
});

it("reads a line that stands upright from its top to its bottom", () => {
  const [box] = boxesOf(draw({ x: 160, y: 100, width: 20, height: 120, turn: 0 }), WIDTH, HEIGHT);
  expect(angle(box!)).toBeCloseTo(90);
  expect(box!.down[0]).toBeLessThan(0);
});

it("keeps to lines that are turned", () => {
  const line = { width: 60, height: 16, turn: -10 };
  const map = draw(
    { ...line, x: 60, y: 80 },
    { ...line, x: 240, y: 48 },
    { ...line, x: 70, y: 130 },
    { ...line, x: 250, y: 98 },
  );
  expect(boxesOf(map, WIDTH, HEIGHT).map(({ center }) => Math.round(center[0]))).toEqual([60, 240, 70, 250]);
});

it("orders boxes as they are read, and leaves out what is uncertain or too small", () => {
  const line = { width: 60, height: 16, turn: 0 };
  const map = draw(
    { ...line, x: 240, y: 52 },
    { ...line, x: 80, y: 50 },
    { ...line, x: 80, y: 120 },
    { ...line, x: 240, y: 120, score: 0.5 },
    { x: 300, y: 180, width: 2, height: 2, turn: 0 },
  );
  const centers = boxesOf(map, WIDTH, HEIGHT).map(({ center }) => [...center].map(Math.round));
  expect(centers).toEqual([
    [80, 50],
    [240, 52],
    [80, 120],
  ]);
});
