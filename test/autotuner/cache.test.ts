// The timing cache: what survives a file, what merging and deleting mean, damage, two builds that save at once, IndexedDB.

import "fake-indexeddb/auto";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildSync } from "esbuild";
import { afterAll, describe, expect, it } from "vitest";
import { TimingCache } from "../../src/autotuner/cache.ts";
import { loadTimingCache as loadFromPage, saveTimingCache as saveToPage } from "../../src/browser.ts";
import { loadTimingCache, saveTimingCache } from "../../src/node.ts";

const folder = mkdtempSync(join(tmpdir(), "kiln-cache-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const entry = (ns: number) => ({ tactic: "gemm.tiled", config: { tileM: 64 }, ns, task: "t", error: 1e-7 });
const cacheOf = (...keys: readonly string[]): TimingCache => {
  const cache = new TimingCache();
  keys.forEach((key, i) => cache.set(key, entry(i + 1)));
  return cache;
};

describe("a timing cache as text", () => {
  it("keeps times, losers, what was rejected and why, and decisions", () => {
    const cache = cacheOf("a", "b");
    cache.set("c", { tactic: "conv.winograd", config: {}, ns: Number.POSITIVE_INFINITY, rejected: "error 1.6e-3" });
    cache.decide("t", { level: 3, key: "a" });
    const warnings: string[] = [];
    const read = TimingCache.parse(cache.serialize(), (warning) => warnings.push(warning));
    expect(read.list()).toEqual(cache.list());
    expect(read.get("c")).toMatchObject({ ns: Number.POSITIVE_INFINITY, rejected: "error 1.6e-3" });
    expect(read.decision("t", 3)).toMatchObject({ key: "a", entry: entry(1) });
    expect(read.decision("t", 4)).toBeUndefined();
    expect(read.bestOf("t")).toEqual(entry(1));
    expect(warnings).toEqual([]);
  });

  it("ignores damage with a word", () => {
    const text = JSON.stringify({
      "kiln-timing-cache": 1,
      entries: { a: entry(1), b: { tactic: 3 }, c: null, d: { ...entry(1), ns: -1 } },
      decisions: { t: { level: "3" } },
    });
    const warnings: string[] = [];
    const warn = (warning: string): number => warnings.push(warning);
    expect(
      TimingCache.parse(text, warn)
        .list()
        .map(([key]) => key),
    ).toEqual(["a"]);
    expect(TimingCache.parse("half a fi", warn).size).toBe(0);
    expect(TimingCache.parse('{"other": 1}', warn).size).toBe(0);
    expect(warnings).toEqual([
      "the timing cache has 4 damaged entries: ignored",
      "the timing cache is not JSON: starting an empty one",
      "the timing cache is of another kind or version: starting an empty one",
    ]);
  });
});

describe("merging", () => {
  it("adds what is missing and brings nothing back that was deleted", () => {
    const [mine, other] = [cacheOf("a", "b"), cacheOf("x", "b")];
    other.decide("t", { level: 5, key: "x" });
    expect(mine.delete("b")).toBe(true);
    mine.merge(other);
    expect(mine.list().map(([key]) => key)).toEqual(["a", "x"]);
    expect(mine.decision("t", 3)?.key).toBe("x");
    mine.delete("x");
    expect(mine.decision("t", 3)).toBeUndefined();
  });
});

describe("in a file", () => {
  it("saves what others saved meanwhile too, and deletes for good", () => {
    const file = join(folder, "cache.json");
    saveTimingCache(cacheOf("a", "b"), file);
    const mine = loadTimingCache(file);
    saveTimingCache(cacheOf("c"), file);
    mine.delete("a");
    saveTimingCache(mine, file);
    expect(
      loadTimingCache(file)
        .list()
        .map(([key]) => key)
        .sort(),
    ).toEqual(["b", "c"]);
  });

  it("loses nothing when processes save at the same time, nor when one died while it held the lock", () => {
    const file = join(folder, "shared.json");
    // In the project's folder, so that packages are found.
    const script = join(import.meta.dirname, "../../node_modules/.cache/kiln-save.mjs");
    buildSync({
      stdin: {
        contents: `import { TimingCache } from "./src/autotuner/cache.ts";
import { saveTimingCache } from "./src/node.ts";
for (let i = 0; i < 20; i++) {
  const cache = new TimingCache();
  cache.set(process.argv[3] + i, { tactic: "t", config: {}, ns: i });
  saveTimingCache(cache, process.argv[2]);
}`,
        resolveDir: join(import.meta.dirname, "../.."),
        loader: "ts",
      },
      outfile: script,
      bundle: true,
      platform: "node",
      format: "esm",
      external: ["webgpu", "onnx-proto", "debug", "sharp", "gl-matrix"],
      loader: { ".wgsl": "text" },
      banner: { js: 'import { createRequire } from "node:module"; const require = createRequire(import.meta.url);' },
    });
    writeFileSync(`${file}.lock`, "");
    execFileSync("sh", [
      "-c",
      `touch -d '1 minute ago' '${file}.lock'; for n in a b; do '${process.execPath}' '${script}' '${file}' $n & done; wait`,
    ]);
    rmSync(script);
    expect(loadTimingCache(file).size).toBe(40);
  });
});

describe("in a page", () => {
  it("merges on save and starts empty", async () => {
    expect((await loadFromPage("net")).size).toBe(0);
    await saveToPage(cacheOf("a"), "net");
    await saveToPage(cacheOf("b"), "net");
    expect(
      (await loadFromPage("net"))
        .list()
        .map(([key]) => key)
        .sort(),
    ).toEqual(["a", "b"]);
    expect((await loadFromPage("other")).size).toBe(0);
  });
});
