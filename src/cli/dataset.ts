// A folder of calibration data as a stream of samples: .npy files (for several inputs, a folder each), or pictures. Files are
// read when they are asked for, in the order of their names.

import { existsSync, readdirSync, statSync } from "node:fs";
import { extname, join } from "node:path";
import { allocate, reader, sizeOf, type Tensor, writer } from "../ir/tensor.ts";
import { isFloat } from "../ir/types.ts";
import { badDataset } from "../util/errors.ts";
import { readBytes } from "./files.ts";
import { readNpy } from "./npy.ts";
import { batchOf, openPictures, type PictureInput, type Preprocess, pictureOf, toElements } from "./preprocess.ts";

const PICTURES: ReadonlySet<string> = new Set([".jpg", ".jpeg", ".png", ".webp", ".gif", ".tif", ".tiff", ".avif"]);

export interface Dataset {
  /** Batches. */
  readonly length: number;
  readonly samples: AsyncIterable<Readonly<Record<string, Tensor>>>;
}

/** Opens a folder for a network's inputs. `limit`: no more batches than that. Error K705 says what is wrong with it. */
export function openDataset(
  folder: string,
  inputs: readonly PictureInput[],
  preprocess: Preprocess,
  limit = Number.POSITIVE_INFINITY,
): Dataset {
  if (!existsSync(folder)) throw badDataset(folder, "there is no such folder");
  if (!statSync(folder).isDirectory()) throw badDataset(folder, "it is not a folder", "name the folder that holds the files");
  const [only, more] = inputs;
  if (!only) throw badDataset(folder, "the network has no inputs");
  const isNested = more !== undefined || existsSync(join(folder, only.name));
  const folders = inputs.map(({ name }) => (isNested ? join(folder, name) : folder));
  for (const each of folders)
    if (!existsSync(each))
      throw badDataset(
        folder,
        `it has no folder "${each.slice(folder.length + 1)}"`,
        `the network has ${inputs.length} inputs: one folder for each, ${inputs.map(({ name }) => `"${name}"`).join(", ")}`,
      );
  const lists = folders.map(filesOf);
  const uneven = lists.findIndex((files) => files.length !== lists[0]!.length);
  if (uneven > 0)
    throw badDataset(folders[uneven]!, `it holds ${lists[uneven]!.length} files, ${folders[0]} ${lists[0]!.length}`);
  const kinds = new Set(lists.flat().map((file) => (extname(file) === ".npy" ? "npy" : "picture")));
  if (kinds.size === 0)
    throw badDataset(folder, "it holds no .npy file and no picture", `pictures are ${[...PICTURES].join(", ")}`);
  if (kinds.size > 1) throw badDataset(folder, "it holds both .npy files and pictures");
  if (kinds.has("npy")) {
    const length = Math.min(limit, lists[0]!.length);
    return { length, samples: arrays(inputs, lists, length) };
  }
  if (more) throw badDataset(folder, "pictures serve networks with one input", "give .npy files");
  const batch = typeof only.shape[0] === "number" ? only.shape[0] : 1;
  const length = Math.min(limit, Math.floor(lists[0]!.length / batch));
  if (length === 0) throw badDataset(folder, `it holds ${lists[0]!.length} pictures, the network takes ${batch} at once`);
  return { length, samples: pictures(only, lists[0]!, batch, length, preprocess) };
}

const filesOf = (folder: string): string[] =>
  readdirSync(folder)
    .filter((name) => extname(name) === ".npy" || PICTURES.has(extname(name).toLowerCase()))
    .sort((a, b) => a.localeCompare(b, "en", { numeric: true }))
    .map((name) => join(folder, name));

async function* arrays(
  inputs: readonly PictureInput[],
  lists: readonly (readonly string[])[],
  length: number,
): AsyncGenerator<Record<string, Tensor>> {
  for (let i = 0; i < length; i++) {
    yield Object.fromEntries(
      inputs.map((input, at): [string, Tensor] => {
        const file = lists[at]![i]!;
        return [input.name, fitted(readNpy(readBytes(file), file), input, file)];
      }),
    );
  }
}

/** An array in the input's type and, where it lacks only the batch, with that. */
function fitted(array: Tensor, { name, dtype, shape }: PictureInput, file: string): Tensor {
  const missing = array.shape.length === shape.length - 1 && (shape[0] === 1 || typeof shape[0] === "string");
  const whole = { ...array, shape: missing ? [1, ...array.shape] : array.shape };
  const fits =
    whole.shape.length === shape.length && shape.every((dim, i) => typeof dim === "string" || dim === whole.shape[i]);
  if (!fits) throw badDataset(file, `its shape is [${array.shape.join(", ")}], input "${name}" takes [${shape.join(", ")}]`);
  if (whole.dtype === dtype) return whole;
  if (isFloat(dtype) !== isFloat(whole.dtype))
    throw badDataset(file, `it holds ${whole.dtype}, input "${name}" takes ${dtype}`);
  const cast: Tensor = { dtype, shape: whole.shape, data: allocate(dtype, sizeOf(whole.shape)) };
  const [read, write] = [reader(whole), writer(cast)];
  for (let i = 0; i < cast.data.length; i++) write(i, read(i));
  return cast;
}

async function* pictures(
  input: PictureInput,
  files: readonly string[],
  batch: number,
  length: number,
  preprocess: Preprocess,
): AsyncGenerator<Record<string, Tensor>> {
  const picture = pictureOf(input, preprocess);
  const decode = await openPictures(picture);
  for (let i = 0; i < length; i++) {
    const pixels = await Promise.all(files.slice(i * batch, (i + 1) * batch).map(decode));
    yield {
      [input.name]: batchOf(
        input,
        pixels.map((bytes) => toElements(bytes, picture, preprocess)),
        picture,
      ),
    };
  }
}
