// The functions of shaders/lib/: finds those that a kernel names and what they call in turn.

import math from "../../shaders/lib/math.wgsl";

const FUNCTIONS = new Map([...math.matchAll(/^fn (\w+)\((?:[^\n]*\}$|[\s\S]*?^\})/gm)].map(([text, name]) => [name!, text]));

/** Texts of the named functions and of those that they call, callees first. */
export function libraryFunctions(names: Iterable<string>): string[] {
  const texts = new Map<string, string>();
  const add = (name: string): void => {
    const text = FUNCTIONS.get(name);
    if (text === undefined || texts.has(name)) return;
    for (const [, callee] of text.slice(text.indexOf("{")).matchAll(/\b(\w+)\(/g)) if (callee !== name) add(callee!);
    texts.set(name, text);
  };
  for (const name of names) add(name);
  return [...texts.values()];
}
