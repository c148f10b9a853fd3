// Single floats that a model holds as constants are written into the kernels that read them: no binding, no load. Runs after
// fusion, whose rules know them as constants.

import { constant, type Expr, loadsOf, transform } from "../ir/expr.ts";
import { expressionsOf, isKernelTask, mapExpressions, type Program, type Task } from "../ir/task.ts";
import { reader } from "../ir/tensor.ts";
import { isFloat } from "../ir/types.ts";
import type { Value } from "../ir/value.ts";

/** True for a constant of one float. */
export const isLiteral = ({ data, dtype }: Value): boolean => data?.data.length === 1 && isFloat(dtype);

/** The program without loads of such constants, tasks inside of loops and branches included. */
export const writeLiterals = (program: Program): Program => ({ ...program, tasks: written(program.tasks) });

const written = (tasks: readonly Task[]): Task[] =>
  tasks.map((task) => {
    if (task.kind === "loop") return { ...task, body: written(task.body) };
    if (task.kind === "if") return { ...task, then: written(task.then), else: written(task.else) };
    if (!isKernelTask(task) || !loadsOf(expressionsOf(task)).some(({ value }) => isLiteral(value))) return task;
    const memo = new Map<Expr, Expr>();
    return mapExpressions(task, (e) => transform(e, literal, memo));
  });

const literal = (e: Expr): Expr | undefined =>
  e.kind === "load" && isLiteral(e.value) ? constant("f32", reader(e.value.data!)(0)) : undefined;
