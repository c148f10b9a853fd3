// --dump: every form that a model takes on its way to an engine, as text files.

import { join } from "node:path";
import type { Choices } from "../autotuner/tune.ts";
import type { BuildOptions, Stage } from "../builder.ts";
import type { Engine } from "../engine/engine.ts";
import { dispatchesOf } from "../engine/lifetimes.ts";
import type { Graph } from "../ir/graph.ts";
import type { Program } from "../ir/task.ts";
import { taskToJson } from "../ir/task-json.ts";
import { printProgram, printTask } from "../ir/task-text.ts";
import { printGraph } from "../ir/text.ts";
import { STAGES } from "./build-flags.ts";
import { fileName, writeOut } from "./files.ts";

/** The text of a stage's result. */
function textOf(form: Graph | Program | Choices): string {
  if ("nodes" in form) return printGraph(form);
  if ("tasks" in form) return printProgram(form);
  return [...form].map(([task, { tactic, config }]) => printTask(task, "", ` by ${tactic} ${JSON.stringify(config)}`)).join("");
}

/** Writes each stage into a numbered file of `dir`, and each tuned task into a file of its own that bench/kernel replays. */
export const dumpStages =
  (dir: string): NonNullable<BuildOptions["onStage"]> =>
  (stage: Stage, form) => {
    writeOut(join(dir, `${STAGES.indexOf(stage) + 1}-${stage}.txt`), textOf(form));
    if ("nodes" in form || "tasks" in form) return;
    for (const [i, task] of [...form.keys()].entries())
      writeOut(join(dir, "tasks", `${String(i).padStart(4, "0")}-${fileName(task.name)}.json`), taskToJson(task));
  };

/** Writes each kernel's WGSL, in the order in which they run. */
export function dumpKernels(dir: string, { plan }: Engine): void {
  for (const [i, { label, tactic, config, nodes, shader, workgroups }] of dispatchesOf(plan.steps).entries()) {
    const head = `// ${label}: ${tactic} ${JSON.stringify(config)}, workgroups ${workgroups.join(" x ")}\n// from ${nodes.join(", ")}\n`;
    writeOut(join(dir, "kernels", `${String(i).padStart(4, "0")}-${fileName(label)}.wgsl`), head + plan.shaders[shader]!);
  }
}
