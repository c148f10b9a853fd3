// Picture files as pixels: Netpbm's six forms by their definition, PNG and BMP against what was written.

import { encode } from "bmp-ts";
import { encode as encodePng } from "fast-png";
import { expect, it } from "vitest";
import { decodePicture } from "../src/node-pictures.ts";

const bytes = (text: string, ...rest: readonly number[]): Uint8Array => Uint8Array.of(...Buffer.from(text, "latin1"), ...rest);
const opaque = (...rgb: readonly (readonly number[])[]): number[] => rgb.flatMap((pixel) => [...pixel, 255]);
const greys = (...values: readonly number[]): number[] => opaque(...values.map((value) => [value, value, value]));

it.each([
  ["P1, with comments", bytes("P1\n# a\n3 2\n1 0 1\n0 1 0\n"), greys(0, 255, 0, 255, 0, 255)],
  ["P2", bytes("P2 3 2 4\n0 1 2 # b\n3 4 0\n"), greys(0, 64, 128, 191, 255, 0)],
  ["P3", bytes("P3 1 2 255 1 2 3 4 5 6"), opaque([1, 2, 3], [4, 5, 6])],
  ["P4, rows of whole bytes", bytes("P4 3 2\n", 0b10100000, 0b01000000), greys(0, 255, 0, 255, 0, 255)],
  ["P5 of 16 bits", bytes("P5\n3 2\n65535\n", 0, 0, 255, 255, 128, 0, 0, 0, 0, 0, 255, 255), greys(0, 255, 128, 0, 0, 255)],
  ["P6", bytes("P6 1 2 255\n", 1, 2, 3, 4, 5, 6), opaque([1, 2, 3], [4, 5, 6])],
])("reads %s", async (_, file, expected) => {
  expect(Array.from((await decodePicture(file)).rgba)).toEqual(expected);
});

it("reads PNG and BMP", async () => {
  const rgb = Uint8Array.from({ length: 5 * 3 * 3 }, (_, i) => (i * 37) % 256);
  const rgba = opaque(...Array.from({ length: 15 }, (_, i) => Array.from(rgb.subarray(3 * i, 3 * i + 3))));
  const png = await decodePicture(encodePng({ width: 5, height: 3, data: rgb, channels: 3 }));
  expect([png.width, png.height, Array.from(png.rgba)]).toEqual([5, 3, rgba]);
  const abgr = Buffer.from(Array.from({ length: 60 }, (_, i) => rgba[(i & ~3) + 3 - (i & 3)]!));
  const bmp = encode({ width: 5, height: 3, data: abgr, bitPP: 24 } as Parameters<typeof encode>[0]);
  expect(Array.from((await decodePicture(bmp.data)).rgba)).toEqual(rgba);
});

it("says what is wrong with a damaged file", async () => {
  await expect(decodePicture(bytes("P5 3 2 255\n", 1, 2))).rejects.toThrow("the Netpbm file is cut short");
  await expect(decodePicture(bytes("P2 3 x 255\n"))).rejects.toThrow("the Netpbm file is damaged");
  await expect(decodePicture(Uint8Array.of(1, 2, 3))).rejects.toThrow("unsupported image format");
});
