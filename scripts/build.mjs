// Builds dist/: the browser library, the Node library, the lean runtime and the command line with esbuild, then the
// type declarations with tsc (`--no-types` leaves those out). Entry points without a source are skipped and named.
import { spawnSync } from "node:child_process";
import { chmodSync, existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import { build } from "esbuild";
import { root } from "./vulkan-env.mjs";

const browser = { platform: "browser", minify: true }; // whole: a page loads it without a bundler
const node = { platform: "node", target: "node20", packages: "external" }; // npm installs what it imports
const bundles = [
  { source: "src/index.ts", output: "dist/index.js", ...browser },
  { source: "src/runtime.ts", output: "dist/runtime.js", ...browser },
  { source: "src/node.ts", output: "dist/node.js", ...node },
  { source: "src/cli/main.ts", output: "dist/cli.js", ...node, banner: { js: "#!/usr/bin/env node" } },
];

process.chdir(root);
const present = bundles.filter(({ source }) => existsSync(source));
for (const { source } of bundles) if (!existsSync(source)) console.log(`skipped: there is no ${source}`);

try {
  await Promise.all(
    present.map(({ source, output, ...options }) =>
      build({
        entryPoints: [source],
        outfile: output,
        bundle: true,
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
if (existsSync("dist/cli.js")) chmodSync("dist/cli.js", 0o755);
console.log(`built ${present.map(({ output }) => output).join(", ") || "nothing"}`);

if (present.length > 0 && !process.argv.includes("--no-types")) {
  rmSync("dist/types", { recursive: true, force: true });
  const tsc = spawnSync(join("node_modules", ".bin", "tsc"), ["-p", "tsconfig.build.json"], { stdio: "inherit" });
  process.exit(tsc.status ?? 1);
}
