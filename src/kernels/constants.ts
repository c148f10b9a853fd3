// Constant expressions of WGSL, as far as kernels have them.

/** The value of a WGSL constant expression of numbers, names, + - * / and parentheses; NaN for any other. */
export function evaluateConstant(text: string, constants: ReadonlyMap<string, string>): number {
  const tokens = text.match(/\w+|\S/g) ?? [];
  let at = 0;
  const atom = (): number => {
    const token = tokens[at++] ?? "";
    if (token === "(") {
      const inner = sum();
      return tokens[at++] === ")" ? inner : Number.NaN;
    }
    const named = constants.get(token);
    if (named !== undefined) return evaluateConstant(named, constants);
    return /^\d+u?$/.test(token) ? Number.parseInt(token, 10) : Number.NaN;
  };
  const chain = (next: () => number, apply: Readonly<Record<string, (a: number, b: number) => number>>): number => {
    let value = next();
    for (let operator = apply[tokens[at]!]; operator; operator = apply[tokens[at]!]) {
      at++;
      value = operator(value, next());
    }
    return value;
  };
  const term = (): number => chain(atom, { "*": (a, b) => a * b, "/": (a, b) => Math.floor(a / b) });
  const sum = (): number => chain(term, { "+": (a, b) => a + b, "-": (a, b) => a - b });
  const value = sum();
  return at === tokens.length ? value : Number.NaN;
}
