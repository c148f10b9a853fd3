// Every folder of test/golden holds a graph before and after the passes, as text. A folder is named after the rule or pass
// that it shows (and `--variant`); `keep-` is what must not happen. `KILN_BLESS=1 npx vitest run test/passes/golden.test.ts`
// writes after.txt anew, and before.txt with its types.

import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { type Graph, subgraphsOf } from "../../src/ir/graph.ts";
import { parseGraph, printGraph } from "../../src/ir/text.ts";
import { isFloat } from "../../src/ir/types.ts";
import { verifyGraph } from "../../src/ir/verify.ts";
import { PASSES, REWRITE_NAMES, rewriteLog, runPasses } from "../../src/passes/index.ts";
import { distance, evaluateGraph, inferTypes, inputsFor } from "./evaluate.ts";

const FOLDER = join(import.meta.dirname, "../golden");
const BLESS = process.env.KILN_BLESS === "1";
const names = readdirSync(FOLDER)
  .filter((name) => existsSync(join(FOLDER, name, "before.txt")))
  .sort();
const ruleOf = (name: string): string | undefined => {
  const rule = name.split("--")[0]!;
  return REWRITE_NAMES.includes(rule) ? rule : undefined;
};
const print = (graph: Graph): string => printGraph(graph, { inline: 64 });
const read = (name: string): Graph => inferTypes(parseGraph(readFileSync(join(FOLDER, name, "before.txt"), "utf8")));
const nodesIn = (graph: Graph): number =>
  graph.nodes.reduce((sum, node) => sum + 1 + subgraphsOf(node).reduce((inner, nested) => inner + nodesIn(nested), 0), 0);

/** 16-bit floats may round at other places; all else agrees to f32's own precision. */
function expectSame(before: Graph, after: Graph): void {
  for (const seed of [1, 2]) {
    const inputs = inputsFor(before, seed);
    const expected = evaluateGraph(before, inputs);
    const actual = evaluateGraph(after, inputs);
    expect([...actual.keys()]).toEqual([...expected.keys()]);
    for (const [name, tensor] of expected)
      expect(distance(actual.get(name)!, tensor), name).toBeLessThan(
        tensor.dtype === "f16" ? 2e-3 : isFloat(tensor.dtype) ? 1e-5 : 1e-9,
      );
  }
}

describe.each(names)("%s", (name) => {
  const afterPath = join(FOLDER, name, "after.txt");
  const rule = ruleOf(name);

  it("gives the text of after.txt", () => {
    const before = read(name);
    const log = rewriteLog();
    const after = print(runPasses(before, { log, verify: true }));
    if (BLESS) {
      writeFileSync(join(FOLDER, name, "before.txt"), print(before));
      writeFileSync(afterPath, after);
    }
    expect(after).toBe(readFileSync(afterPath, "utf8"));
    if (rule) expect(log.counts.get(rule)).toBeGreaterThan(0);
  });

  it("computes the same", () => {
    const before = read(name);
    expectSame(before, runPasses(before));
  });

  it("has nothing more to find afterwards", () => {
    const log = rewriteLog();
    runPasses(runPasses(read(name)), { log });
    expect(log.applied).toEqual([]);
  });

  it("round-trips as text", () => {
    const after = runPasses(read(name));
    expect(print(parseGraph(print(after)))).toBe(print(after));
  });

  it.runIf(rule !== undefined)("does not happen when switched off by name", () => {
    const before = read(name);
    const log = rewriteLog();
    const after = runPasses(before, { log, disable: [rule!] });
    expect(log.counts.get(rule!)).toBeUndefined();
    expectSame(before, after);
  });

  it("is right after any number of rewrites", () => {
    const before = read(name);
    const all = rewriteLog();
    runPasses(before, { log: all });
    for (let limit = 0; limit < all.applied.length; limit++) {
      const log = rewriteLog(limit);
      const after = runPasses(before, { log });
      expect(log.applied).toEqual(all.applied.slice(0, limit));
      verifyGraph(after);
      expectSame(before, after);
    }
  });
});

it("every rule and pass has a golden test", () => {
  const shown = new Set(names.map(ruleOf));
  const groups = new Set(PASSES.filter(({ rules }) => rules && !rules.includes("remove-identity")).map((pass) => pass.name));
  expect(REWRITE_NAMES.filter((name) => !shown.has(name) && !groups.has(name))).toEqual([]);
});

it("nodes that keep- folders hold stay", () => {
  for (const name of names.filter((name) => name.startsWith("keep-"))) {
    const before = read(name);
    expect(nodesIn(runPasses(before)), name).toBe(nodesIn(before));
  }
});
