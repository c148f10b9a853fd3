// Writes the table of operators into README.md, from the registry. `--check` only says whether it is up to date.

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { build } from "esbuild";
import { root } from "./vulkan-env.mjs";

const START = "<!-- operators: written by scripts/ops-table.mjs -->";
const END = "<!-- /operators -->";

/** The registry, bundled from the sources. */
async function registry() {
  const { outputFiles } = await build({
    entryPoints: [join(root, "src/ops/registry.ts")],
    bundle: true,
    write: false,
    format: "esm",
    platform: "node",
    logLevel: "error",
  });
  return import(`data:text/javascript;base64,${Buffer.from(outputFiles[0].contents).toString("base64")}`);
}

/** The table's lines: ONNX's own operators first, then the others, by name. */
export async function table() {
  const { FUSION, OPERATORS, fusionOf } = await registry();
  const rows = OPERATORS.map((operator) => ({ domain: "", ...operator, fused: FUSION[fusionOf(operator)] })).sort(
    (a, b) => a.domain.localeCompare(b.domain) || a.name.localeCompare(b.name),
  );
  const link = ({ name, domain }) =>
    domain === "" ? `[${name}](https://onnx.ai/onnx/operators/onnx__${name}.html)` : `${domain}.${name}`;
  const onGpu = rows.filter(({ place }) => !place?.startsWith("host")).length;
  return [
    `${rows.length} operators, ${onGpu} of them with kernels. float64 that goes through a model is computed on the host, for GPUs lack`,
    "it; what constants alone decide, by the build.",
    "",
    "| operator | versions | runs on | fusion |",
    "|---|---|---|---|",
    ...rows.map((row) => `| ${link(row)} | ${row.since.join(", ")} | ${row.place ?? "GPU"} | ${row.fused} |`),
  ];
}

const file = join(root, "README.md");
const text = readFileSync(file, "utf8");
const [before, rest] = text.split(START);
const after = rest.split(END)[1];
const wanted = `${before}${START}\n${(await table()).join("\n")}\n${END}${after}`;
if (process.argv.includes("--check")) process.exit(wanted === text ? 0 : 1);
writeFileSync(file, wanted);
