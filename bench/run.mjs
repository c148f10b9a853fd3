// node bench/run.mjs NAME ARGS…: bundles bench/NAME.ts and runs it in the environment in which Dawn finds an adapter.
// node bench/run.mjs --bundle: bundles all of them into dist/bench, for a machine that has no esbuild.
import { spawn } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { root, vulkanEnv } from "../scripts/vulkan-env.mjs";

const [name, ...args] = process.argv.slice(2);
const sourceOf = (bench) => join(root, "bench", `${bench}.ts`);
const bundleOf = (bench) => join(root, "dist", "bench", `${bench}.mjs`);

if (name === "--bundle") {
  const runs = readdirSync(join(root, "bench")).filter((file) => file.endsWith(".ts"));
  await bundle(runs.map((file) => file.slice(0, -".ts".length)));
  process.exit(0);
}
if (!name || !existsSync(sourceOf(name))) {
  console.error("usage: node bench/run.mjs NAME ARGS…, where bench/NAME.ts exists");
  process.exit(2);
}
await bundle([name]);
const child = spawn(process.execPath, ["--enable-source-maps", bundleOf(name), ...args], {
  stdio: "inherit",
  env: { ...process.env, ...vulkanEnv() },
});
child.on("exit", (status, signal) => process.exit(status ?? (signal ? 1 : 0)));

async function bundle(benches) {
  const esbuild = await import("esbuild").catch(() => undefined);
  if (!esbuild && benches.every((bench) => existsSync(bundleOf(bench)))) return;
  await esbuild.build({
    entryPoints: benches.map(sourceOf),
    outdir: join(root, "dist", "bench"),
    outExtension: { ".js": ".mjs" },
    bundle: true,
    platform: "node",
    format: "esm",
    packages: "external",
    loader: { ".wgsl": "text" },
    logLevel: "warning",
  });
}
