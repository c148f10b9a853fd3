// Classification in Node: which digit is in a picture? The engine is built once and kept in a file; from then on the runtime
// loads it, and no compiler runs.
//   node examples/classify.mjs [--level 0…5] [--engine FILE] [DIGIT …]

import { existsSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { Builder, KilnError, openNodeDevice, Runtime } from "../dist/node.js";
import { answersOf, batchOf, COLUMNS, draw, network, picturesUpTo } from "./digits.mjs";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    level: { type: "string", default: "3" },
    engine: { type: "string", default: join(tmpdir(), "kiln-digits.engine") },
  },
});
const digits = positionals.length > 0 ? positionals.map(Number) : [4, 2, 7];

const device = await openNodeDevice();
const { engine, how } = (await load(values.engine)) ?? (await build(values.engine));
console.log(`${how}; ${engine.describe().kernels.length} kernels on ${device.fingerprint.description}`);

const pictures = digits.map((digit) => draw(digit, 0.2));
const context = engine.createExecutionContext();
const start = performance.now();
const { scores } = await context.execute({ picture: batchOf(pictures) });
const ms = performance.now() - start;
for (const [i, { digit, score }] of answersOf(scores).entries()) {
  console.log(`${asText(pictures[i])}\nthis is a ${digit} (${(100 * score).toFixed(1)} %)\n`);
}
console.log(`${digits.length} pictures in ${ms.toFixed(1)} ms`);
engine.dispose();
device.destroy();

/** The engine of an earlier run. One that was built for another device or by another version is told of, and built anew. */
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
  const engine = await (await Builder.create(device)).build(network(), {
    file: "digits",
    profiles: [picturesUpTo(16)],
    optimizationLevel: Number(values.level),
  });
  const bytes = engine.serialize();
  writeFileSync(file, bytes);
  const seconds = ((performance.now() - start) / 1000).toFixed(1);
  return { engine, how: `built in ${seconds} s and wrote ${file} (${bytes.length} bytes)` };
}

/** A picture in shades of text, two characters a pixel. */
function asText(picture) {
  const shades = Array.from(picture, (ink) => " .:*#"[Math.min(4, Math.max(0, Math.round(4 * ink)))].repeat(2)).join("");
  return shades.match(new RegExp(`.{${2 * COLUMNS}}`, "g")).join("\n");
}
