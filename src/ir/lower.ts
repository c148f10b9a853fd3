// The words in which operators say what they compute: each method appends a task and returns the value it makes.
// The same run of an operator's `lower` gives its output types, its kernels and, interpreted, its results on the host.

import { internal, shapeMismatch, typeMismatch } from "../util/errors.ts";
import { type Dim, isStatic, isStaticShape, sameDim, shapeText, symbol, symbolsOf } from "./dims.ts";
import * as x from "./expr.ts";
import { type Expr, TURN, type Var } from "./expr.ts";
import type { HostAttributes, HostTask, IfTask, LoopTask, Requirement, Stage, StoreMode, Task } from "./task.ts";
import { numbersOf, scalarTensor, sizeOf, type Tensor } from "./tensor.ts";
import { type DType, isFloat, type Scalar, scalarOf } from "./types.ts";
import { makeValue, type Value } from "./value.ts";

/** Integer tensors up to this many elements are followed symbolically. */
const MAX_CONTENTS = 1024;

/** The tensor a value is known to hold when the engine is built: a constant, or an input that the user fixed. */
export const knownTensor = (value: Value): Tensor | undefined => value.data ?? value.assumed;

/** The elements of an integer (or bool) value as dimensions, when all are known. */
export function contentsOf(value: Value): readonly Dim[] | undefined {
  if (value.contents) return value.contents;
  const known = knownTensor(value);
  if (!known || isFloat(value.dtype) || known.data.length > MAX_CONTENTS) return undefined;
  return numbersOf(known);
}

export interface ConvGeometry {
  readonly groups: number;
  readonly strides: readonly number[];
  readonly dilations: readonly number[];
  readonly pads: readonly Dim[];
  /** Spatial shape of the result. */
  readonly out: readonly Dim[];
}

export interface ReduceStage {
  readonly fn: Stage["fn"];
  /** Over the outer and inner variables and the results of earlier stages. */
  readonly body: (results: readonly Expr[]) => Expr;
}

/** What one turn of a loop leaves: `condition` (absent: go on), the next turn's carried values, pieces of the scans. */
export interface TurnResults {
  readonly condition?: Value;
  readonly carried: readonly Value[];
  readonly scans: readonly Value[];
}

export class Lowering {
  readonly tasks: Task[] = [];
  /** Of sizes; what a branch or a turn of a loop asks for stays with it. */
  readonly requirements: Requirement[] = [];
  private counter = 0;

  /** `node` is the ONNX node's name: values and tasks are named after it. */
  constructor(
    readonly node: string,
    readonly origins: readonly string[] = [node],
  ) {}

  /** A fresh value that some task of this lowering will write. */
  value(dtype: DType, shape: readonly Dim[]): Value {
    return makeValue(`${this.node}#${this.counter++}`, dtype, shape);
  }

  /** A constant. */
  constant(tensor: Tensor): Value {
    return { ...makeValue(`${this.node}#${this.counter++}`, tensor.dtype, tensor.shape), data: tensor };
  }

  /** A 1-D int64 value whose elements are dimensions. */
  dimensions(dims: readonly Dim[], shape: readonly Dim[] = [dims.length]): Value {
    const out = this.map("i64", shape, (i) => (dims.length === 0 ? x.int(0) : pick(dims, x.flatten(i, shape))));
    out.contents = dims;
    return out;
  }

  /** out[i] = body(i) for every index i of `shape`. `body` must have the scalar type of `dtype`. */
  map(dtype: DType, shape: readonly Dim[], body: (index: readonly Var[]) => Expr): Value {
    const vars = x.variables("i", shape);
    const expr = body(vars);
    if (expr.type !== scalarOf(dtype)) throw internal(this.node, `map to ${dtype} computes ${expr.type}`);
    const out = this.value(dtype, shape);
    this.push({ kind: "map", vars, stores: [{ value: out, index: vars, expr, mode: "set" }] });
    const contents = evaluateContents(out, vars, expr);
    if (contents) out.contents = contents;
    return out;
  }

  /** The same elements in another row-major shape of equal size. */
  reshape(value: Value, shape: readonly Dim[]): Value {
    return this.map(value.dtype, shape, (i) => x.load(value, x.unflatten(x.flatten(i, shape), value.shape)));
  }

  /** A copy of `init` in which each point of `domain` has stored (or combined) one element. */
  scatter(
    init: Value,
    domain: readonly Dim[],
    body: (index: readonly Var[]) => { index: readonly Expr[]; expr: Expr },
    mode: StoreMode = "set",
  ): Value {
    const vars = x.variables("i", domain);
    const out = this.value(init.dtype, init.shape);
    this.push({ kind: "map", vars, stores: [{ value: out, mode, init, ...body(vars) }] });
    return out;
  }

  /** out[o] = result(stages over `inner`): one element an outer index. */
  reduce(
    dtype: DType,
    outer: readonly Dim[],
    inner: readonly Dim[],
    stages: (o: readonly Var[], i: readonly Var[]) => readonly ReduceStage[],
    result?: (results: readonly Expr[], o: readonly Var[]) => Expr,
  ): Value {
    const vars = x.variables("i", outer);
    const innerVars = x.variables("r", inner);
    const made = this.stages(stages(vars, innerVars));
    const slots = made.map(({ slot }) => slot);
    const out = this.value(dtype, outer);
    const expr = result ? result(slots, vars) : slots.at(-1)!;
    this.push({
      kind: "reduce",
      vars,
      inner: innerVars,
      stages: made,
      each: false,
      stores: [{ value: out, index: vars, expr, mode: "set" }],
    });
    return out;
  }

  /**
   * Rows: `shape` is split into outer axes and the `axes` that stages combine over; the result has all of `shape`.
   * `stages` and `result` get the full index in the order of `shape`.
   */
  rows(
    dtype: DType,
    shape: readonly Dim[],
    axes: readonly number[],
    stages: (index: readonly Var[]) => readonly ReduceStage[],
    result: (results: readonly Expr[], index: readonly Var[]) => Expr,
  ): Value {
    const all = shape.map((extent, axis) => x.variable(axes.includes(axis) ? `r${axis}` : `i${axis}`, extent));
    const made = this.stages(stages(all));
    const out = this.value(dtype, shape);
    this.push({
      kind: "reduce",
      vars: all.filter((_, axis) => !axes.includes(axis)),
      inner: all.filter((_, axis) => axes.includes(axis)),
      stages: made,
      each: true,
      stores: [
        {
          value: out,
          index: all,
          expr: result(
            made.map(({ slot }) => slot),
            all,
          ),
          mode: "set",
        },
      ],
    });
    return out;
  }

  /** out[batch, m, n] = result(Σ_k a·b). */
  gemm(
    dtype: DType,
    sizes: { batch: readonly Dim[]; m: Dim; n: Dim; k: Dim },
    a: (batch: readonly Var[], m: Var, k: Var) => Expr,
    b: (batch: readonly Var[], k: Var, n: Var) => Expr,
    result: (acc: Expr, index: readonly Var[]) => Expr = (acc) => acc,
  ): Value {
    const batch = x.variables("b", sizes.batch);
    const m = x.variable("m", sizes.m);
    const n = x.variable("n", sizes.n);
    const k = x.variable("k", sizes.k);
    const left = a(batch, m, k);
    const acc = x.slot("acc", left.type);
    const index = [...batch, m, n];
    const out = this.value(dtype, [...sizes.batch, sizes.m, sizes.n]);
    this.push({
      kind: "gemm",
      batch,
      m,
      n,
      k,
      a: left,
      b: b(batch, k, n),
      acc,
      stores: [{ value: out, index, expr: result(acc, index), mode: "set" }],
    });
    return out;
  }

  /** Convolution over the channels-first `input` with `weights` [oc, ic / groups, k…]. `read` turns a load into an operand of the accumulator's type. */
  conv(
    dtype: DType,
    input: Value,
    weights: Value,
    geometry: ConvGeometry,
    read: { x: (index: readonly Expr[]) => Expr; w: (index: readonly Expr[]) => Expr } = {
      x: (i) => x.load(input, i),
      w: (i) => x.load(weights, i),
    },
    result: (acc: Expr, index: readonly Var[]) => Expr = (acc) => acc,
  ): Value {
    const [oc, ic, ...kernel] = weights.shape;
    const batchVar = x.variable("b", input.shape[0]!);
    const ocVar = x.variable("oc", oc!);
    const icVar = x.variable("ic", ic!);
    const outVars = x.variables("o", geometry.out);
    const kernelVars = x.variables("k", kernel);
    const xVars = x.variables("x", input.shape);
    const source = read.x(xVars);
    const acc = x.slot("acc", source.type);
    const index = [batchVar, ocVar, ...outVars];
    const out = this.value(dtype, [input.shape[0]!, oc!, ...geometry.out]);
    this.push({
      kind: "conv",
      batch: batchVar,
      oc: ocVar,
      out: outVars,
      ic: icVar,
      kernel: kernelVars,
      groups: geometry.groups,
      strides: geometry.strides,
      dilations: geometry.dilations,
      pads: geometry.pads,
      size: input.shape.slice(2),
      xVars,
      x: source,
      w: read.w([ocVar, icVar, ...kernelVars]),
      acc,
      stores: [{ value: out, index, expr: result(acc, index), mode: "set" }],
    });
    return out;
  }

  /** Runs operator `op`'s host reference; say why there is no kernel. */
  host(
    op: string,
    attrs: HostAttributes,
    inputs: readonly (Value | undefined)[],
    outputs: readonly { dtype: DType; shape: readonly Dim[] }[],
    reason: string,
  ): Value[] {
    const values = outputs.map(({ dtype, shape }) => this.value(dtype, shape));
    this.push({ kind: "host", op, attrs, inputs, outputs: values, reason } satisfies Unnamed<HostTask>);
    return values;
  }

  /**
   * `count` turns of `body`, which gets the turn as a dimension and the carried values as they stand and returns what they
   * become. `outputs` are values that the body fills piece by piece through `store`. Returns the final carried values.
   */
  loop(
    count: Dim,
    initial: readonly Value[],
    outputs: readonly Value[],
    body: (inner: Lowering, turn: Expr, carried: readonly Value[]) => readonly Value[],
  ): Value[] {
    const inner = this.nested("body");
    const index = `${inner.node}${TURN}`;
    const inputs = initial.map(({ dtype, shape }) => inner.value(dtype, shape));
    const after = separate(inner, inputs, body(inner, x.int(symbol(index)), inputs));
    const finals = initial.map(({ dtype, shape }) => this.value(dtype, shape));
    this.push({
      kind: "loop",
      count,
      index,
      body: inner.tasks,
      outputs,
      carried: initial.map((init, i) => ({ init, input: inputs[i]!, output: after[i]!, final: finals[i]! })),
    } satisfies Unnamed<LoopTask>);
    return finals;
  }

  /**
   * Turns of `body` that only the run can count: while `limits.condition` (then the body's) holds, no more than `limits.trips`
   * says and no more than `limits.count`. Carried values keep their rank but may change size. Returns the final carried values
   * and the `scans`, each turn's piece along a new first axis. `body` is called again when a size turns out to change.
   */
  loopWhile(
    limits: { readonly count: Dim; readonly trips?: Value; readonly condition?: Value },
    initial: readonly Value[],
    body: (inner: Lowering, turn: Expr, carried: readonly Value[]) => TurnResults,
  ): { carried: Value[]; scans: Value[] } {
    const { node: name } = this.nested("body");
    const index = `${name}${TURN}`;
    let shapes = initial.map(({ shape }) => shape);
    for (;;) {
      const inner = new Lowering(name, this.origins);
      const inputs = initial.map(({ dtype }, i) => inner.value(dtype, shapes[i]!));
      const turn = body(inner, x.int(symbol(index)), inputs);
      const after = { ...turn, carried: separate(inner, inputs, turn.carried) };
      const settled = shapes.map((shape, i) => {
        checkSame(
          { name: this.node, op: "Loop" },
          `carried value ${i} enters a turn and leaves it`,
          inputs[i]!,
          after.carried[i]!,
        );
        return shape.map((dim, axis) =>
          sameDim(dim, after.carried[i]!.shape[axis]!) ? dim : symbol(`${name}#carried${i}.${axis}`),
        );
      });
      const changed = settled.some((shape, i) => shape.some((dim, axis) => !sameDim(dim, shapes[i]![axis]!)));
      shapes = settled;
      if (changed) continue;
      const scans = after.scans.map((piece, i) => {
        const sizes = piece.shape.map((dim, axis) =>
          [...symbolsOf(dim)].some((text) => text.startsWith(name)) ? symbol(`${this.node}#scan${i}.${axis}`) : dim,
        );
        return { piece, out: this.value(piece.dtype, [symbol(`${name}#turns`), ...sizes]) };
      });
      const finals = initial.map(({ dtype }, i) => this.value(dtype, shapes[i]!));
      const output = after.condition ?? (limits.condition && this.constant(scalarTensor("bool", 1)));
      this.push({
        kind: "loop",
        count: limits.count,
        index,
        body: inner.tasks,
        outputs: [],
        scans,
        carried: initial.map((init, i) => ({ init, input: inputs[i]!, output: after.carried[i]!, final: finals[i]! })),
        ...(limits.trips ? { trips: limits.trips } : {}),
        ...(output ? { condition: { ...(limits.condition ? { initial: limits.condition } : {}), output } } : {}),
      } satisfies Unnamed<LoopTask>);
      return { carried: finals, scans: scans.map(({ out }) => out) };
    }
  }

  /** The results of `then` or of `otherwise`, as the bool scalar `condition` says when it is reached. Sizes may differ, ranks may not. */
  branch(
    condition: Value,
    then: (inner: Lowering) => readonly Value[],
    otherwise: (inner: Lowering) => readonly Value[],
  ): Value[] {
    const [yes, no] = [this.nested("then"), this.nested("else")];
    const [left, right] = [then(yes), otherwise(no)];
    const results = left.map((value, i) => {
      const other = right[i]!;
      checkSame({ name: this.node, op: "If" }, `result ${i} of the two branches`, value, other);
      const shape = value.shape.map((dim, axis) =>
        sameDim(dim, other.shape[axis]!) ? dim : symbol(`${this.node}#result${i}.${axis}`),
      );
      return { then: value, else: other, out: this.value(value.dtype, shape) };
    });
    this.push({ kind: "if", condition, then: yes.tasks, else: no.tasks, results } satisfies Unnamed<IfTask>);
    return results.map(({ out }) => out);
  }

  /** Writes part of `target` (one of a loop's outputs): target[index(i)] = expr(i) for every i of `domain`. */
  store(target: Value, domain: readonly Dim[], body: (index: readonly Var[]) => { index: readonly Expr[]; expr: Expr }): void {
    const vars = x.variables("i", domain);
    this.push({ kind: "map", vars, stores: [{ value: target, mode: "set", ...body(vars) }] });
  }

  /** A lowering whose tasks go inside one of this one's. Symbols that it binds begin with its name. */
  private nested(role: string): Lowering {
    return new Lowering(`${this.node}/${role}${this.counter++}`, this.origins);
  }

  private stages(stages: readonly ReduceStage[]): Stage[] {
    const made: Stage[] = [];
    for (const { fn, body } of stages) {
      const expr = body(made.map(({ slot }) => slot));
      made.push({ slot: x.slot(`s${made.length}`, expr.type), fn, body: expr });
    }
    return made;
  }

  private push(task: UnnamedTask): void {
    this.tasks.push({ ...task, name: this.node, origins: this.origins } as Task);
  }
}

/** Carried values as they leave a turn, with copies of those that entered it as another: no turn's copy then overwrites what the next one needs. */
const separate = (inner: Lowering, inputs: readonly Value[], outputs: readonly Value[]): readonly Value[] =>
  outputs.map((value, i) =>
    inputs.some((input, j) => input === value && i !== j)
      ? inner.map(value.dtype, value.shape, (at) => x.load(value, at))
      : value,
  );

function checkSame(node: { name: string; op: string }, what: string, a: Value, b: Value): void {
  if (a.dtype !== b.dtype) throw typeMismatch(node, `${what} as ${a.dtype} and ${b.dtype}`);
  if (a.shape.length !== b.shape.length)
    throw shapeMismatch(
      node,
      `${what} with shapes ${shapeText(a.shape)} and ${shapeText(b.shape)}`,
      "the rank of a value must not depend on the run",
    );
}

type Unnamed<T> = T extends Task ? Omit<T, "name" | "origins"> : never;
type UnnamedTask = Unnamed<Task>;

/** dims[offset] as nested selects; offset is in bounds. */
function pick(dims: readonly Dim[], offset: Expr): Expr {
  if (offset.kind === "dim" && isStatic(offset.dim)) return x.int(dims[offset.dim]!);
  return dims
    .slice(0, -1)
    .reduceRight<Expr>((rest, dim, i) => x.select(x.eq(offset, x.int(i)), x.int(dim), rest), x.int(dims.at(-1)!));
}

/** Elements of a small integer result, when everything it reads is known. */
function evaluateContents(out: Value, vars: readonly Var[], expr: Expr): readonly Dim[] | undefined {
  if (isFloat(out.dtype) || !isStaticShape(out.shape) || sizeOf(out.shape) > MAX_CONTENTS) return undefined;
  for (const { value } of x.loadsOf([expr])) if (!contentsOf(value)) return undefined;
  const elements: Dim[] = [];
  for (let flat = 0; flat < sizeOf(out.shape); flat++) {
    const at = x.unflatten(x.int(flat), out.shape);
    const element = elementAt(expr, new Map<Expr, Expr>(vars.map((v, i) => [v, at[i]!])));
    if (element === undefined) return undefined;
    elements.push(element);
  }
  return elements;
}

function elementAt(expr: Expr, at: ReadonlyMap<Expr, Expr>): Dim | undefined {
  const value = x.transform(expr, (e) => {
    const known = at.get(e);
    if (known) return known;
    if (e.kind !== "load") return undefined;
    const offset = x.flatten(e.index, e.value.shape);
    if (offset.kind !== "dim" || !isStatic(offset.dim)) return undefined;
    const element = contentsOf(e.value)?.[offset.dim];
    if (element === undefined) return undefined;
    const type: Scalar = scalarOf(e.value.dtype);
    return type === "i32" ? x.int(element) : isStatic(element) ? x.constant(type, element) : undefined;
  });
  if (value.kind === "dim") return value.dim;
  return value.kind === "const" && value.type !== "f32" ? value.value : undefined;
}
