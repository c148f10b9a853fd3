// Runs the command line as a user does, in a process of its own, from this checkout's source.

import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { build } from "esbuild";
import { afterAll, beforeAll } from "vitest";

const ROOT = join(import.meta.dirname, "..", "..");

export interface Outcome {
  readonly status: number | null;
  readonly stdout: string;
  /** Without what Dawn itself says about the machine. */
  readonly stderr: string;
}

/** A command `kiln` and a folder to work in; both are gone after the test file. */
export function useKiln(): {
  readonly dir: string;
  readonly kiln: (...args: readonly string[]) => Promise<Outcome>;
  readonly write: (name: string, data: Uint8Array | string) => string;
} {
  const dir = mkdtempSync(join(tmpdir(), "kiln-cli-"));
  // Beside node_modules, where the packages that stay outside of the bundle are found.
  const bundle = join(ROOT, ".kiln", `test-cli-${process.pid}.mjs`);
  beforeAll(async () => {
    await build({
      entryPoints: [join(ROOT, "src/cli/main.ts")],
      outfile: bundle,
      bundle: true,
      format: "esm",
      platform: "node",
      target: "node20",
      packages: "external",
      loader: { ".wgsl": "text" },
      logLevel: "silent",
    });
  });
  afterAll(() => {
    rmSync(bundle, { force: true });
    rmSync(dir, { recursive: true, force: true });
  });
  const kiln = (...args: readonly string[]): Promise<Outcome> =>
    new Promise((resolve) => {
      const child = spawn(process.execPath, [bundle, ...args], { cwd: dir });
      const text = { stdout: "", stderr: "" };
      for (const stream of ["stdout", "stderr"] as const)
        child[stream].setEncoding("utf8").on("data", (chunk: string) => {
          text[stream] += chunk;
        });
      child.on("close", (status) => resolve({ status, stdout: text.stdout, stderr: withoutDawn(text.stderr) }));
    });
  const write = (name: string, data: Uint8Array | string): string => {
    const path = join(dir, name);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, data);
    return path;
  };
  return { dir, kiln, write };
}

/** Dawn writes notes about the driver: a line that begins with "Warning:", then where in its source, then an empty one. */
const withoutDawn = (text: string): string => text.replace(/^(Warning: .*|\s+at operator\(\) .*|)\n/gm, "");
