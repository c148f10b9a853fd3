// Fills the marked points of a shader file: `//# spec` lines give a constant or alias another value, `//# hook` lines give a
// function another body. Every mark must be filled and every filling must have its mark.

import { internal } from "../util/errors.ts";

export interface Fillings {
  readonly specs: Readonly<Record<string, string | number | boolean>>;
  /** Function bodies, without braces. */
  readonly hooks: Readonly<Record<string, string>>;
}

const SPEC = /^((?:const|alias) (\w+) = ).*;( *)\/\/# spec$/;
const HOOK = /^(fn (\w+)\(.*\)(?: -> [\w<>]+)?) \{.*\} *\/\/# hook$/;

/** The shader's text with all marks filled. `name` is for the error when they are not. */
export function specialize(name: string, text: string, { specs, hooks }: Fillings): string {
  const left = new Set([...Object.keys(specs), ...Object.keys(hooks)]);
  const take = <T>(table: Readonly<Record<string, T>>, mark: string): T => {
    const value = table[mark];
    if (value === undefined) throw internal(name, `mark ${mark} is not filled`);
    left.delete(mark);
    return value;
  };
  const lines = text.split("\n").flatMap((line) => {
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
