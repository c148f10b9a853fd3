// Scalar expressions → WGSL. A Module holds one kernel's bindings, parameters and library functions; a Block writes
// statements, gives every shared expression a name once and moves what does not depend on a loop out of it.

import { type Dim, dimText, isStatic } from "../ir/dims.ts";
import { type Expr, type Load, offsetOf, operands, provablyNonNegative, type Reduce, type Var, visit } from "../ir/expr.ts";
import { storageOf } from "../ir/storage.ts";
import type { Store } from "../ir/task.ts";
import { type DType, dtypeFacts, type Scalar } from "../ir/types.ts";
import type { Value } from "../ir/value.ts";
import type { Caps } from "../util/caps.ts";
import { internal } from "../util/errors.ts";
import { libraryFunctions } from "./library.ts";
import { ROUNDER, ROUNDER_BITS, saturated } from "./rounding.ts";
import type { KernelStep } from "./tactic.ts";

export class Module {
  private readonly buffers = new Map<Value, { name: string; access: "read" | "write"; atomic: boolean }>();
  private readonly vectors = new Map<string, { value: Value; name: string; item: string; access: "read" | "write" }>();
  private readonly numbers = new Map<Value, number>();
  private readonly dims = new Map<string, { dim: Dim; at: number }>();
  private readonly used = new Set<string>();
  private readonly parts: string[] = [];
  readonly features = new Set<string>();

  constructor(readonly caps: Caps) {}

  /** The buffer's name in WGSL. */
  buffer(value: Value, access: "read" | "write", atomic = false): string {
    const found = this.buffers.get(value);
    if (!found) this.buffers.set(value, { name: `b${this.buffers.size}`, access, atomic });
    else if (access === "write") Object.assign(found, { access, atomic: found.atomic || atomic });
    return this.buffers.get(value)!.name;
  }

  /**
   * A view of a value as vectors of four: of what it lies in memory as, or of `item` that wide or, for f16, of words of two. A value
   * that is written so has no other view.
   */
  vectorBuffer(value: Value, item: string = storageOf(value, this.caps).item, access: "read" | "write" = "read"): string {
    const key = `${this.numberOf(value)} ${item}`;
    let vector = this.vectors.get(key);
    if (!vector) this.vectors.set(key, (vector = { value, name: `v${this.vectors.size}`, item, access }));
    return vector.name;
  }

  /** True when the module accesses the value. */
  isBound(value: Value): boolean {
    return this.buffers.has(value) || [...this.vectors.values()].some((vector) => vector.value === value);
  }

  private numberOf(value: Value): number {
    const known = this.numbers.get(value) ?? this.numbers.size;
    this.numbers.set(value, known);
    return known;
  }

  isAtomic(value: Value): boolean {
    return this.buffers.get(value)?.atomic ?? false;
  }

  /** A dimension as i32 text: a literal, or an element of the uniform block. */
  dim(dim: Dim): string {
    if (isStatic(dim)) return literal("i32", dim);
    const key = dimText(dim);
    let entry = this.dims.get(key);
    if (!entry) this.dims.set(key, (entry = { dim, at: this.dims.size }));
    return `params[${entry.at >> 2}][${entry.at & 3}]`;
  }

  /** Names a function of shaders/lib; its text is added once. */
  call(name: string, ...args: readonly string[]): string {
    this.used.add(name);
    return `${name}(${args.join(", ")})`;
  }

  /** Adds text at module scope. */
  add(text: string): void {
    this.parts.push(text);
  }

  /** The step, once everything was written: declarations, library and parts in one text. */
  step(workgroups: KernelStep["workgroups"]): KernelStep {
    const scalars = [...this.buffers].map(([value, { access }]) => ({ value, access }));
    const bindings = [...scalars, ...[...this.vectors.values()].map(({ value, access }) => ({ value, access }))];
    const declarations = [...this.buffers].map(([value, { name, access, atomic }], i) => {
      const { item } = storageOf(value, this.caps);
      if (item === "f16") this.features.add("f16");
      const type = atomic ? `atomic<${item === "f32" ? "u32" : item}>` : item;
      return `@group(0) @binding(${i}) var<storage, ${access === "read" ? "read" : "read_write"}> ${name}: array<${type}>;`;
    });
    for (const { name, item, access } of this.vectors.values()) {
      if (item === "f16") this.features.add("f16");
      const mode = access === "read" ? "read" : "read_write";
      declarations.push(`@group(0) @binding(${declarations.length}) var<storage, ${mode}> ${name}: array<vec4<${item}>>;`);
    }
    const params = [...this.dims.values()].map(({ dim }) => dim);
    if (params.length > 0)
      declarations.push(
        `@group(0) @binding(${bindings.length}) var<uniform> params: array<vec4<i32>, ${Math.ceil(params.length / 4)}>;`,
      );
    const enables = [...this.features].sort().map((feature) => `enable ${feature};`);
    // Offsets and branches that differ between subgroups are uniform within each, which the compiler cannot prove.
    if (this.features.has("chromium_experimental_subgroup_matrix"))
      enables.push("diagnostic(off, chromium.subgroup_matrix_uniformity);", "diagnostic(off, subgroup_uniformity);");
    const wgsl = [...enables, ...declarations, ...libraryFunctions(this.used), ...this.parts].join("\n");
    return { wgsl: `${wgsl}\n`, bindings, params, workgroups };
  }
}

const SCALARS: Readonly<Record<Scalar, string>> = { f32: "f32", i32: "i32", u32: "u32", bool: "bool" };
/** The largest finite f32. */
const LARGEST = (2 - 2 ** -23) * 2 ** 127;
const f32 = new Float32Array(1);
const bits = new Uint32Array(f32.buffer);

/** A literal of the type; floats in their shortest exact form, non-finite ones through their bits. */
function literal(type: Scalar, value: number, module?: Module): string {
  switch (type) {
    case "bool":
      return value ? "true" : "false";
    case "u32":
      return `${Math.min(Math.max(value, 0), 0xffffffff)}u`;
    case "i32": {
      const clamped = Math.min(Math.max(value, -0x80000000), 0x7fffffff);
      return clamped === -0x80000000 ? "(-2147483647 - 1)" : clamped < 0 ? `(${clamped})` : String(clamped);
    }
    case "f32": {
      f32[0] = value;
      if (!Number.isFinite(f32[0])) return module!.call("from_bits", `0x${bits[0]!.toString(16)}u`);
      const text = Number(f32[0].toPrecision(9)).toString();
      // Nine digits may round beyond the largest number, which WGSL refuses.
      const isShort = Math.fround(Number(text)) === f32[0] && Math.abs(Number(text)) <= LARGEST;
      const exact = isShort ? text : String(f32[0]);
      const written = /[.e]/.test(exact) ? exact : `${exact}.0`;
      return `${Object.is(f32[0], -0) ? "-0.0" : written}`.startsWith("-")
        ? `(${Object.is(f32[0], -0) ? "-0.0" : written})`
        : written;
    }
  }
}

const UNARY: Readonly<Record<string, string>> = { rsqrt: "inverseSqrt", popcount: "countOneBits" };
const LIBRARY: Readonly<Record<string, string>> = {
  tanh: "tanh_f",
  sinh: "sinh_f",
  asinh: "asinh_f",
  atanh: "atanh_f",
  erf: "erf",
  isnan: "is_nan",
  isinf: "is_inf",
};
const OPERATORS: Readonly<Record<string, string>> = {
  add: "+",
  sub: "-",
  mul: "*",
  div: "/",
  quot: "/",
  rem: "%",
  lt: "<",
  le: "<=",
  eq: "==",
  ne: "!=",
};

interface Scope {
  readonly lines: string[];
  readonly names: Map<Expr, string>;
  /** Evaluated only under a condition: loads must not leave it. */
  readonly conditional: boolean;
  /** Evaluated always, but loads must read element 0 unless this bool holds. */
  readonly guard?: string;
}

/** Free variables and slots of an expression. */
function freeOf(e: Expr, memo: Map<Expr, ReadonlySet<Expr>>): ReadonlySet<Expr> {
  const done = memo.get(e);
  if (done) return done;
  const free = new Set<Expr>();
  if (e.kind === "var" || e.kind === "slot") free.add(e);
  for (const operand of operands(e)) for (const v of freeOf(operand, memo)) free.add(v);
  if (e.kind === "reduce") {
    for (const v of e.vars) {
      free.delete(v);
    }
  }
  memo.set(e, free);
  return free;
}

/** Few enough loads and operations to evaluate whether needed or not. */
function isCheap(e: Expr): boolean {
  let loads = 0;
  let nodes = 0;
  let loops = false;
  visit([e], (node) => {
    nodes++;
    if (node.kind === "load") loads++;
    if (node.kind === "reduce") loops = true;
  });
  return !loops && loads <= 4 && nodes <= 24;
}

/** Writes the statements of one function. */
export class Block {
  private readonly scopes: Scope[] = [{ lines: [], names: new Map(), conditional: false }];
  private readonly depths = new Map<Expr, number>();
  private readonly free = new Map<Expr, ReadonlySet<Expr>>();
  private readonly guarded = new Map<Expr, boolean>();
  private counter = 0;

  constructor(
    readonly module: Module,
    private readonly prefix = "t",
  ) {}

  /** Text of the expression (most often a variable or slot) from here on; it belongs to the current scope. */
  bind(e: Expr, text: string): void {
    this.top.names.set(e, text);
    this.depths.set(e, this.scopes.length - 1);
  }

  line(text: string): void {
    this.top.lines.push(text);
  }

  fresh(): string {
    return `${this.prefix}${this.counter++}`;
  }

  /** Runs `body` inside braces after `head`. */
  nest(head: string, body: () => void, conditional = false): void {
    const lines = this.capture(body, conditional);
    this.line(`${head} {`.trimStart());
    for (const line of lines) this.line(line);
    this.line("}");
  }

  /** Runs `body` in braces of its own, so that names bound there end there. */
  scope(body: () => void): void {
    this.nest("", body, true);
  }

  /** The indented lines that `body` writes in a scope of its own. */
  private capture(body: () => void, conditional: boolean): string[] {
    this.scopes.push({ lines: [], names: new Map(), conditional });
    body();
    return this.scopes.pop()!.lines.map((line) => `  ${line}`);
  }

  /** A counted loop that binds `v` to 0, step, 2·step… */
  loop(v: Var, body: () => void, start = "0", step = "1"): void {
    if (v.extent === 1 && start === "0") {
      this.bind(v, "0");
      body();
      return;
    }
    const name = this.fresh();
    const limit = this.module.dim(v.extent);
    this.nest(`for (var ${name} = ${start}; ${name} < ${limit}; ${name} += ${step})`, () => {
      this.bind(v, name);
      body();
    });
  }

  loops(vars: readonly Var[], body: () => void): void {
    const [first, ...rest] = vars;
    if (!first) body();
    else this.loop(first, () => this.loops(rest, body));
  }

  text(): string {
    return this.scopes[0]!.lines.map((line) => `  ${line}`).join("\n");
  }

  private get top(): Scope {
    return this.scopes.at(-1)!;
  }

  /** Text of an expression's value; statements that it needs are written first. */
  value(e: Expr): string {
    switch (e.kind) {
      case "const":
        return literal(e.type, e.value, this.module);
      case "dim":
        return this.module.dim(e.dim);
      default:
        break;
    }
    for (let i = this.scopes.length - 1; i >= 0; i--) {
      const name = this.scopes[i]!.names.get(e);
      if (name !== undefined) return name;
    }
    if (e.kind === "var" || e.kind === "slot") throw internal("writer", `${e.kind} ${e.name} is not bound`);
    return this.inScopeOf(e, () => {
      const name = this.define(e);
      this.top.names.set(e, name);
      return name;
    });
  }

  /** Runs `write` with the outermost scope in which `e` can be evaluated on top. */
  private inScopeOf(e: Expr, write: () => string): string {
    let depth = 0;
    for (const v of freeOf(e, this.free)) depth = Math.max(depth, this.depths.get(v) ?? 0);
    if (this.needsGuard(e)) for (let i = this.scopes.length - 1; i > depth; i--) if (this.scopes[i]!.conditional) depth = i;
    const above = this.scopes.splice(depth + 1);
    const name = write();
    this.scopes.push(...above);
    return name;
  }

  private needsGuard(e: Expr): boolean {
    const known = this.guarded.get(e);
    if (known !== undefined) return known;
    const guard = e.kind === "load" || e.kind === "reduce" || operands(e).some((operand) => this.needsGuard(operand));
    this.guarded.set(e, guard);
    return guard;
  }

  private define(e: Expr): string {
    const name = (): string => this.fresh();
    const let_ = (text: string): string => {
      const made = name();
      this.line(`let ${made} = ${text};`);
      return made;
    };
    switch (e.kind) {
      case "linear": {
        const terms = e.terms.map(([term, coefficient]) =>
          coefficient === 1 ? this.value(term) : `${this.value(term)} * ${this.module.dim(coefficient)}`,
        );
        return let_([...terms, ...(e.constant === 0 ? [] : [this.module.dim(e.constant)])].join(" + "));
      }
      case "load":
        return let_(this.load(e));
      case "unary":
        return let_(this.unary(e.fn, e.type, e.a));
      case "binary":
        return let_(this.binary(e));
      case "convert":
        return let_(this.convert(e.to, e.a));
      case "select":
        return this.select(e);
      case "reduce":
        return this.reduce(e);
      default:
        throw internal("writer", `cannot define ${e.kind}`);
    }
  }

  private load(e: Load): string {
    const offset = this.value(offsetOf(e.value, e.index));
    const guard = this.scopes.findLast(({ conditional }) => conditional)?.guard;
    if (guard === undefined) return this.element(e.value, offset);
    const safe = this.fresh();
    this.line(`let ${safe} = select(0, ${offset}, ${guard});`);
    return this.element(e.value, safe);
  }

  /** Element at `offset` (i32 text) of a value's buffer as its scalar type. */
  element(value: Value, offset: string): string {
    const buffer = this.module.buffer(value, "read");
    const { item, lanes } = storageOf(value, this.module.caps);
    const { scalar, bytes, signed } = dtypeFacts[value.dtype];
    const read = (at: string): string =>
      this.module.isAtomic(value)
        ? item === "f32"
          ? `bitcast<f32>(atomicLoad(&${buffer}[${at}]))`
          : `atomicLoad(&${buffer}[${at}])`
        : `${buffer}[${at}]`;
    if (lanes === 1) {
      if (item === "f16") return `f32(${read(offset)})`;
      if (item !== "u32" || scalar === "u32") return read(offset);
      return scalar === "bool" ? `(${read(offset)} != 0u)` : `bitcast<i32>(${read(offset)})`;
    }
    const width = bytes * 8;
    const word = read(lanes === 4 ? `${offset} >> 2u` : `${offset} >> 1u`);
    const shift = `u32(${offset} & ${lanes - 1}) * ${width}u`;
    if (scalar === "bool") return `(extractBits(${word}, ${shift}, 8u) != 0u)`;
    return signed ? `extractBits(bitcast<i32>(${word}), ${shift}, ${width}u)` : `extractBits(${word}, ${shift}, ${width}u)`;
  }

  private unary(fn: string, type: Scalar, a: Expr): string {
    const value = this.value(a);
    const library = LIBRARY[fn];
    if (library) return this.module.call(library, value);
    switch (fn) {
      case "neg":
        return a.type === "u32" ? `(0u - ${value})` : `-${value}`;
      case "not":
        return `!${value}`;
      case "bitnot":
        return `~${value}`;
      case "bits":
        return `bitcast<u32>(${value})`;
      case "frombits":
        return `bitcast<f32>(${value})`;
      case "sign":
        return type === "u32" ? `min(${value}, 1u)` : `sign(${value})`;
      default:
        return `${UNARY[fn] ?? fn}(${value})`;
    }
  }

  private binary(e: Extract<Expr, { kind: "binary" }>): string {
    const [a, b] = [this.value(e.a), this.value(e.b)];
    const type = e.a.type;
    switch (e.fn) {
      case "floordiv":
        if (type === "f32") return `floor(${a} / ${b})`;
        return type === "u32" || (provablyNonNegative(e.a) && e.b.kind === "dim")
          ? `${a} / ${b}`
          : this.module.call("floor_div", a, b);
      case "floormod":
        if (type === "f32") return this.module.call("floor_mod_f", a, b);
        return type === "u32" || (provablyNonNegative(e.a) && e.b.kind === "dim")
          ? `${a} % ${b}`
          : this.module.call("floor_mod", a, b);
      case "rem":
        return type === "f32" ? this.module.call("rem_f", a, b) : `${a} % ${b}`;
      case "pow":
        return this.module.call(type === "f32" ? "pow_f" : type === "i32" ? "pow_i" : "pow_u", a, b);
      case "min":
      case "max":
      case "atan2":
        return `${e.fn}(${a}, ${b})`;
      case "and":
      case "or":
        return type === "bool" ? `${a} ${e.fn === "and" ? "&&" : "||"} ${b}` : `${a} ${e.fn === "and" ? "&" : "|"} ${b}`;
      case "xor":
        return type === "bool" ? `${a} != ${b}` : `${a} ^ ${b}`;
      case "shl":
        return `select(${a} << (u32(${b}) & 31u), ${literal(type, 0)}, u32(${b}) > 31u)`;
      case "shr":
        return type === "i32" ? `${a} >> min(u32(${b}), 31u)` : `select(${a} >> (u32(${b}) & 31u), 0u, u32(${b}) > 31u)`;
      default:
        return `${a} ${OPERATORS[e.fn]} ${b}`;
    }
  }

  private convert(to: DType, a: Expr): string {
    const { scalar, bytes, signed, kind } = dtypeFacts[to];
    const number = kind === "int" ? saturated(a) : undefined;
    if (number && number.low >= (signed ? -(2 ** (8 * bytes - 1)) : 0) && number.high < 2 ** (8 * bytes - (signed ? 1 : 0))) {
      const bits = `bitcast<${SCALARS[scalar]}>(${this.value(number.within)} + ${ROUNDER}.0)`;
      return `${bits} - ${literal(scalar, ROUNDER_BITS - number.zero)}`;
    }
    const value = this.value(a);
    if (to === "bf16") return this.module.call("bfloat", a.type === "f32" ? value : `f32(${value})`);
    if (to === "f16") {
      const wide = a.type === "f32" ? value : `f32(${value})`;
      if (!this.module.caps.f16) return `quantizeToF16(${wide})`;
      this.module.features.add("f16");
      return `f32(f16(${wide}))`;
    }
    if (kind !== "int") return a.type === scalar ? value : `${SCALARS[scalar]}(${value})`;
    if (bytes >= 4)
      return a.type === scalar
        ? value
        : a.type === "f32" && scalar === "u32"
          ? `select(u32(${value}), bitcast<u32>(i32(${value})), ${value} < 0.0)`
          : `${SCALARS[scalar]}(${value})`;
    const whole =
      a.type === "f32"
        ? `i32(${value})`
        : a.type === "bool"
          ? `select(0, 1, ${value})`
          : a.type === "u32"
            ? `bitcast<i32>(${value})`
            : value;
    return signed ? `extractBits(${whole}, 0u, ${bytes * 8}u)` : `extractBits(bitcast<u32>(${whole}), 0u, ${bytes * 8}u)`;
  }

  private select(e: Extract<Expr, { kind: "select" }>): string {
    const condition = this.value(e.condition);
    if (!this.needsGuard(e.a) && !this.needsGuard(e.b)) {
      const [a, b] = [this.value(e.a), this.value(e.b)];
      const made = this.fresh();
      this.line(`let ${made} = select(${b}, ${a}, ${condition});`);
      return made;
    }
    if (isCheap(e.a) && isCheap(e.b)) return this.speculate(condition, e);
    const made = this.fresh();
    this.line(`var ${made}: ${SCALARS[e.type]};`);
    // Both branches before either is written: what moves out of them must come before the `if`.
    const branches = [e.a, e.b].map((branch) => this.capture(() => this.line(`${made} = ${this.value(branch)};`), true));
    this.line(`if (${condition}) {`);
    for (const line of branches[0]!) this.line(line);
    this.line("} else {");
    for (const line of branches[1]!) this.line(line);
    this.line("}");
    return made;
  }

  /** Both branches without a jump: loads of a branch not taken go to element 0, which every buffer has. */
  private speculate(condition: string, e: Extract<Expr, { kind: "select" }>): string {
    const outer = this.scopes.findLast(({ guard }) => guard !== undefined)?.guard;
    const results = [
      [e.a, condition],
      [e.b, `!${condition}`],
    ].map(([branch, holds]) => {
      const value = branch as Expr;
      if (!this.needsGuard(value)) return this.value(value);
      const guard = this.fresh();
      this.line(`let ${guard} = ${outer === undefined ? holds : `${outer} && ${holds}`};`);
      this.scopes.push({ lines: [], names: new Map(), conditional: true, guard });
      const text = this.value(value);
      this.top.lines.forEach((line) => this.scopes.at(-2)!.lines.push(line));
      this.scopes.pop();
      return text;
    });
    const made = this.fresh();
    this.line(`let ${made} = select(${results[1]}, ${results[0]}, ${condition});`);
    return made;
  }

  private reduce(e: Reduce): string {
    const made = this.fresh();
    this.line(`var ${made} = ${initialOf(e.fn, e.type, this.module)};`);
    this.loops(e.vars, () => this.line(`${made} = ${combine(e.fn, made, this.value(e.body))};`));
    return made;
  }

  /** Writes one store, under its condition if it has one. */
  store(store: Store): void {
    this.under(store.when, () => this.put(store));
  }

  /** Writes what `write` does, under a condition if there is one. */
  under(condition: Expr | undefined, write: () => void): void {
    if (condition) this.nest(`if (${this.value(condition)})`, write, true);
    else write();
  }

  private put({ value, index, expr, mode }: Store): void {
    const offset = this.value(offsetOf(value, index));
    const text = this.value(expr);
    if (mode === "set") {
      const buffer = this.module.buffer(value, "write");
      this.line(`${buffer}[${offset}] = ${this.stored(value, text)};`);
      return;
    }
    const { item } = storageOf(value, this.module.caps);
    if (item === "f16") throw internal("writer", `atomic store to f16 value ${value.name}`);
    const buffer = this.module.buffer(value, "write", true);
    if (item !== "f32" && mode !== "mul") {
      const fn = { add: "atomicAdd", min: "atomicMin", max: "atomicMax" }[mode];
      this.line(`${fn}(&${buffer}[${offset}], ${this.stored(value, text)});`);
      return;
    }
    const cell = `&${buffer}[${offset}]`;
    const type = item;
    const old = this.fresh();
    const decode = type === "f32" ? `bitcast<f32>(${old})` : old;
    const next = combine(mode === "add" ? "sum" : mode === "mul" ? "prod" : mode, decode, text);
    this.line(`var ${old} = atomicLoad(${cell});`);
    this.nest("loop", () => {
      const result = this.fresh();
      this.line(
        `let ${result} = atomicCompareExchangeWeak(${cell}, ${old}, ${type === "f32" ? `bitcast<u32>(${next})` : next});`,
      );
      this.line(`if (${result}.exchanged) { break; }`);
      this.line(`${old} = ${result}.old_value;`);
    });
  }

  /** `text`, of the value's scalar type, as an item of its unpacked buffer. */
  stored(value: Value, text: string): string {
    const { item } = storageOf(value, this.module.caps);
    const { scalar } = dtypeFacts[value.dtype];
    if (item === "f16") return `f16(${text})`;
    if (value.dtype === "bf16") return this.module.call("bfloat", text);
    if (scalar === "bool") return `u32(${text})`;
    return item === "u32" && scalar === "i32" ? `bitcast<u32>(${text})` : text;
  }
}

/** The neutral element of a combiner as text. */
export function initialOf(fn: Reduce["fn"], type: Scalar, module: Module): string {
  switch (fn) {
    case "sum":
      return literal(type, 0);
    case "prod":
      return literal(type, 1);
    case "any":
      return "false";
    case "all":
      return "true";
    case "max":
      return type === "bool"
        ? "false"
        : literal(type, type === "f32" ? Number.NEGATIVE_INFINITY : type === "i32" ? -0x80000000 : 0, module);
    case "min":
      return type === "bool"
        ? "true"
        : literal(type, type === "f32" ? Number.POSITIVE_INFINITY : type === "i32" ? 0x7fffffff : 0xffffffff, module);
  }
}

/** Text of two partial results combined. */
export function combine(fn: Reduce["fn"], a: string, b: string): string {
  switch (fn) {
    case "sum":
      return `${a} + ${b}`;
    case "prod":
      return `${a} * ${b}`;
    case "max":
    case "min":
      return `${fn}(${a}, ${b})`;
    case "any":
      return `${a} || ${b}`;
    case "all":
      return `${a} && ${b}`;
  }
}
