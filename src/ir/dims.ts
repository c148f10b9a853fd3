// Dimensions: a number, or an integer polynomial over named symbols and floor-division, modulo, min and max terms.
// Always in normal form, so that equal dimensions have equal text. Symbols stand for sizes: integers ≥ 0.

export type Dim = number | SymbolicDim;

export interface SymbolicDim {
  /** Canonical text, `N*3+H/2`; `/` is floor division and `%` its remainder. Equal text means equal dimension. */
  readonly text: string;
  readonly terms: readonly Term[];
}

interface Term {
  readonly coefficient: number;
  readonly atoms: readonly Atom[];
}

type Atom =
  | { readonly kind: "symbol"; readonly text: string; readonly name: string }
  | { readonly kind: "/" | "%" | "max" | "min"; readonly text: string; readonly a: Dim; readonly b: Dim };

/** What each symbol is worth. */
export type Bindings = ReadonlyMap<string, number>;
/** Inclusive bounds of each symbol. */
export type Ranges = ReadonlyMap<string, readonly [number, number]>;

export const isStatic = (dim: Dim): dim is number => typeof dim === "number";
export const dimText = (dim: Dim): string => (isStatic(dim) ? String(dim) : dim.text);
export const sameDim = (a: Dim, b: Dim): boolean => a === b || (!isStatic(a) && !isStatic(b) && a.text === b.text);
export const sameShape = (a: readonly Dim[], b: readonly Dim[]): boolean =>
  a.length === b.length && a.every((dim, i) => sameDim(dim, b[i]!));
export const shapeText = (shape: readonly Dim[]): string => `[${shape.map(dimText).join(", ")}]`;
export const isStaticShape = (shape: readonly Dim[]): shape is readonly number[] => shape.every(isStatic);

const IDENTIFIER = /^[A-Za-z_][A-Za-z0-9_.]*$/;
const symbolText = (name: string): string =>
  IDENTIFIER.test(name) && name !== "max" && name !== "min" ? name : JSON.stringify(name);

export const symbol = (name: string): SymbolicDim => {
  const text = symbolText(name);
  return { text, terms: [{ coefficient: 1, atoms: [{ kind: "symbol", text, name }] }] };
};

const termsOf = (dim: Dim): readonly Term[] =>
  isStatic(dim) ? (dim === 0 ? [] : [{ coefficient: dim, atoms: [] }]) : dim.terms;
const monomial = (term: Term): string => term.atoms.map((atom) => atom.text).join("*");

/** Sums terms into normal form: one term a monomial, sorted by text with the constant last. */
function normalize(terms: readonly Term[]): Dim {
  const sums = new Map<string, Term>();
  for (const term of terms) {
    const key = monomial(term);
    const before = sums.get(key);
    sums.set(key, before ? { coefficient: before.coefficient + term.coefficient, atoms: term.atoms } : term);
  }
  const kept = [...sums.entries()].filter(([, term]) => term.coefficient !== 0);
  if (kept.length === 0) return 0;
  kept.sort(([a], [b]) => (a === "" ? 1 : b === "" ? -1 : a < b ? -1 : 1));
  const only = kept[0]!;
  if (kept.length === 1 && only[0] === "") return only[1].coefficient;
  let text = "";
  for (const [key, { coefficient }] of kept) {
    const size = Math.abs(coefficient);
    const body = key === "" ? String(size) : size === 1 ? key : `${key}*${size}`;
    text += coefficient < 0 ? `-${body}` : text === "" ? body : `+${body}`;
  }
  return { text, terms: kept.map(([, term]) => term) };
}

export const add = (...dims: readonly Dim[]): Dim =>
  dims.every(isStatic) ? dims.reduce((sum, dim) => sum + dim, 0) : normalize(dims.flatMap(termsOf));
export const sub = (a: Dim, b: Dim): Dim => add(a, mul(b, -1));

export function mul(a: Dim, b: Dim): Dim {
  if (isStatic(a) && isStatic(b)) return a * b;
  const product = (x: Term, y: Term): Term => ({
    coefficient: x.coefficient * y.coefficient,
    atoms: [...x.atoms, ...y.atoms].sort((p, q) => (p.text < q.text ? -1 : p.text > q.text ? 1 : 0)),
  });
  return normalize(termsOf(a).flatMap((x) => termsOf(b).map((y) => product(x, y))));
}

export const product = (dims: readonly Dim[]): Dim => dims.reduce(mul, 1);

const atomic = (kind: "/" | "%" | "max" | "min", a: Dim, b: Dim): Dim => {
  const text = kind === "max" || kind === "min" ? `${kind}(${dimText(a)}, ${dimText(b)})` : `(${wrapSum(a)}${kind}${wrap(b)})`;
  return normalize([{ coefficient: 1, atoms: [{ kind, text, a, b }] }]);
};
const wrapSum = (dim: Dim): string => (isStatic(dim) || dim.terms.length === 1 ? dimText(dim) : `(${dim.text})`);
const wrap = (dim: Dim): string => (isStatic(dim) && dim >= 0 ? String(dim) : `(${dimText(dim)})`);

/** `a / b` when every term of `a` holds all of monomial `b`; undefined otherwise. */
function exactQuotient(a: Dim, b: Dim): Dim | undefined {
  const [divisor, more] = termsOf(b);
  if (!divisor || more) return undefined;
  const quotients: Term[] = [];
  for (const term of termsOf(a)) {
    if (term.coefficient % divisor.coefficient !== 0) return undefined;
    const rest = [...term.atoms];
    for (const atom of divisor.atoms) {
      const at = rest.findIndex((other) => other.text === atom.text);
      if (at < 0) return undefined;
      rest.splice(at, 1);
    }
    quotients.push({ coefficient: term.coefficient / divisor.coefficient, atoms: rest });
  }
  return normalize(quotients);
}

/** Floor division. `b` must not be 0. */
export function floorDiv(a: Dim, b: Dim): Dim {
  if (isStatic(a) && isStatic(b)) return Math.floor(a / b);
  if (sameDim(a, b)) return 1;
  const exact = exactQuotient(a, b);
  if (exact !== undefined) return exact;
  if (isStatic(b) && b > 0 && !isStatic(a)) {
    // Whole multiples of the divisor leave the quotient: (4·N+3)/2 = 2·N + 3/2.
    const whole = a.terms.filter((term) => term.coefficient % b === 0);
    if (whole.length > 0) {
      const rest = normalize(a.terms.filter((term) => term.coefficient % b !== 0));
      return add(normalize(whole.map((term) => ({ ...term, coefficient: term.coefficient / b }))), floorDiv(rest, b));
    }
  }
  return atomic("/", a, b);
}

/** Remainder of floor division. */
export function mod(a: Dim, b: Dim): Dim {
  if (isStatic(a) && isStatic(b)) return a - b * Math.floor(a / b);
  if (exactQuotient(a, b) !== undefined) return 0;
  return atomic("%", a, b);
}

export const ceilDiv = (a: Dim, b: Dim): Dim => (isStatic(a) && isStatic(b) ? Math.ceil(a / b) : floorDiv(add(a, b, -1), b));

export function max(a: Dim, b: Dim): Dim {
  if (isStatic(a) && isStatic(b)) return Math.max(a, b);
  if (sameDim(a, b)) return a;
  const difference = sub(a, b);
  if (isStatic(difference)) return difference > 0 ? a : b;
  return dimText(a) < dimText(b) ? atomic("max", a, b) : atomic("max", b, a);
}

export function min(a: Dim, b: Dim): Dim {
  if (isStatic(a) && isStatic(b)) return Math.min(a, b);
  if (sameDim(a, b)) return a;
  const difference = sub(a, b);
  if (isStatic(difference)) return difference > 0 ? b : a;
  return dimText(a) < dimText(b) ? atomic("min", a, b) : atomic("min", b, a);
}

/** Names of the symbols in a dimension, in order of appearance. */
export function symbolsOf(dim: Dim, into: Set<string> = new Set()): Set<string> {
  if (isStatic(dim)) return into;
  for (const term of dim.terms)
    for (const atom of term.atoms) {
      if (atom.kind === "symbol") into.add(atom.name);
      else {
        symbolsOf(atom.a, into);
        symbolsOf(atom.b, into);
      }
    }
  return into;
}

/** The name of the symbol that a dimension is, if it is one alone. */
export function loneSymbol(dim: Dim): string | undefined {
  if (isStatic(dim) || dim.terms.length !== 1) return undefined;
  const { coefficient, atoms } = dim.terms[0]!;
  const [atom] = atoms;
  return coefficient === 1 && atoms.length === 1 && atom!.kind === "symbol" ? atom!.name : undefined;
}

/** Puts dimensions in the place of symbols; unknown symbols stay. */
export function substitute(dim: Dim, values: ReadonlyMap<string, Dim>): Dim {
  if (isStatic(dim)) return dim;
  const atomValue = (atom: Atom): Dim => {
    if (atom.kind === "symbol") return values.get(atom.name) ?? symbol(atom.name);
    return OPERATORS[atom.kind](substitute(atom.a, values), substitute(atom.b, values));
  };
  return add(
    ...dim.terms.map((term) => term.atoms.reduce<Dim>((value, atom) => mul(value, atomValue(atom)), term.coefficient)),
  );
}

const OPERATORS = { "/": floorDiv, "%": mod, max, min } as const;

/** The value under `bindings`, or undefined when a symbol is unbound. */
export function evaluate(dim: Dim, bindings: Bindings): number | undefined {
  if (isStatic(dim)) return dim;
  let sum = 0;
  for (const { coefficient, atoms } of dim.terms) {
    let product = coefficient;
    for (const atom of atoms) {
      const factor = atom.kind === "symbol" ? bindings.get(atom.name) : evaluateAtom(atom, bindings);
      if (factor === undefined) return undefined;
      product *= factor;
    }
    sum += product;
  }
  return sum;
}

function evaluateAtom({ kind, a, b }: Exclude<Atom, { kind: "symbol" }>, bindings: Bindings): number | undefined {
  const [x, y] = [evaluate(a, bindings), evaluate(b, bindings)];
  return x === undefined || y === undefined ? undefined : (OPERATORS[kind](x, y) as number);
}

/** Inclusive bounds of a dimension by interval arithmetic; symbols without a range are [0, ∞). */
export function interval(dim: Dim, ranges: Ranges): readonly [number, number] {
  if (isStatic(dim)) return [dim, dim];
  const times = ([a, b]: readonly [number, number], [c, d]: readonly [number, number]): [number, number] => {
    const corners = [a * c, a * d, b * c, b * d].map((x) => (Number.isNaN(x) ? 0 : x));
    return [Math.min(...corners), Math.max(...corners)];
  };
  const bounds = (atom: Atom): readonly [number, number] => {
    if (atom.kind === "symbol") return ranges.get(atom.name) ?? [0, Number.POSITIVE_INFINITY];
    const [a0, a1] = interval(atom.a, ranges);
    const [b0, b1] = interval(atom.b, ranges);
    switch (atom.kind) {
      case "/": {
        if (b0 <= 0) return [Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY];
        const corners = [a0 / b0, a0 / b1, a1 / b0, a1 / b1].map((x) => (Number.isNaN(x) ? 0 : Math.floor(x)));
        return [Math.min(...corners), Math.max(...corners)];
      }
      case "%":
        return [0, Math.max(0, b1 - 1)];
      case "max":
        return [Math.max(a0, b0), Math.max(a1, b1)];
      case "min":
        return [Math.min(a0, b0), Math.min(a1, b1)];
    }
  };
  let low = 0;
  let high = 0;
  for (const term of dim.terms) {
    const [a, b] = term.atoms.reduce<readonly [number, number]>(
      (range, atom) => times(range, bounds(atom)),
      [term.coefficient, term.coefficient],
    );
    low += a;
    high += b;
  }
  return [low, high];
}

/** Reads what `dimText` writes (and ordinary expressions with + - * / %, max, min and parentheses). */
export function parseDim(text: string): Dim {
  const tokens = text.match(/"(?:[^"\\]|\\.)*"|[A-Za-z_][A-Za-z0-9_.]*|\d+|[-+*/%(),]/g) ?? [];
  let at = 0;
  const expect = (token: string): void => {
    if (tokens[at++] !== token) throw new SyntaxError(`dimension "${text}": expected "${token}"`);
  };
  const factor = (): Dim => {
    const token = tokens[at++];
    if (token === undefined) throw new SyntaxError(`dimension "${text}" ends too early`);
    if (token === "-") return mul(factor(), -1);
    if (token === "(") {
      const inner = sum();
      expect(")");
      return inner;
    }
    if ((token === "max" || token === "min") && tokens[at] === "(") {
      expect("(");
      const a = sum();
      expect(",");
      const b = sum();
      expect(")");
      return OPERATORS[token](a, b);
    }
    if (/^\d/.test(token)) return Number(token);
    if (token.startsWith('"')) return symbol(JSON.parse(token) as string);
    if (IDENTIFIER.test(token)) return symbol(token);
    throw new SyntaxError(`dimension "${text}": unexpected "${token}"`);
  };
  const quotient = (): Dim => {
    let value = factor();
    for (;;) {
      const operator = tokens[at];
      if (operator !== "*" && operator !== "/" && operator !== "%") return value;
      at++;
      const right = factor();
      value = operator === "*" ? mul(value, right) : OPERATORS[operator](value, right);
    }
  };
  const sum = (): Dim => {
    let value = quotient();
    for (;;) {
      const operator = tokens[at];
      if (operator !== "+" && operator !== "-") return value;
      at++;
      value = operator === "+" ? add(value, quotient()) : sub(value, quotient());
    }
  };
  const value = sum();
  if (at !== tokens.length) throw new SyntaxError(`dimension "${text}": unexpected "${tokens[at]}"`);
  return value;
}
