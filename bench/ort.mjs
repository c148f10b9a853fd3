// One script with Kiln and with onnxruntime-web's wasm as its execution provider: bytes that a page downloads (code, and the
// model), and milliseconds from the start of the process or page to the first result, and of a run after that. Both give the
// same outputs, or the exit status is 1: the largest difference is printed as a part of the largest value.
//   node bench/ort.mjs [--only node|chromium] [--json FILE] [MODEL.onnx …]
// Models of ../shared unless told. Chromium is $CHROMIUM, or whichever is installed; it runs on its software WebGPU with
// --software. Code is counted as gzip sends it.

import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { rm } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { json as jsonOf } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";
import { root, vulkanEnv } from "../scripts/vulkan-env.mjs";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    only: { type: "string" },
    json: { type: "string" },
    software: { type: "boolean", default: false },
    child: { type: "string" },
  },
});
const PROVIDERS = ["wasm", "kiln"];
/** Differences beyond this are another result: sums of f32 in another order stay far below. */
const TOLERANCE = 1e-3;
const SHARED = [
  "mnist-cntk/mnist.onnx",
  "cifar10-resnet/resnet_2b.onnx",
  "squeezenet-fp16/squeezenet_fp32_opset13.onnx",
  "super-resolution/pytorch_super_resolution.onnx",
  "stories260k/stories260k_kvcache_dynamic.onnx",
].map((model) => join(root, "../shared/models", model));

/** The script, in Node and in the page: free dimensions are 1, inputs are waves. Milliseconds since the page or process began. */
async function script(ort, provider, model) {
  const session = await ort.InferenceSession.create(model, { executionProviders: [provider] });
  const ready = performance.now();
  const feeds = {};
  for (const { name, type, shape } of session.inputMetadata) {
    const dims = shape.map((dim) => (typeof dim === "number" ? dim : 1));
    const size = dims.reduce((product, dim) => product * dim, 1);
    const data = type === "int64" ? new BigInt64Array(size) : Float32Array.from({ length: size }, (_, i) => Math.sin(i));
    feeds[name] = new ort.Tensor(type, data, dims);
  }
  const results = await session.run(feeds);
  const first = performance.now();
  const outputs = session.outputNames.map((name) => Array.from(results[name].data, Number));
  const runs = 5;
  for (let i = 0; i < runs; i++) await session.run(feeds);
  return { ready, first, next: (performance.now() - first) / runs, outputs };
}

if (values.child) {
  const ort = await import(values.child === "wasm" ? "onnxruntime-web" : "onnxruntime-common");
  if (values.child === "kiln") (await import("../dist/ort-node.js")).register(ort);
  const told = JSON.stringify(await script(ort, values.child, positionals[0]));
  // A pipe takes long outputs piece by piece.
  await new Promise((written) => process.stdout.write(`${told}\n`, written));
  process.exit(0);
}

function inNode(provider, model) {
  const self = fileURLToPath(import.meta.url);
  const env = { ...process.env, ...vulkanEnv() };
  const { stdout, stderr } = spawnSync(process.execPath, [self, "--child", provider, model], {
    env,
    encoding: "utf8",
    maxBuffer: 1 << 28,
  });
  const result = stdout.split("\n").find((line) => line.startsWith("{"));
  if (!result) throw new Error(`${provider}, ${model}: ${stderr}`);
  return { where: "Node", ...JSON.parse(result) };
}

/** A site with a page for each provider; counts what it sends, and resolves `result` with what the page posts. */
async function openSite() {
  const { outputFiles } = await build({
    stdin: { contents: 'export * from "onnxruntime-common"', resolveDir: root },
    bundle: true,
    minify: true,
    format: "esm",
    write: false,
  });
  const site = { code: 0, model: 0, file: "", posted: () => {} };
  const page = (provider) => {
    const ort = provider === "kiln" ? "/common.js" : "/ort.wasm.min.mjs";
    const set = provider === "kiln" ? 'import { register } from "/ort.js"; register(ort);' : 'ort.env.wasm.wasmPaths = "/";';
    const run = `(${script})(ort, "${provider}", "/model.onnx").catch((failure) => ({ error: String(failure) }))`;
    return `<!doctype html><link rel="icon" href="data:,"><script type="module">import * as ort from "${ort}"; ${set}
      ${run}.then((result) => fetch("/result", { method: "POST", body: JSON.stringify(result) }))</script>`;
  };
  const bodyOf = (path) => {
    if (path.endsWith(".html")) return page(path.slice(1, -5));
    if (path === "/common.js") return outputFiles[0].contents;
    return readFileSync(join(root, path === "/ort.js" ? "dist" : "node_modules/onnxruntime-web/dist", basename(path)));
  };
  const types = { html: "text/html", wasm: "application/wasm" };
  const server = createServer(async (request, response) => {
    // Isolated, so that wasm may use threads.
    response.setHeader("cross-origin-opener-policy", "same-origin");
    response.setHeader("cross-origin-embedder-policy", "require-corp");
    if (request.method === "POST") {
      site.posted(await jsonOf(request));
      response.end();
    } else if (request.url === "/model.onnx") {
      const bytes = readFileSync(site.file);
      site.model += bytes.length;
      response.end(bytes);
    } else {
      const bytes = gzipSync(bodyOf(request.url));
      site.code += bytes.length;
      response.setHeader("content-encoding", "gzip");
      response.setHeader("content-type", types[request.url.split(".").at(-1)] ?? "text/javascript");
      response.end(bytes);
    }
  });
  await new Promise((listening) => server.listen(0, listening));
  return Object.assign(site, { address: `http://localhost:${server.address().port}`, close: () => server.close() });
}

const CHROMIUM =
  process.env.CHROMIUM ??
  ["chromium", "chromium-browser", "google-chrome"].map((name) => join("/usr/bin", name)).find((path) => existsSync(path));

async function inChromium(site, provider, model) {
  Object.assign(site, { code: 0, model: 0, file: model });
  const profile = mkdtempSync(join(tmpdir(), "kiln-bench-"));
  const gpu = values.software ? ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"] : ["--enable-unsafe-webgpu"];
  const root = process.getuid?.() === 0 ? ["--no-sandbox"] : [];
  const args = ["--headless=new", `--user-data-dir=${profile}`, "--no-first-run", ...gpu, ...root];
  const posted = new Promise((resolve) => (site.posted = resolve));
  const browser = spawn(CHROMIUM, [...args, `${site.address}/${provider}.html`], { stdio: "ignore" });
  const ended = new Promise((resolve) => browser.on("exit", resolve));
  const result = await Promise.race([posted, ended.then((status) => ({ error: `the browser ended (${status})` }))]);
  browser.kill();
  await ended;
  await rm(profile, { recursive: true, force: true, maxRetries: 30, retryDelay: 200 }); // its last processes still write
  return { where: "Chromium", code: site.code, model: site.model, ...result };
}

const models = positionals.length > 0 ? positionals : SHARED;
const site = values.only !== "node" && CHROMIUM ? await openSite() : undefined;
if (values.only !== "node" && !CHROMIUM) console.log("no Chromium: set CHROMIUM to its path");
const rows = [];
const columns = ["", "provider", "model", "code kB", "model kB", "ready ms", "first ms", "next ms", "differs"];

/** The largest difference of two runs' outputs as a part of the largest value; infinite where they have other sizes. */
function difference(outputs, expected) {
  const parts = expected.map((values, i) => {
    if (values.length !== outputs[i]?.length) return Number.POSITIVE_INFINITY;
    const largest = values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    return values.reduce((most, value, at) => Math.max(most, Math.abs(value - outputs[i][at])), 0) / (largest || 1);
  });
  return Math.max(...parts);
}
const print = (cells) =>
  console.log(cells.map((cell, i) => (i < 3 ? `${cell}`.padEnd([9, 9, 34][i]) : `${cell}`.padStart(10))).join(""));
print(columns);
let worst = 0;
for (const model of models) {
  const expected = {};
  for (const provider of PROVIDERS) {
    for (const run of [values.only !== "chromium" && inNode, site && ((...of) => inChromium(site, ...of))]) {
      if (!run) continue;
      const { outputs, ...measured } = await run(provider, model);
      const row = { provider, file: basename(model), ...measured };
      rows.push(row);
      const { where, file, code, model: bytes, ready, first, next, error } = row;
      const kB = (count) => (count === undefined ? "" : Math.round(count / 1000));
      if (error) {
        console.log(`${where} ${provider} ${file}: ${error}`);
        worst = Number.POSITIVE_INFINITY;
        continue;
      }
      if (expected[where]) row.differs = difference(outputs, expected[where]);
      expected[where] ??= outputs;
      worst = Math.max(worst, row.differs ?? 0);
      const differs = row.differs?.toExponential(1) ?? "";
      print([where, provider, file, kB(code), kB(bytes), ready.toFixed(0), first.toFixed(0), next.toFixed(2), differs]);
    }
  }
}
site?.close();
if (values.json) writeFileSync(values.json, JSON.stringify(rows, null, 2));
if (worst > TOLERANCE) {
  console.log(`the outputs differ by more than ${TOLERANCE}, or a run failed`);
  process.exit(1);
}
