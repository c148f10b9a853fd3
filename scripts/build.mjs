// Builds dist/: the browser library, the Node library, the lean runtime, the command line and the browser demo with esbuild,
// then the type declarations with tsc (`--no-types` leaves those out).
import { spawnSync } from "node:child_process";
import { chmodSync, rmSync } from "node:fs";
import { join } from "node:path";
import { build } from "esbuild";
import { copyDemoFiles, demoBundle } from "./demo-files.mjs";
import { root } from "./vulkan-env.mjs";

const browser = { platform: "browser", minify: true }; // whole: a page loads it without a bundler
const node = { platform: "node", target: "node20", packages: "external" }; // npm installs what it imports
/** Outputs by source. Those of one bundle share what they have in common, so that its classes exist once. */
const bundles = [
  { outputs: { "src/index.ts": "index" }, ...browser },
  { outputs: { "src/ort-browser.ts": "ort" }, ...browser },
  { outputs: { "src/runtime.ts": "runtime" }, ...browser },
  { outputs: { "src/node.ts": "node", "src/ort-node.ts": "ort-node" }, ...node },
  { outputs: { "src/cli/main.ts": "cli" }, ...node, banner: { js: "#!/usr/bin/env node" } },
  demoBundle,
];

process.chdir(root);
rmSync("dist/shared", { recursive: true, force: true });
copyDemoFiles();
try {
  await Promise.all(
    bundles.map(({ outputs, ...options }) =>
      build({
        entryPoints: Object.entries(outputs).map(([source, output]) => ({ in: source, out: output })),
        outdir: "dist",
        bundle: true,
        splitting: true,
        chunkNames: "shared/[name]-[hash]",
        format: "esm",
        target: "es2023",
        sourcemap: true,
        legalComments: "none",
        loader: { ".wgsl": "text" },
        logLevel: "warning",
        ...options,
      }),
    ),
  );
} catch {
  process.exit(1); // esbuild has printed why
}
chmodSync("dist/cli.js", 0o755);
const names = bundles.flatMap(({ outputs, outdir = "dist" }) =>
  Object.entries(outputs).map(([source, name]) => `${outdir}/${name}${source.endsWith(".css") ? ".css" : ".js"}`),
);
console.log(`built ${names.join(", ")}`);

if (!process.argv.includes("--no-types")) {
  rmSync("dist/types", { recursive: true, force: true });
  const tsc = spawnSync(join("node_modules", ".bin", "tsc"), ["-p", "tsconfig.build.json"], { stdio: "inherit" });
  process.exit(tsc.status ?? 1);
}
