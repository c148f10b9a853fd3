// Fills the marked points of a shader file: `//# spec` lines give a constant or alias another value, `//# hook` lines give a
// function another body, `//# unroll` loops are written out (arrays stay in registers only where no index is computed; with `if NAME`
// where that spec is true), of an `if (NAME) { //# choose` only the branch that its spec chooses is left (compilers check the other one
// too), and an `if (A == B) { //# when` or `if (A < B) { //# when`, of specs and unrolled indices, stays where that holds. Every mark must
// be filled and every filling must have its mark. What is left out need not be read by whoever compiles the text.

import { internal } from "../util/errors.ts";
import { evaluateConstant } from "./constants.ts";

export interface Fillings {
  readonly specs: Readonly<Record<string, string | number | boolean>>;
  /** Function bodies, without braces. */
  readonly hooks: Readonly<Record<string, string>>;
}

const SPEC = /^((?:const|alias) (\w+) = ).*;( *)\/\/# spec$/;
const HOOK = /^(fn (\w+)\(.*\)(?: -> [\w<>]+)?) \{.*\} *\/\/# hook$/;
/** A loop over 0u, 1u, … below a literal or a spec, its body on lines of its own. */
const UNROLL = /^( *)for \(var (\w+) = 0u; \2 < (\w+); \2\+\+\) \{ \/\/# unroll(?: if (\w+))?$/;

/** The branches begin and end on lines of their own. */
const CHOOSE = /^( *)if \((\w+)\) \{ \/\/# choose$/;

/** An inner `when` has a margin of its own; both are settled when all indices are numbers. */
const WHEN = /^( *)if \((.*) (==|<) (.*)\) \{ \/\/# when$/;

/** The shader's text with all marks filled. `name` is for the error when they are not. */
export function specialize(name: string, text: string, { specs, hooks }: Fillings): string {
  const left = new Set([...Object.keys(specs), ...Object.keys(hooks)]);
  const take = <T>(table: Readonly<Record<string, T>>, mark: string): T => {
    const value = table[mark];
    if (value === undefined) throw internal(name, `mark ${mark} is not filled`);
    left.delete(mark);
    return value;
  };
  const lines = settled(name, expand(name, text.split("\n"), specs), specs).flatMap((line) => {
    const spec = SPEC.exec(line);
    if (spec) {
      const value = take(specs, spec[2]!);
      return [`${spec[1]}${typeof value === "number" ? `${value}u` : value};`];
    }
    const hook = HOOK.exec(line);
    if (hook) return [`${hook[1]} {`, take(hooks, hook[2]!), "}"];
    return line.startsWith("//") ? [] : [line];
  });
  if (left.size > 0) throw internal(name, `no mark for ${[...left].join(", ")}`);
  return lines.join("\n");
}

/** Without the branches that are not taken, and without the tests of those that are. */
function settled(name: string, lines: readonly string[], specs: Fillings["specs"]): string[] {
  const constants = new Map(Object.entries(specs).map(([spec, value]) => [spec, String(value)]));
  const result: string[] = [];
  for (let at = 0; at < lines.length; at++) {
    const when = WHEN.exec(lines[at]!);
    if (!when) {
      result.push(lines[at]!);
      continue;
    }
    const [, margin, left, relation, right] = when as unknown as [string, string, string, string, string];
    const end = lines.indexOf(`${margin}}`, at);
    const [a, b] = [left, right].map((side) => evaluateConstant(side, constants)) as [number, number];
    if (end < 0 || Number.isNaN(a + b))
      throw internal(name, `the branch where ${left} ${relation} ${right} has no end or no value`);
    if (relation === "<" ? a < b : a === b) result.push(...settled(name, lines.slice(at + 1, end), specs));
    at = end;
  }
  return result;
}

/** Loops written out, branches chosen. */
function expand(name: string, lines: readonly string[], specs: Fillings["specs"]): string[] {
  const result: string[] = [];
  for (let at = 0; at < lines.length; at++) {
    const choice = CHOOSE.exec(lines[at]!);
    if (choice) {
      const [, margin, spec] = choice as unknown as [string, string, string];
      const last = lines.indexOf(`${margin}}`, at);
      const middle = lines.indexOf(`${margin}} else {`, at);
      const chosen = specs[spec];
      if (last < 0 || typeof chosen !== "boolean") throw internal(name, `the branch on ${spec} has no end or no choice`);
      const hasElse = middle >= 0 && middle < last;
      const [first, end] = chosen ? [at + 1, hasElse ? middle : last] : hasElse ? [middle + 1, last] : [last, last];
      result.push(...expand(name, lines.slice(first, end), specs));
      at = last;
      continue;
    }
    const loop = UNROLL.exec(lines[at]!);
    if (!loop) {
      result.push(lines[at]!);
      continue;
    }
    const [, indent, index, limit, condition] = loop as unknown as [string, string, string, string, string | undefined];
    if (condition !== undefined && specs[condition] === false) {
      result.push(lines[at]!.replace(/ *\/\/#.*$/, ""));
      continue;
    }
    const end = lines.indexOf(`${indent}}`, at);
    const count = /^\d+u$/.test(limit) ? Number.parseInt(limit, 10) : specs[limit];
    if (end < 0 || typeof count !== "number") throw internal(name, `the loop over ${index} has no end or no known count`);
    const body = expand(name, lines.slice(at + 1, end), specs);
    const declares = body.some((line) => /^ *(?:let|var|const) /.test(line));
    for (let i = 0; i < count; i++) {
      const turn = body.map((line) => line.replace(new RegExp(`\\b${index}\\b`, "g"), `${i}u`));
      result.push(...(declares ? [`${indent}{`, ...turn, `${indent}}`] : turn));
    }
    at = end;
  }
  return result;
}
