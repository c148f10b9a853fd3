// Reads and writes the files that commands name, with plain words for what goes wrong.

import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { badFlag, cannotRead, cannotWrite } from "../util/errors.ts";

/** All bytes of a file. Error K003 when it is missing, a folder or may not be read. */
export function readBytes(file: string, what = "file"): Uint8Array {
  try {
    return readFileSync(file);
  } catch (failure) {
    const { code, message } = failure as NodeJS.ErrnoException;
    if (code === "ENOENT") throw cannotRead(file, `there is no such ${what}`);
    if (code === "EISDIR") throw cannotRead(file, `it is a folder, not a ${what}`, "name a file inside it");
    throw cannotRead(file, message);
  }
}

/** Writes a file and the folders above it. Error K004. */
export function writeOut(file: string, data: Uint8Array | string): void {
  try {
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, data);
  } catch (failure) {
    throw cannotWrite(file, (failure as Error).message);
  }
}

/** A file's name for any text: letters, digits, dot, underscore and minus. */
export const fileName = (text: string): string =>
  text
    .replace(/[^\w.-]+/g, "_")
    .replace(/^[_.]+(?=.)/, "")
    .slice(0, 120);

/** The regular expression that a flag holds. Error K001. */
export function patternOf(flag: string, text: string): RegExp {
  try {
    return new RegExp(text);
  } catch (failure) {
    throw badFlag(`${flag} ${text}`, (failure as Error).message, "a regular expression");
  }
}
