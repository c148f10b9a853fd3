// Permission to use f16: activations and weights become f16 where the device has it. Sums, variances and exponentials are
// computed in f32 inside kernels whatever the storage; what f16 cannot hold is kept in f32, and both are reported.

import { type Expr, loadsOf, operands, type Slot, visit } from "../ir/expr.ts";
import { expressionsOf, isKernelTask, type KernelTask, type Program, readsOf, type Task, writesOf } from "../ir/task.ts";
import { reader, type Tensor, tensor } from "../ir/tensor.ts";
import { dtypeFacts } from "../ir/types.ts";
import type { Value } from "../ir/value.ts";
import { dequantizationOf } from "./scales.ts";

/** The largest finite f16. */
const LARGEST = 65504;

/** Gives f32 values the type f16 where that is safe; returns what was done and what was kept, in words. */
export function lowerToHalf(program: Program): string[] {
  const kept = new Set<Value>([...program.inputs, ...program.outputs.map(({ value }) => value)]);
  const made = new Set<Value>();
  const constants = new Set<Value>();
  const guarded: string[] = [];
  for (const task of program.tasks) {
    if (!isKernelTask(task)) {
      keepAll(task, kept);
      continue;
    }
    for (const value of readsOf(task)) if (value.data) constants.add(value);
    for (const value of scalesOf(task)) kept.add(value);
    for (const { value, init, expr, mode } of task.stores) {
      if (init) kept.add(init);
      if (init || mode !== "set") kept.add(value);
      if (
        overflows(expr) ||
        (task.kind === "reduce" &&
          !task.each &&
          task.stages.some(({ fn, slot, body }) => fn === "prod" || (fn === "sum" && (overflows(body) || !isMean(expr, slot)))))
      ) {
        if (value.dtype === "f32") guarded.push(task.name);
        kept.add(value);
      }
      made.add(value);
    }
  }
  let lowered = 0;
  for (const value of made) {
    if (value.dtype !== "f32" || kept.has(value)) continue;
    value.dtype = "f16";
    lowered++;
  }
  const large: string[] = [];
  for (const value of constants) {
    if (value.dtype !== "f32" || kept.has(value) || !value.data) continue;
    const half = toHalfTensor(value.data);
    if (!half) large.push(value.name);
    else {
      value.data = half;
      value.dtype = "f16";
      lowered++;
    }
  }
  const notes = [`fp16: ${lowered} tensors are f16`];
  if (guarded.length > 0)
    notes.push(
      `fp16: ${guarded.length} results stay f32 (sums and powers): ${guarded.slice(0, 8).join(", ")}${guarded.length > 8 ? ", ..." : ""}`,
    );
  if (large.length > 0)
    notes.push(`fp16: ${large.length} constants stay f32, they hold values beyond ${LARGEST}: ${large.slice(0, 8).join(", ")}`);
  return notes;
}

/** Constants by which integers are multiplied, or that decide how a number is rounded to one: scales, most of all. */
function scalesOf(task: KernelTask): readonly Value[] {
  const found: Expr[] = [];
  visit(expressionsOf(task), (e) => {
    const scaled = dequantizationOf(e);
    if (scaled) found.push(scaled.factor);
    if (e.kind === "convert" && dtypeFacts[e.to].kind === "int" && e.a.type === "f32") found.push(e.a);
  });
  return loadsOf(found)
    .map(({ value }) => value)
    .filter(({ data }) => data);
}

/** Results that grow like a power of what they are made of. */
const overflows = (expr: Expr): boolean =>
  (expr.kind === "binary" && (expr.fn === "pow" || (expr.fn === "mul" && expr.a === expr.b))) ||
  (expr.kind === "unary" && (expr.fn === "exp" || expr.fn === "sinh" || expr.fn === "cosh"));

/** Whether a sum is only used divided by a count: then it is no larger than what it is made of. */
function isMean(expr: Expr, sum: Slot): boolean {
  if (expr === sum) return false;
  const isCount = (e: Expr): boolean =>
    e.kind === "dim" || (e.kind === "convert" && e.a.type === "i32") || (e.kind === "const" && e.value >= 1);
  if (expr.kind === "binary" && expr.fn === "div" && expr.a === sum) return isCount(expr.b);
  return operands(expr).every((operand) => isMean(operand, sum));
}

function toHalfTensor(source: Tensor): Tensor | undefined {
  const read = reader(source);
  const values = new Float32Array(source.data.length);
  for (let i = 0; i < values.length; i++) {
    values[i] = read(i);
    if (Math.abs(values[i]!) > LARGEST && Number.isFinite(values[i])) return undefined;
  }
  return tensor("f16", source.shape, values);
}

function keepAll(task: Task, kept: Set<Value>): void {
  for (const value of [...readsOf(task), ...writesOf(task)]) kept.add(value);
  if (task.kind === "loop") {
    for (const { init, input, output, final } of task.carried)
      for (const value of [init, input, output, final]) kept.add(value);
    for (const inner of task.body) keepAll(inner, kept);
  } else if (task.kind === "if") for (const inner of [...task.then, ...task.else]) keepAll(inner, kept);
  else if (isKernelTask(task)) for (const value of writesOf(task)) kept.add(value);
}
