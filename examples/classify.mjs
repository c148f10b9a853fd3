// Classification in Node: which way up is a line of text? The engine is built once and kept in a file; from then on the
// runtime loads it, and no compiler runs.
//   node examples/classify.mjs [--level 0…5] [--engine FILE] [picture.png …]

import { existsSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { Builder, KilnError, openNodeDevice, Runtime } from "../dist/node.js";
import { readLine } from "./ocr.mjs";
import { answersOf, batchesUpTo, batchOf, classifier, turned, windowOf } from "./orientation.mjs";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    level: { type: "string", default: "1" },
    engine: { type: "string", default: join(tmpdir(), "kiln-orientation.engine") },
  },
});
const pictures = positionals.length > 0 ? positionals : [fileURLToPath(new URL("sample.png", import.meta.url))];

const device = await openNodeDevice();
const { engine, how } = (await load(values.engine)) ?? (await build(values.engine));
console.log(`${how}; ${engine.describe().kernels.length} kernels on ${device.fingerprint.description}`);

const context = engine.createExecutionContext();
for (const picture of pictures) {
  const pixels = windowOf(readLine(picture));
  const start = performance.now();
  const scores = Object.values(await context.execute({ x: batchOf([pixels, turned(pixels)]) })).at(0);
  const ms = performance.now() - start;
  const [asIs, around] = answersOf(scores).map(({ label, score }) => `${label} (${(100 * score).toFixed(1)} %)`);
  console.log(`${basename(picture)}: ${asIs}; turned around: ${around}; both in ${ms.toFixed(1)} ms`);
}
engine.dispose();
device.destroy();

/** The engine of an earlier run, unless it was built for another device or by another version: both are told and rebuilt. */
async function load(file) {
  if (!existsSync(file)) return undefined;
  const start = performance.now();
  try {
    const engine = await (await Runtime.create(device)).deserializeFile(file);
    return { engine, how: `loaded ${file} in ${(performance.now() - start).toFixed(0)} ms` };
  } catch (failure) {
    if (!(failure instanceof KilnError)) throw failure;
    console.log(failure.format());
    return undefined;
  }
}

async function build(file) {
  const start = performance.now();
  const engine = await (await Builder.create(device)).build(classifier(), {
    file: "orientation classifier",
    profiles: [batchesUpTo(2)],
    optimizationLevel: Number(values.level),
  });
  const bytes = engine.serialize();
  writeFileSync(file, bytes);
  const size = (bytes.length / 1e6).toFixed(2);
  return { engine, how: `built in ${((performance.now() - start) / 1000).toFixed(1)} s and wrote ${file} (${size} MB)` };
}
