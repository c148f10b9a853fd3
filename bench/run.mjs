// node bench/run.mjs NAME ARGS…: bundles bench/NAME.ts and runs it in the environment in which Dawn finds an adapter.
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { build } from "esbuild";
import { root, vulkanEnv } from "../scripts/vulkan-env.mjs";

const [name, ...args] = process.argv.slice(2);
const source = join(root, "bench", `${name}.ts`);
if (!name || !existsSync(source)) {
  console.error("usage: node bench/run.mjs NAME ARGS…, where bench/NAME.ts exists");
  process.exit(2);
}
const bundle = join(root, "node_modules", ".cache", "kiln-bench", `${name}.mjs`);
await build({
  entryPoints: [source],
  outfile: bundle,
  bundle: true,
  platform: "node",
  format: "esm",
  packages: "external",
  loader: { ".wgsl": "text" },
  logLevel: "warning",
});
const child = spawn(process.execPath, ["--enable-source-maps", bundle, ...args], {
  stdio: "inherit",
  env: { ...process.env, ...vulkanEnv() },
});
child.on("exit", (status, signal) => process.exit(status ?? (signal ? 1 : 0)));
