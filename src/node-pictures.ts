// Decodes picture files in Node: JPEG, PNG, WebP, TIFF, GIF and AVIF by the optional package `sharp`, BMP by `bmp-ts`, and the
// Netpbm formats P1 to P6.

import type { Picture } from "./ops/image-decoder.ts";

/** Errors: an Error with the decoder's own words, or that `sharp` is not installed. */
export async function decodePicture(file: Uint8Array): Promise<Picture> {
  const magic = String.fromCharCode(...file.subarray(0, 2));
  if (magic === "BM") return decodeBmp(file);
  if (/^P[1-6]$/.test(magic)) return decodeNetpbm(file, Number(magic[1]));
  const { default: sharp } = await import("sharp");
  const { data, info } = await sharp(file).toColourspace("srgb").ensureAlpha().raw().toBuffer({ resolveWithObject: true });
  return { width: info.width, height: info.height, rgba: data };
}

async function decodeBmp(file: Uint8Array): Promise<Picture> {
  const { decode } = await import("bmp-ts");
  const { width, height, data } = decode(Buffer.from(file), { toRGBA: true });
  return { width, height, rgba: Uint8Array.from(data, (value, i) => (i % 4 === 3 ? 255 : value)) };
}

/** http://netpbm.sourceforge.net/doc/: text or bytes, one bit (1 is black), one or three samples a pixel up to `maximum`. */
function decodeNetpbm(file: Uint8Array, kind: number): Picture {
  const [isBits, isText, channels] = [kind % 3 === 1, kind <= 3, kind % 3 === 0 ? 3 : 1];
  let at = 2;
  const word = (): number => {
    let text = "";
    for (; at < file.length; at++) {
      const letter = String.fromCharCode(file[at]!);
      if (letter === "#") while (at < file.length && file[at] !== 10) at++;
      else if (/\S/.test(letter)) text += letter;
      else if (text !== "") break;
    }
    if (!/^\d+$/.test(text)) throw new Error(`the Netpbm file is damaged at byte ${at}`);
    return Number(text);
  };
  const [width, height] = [word(), word()];
  const maximum = isBits ? 1 : word();
  at++;
  const wide = maximum > 255 ? 2 : 1;
  const rowBytes = Math.ceil(width / 8);
  const sample = (i: number): number => {
    if (isText) return word();
    if (isBits) {
      const x = i % width;
      return (file[at + Math.floor(i / width) * rowBytes + (x >> 3)]! >> (7 - (x & 7))) & 1;
    }
    const start = at + i * wide;
    return wide === 1 ? file[start]! : file[start]! * 256 + file[start + 1]!;
  };
  const count = width * height * channels;
  if (!isText && at + (isBits ? rowBytes * height : count * wide) > file.length)
    throw new Error("the Netpbm file is cut short");
  if (isText) at--;
  const samples = Uint8Array.from({ length: count }, (_, i) => {
    const value = sample(i) / maximum;
    return Math.round(255 * (isBits ? 1 - value : value));
  });
  const rgba = new Uint8Array(4 * width * height).map((_, i) =>
    i % 4 === 3 ? 255 : samples[channels === 3 ? (i >> 2) * 3 + (i % 4) : i >> 2]!,
  );
  return { width, height, rgba };
}
