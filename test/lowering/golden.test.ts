// Every fusion rule has a folder of test/lowering/golden: a graph, and the program that fusion makes of it, as text.
// `KILN_BLESS=1 npx vitest run test/lowering/golden.test.ts` writes after.txt anew. What is settled once kernels are chosen is
// in test/plan.

import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { bindShape, interpret, type Tensors } from "../../src/ir/interpret.ts";
import type { Program, Task } from "../../src/ir/task.ts";
import { printProgram } from "../../src/ir/task-text.ts";
import type { Tensor } from "../../src/ir/tensor.ts";
import { parseGraph } from "../../src/ir/text.ts";
import { formBlocks } from "../../src/lowering/blocks.ts";
import { FUSION_RULES, fuse } from "../../src/lowering/fuse.ts";
import { lowerGraph } from "../../src/lowering/lower.ts";
import { type RewriteLog, rewriteLog } from "../../src/passes/index.ts";
import { coreCaps } from "../../src/util/caps.ts";
import { distance, evaluateGraph, inferTypes, inputsFor } from "../passes/evaluate.ts";

const FOLDER = join(import.meta.dirname, "golden");
const names = readdirSync(FOLDER).sort();
const ruleOf = (name: string): string => name.split("--")[0]!;

const read = (name: string) => inferTypes(parseGraph(readFileSync(join(FOLDER, name, "before.txt"), "utf8")));
function fused(name: string, log: RewriteLog, disable: readonly string[] = []): Program {
  const program = fuse(lowerGraph(read(name)), coreCaps, { enabled: true, take: log.take, disable });
  const keep = new Set(program.outputs.map(({ value }) => value));
  const may = (block: Task): boolean => !disable.includes("fuse-block") && log.take("fuse-block", block.name);
  return { ...program, tasks: formBlocks(program.tasks, keep, may) };
}
const OF_PLANS = ["bundle-kernels", "part-block"];

function run(program: Program, inputs: ReadonlyMap<string, Tensor>): Map<string, Tensor> {
  const bindings = new Map<string, number>();
  const tensors: Tensors = new Map();
  for (const value of program.inputs) {
    bindShape(value.shape, inputs.get(value.name)!.shape, bindings);
    tensors.set(value, inputs.get(value.name)!);
  }
  interpret(program.tasks, tensors, bindings, ({ op }) => expect.fail(`${op} runs on the host`));
  return new Map(program.outputs.map(({ name, value }) => [name, (tensors.get(value) ?? value.data)!]));
}

function expectSame(name: string, program: Program): void {
  const graph = read(name);
  const inputs = inputsFor(graph);
  const actual = run(program, inputs);
  for (const [output, expected] of evaluateGraph(graph, inputs))
    expect(distance(actual.get(output)!, expected), output).toBeLessThan(1e-5);
}

describe.each(names)("%s", (name) => {
  it("gives the text of after.txt", () => {
    const log = rewriteLog();
    const text = printProgram(fused(name, log));
    const path = join(FOLDER, name, "after.txt");
    if (process.env.KILN_BLESS === "1") writeFileSync(path, text);
    expect(text).toBe(readFileSync(path, "utf8"));
    expect(log.counts.get(ruleOf(name))).toBeGreaterThan(0);
  });

  it("does not happen when switched off by name, and computes the same", () => {
    const log = rewriteLog();
    expectSame(name, fused(name, log, [ruleOf(name)]));
    expect(log.counts.get(ruleOf(name))).toBeUndefined();
  });

  it("is right after any number of rewrites", () => {
    const all = rewriteLog();
    expectSame(name, fused(name, all));
    for (let limit = 0; limit < all.applied.length; limit++) {
      const log = rewriteLog(limit);
      expectSame(name, fused(name, log));
      expect(log.applied).toEqual(all.applied.slice(0, limit));
    }
  });
});

it("every rule has a golden text", () => {
  expect([...new Set(names.map(ruleOf))]).toEqual(
    Object.keys(FUSION_RULES)
      .filter((rule) => !OF_PLANS.includes(rule))
      .sort(),
  );
});
