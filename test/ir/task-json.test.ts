// Tasks through JSON: what comes back runs the same kernels.

import { describe, expect, it } from "vitest";
import { plainest } from "../../src/autotuner/candidates.ts";
import { taskFromJson, taskToJson } from "../../src/ir/task-json.ts";
import { tacticsFor } from "../../src/kernels/index.ts";
import { coreCaps } from "../../src/util/caps.ts";
import { PROBLEMS } from "../kernels/problems.ts";

describe("a task through JSON", () => {
  it.each(PROBLEMS.map(({ name, task }) => [name, task] as const))("%s", (_, task) => {
    const again = taskFromJson(taskToJson(task));
    const where = { caps: coreCaps };
    const texts = (of: typeof task) => plainest(of, where).steps.map(({ wgsl, workgroups }) => [wgsl, workgroups]);
    expect(texts(again)).toEqual(texts(task));
    const names = (of: typeof task) => tacticsFor(of, coreCaps).map(({ name }) => name);
    expect(names(again)).toEqual(names(task));
  });

  it("is refused when it is something else", () => {
    expect(() => taskFromJson('{"kiln-task": 2}')).toThrow(TypeError);
  });
});
