// How pictures become a network's input: --preprocess, and decoding by the package `sharp`, which is installed by those who
// have pictures.

import { allocate, type Tensor, writer } from "../ir/tensor.ts";
import type { DType } from "../ir/types.ts";
import { badDataset, badFlag } from "../util/errors.ts";

export interface Preprocess {
  /** Width and height; pictures are scaled to cover it and cut to its middle. The network's own unless given. */
  readonly size?: readonly [number, number];
  /** Each channel, in the network's order, becomes (v · scale − mean) / std of v in 0…255. */
  readonly scale: number;
  readonly mean: readonly number[];
  readonly std: readonly number[];
  /** Blue first. */
  readonly bgr: boolean;
  /** Where channels are; by the network's shape unless given. */
  readonly layout?: "nchw" | "nhwc";
}

const EXPECTED =
  "words separated by commas: size=224x224, scale=0.00392157, mean=0.485/0.456/0.406, std=0.229/0.224/0.225, bgr, layout=nchw";

/** Reads "size=224x224,bgr,mean=103.94/116.78/123.68". Error K001. */
export function preprocessOption(text: string): Preprocess {
  const wrong = (word: string): Error => badFlag(`--preprocess ${text}`, `"${word}" is not understood`, EXPECTED);
  let made: Preprocess = { scale: 1, mean: [0], std: [1], bgr: false };
  for (const word of text.split(",").filter(Boolean)) {
    const [key, value = ""] = word.split("=") as [string, string?];
    const numbers = value.split(/[/x]/).map((part) => (part.trim() === "" ? Number.NaN : Number(part)));
    const isNumeric = numbers.every(Number.isFinite);
    if (key === "bgr" && value === "") made = { ...made, bgr: true };
    else if (key === "rgb" && value === "") made = { ...made, bgr: false };
    else if (key === "size" && isNumeric && numbers.length <= 2 && numbers.every((n) => Number.isInteger(n) && n > 0))
      made = { ...made, size: [numbers[0]!, numbers.at(-1)!] };
    else if (key === "scale" && isNumeric && numbers.length === 1) made = { ...made, scale: numbers[0]! };
    else if (
      (key === "mean" || key === "std") &&
      isNumeric &&
      (numbers.length === 1 || numbers.length === 3) &&
      !(key === "std" && numbers.includes(0))
    )
      made = { ...made, [key]: numbers };
    else if (key === "layout" && (value === "nchw" || value === "nhwc")) made = { ...made, layout: value };
    else throw wrong(word);
  }
  return made;
}

export const NO_PREPROCESS: Preprocess = preprocessOption("");

/** One network input that takes pictures. */
export interface PictureInput {
  readonly name: string;
  readonly dtype: DType;
  /** Numbers, or text for sizes that are free. */
  readonly shape: readonly (number | string)[];
}

interface Picture {
  readonly width: number;
  readonly height: number;
  readonly channels: 1 | 3;
  readonly layout: "nchw" | "nhwc";
}

/** The shape that pictures must get for an input. Error K705 when it takes none, or when its size must be given. */
export function pictureOf({ name, shape }: PictureInput, { size, layout }: Preprocess): Picture {
  const isDepth = (dim: number | string | undefined): dim is 1 | 3 => dim === 1 || dim === 3;
  const place = `input "${name}" [${shape.join(", ")}]`;
  if (shape.length !== 4) throw badDataset(place, "it does not take pictures", "give .npy files");
  const chosen = layout ?? (isDepth(shape[1]) ? "nchw" : "nhwc");
  const [channels, height, width] = chosen === "nchw" ? shape.slice(1) : [shape[3], shape[1], shape[2]];
  if (!isDepth(channels))
    throw badDataset(place, `it has ${channels} channels, pictures have 3 or 1`, "say --preprocess layout=nchw or nhwc");
  const of = (dim: number | string | undefined, given: number | undefined): number => {
    if (typeof dim === "number" && given !== undefined && dim !== given)
      throw badDataset(place, `--preprocess says ${given}, the network ${dim}`);
    const found = typeof dim === "number" ? dim : given;
    if (found === undefined) throw badDataset(place, "its size is free", "say --preprocess size=224x224");
    return found;
  };
  return { width: of(width, size?.[0]), height: of(height, size?.[1]), channels, layout: chosen };
}

/** The elements of one picture from its bytes, width · height · channels of them, channels last. */
export function toElements(
  pixels: Uint8Array,
  { width, height, channels, layout }: Picture,
  { scale, mean, std, bgr }: Preprocess,
): Float32Array {
  const area = width * height;
  const elements = new Float32Array(area * channels);
  for (let c = 0; c < channels; c++) {
    const source = bgr ? channels - 1 - c : c;
    const [shift, spread] = [mean[mean.length === 1 ? 0 : c]!, std[std.length === 1 ? 0 : c]!];
    for (let i = 0; i < area; i++)
      elements[layout === "nchw" ? c * area + i : i * channels + c] = (pixels[i * channels + source]! * scale - shift) / spread;
  }
  return elements;
}

/** Decodes picture files. Errors: K705 for one that cannot be decoded, and when `sharp` is not installed. */
export async function openPictures(picture: Picture): Promise<(file: string) => Promise<Uint8Array>> {
  const { default: sharp } = await import("sharp").catch((cause: Error) => {
    throw badDataset(
      "pictures",
      `the package "sharp" decodes them and cannot be loaded: ${cause.message.split("\n")[0]}`,
      "npm install sharp, or give .npy files",
    );
  });
  const { width, height, channels } = picture;
  return async (file) => {
    try {
      const scaled = sharp(file).rotate().flatten().resize(width, height, { fit: "cover", kernel: "cubic" });
      return new Uint8Array(await (channels === 1 ? scaled.greyscale() : scaled.toColourspace("srgb")).raw().toBuffer());
    } catch (cause) {
      throw badDataset(file, `it cannot be decoded: ${(cause as Error).message}`);
    }
  };
}

/** A batch of pictures as the input's tensor. */
export function batchOf(
  { dtype }: PictureInput,
  pictures: readonly Float32Array[],
  { width, height, channels, layout }: Picture,
): Tensor {
  const size = width * height * channels;
  const tensor: Tensor = {
    dtype,
    shape: [pictures.length, ...(layout === "nchw" ? [channels, height, width] : [height, width, channels])],
    data: allocate(dtype, size * pictures.length),
  };
  const write = writer(tensor);
  pictures.forEach((elements, n) => elements.forEach((value, i) => write(n * size + i, value)));
  return tensor;
}
