// Evaluates tasks on the host: the constant folder, the host fallback and a second opinion in tests. Expressions become
// closures over a frame of variables; floats are computed in double precision and rounded where they are stored.

import { internal } from "../util/errors.ts";
import { fromBfloat, fromHalf, toBfloat, toHalf } from "../util/f16.ts";
import { type Bindings, type Dim, evaluate } from "./dims.ts";
import { type Combiner, type Expr, flatten, type Slot, type Var } from "./expr.ts";
import { asReduce, type HostTask, type KernelTask, type LoopTask, type Task, writesOf } from "./task.ts";
import { allocate, reader, sizeOf, type Tensor, writer } from "./tensor.ts";
import { dtypeFacts } from "./types.ts";
import type { Value } from "./value.ts";

export type Tensors = Map<Value, Tensor>;
/** Runs a host task; outputs may bind symbols by having their concrete shape. */
export type RunHost = (task: HostTask, inputs: readonly (Tensor | undefined)[]) => readonly Tensor[];
type Compute = () => number;

/** Runs tasks in order over `tensors`, which must hold every value that is read and not constant; adds every value written. */
export function interpret(tasks: readonly Task[], tensors: Tensors, bindings: Map<string, number>, runHost: RunHost): void {
  for (const task of tasks) {
    if (task.kind === "host") {
      const results = runHost(
        task,
        task.inputs.map((value) => value && tensorOf(value, tensors)),
      );
      task.outputs.forEach((value, i) => settle(value, results[i]!, tensors, bindings));
    } else if (task.kind === "loop") interpretLoop(task, tensors, bindings, runHost);
    else if (task.kind === "if") {
      const taken = truth(task.condition, tensors);
      interpret(taken ? task.then : task.else, tensors, bindings, runHost);
      for (const result of task.results)
        settle(result.out, tensorOf(taken ? result.then : result.else, tensors), tensors, bindings);
    } else interpretKernel(task, tensors, bindings);
  }
}

function interpretLoop(task: LoopTask, tensors: Tensors, bindings: Map<string, number>, runHost: RunHost): void {
  const { carried, condition, scans = [] } = task;
  for (const value of task.outputs) tensors.set(value, zeros(value, bindings));
  const count = Math.min(
    known(task.count, bindings),
    task.trips ? reader(tensorOf(task.trips, tensors))(0) : Number.POSITIVE_INFINITY,
  );
  const fresh = writtenWithin(task.body).filter((value) => !task.outputs.includes(value));
  const pieces = scans.map((): Tensor[] => []);
  let states = carried.map(({ init }) => tensorOf(init, tensors));
  let going = condition?.initial ? truth(condition.initial, tensors) : true;
  for (let turn = 0; going && turn < count; turn++) {
    for (const value of fresh) tensors.delete(value);
    carried.forEach(({ input }, i) => settle(input, states[i]!, tensors, bindings));
    bindings.set(task.index, turn);
    interpret(task.body, tensors, bindings, runHost);
    states = carried.map(({ output }) => tensorOf(output, tensors));
    scans.forEach(({ piece }, i) => pieces[i]!.push(tensorOf(piece, tensors)));
    going = condition ? truth(condition.output, tensors) : true;
  }
  bindings.delete(task.index);
  carried.forEach(({ final }, i) => settle(final, states[i]!, tensors, bindings));
  scans.forEach(({ out }, i) => settle(out, stack(out, pieces[i]!, bindings), tensors, bindings));
}

/** Pieces along a new first axis, in the shape of `out`. */
function stack(out: Value, pieces: readonly Tensor[], bindings: Bindings): Tensor {
  const shape = [pieces.length, ...(pieces[0]?.shape ?? out.shape.slice(1).map((dim) => evaluate(dim, bindings) ?? 0))];
  const data = allocate(out.dtype, sizeOf(shape)) as Float32Array;
  pieces.forEach((piece, i) => data.set(piece.data as Float32Array, i * piece.data.length));
  return { dtype: out.dtype, shape, data };
}

/** Everything that tasks write, those nested in them included. */
function writtenWithin(tasks: readonly Task[]): Value[] {
  return tasks.flatMap((task) => [
    ...writesOf(task),
    ...(task.kind === "loop"
      ? writtenWithin(task.body)
      : task.kind === "if"
        ? [...writtenWithin(task.then), ...writtenWithin(task.else)]
        : []),
  ]);
}

const truth = (value: Value, tensors: Tensors): boolean => reader(tensorOf(value, tensors))(0) !== 0;

/** Gives a value its tensor, whose sizes the symbols that stand alone in the value's shape now mean. */
function settle(value: Value, tensor: Tensor, tensors: Tensors, bindings: Map<string, number>): void {
  bindShape(value.shape, tensor.shape, bindings, true);
  tensors.set(value, tensor);
}

/** Binds symbols that stand alone in `shape` to the sizes of an actual shape; `again` also those that are bound. */
export function bindShape(
  shape: readonly Dim[],
  actual: readonly number[],
  bindings: Map<string, number>,
  again = false,
): void {
  shape.forEach((dim, i) => {
    if (
      typeof dim !== "number" &&
      dim.terms.length === 1 &&
      dim.terms[0]!.coefficient === 1 &&
      dim.terms[0]!.atoms.length === 1
    ) {
      const [atom] = dim.terms[0]!.atoms;
      if (atom!.kind === "symbol" && (again || !bindings.has(atom!.name))) bindings.set(atom!.name, actual[i]!);
    }
  });
}

function known(dim: Dim, bindings: Bindings): number {
  const value = evaluate(dim, bindings);
  if (value === undefined) throw internal("interpret", `dimension ${typeof dim === "number" ? dim : dim.text} is not bound`);
  return value;
}

const zeros = (value: Value, bindings: Bindings): Tensor => {
  const shape = value.shape.map((dim) => known(dim, bindings));
  return { dtype: value.dtype, shape, data: allocate(value.dtype, sizeOf(shape)) };
};

function tensorOf(value: Value, tensors: Tensors): Tensor {
  const found = tensors.get(value) ?? value.data;
  if (!found) throw internal("interpret", `value ${value.name} has no tensor`);
  return found;
}

function interpretKernel(task: KernelTask, tensors: Tensors, bindings: Bindings): void {
  if (task.kind === "block") {
    for (const part of task.parts) interpretKernel(part, tensors, bindings);
    return;
  }
  const loop = task.kind === "map" || task.kind === "reduce" ? task : asReduce(task);
  // A task may read what it writes (a loop's outputs), so existing tensors are kept.
  for (const value of writesOf(task)) {
    const init = loop.stores.find((store) => store.value === value)?.init;
    if (init) tensors.set(value, { ...tensorOf(init, tensors), data: tensorOf(init, tensors).data.slice() });
    else if (!tensors.has(value)) tensors.set(value, zeros(value, bindings));
  }
  const frame = new Map<Var | Slot, { value: number }>();
  const cell = (v: Var | Slot): { value: number } => {
    let found = frame.get(v);
    if (!found) frame.set(v, (found = { value: 0 }));
    return found;
  };
  const compile = compiler(cell, tensors, bindings);
  const stores = loop.stores.map((store) => {
    const target = tensorOf(store.value, tensors);
    const offset = compile(flatten(store.index, store.value.shape));
    const expr = compile(store.expr);
    const write = writer(target);
    const read = reader(target);
    const { mode } = store;
    const combine = mode === "set" ? undefined : COMBINERS[mode === "add" ? "sum" : mode === "mul" ? "prod" : mode].step;
    const put = (): void => {
      const at = offset();
      write(at, combine ? combine(read(at), expr()) : expr());
    };
    if (!store.when) return put;
    const when = compile(store.when);
    return () => {
      if (when()) put();
    };
  });
  const runStores = (): void => {
    for (const store of stores) store();
  };
  if (loop.kind === "map") {
    nest(loop.vars, cell, bindings, runStores);
    return;
  }
  const stages = loop.stages.map(({ slot, fn, body }) => ({
    target: cell(slot),
    combiner: COMBINERS[fn],
    body: compile(body),
  }));
  nest(loop.vars, cell, bindings, () => {
    for (const { target, combiner, body } of stages) {
      let sum = combiner.initial;
      nest(loop.inner, cell, bindings, () => {
        sum = combiner.step(sum, body());
      });
      target.value = sum;
    }
    if (loop.each) nest(loop.inner, cell, bindings, runStores);
    else runStores();
  });
}

function nest(vars: readonly Var[], cell: (v: Var) => { value: number }, bindings: Bindings, body: () => void): void {
  const cells = vars.map(cell);
  const extents = vars.map(({ extent }) => known(extent, bindings));
  const level = (depth: number): void => {
    if (depth === cells.length) {
      body();
      return;
    }
    const variable = cells[depth]!;
    const extent = extents[depth]!;
    for (let i = 0; i < extent; i++) {
      variable.value = i;
      level(depth + 1);
    }
  };
  level(0);
}

const COMBINERS: Readonly<Record<Combiner, { initial: number; step: (a: number, b: number) => number }>> = {
  sum: { initial: 0, step: (a, b) => a + b },
  prod: { initial: 1, step: (a, b) => a * b },
  max: { initial: Number.NEGATIVE_INFINITY, step: Math.max },
  min: { initial: Number.POSITIVE_INFINITY, step: Math.min },
  any: { initial: 0, step: (a, b) => a || b },
  all: { initial: 1, step: (a, b) => (a && b ? 1 : 0) },
};

const f32 = new Float32Array(1);
const u32 = new Uint32Array(f32.buffer);

/** Round half to even. */
export const roundEven = (a: number): number => {
  const below = Math.floor(a);
  const gap = a - below;
  return gap < 0.5 ? below : gap > 0.5 ? below + 1 : below % 2 === 0 ? below : below + 1;
};

/** The error function to about 1e-15, by its series near 0 and its continued fraction away from it (Abramowitz & Stegun 7.1.5, 7.1.14). */
export function erf(a: number): number {
  const z = Math.abs(a);
  if (Number.isNaN(a)) return Number.NaN;
  if (z > 6) return Math.sign(a);
  let result: number;
  if (z < 2.5) {
    let term = z;
    let sum = z;
    for (let n = 1; Math.abs(term) > 1e-17 * sum && n < 200; n++) {
      term *= -(z * z) / n;
      sum += term / (2 * n + 1);
    }
    result = (2 / Math.sqrt(Math.PI)) * sum;
  } else {
    let fraction = 0;
    for (let n = 60; n >= 1; n--) fraction = n / 2 / (z + fraction);
    result = 1 - Math.exp(-z * z) / ((z + fraction) * Math.sqrt(Math.PI));
  }
  return a < 0 ? -result : result;
}

const UNARY: Record<string, (a: number) => number> = {
  neg: (a) => -a,
  abs: Math.abs,
  sign: Math.sign,
  exp: Math.exp,
  log: Math.log,
  sqrt: Math.sqrt,
  rsqrt: (a) => 1 / Math.sqrt(a),
  sin: Math.sin,
  cos: Math.cos,
  tan: Math.tan,
  asin: Math.asin,
  acos: Math.acos,
  atan: Math.atan,
  sinh: Math.sinh,
  cosh: Math.cosh,
  tanh: Math.tanh,
  asinh: Math.asinh,
  acosh: Math.acosh,
  atanh: Math.atanh,
  erf,
  floor: Math.floor,
  ceil: Math.ceil,
  round: roundEven,
  trunc: Math.trunc,
  not: (a) => (a ? 0 : 1),
  bitnot: (a) => ~a,
  isnan: (a) => (Number.isNaN(a) ? 1 : 0),
  isinf: (a) => (Math.abs(a) === Number.POSITIVE_INFINITY ? 1 : 0),
  bits: (a) => {
    f32[0] = a;
    return u32[0]!;
  },
  frombits: (a) => {
    u32[0] = a;
    return f32[0]!;
  },
  popcount: (a) => {
    let n = 0;
    for (let bits = a >>> 0; bits; bits &= bits - 1) n++;
    return n;
  },
};

/** Operations that 32-bit JavaScript integers would cut are done on BigInt when an operand is wider. */
const bitwise =
  (narrow: (a: number, b: number) => number, wide: (a: bigint, b: bigint) => bigint) =>
  (a: number, b: number): number =>
    Math.abs(a) < 2 ** 31 && Math.abs(b) < 2 ** 31 ? narrow(a, b) : Number(wide(BigInt(a), BigInt(b)));

const BINARY: Record<string, (a: number, b: number) => number> = {
  add: (a, b) => a + b,
  sub: (a, b) => a - b,
  mul: (a, b) => a * b,
  div: (a, b) => a / b,
  floordiv: (a, b) => Math.floor(a / b),
  floormod: (a, b) => a - b * Math.floor(a / b),
  quot: (a, b) => Math.trunc(a / b),
  rem: (a, b) => a % b,
  pow: (a, b) => a ** b,
  min: Math.min,
  max: Math.max,
  atan2: Math.atan2,
  lt: (a, b) => (a < b ? 1 : 0),
  le: (a, b) => (a <= b ? 1 : 0),
  eq: (a, b) => (a === b ? 1 : 0),
  ne: (a, b) => (a !== b ? 1 : 0),
  and: bitwise(
    (a, b) => a & b,
    (a, b) => a & b,
  ),
  or: bitwise(
    (a, b) => a | b,
    (a, b) => a | b,
  ),
  xor: bitwise(
    (a, b) => a ^ b,
    (a, b) => a ^ b,
  ),
  shl: (a, b) => (b < 64 ? a * 2 ** b : 0),
  shr: (a, b) => Math.floor(a / 2 ** b),
};

function compiler(cell: (v: Var | Slot) => { value: number }, tensors: Tensors, bindings: Bindings): (e: Expr) => Compute {
  const memo = new Map<Expr, Compute>();
  const compile = (e: Expr): Compute => {
    const done = memo.get(e);
    if (done) return done;
    const made = build(e);
    memo.set(e, made);
    return made;
  };
  const build = (e: Expr): Compute => {
    switch (e.kind) {
      case "const": {
        const { value } = e;
        return () => value;
      }
      case "dim": {
        const value = known(e.dim, bindings);
        return () => value;
      }
      case "var":
      case "slot": {
        const at = cell(e);
        return () => at.value;
      }
      case "linear": {
        const c = known(e.constant, bindings);
        const parts = e.terms.map(([term, coefficient]) => [compile(term), known(coefficient, bindings)] as const);
        if (parts.length === 1) {
          const [[f, k]] = parts as [readonly [Compute, number]];
          return () => f() * k + c;
        }
        return () => {
          let sum = c;
          for (const [f, k] of parts) sum += f() * k;
          return sum;
        };
      }
      case "load": {
        const read = reader(tensorOf(e.value, tensors));
        const offset = compile(flatten(e.index, e.value.shape));
        return () => read(offset());
      }
      case "unary": {
        const f = UNARY[e.fn]!;
        const a = compile(e.a);
        return () => f(a());
      }
      case "binary": {
        const f = BINARY[e.fn]!;
        const a = compile(e.a);
        const b = compile(e.b);
        if (e.fn === "and" && e.type === "bool") return () => (a() ? b() : 0);
        if (e.fn === "div" && e.type !== "f32") return () => Math.trunc(a() / b());
        return () => f(a(), b());
      }
      case "select": {
        const c = compile(e.condition);
        const a = compile(e.a);
        const b = compile(e.b);
        return () => (c() ? a() : b());
      }
      case "convert": {
        const a = compile(e.a);
        const f = CONVERT(e);
        return () => f(a());
      }
      case "reduce": {
        const { initial, step } = COMBINERS[e.fn];
        const body = compile(e.body);
        return () => {
          let sum = initial;
          nest(e.vars, cell, bindings, () => {
            sum = step(sum, body());
          });
          return sum;
        };
      }
    }
  };
  return compile;
}

const CONVERT = (e: Extract<Expr, { kind: "convert" }>): ((a: number) => number) => {
  const { kind, bytes, signed } = dtypeFacts[e.to];
  if (e.to === "f16") return (a) => fromHalf(toHalf(a));
  if (e.to === "bf16") return (a) => fromBfloat(toBfloat(a));
  if (e.to === "f32") return Math.fround;
  if (kind === "float") return (a) => a;
  if (kind === "bool") return (a) => (a ? 1 : 0);
  const span = 2 ** (8 * bytes);
  return (a) => {
    const whole = Math.trunc(a);
    if (Number.isNaN(whole)) return 0;
    if (bytes === 8) return whole;
    const wrapped = whole - span * Math.floor(whole / span);
    return signed && wrapped >= span / 2 ? wrapped - span : wrapped;
  };
};
