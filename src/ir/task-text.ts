// A program as text for people: one block a task with its loops and stores. Expressions that are used twice get a name.

import { dimText, shapeText } from "./dims.ts";
import type { Expr, Var } from "./expr.ts";
import { expressionsOf, isKernelTask, type KernelTask, type Program, parallelVars, type Task } from "./task.ts";
import type { Value } from "./value.ts";

const typed = (value: Value): string => `${value.name}: ${value.dtype}${shapeText(value.shape)}`;
const nest = (vars: readonly Var[]): string => vars.map(({ name, extent }) => `${name} < ${dimText(extent)}`).join(", ");

/** All tasks in order. */
export function printProgram({ inputs, outputs, tasks }: Program): string {
  const head = inputs.map((value) => `input ${typed(value)}\n`);
  const tail = outputs.map(({ name, value }) => `output ${name} = ${typed(value)}\n`);
  return [...head, ...tasks.map((task) => printTask(task)), ...tail].join("");
}

/** One task; `title` adds words to its first line. */
export function printTask(task: Task, indent = "", title = ""): string {
  const from = task.origins.length > 0 ? ` from ${task.origins.join(", ")}` : "";
  const lines = [`${indent}${task.kind} "${task.name}"${from}${title}`, ...details(task).map((line) => `${indent}  ${line}`)];
  if (task.kind === "loop") lines.push(...task.body.map((inner) => printTask(inner, `${indent}  `).trimEnd()));
  if (task.kind === "if") {
    lines.push(`${indent}  then`, ...task.then.map((inner) => printTask(inner, `${indent}    `).trimEnd()));
    lines.push(`${indent}  else`, ...task.else.map((inner) => printTask(inner, `${indent}    `).trimEnd()));
  }
  return `${lines.join("\n")}\n`;
}

function details(task: Task): string[] {
  if (isKernelTask(task)) return kernelLines(task);
  switch (task.kind) {
    case "host":
      return [
        `${task.op}(${task.inputs.map((value) => (value ? value.name : "_")).join(", ")}) ${JSON.stringify(task.attrs)}`,
        `because ${task.reason}`,
        ...task.outputs.map((value) => `writes ${typed(value)}`),
      ];
    case "if":
      return [
        `on ${task.condition.name}`,
        ...task.results.map(({ then, else: other, out }) => `${typed(out)} = ${then.name} or ${other.name}`),
      ];
    case "loop":
      return [
        `${task.index} < ${dimText(task.count)}${task.trips ? `, at most ${task.trips.name}` : ""}${task.condition ? `, while ${task.condition.output.name}` : ""}`,
        ...task.carried.map(
          ({ init, input, output, final }) => `${input.name} = ${init.name}, then ${output.name}; finally ${typed(final)}`,
        ),
        ...(task.scans ?? []).map(({ piece, out }) => `${typed(out)} stacks ${piece.name}`),
      ];
  }
}

function kernelLines(task: KernelTask): string[] {
  if (task.kind === "block") return task.parts.flatMap((part) => printTask(part).trimEnd().split("\n"));
  const printer = new ExprPrinter(task);
  const lines = [`for ${nest(parallelVars(task)) || "one point"}`];
  const text = (e: Expr): string => printer.text(e);
  switch (task.kind) {
    case "map":
      break;
    case "reduce":
      lines.push(
        ...task.stages.map(({ slot, fn, body }) => `${slot.name} = ${fn} over ${nest(task.inner)}: ${text(body)}`),
        ...(task.each ? [`each ${nest(task.inner)}`] : []),
      );
      break;
    case "gemm":
      lines.push(`${task.acc.name} = sum over ${nest([task.k])}: ${text(task.a)} * ${text(task.b)}`);
      break;
    case "attention":
      lines.push(
        `${task.dot.name} = sum over ${nest([task.d])}: ${text(task.q)} * ${text(task.key)}`,
        `score over ${nest([task.k])} = ${text(task.score)}, ${task.peak.name} = max of it`,
        `weight = exp(score - ${text(task.shift)}), ${task.sum.name} = sum of it`,
        `${task.acc.name} = sum over ${nest([task.k])}: weight * ${text(task.v)}`,
      );
      break;
    case "conv":
      lines.push(
        `x[${nest(task.xVars)}] = ${text(task.x)}, padded by ${shapeText(task.pads)}`,
        `${task.acc.name} = conv over ${nest([task.ic, ...task.kernel])}: x * ${text(task.w)}, groups ${task.groups}, strides [${task.strides}], dilations [${task.dilations}]`,
      );
  }
  const stores = task.stores.map(
    ({ value, index, expr, mode, when, init }) =>
      `${typed(value)} at [${index.map(text).join(", ")}] ${mode === "set" ? "" : mode}= ${text(expr)}${when ? ` where ${text(when)}` : ""}${init ? ` over ${init.name}` : ""}`,
  );
  return [...lines, ...stores, ...(printer.named.length > 0 ? ["where", ...printer.named.map((line) => `  ${line}`)] : [])];
}

/** Prints expressions once each: what several places use is named and defined in `named`. */
class ExprPrinter {
  readonly named: string[] = [];
  private readonly uses = new Map<Expr, number>();
  private readonly names = new Map<Expr, string>();

  constructor(task: KernelTask) {
    const stack = [...expressionsOf(task)];
    for (let e = stack.pop(); e; e = stack.pop()) {
      const count = (this.uses.get(e) ?? 0) + 1;
      this.uses.set(e, count);
      if (count === 1) stack.push(...partsOf(e));
    }
  }

  text(e: Expr): string {
    const known = this.names.get(e);
    if (known) return known;
    if (partsOf(e).length === 0 || this.uses.get(e) === 1) return this.spell(e);
    const spelled = this.spell(e);
    const name = `%${this.named.length}`;
    this.named.push(`${name} = ${spelled}`);
    this.names.set(e, name);
    return name;
  }

  private spell(e: Expr): string {
    const text = (inner: Expr): string => this.text(inner);
    switch (e.kind) {
      case "const":
        return e.type === "bool" ? String(e.value !== 0) : String(e.value);
      case "dim":
        return dimText(e.dim);
      case "var":
      case "slot":
        return e.name;
      case "linear":
        return `(${[...e.terms.map(([term, by]) => (by === 1 ? text(term) : `${dimText(by)}*${text(term)}`)), ...(e.constant === 0 ? [] : [dimText(e.constant)])].join(" + ")})`;
      case "load":
        return `${e.value.name}[${e.index.map(text).join(", ")}]`;
      case "unary":
        return `${e.fn}(${text(e.a)})`;
      case "binary":
        return SIGNS[e.fn] ? `(${text(e.a)} ${SIGNS[e.fn]} ${text(e.b)})` : `${e.fn}(${text(e.a)}, ${text(e.b)})`;
      case "select":
        return `(${text(e.condition)} ? ${text(e.a)} : ${text(e.b)})`;
      case "convert":
        return `${e.to}(${text(e.a)})`;
      case "reduce":
        return `${e.fn}{${nest(e.vars)}: ${text(e.body)}}`;
    }
  }
}

const SIGNS: Readonly<Record<string, string>> = {
  add: "+",
  sub: "-",
  mul: "*",
  div: "/",
  lt: "<",
  le: "<=",
  eq: "==",
  ne: "!=",
  shl: "<<",
  shr: ">>",
};

function partsOf(e: Expr): readonly Expr[] {
  switch (e.kind) {
    case "linear":
      return e.terms.map(([term]) => term);
    case "load":
      return e.index;
    case "unary":
    case "convert":
      return [e.a];
    case "binary":
      return [e.a, e.b];
    case "select":
      return [e.condition, e.a, e.b];
    case "reduce":
      return [e.body];
    default:
      return [];
  }
}
