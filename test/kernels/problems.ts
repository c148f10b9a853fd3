// Tasks that every tactic is tried on: made by operators' own lowering, static and symbolic, in every element type that a
// kernel may meet.

import { type Dim, symbol } from "../../src/ir/dims.ts";
import {
  add,
  and,
  binary,
  constant,
  convert,
  div,
  type Expr,
  float,
  ge,
  int,
  load,
  lt,
  maximum,
  minimum,
  mul,
  type Slot,
  select,
  slot,
  sub,
  variable,
  variables,
  within,
} from "../../src/ir/expr.ts";
import { Lowering } from "../../src/ir/lower.ts";
import { type ConvTask, isKernelTask, type KernelTask, type Store } from "../../src/ir/task.ts";
import { tensor } from "../../src/ir/tensor.ts";
import { type DType, scalarOf } from "../../src/ir/types.ts";
import { makeValue, type Value } from "../../src/ir/value.ts";
import { formBlocks } from "../../src/lowering/blocks.ts";
import { requantize } from "../../src/ops/quantized.ts";

export interface Problem {
  readonly name: string;
  readonly task: KernelTask;
}

const value = (name: string, dtype: DType, shape: readonly Dim[], layout?: readonly number[]): Value => ({
  ...makeValue(name, dtype, shape),
  ...(layout ? { layout } : {}),
});

function only(b: Lowering): KernelTask {
  const [task] = b.tasks;
  if (!task || !isKernelTask(task)) throw new Error("expected one kernel task");
  return task;
}

export function gemm(name: string, dtype: DType, batch: readonly Dim[], m: Dim, n: Dim, k: Dim, transposed = false): Problem {
  const b = new Lowering(name);
  const left = value("a", dtype, [...batch, m, k]);
  const right = value("b", dtype, transposed ? [n, k] : [k, n]);
  const bias = value("bias", dtype, [n]);
  const out = b.gemm(
    dtype,
    { batch, m, n, k },
    (i, mm, kk) => load(left, [...i, mm, kk]),
    (_, kk, nn) => load(right, transposed ? [nn, kk] : [kk, nn]),
    (acc, index) => add(acc, load(bias, [index.at(-1)!])),
  );
  out.wide = true;
  return { name, task: only(b) };
}

/** Σ (a − zero)·b of bytes, times a scale, rounded to a byte or left as it is. */
function bytes(name: string, [m, n, k]: readonly Dim[], dtype: "i8" | "u8", zero: number, rounded: boolean): Problem {
  const b = new Lowering(name);
  const left = value("a", dtype, [m!, k!]);
  const right = value("b", "i8", [n!, k!]);
  const out = b.gemm(
    "i32",
    { batch: [], m: m!, n: n!, k: k! },
    (_, mm, kk) => sub(convert(load(left, [mm, kk]), "i32"), int(zero)),
    (_, kk, nn) => load(right, [nn, kk]),
    (acc) => (rounded ? convert(acc, "i8") : acc),
  );
  if (rounded) out.dtype = "i8";
  return { name, task: only(b) };
}

/** The product with the results of two siblings, which part at a column: some beside a residual, the others shifted and scaled. */
function siblings({ name, task }: Problem, split: number, first: DType, second: DType): Problem {
  if (task.kind !== "gemm") throw new Error("expected a product");
  const { m, n, acc } = task;
  const widths = [split, (n.extent as number) - split];
  const [left, right] = widths.map((width, i) => value("out", i === 0 ? first : second, [m.extent, width]));
  const residual = load(value("residual", first, [m.extent, split]), [m, n]);
  const column = sub(n, int(split));
  const [shift, scale] = ([acc.type as DType, "f32"] as const).map((dtype) =>
    load(value("row", dtype, [widths[1]!]), [column]),
  );
  const scaled = mul(convert(add(acc, shift!), "f32"), scale!);
  const stores: readonly Store[] = [
    { value: left!, index: [m, n], expr: convert(add(acc, residual), first), mode: "set", when: lt(n, int(split)) },
    { value: right!, index: [m, column], expr: scaled, mode: "set", when: ge(n, int(split)) },
  ];
  return { name, task: { ...task, stores } };
}

const LAST = [0, 2, 3, 1];

/** The largest of each 3 x 3 of bytes, borders left out, channels last; rounded to bytes again. */
function bytePool(name: string, [n, channels, side]: readonly [Dim, number, number]): Problem {
  const b = new Lowering(name);
  const input = value("x", "u8", [n, channels, side, side], LAST);
  const made = b.reduce(
    "u8",
    [n, channels, side, side],
    [3, 3],
    ([batch, channel, ...at], taps) => {
      const place = at.map((e, axis) => add(e, taps[axis]!, int(-1)));
      const inside = place.map((e) => within(e, side)).reduce((all, e) => and(all, e));
      const element = mul(convert(load(input, [batch!, channel!, ...place]), "f32"), float(0.5));
      return [{ fn: "max", body: () => select(inside, element, float(Number.NEGATIVE_INFINITY)) }];
    },
    ([largest]) => requantize(div(largest!, float(0.75)), undefined, "u8"),
  );
  made.layout = LAST;
  return { name, task: only(b) };
}

/** A convolution of bytes to bytes, channels last; `requantized`: with a bias, a factor a channel and another's bytes added. */
function byteConv(
  name: string,
  x: readonly Dim[],
  w: readonly number[],
  groups: number,
  pad: number,
  requantized = false,
): Problem & { readonly task: ConvTask } {
  const b = new Lowering(name);
  const depthwise = w[1] === 1;
  const input = value("x", "i8", x, [0, 2, 3, 1]);
  const weights = value("w", "i8", w, depthwise ? [2, 3, 1, 0] : [0, 2, 3, 1]);
  const out = x.slice(2).map((dim, i) => (dim as number) + 2 * pad - w[i + 2]! + 1);
  const [bias, factors] = [value("bias", "i32", [w[0]!]), value("factors", "f32", [w[0]!])];
  const other = value("other", "i8", [x[0]!, w[0]!, ...out], LAST);
  const rounded = (acc: Expr, index: readonly Expr[]): Expr => {
    const own = mul(convert(add(acc, load(bias, [index[1]!])), "f32"), load(factors, [index[1]!]));
    return requantize(add(own, mul(convert(load(other, index), "f32"), float(0.5))), undefined, "i8");
  };
  const made = b.conv(
    "i32",
    input,
    weights,
    { groups, strides: [1, 1], dilations: [1, 1], pads: [pad, pad], out },
    undefined,
    requantized ? rounded : (acc) => convert(acc, "i8"),
  );
  made.dtype = "i8";
  made.layout = LAST;
  return { name, task: only(b) as ConvTask };
}

/** Bytes of four channels, the last of nothing, and weights that are known, as a quantized network begins. */
function firstBytes(name: string, size: readonly [number, number], kernel: number, stride: number): Problem {
  const b = new Lowering(name);
  const pad = kernel >> 1;
  const input = value("x", "i8", [2, 4, ...size], LAST);
  const shape = [16, 4, kernel, kernel];
  const weights = value("w", "i8", shape, LAST);
  const count = shape.reduce((a, e) => a * e, 1);
  weights.data = tensor(
    "i8",
    shape,
    Int8Array.from({ length: count }, (_, i) => ((i * 37) % 255) - 127),
  );
  const factors = value("factors", "f32", [16]);
  const out = size.map((dim) => Math.floor((dim + 2 * pad - kernel) / stride) + 1);
  const made = b.conv(
    "i32",
    input,
    weights,
    { groups: 1, strides: [stride, stride], dilations: [1, 1], pads: [pad, pad], out },
    undefined,
    (acc, index) => requantize(mul(convert(acc, "f32"), load(factors, [index[1]!])), undefined, "i8"),
  );
  made.dtype = "i8";
  made.layout = LAST;
  return { name, task: only(b) };
}

/** The convolution as two side by side, each with its own bytes: the first of the given number of channels. */
function beside(name: string, { task }: { readonly task: ConvTask }, split: number): Problem {
  const [store] = task.stores;
  const { shape } = store!.value;
  const part = (what: string, channels: number, first: number, when: Expr): Store => ({
    ...store!,
    value: value(what, "i8", [shape[0]!, channels, ...shape.slice(2)], LAST),
    index: store!.index.map((e, axis) => (axis === 1 ? sub(e, int(first)) : e)),
    when,
  });
  const rest = (shape[1] as number) - split;
  const stores = [part("left", split, 0, lt(task.oc, int(split))), part("right", rest, split, ge(task.oc, int(split)))];
  return { name, task: { ...task, stores } };
}

export interface ConvCase {
  readonly dtype?: DType;
  readonly x: readonly Dim[];
  readonly w: readonly number[];
  readonly stride?: number;
  readonly pad?: number;
  readonly groups?: number;
  readonly dilation?: number;
  readonly last?: boolean;
  /** Weights that are known when the engine is built. */
  readonly constant?: boolean;
}

/** Numbers in [-0.5, 0.5) that are the same every time. */
export function numbers(count: number, seed = 1): number[] {
  let state = seed;
  return Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32 - 0.5;
  });
}

export function conv(name: string, problem: ConvCase): Problem {
  const { dtype = "f32", x, w, stride = 1, pad = 0, groups = 1, dilation = 1, last = false, constant: known = false } = problem;
  const b = new Lowering(name);
  const rank = x.length - 2;
  const axes = Array.from({ length: rank }, (_, i) => i + 2);
  const input = value("x", dtype, x, last ? [0, ...axes, 1] : undefined);
  const weights = value("w", dtype, w, last ? [...axes, 1, 0] : undefined);
  if (known) weights.data = tensor(dtype, w, numbers(w.reduce((a, e) => a * e, 1)));
  const out = x
    .slice(2)
    .map((dim, i) => Math.floor(((typeof dim === "number" ? dim : 9) + 2 * pad - dilation * (w[i + 2]! - 1) - 1) / stride) + 1);
  const made = b.conv(
    dtype,
    input,
    weights,
    { groups, strides: axes.map(() => stride), dilations: axes.map(() => dilation), pads: axes.map(() => pad), out },
    undefined,
    (acc) => (acc.type === "f32" ? maximum(acc, float(0)) : acc),
  );
  made.wide = true;
  if (last) made.layout = [0, ...axes, 1];
  return { name, task: only(b) };
}

function reduce(name: string, dtype: DType, outer: readonly Dim[], inner: readonly Dim[], each: boolean): Problem {
  const b = new Lowering(name);
  const x = value("x", dtype, [...outer, ...inner]);
  if (each)
    b.rows(
      dtype,
      x.shape,
      inner.map((_, i) => outer.length + i),
      (index) => [
        { fn: "max", body: () => load(x, index) },
        { fn: "sum", body: ([most]) => add(load(x, index), most!) },
      ],
      ([, sum], index) => add(load(x, index), sum!),
    );
  else b.reduce(dtype, outer, inner, (o, i) => [{ fn: "sum", body: () => load(x, [...o, ...i]) }]).wide = true;
  return { name, task: only(b) };
}

function map(name: string, dtype: DType, shape: readonly Dim[], layout?: readonly number[]): Problem {
  const b = new Lowering(name);
  const x = value("x", dtype, shape, layout);
  const out = b.map(dtype, shape, (i) => (scalarOf(dtype) === "bool" ? load(x, i) : add(load(x, i), load(x, i))));
  if (layout) out.layout = layout;
  return { name, task: only(b) };
}

/** Zeros around what is read a place before. */
function shifted(name: string, dtype: DType, [rows, columns]: readonly [number, number]): Problem {
  const b = new Lowering(name);
  const x = value("x", dtype, [rows, columns - 2]);
  b.map(dtype, [rows, columns], ([row, column]) => {
    const from = sub(column!, int(1));
    return select(within(from, columns - 2), load(x, [row!, from]), float(0));
  });
  return { name, task: only(b) };
}

/** Sums of bytes, of different scales, as bytes of a third one. */
function requantizedSum(name: string, dtype: "i8" | "u8", shape: readonly number[], zero: number): Problem {
  const b = new Lowering(name);
  const [x, y] = [value("x", dtype, shape), value("y", dtype, shape)];
  b.map(dtype, shape, (index) => {
    const [own, other] = [x, y].map((each) => convert(load(each, index), "f32"));
    const sum = add(mul(own!, float(0.5)), mul(other!, float(0.75)));
    return requantize(sum, zero === 0 ? undefined : float(zero), dtype);
  });
  return { name, task: only(b) };
}

/** Adds constants at the ends of what an f32 can be. */
function extremes(name: string): Problem {
  const b = new Lowering(name);
  const x = value("x", "f32", [8]);
  b.map("f32", [8], (i) =>
    [3.4028234663852886e38, -3.4028234663852886e38, 1.1754943508222875e-38, -0].reduce(
      (sum, end) => add(sum, float(end)),
      load(x, i),
    ),
  );
  return { name, task: only(b) };
}

/** Windows of three with a border, of a maximum and a mean, channels last. */
function pool(name: string, dtype: DType, [n, c, h, w]: readonly [number, number, number, number]): Problem {
  const b = new Lowering(name);
  const x = value("x", dtype, [n, c, h, w], [0, 2, 3, 1]);
  const out = b.reduce(
    dtype,
    [n, c, h, w],
    [3, 3],
    ([bb, cc, y, xx], [i, j]) => {
      const [row, column] = [sub(add(y!, i!), int(1)), sub(add(xx!, j!), int(1))];
      const inside = and(within(row, h), within(column, w));
      const read = load(x, [bb!, cc!, row, column]);
      return [
        { fn: "max", body: () => select(inside, read, float(Number.NEGATIVE_INFINITY)) },
        { fn: "sum", body: () => select(inside, read, float(0)) },
      ];
    },
    ([most, sum]) => add(most!, div(sum!, float(9))),
  );
  out.layout = [0, 2, 3, 1];
  return { name, task: only(b) };
}

function histogram(name: string): Problem {
  const b = new Lowering(name);
  const x = value("x", "u32", [1000]);
  b.scatter(
    value("counts", "u32", [16]),
    [1000],
    ([i]) => ({ index: [convert(binary("rem", load(x, [i!]), constant("u32", 16)), "i32")], expr: constant("u32", 1) }),
    "add",
  );
  return { name, task: only(b) };
}

/** softmax(q·kᵀ)·v over [2, heads, length, width]. */
export function attention(name: string, dtype: DType, length: Dim, width = 16): Problem {
  const batch = variables("b", [2, 3]);
  const [m, k] = [variable("m", length), variable("k", length)];
  const [d, n] = [variable("d", width), variable("n", width)];
  const [dot, peak, sum, acc] = ["dot", "peak", "sum", "acc"].map((slotName) => slot(slotName, "f32")) as [
    Slot,
    Slot,
    Slot,
    Slot,
  ];
  const operand = (operandName: string): Value => value(operandName, dtype, [2, 3, length, width]);
  const out = operand("out");
  const task: KernelTask = {
    kind: "attention",
    name,
    origins: [name],
    batch,
    m,
    k,
    d,
    n,
    q: load(operand("q"), [...batch, m, d]),
    key: load(operand("key"), [...batch, k, d]),
    dot,
    score: mul(dot, float(0.25)),
    peak,
    shift: peak,
    sum,
    v: load(operand("v"), [...batch, k, n]),
    acc,
    stores: [{ value: out, index: [...batch, m, n], expr: div(acc, sum), mode: "set" }],
  };
  return { name, task };
}

export interface BlockCase {
  readonly dtype?: DType;
  readonly batch?: Dim;
  /** Channels before, between and after; without the first the block begins with its depthwise convolution. */
  readonly channels: readonly [number | undefined, number, number];
  readonly size: readonly [number, number];
  readonly kernel?: number;
  readonly stride?: number;
  readonly dilation?: number;
  /** Adds the block's input to its result. */
  readonly residual?: boolean;
}

/** A pointwise, a depthwise and a pointwise convolution with biases, clipped as in MobileNetV2; channels last. */
export function block(name: string, problem: BlockCase): Problem {
  const { dtype = "f32", batch = 1, channels, size, kernel = 3, stride = 1, dilation = 1, residual = false } = problem;
  const [inputs, wide, outputs] = channels;
  const b = new Lowering(name);
  const last = [0, 2, 3, 1];
  const pad = (dilation * (kernel - 1)) >> 1;
  let made = 0;
  const part = (
    x: Value,
    oc: number,
    taps: number,
    groups: number,
    step: number,
    finish: (e: Expr, i: readonly Expr[]) => Expr,
  ) => {
    const number = made++;
    const w = value(`w${number}`, dtype, [oc, (x.shape[1] as number) / groups, taps, taps], [2, 3, 1, 0]);
    const bias = value(`bias${number}`, dtype, [oc]);
    const pads = taps > 1 ? pad : 0;
    const spread = taps > 1 ? dilation : 1;
    const out = x.shape.slice(2).map((dim) => Math.floor(((dim as number) + 2 * pads - spread * (taps - 1) - 1) / step) + 1);
    const shape = { groups, strides: [step, step], dilations: [spread, spread], pads: [pads, pads], out };
    const y = b.conv(dtype, x, w, shape, undefined, (acc, index) => finish(add(acc, load(bias, [index[1]!])), index));
    y.layout = last;
    return y;
  };
  const clip = (e: Expr): Expr => minimum(maximum(e, float(0)), float(0.75));
  const x = value("x", dtype, [batch, inputs ?? wide, ...size], last);
  const expanded = inputs === undefined ? x : part(x, wide, 1, 1, 1, clip);
  const convolved = part(expanded, wide, kernel, wide, stride, clip);
  const y = part(convolved, outputs, 1, 1, 1, (e, index) => (residual ? add(e, load(x, index)) : e));
  const [task] = formBlocks(b.tasks, new Set([y]), () => true);
  if (task?.kind !== "block" || task.parts.length !== b.tasks.length) throw new Error("expected one block");
  return { name, task };
}

const N = symbol("N");

export const PROBLEMS: readonly Problem[] = [
  ...(["f32", "f16", "i32", "u8", "bool"] as const).map((dtype) => map(`map ${dtype}`, dtype, [3, 5, 7])),
  histogram("histogram"),
  attention("attention", "f32", 33),
  attention("attention f16 symbolic", "f16", N),
  attention("attention f16 wide", "f16", 197, 64),
  extremes("map of extremes"),
  map("map symbolic", "f32", [N, 12]),
  requantizedSum("map requantized i8", "i8", [6, 32], 0),
  requantizedSum("map requantized u8", "u8", [6, 32], 7),
  requantizedSum("map requantized odd", "i8", [6, 20], -3),
  shifted("map shifted", "f32", [5, 16]),
  shifted("map shifted f16", "f16", [5, 16]),
  map("map channels last", "f16", [2, 8, 3, 5], [0, 2, 3, 1]),
  reduce("reduce short", "f32", [4, 3], [7], false),
  reduce("reduce long", "f16", [3], [300], false),
  pool("pool f16", "f16", [2, 16, 5, 6]),
  pool("pool f32", "f32", [1, 12, 4, 7]),
  reduce("reduce symbolic", "f32", [N], [N], false),
  reduce("rows", "f32", [5], [97], true),
  reduce("rows in runs", "f32", [5], [96], true),
  reduce("rows in runs f16", "f16", [7], [168], true),
  reduce("rows symbolic", "f32", [N, 4], [N], true),
  gemm("gemm", "f32", [], 65, 33, 70),
  gemm("gemm f16", "f16", [], 64, 96, 128),
  gemm("gemm f16 odd", "f16", [], 35, 37, 39),
  gemm("gemm f16 transposed", "f16", [], 64, 64, 96, true),
  gemm("gemm batched", "f32", [2, 3], 9, 10, 11),
  gemm("gemm symbolic", "f32", [N], N, 24, 32),
  gemm("gemm vector", "f32", [], 1, 100, 256, true),
  gemm("gemm integers", "i32", [], 20, 24, 32),
  siblings(gemm("gemm siblings", "f16", [], 24, 96, 32), 40, "f16", "f32"),
  siblings(gemm("gemm siblings by four", "f32", [], 24, 48, 32), 20, "f32", "f16"),
  siblings(gemm("gemm siblings odd", "f32", [], 24, 48, 32), 21, "f32", "f16"),
  conv("conv 1x1", { x: [2, 16, 9, 7], w: [24, 16, 1, 1] }),
  conv("conv 3x3", { x: [1, 3, 17, 19], w: [16, 3, 3, 3], stride: 2, pad: 1 }),
  conv("conv 3x3 f16 last", { dtype: "f16", x: [1, 16, 14, 14], w: [32, 16, 3, 3], pad: 1, last: true }),
  conv("conv 1x1 f16 last", { dtype: "f16", x: [2, 64, 7, 7], w: [48, 64, 1, 1], last: true }),
  conv("conv depthwise", { x: [1, 12, 11, 13], w: [12, 1, 3, 3], pad: 1, groups: 12 }),
  conv("conv depthwise last", { x: [1, 12, 11, 13], w: [12, 1, 3, 3], pad: 1, groups: 12, last: true }),
  conv("conv grouped f16", { dtype: "f16", x: [1, 32, 8, 8], w: [32, 16, 3, 3], pad: 1, groups: 2, last: true }),
  conv("conv 1d", { x: [2, 5, 30], w: [7, 5, 5], pad: 2 }),
  conv("conv 3d", { x: [1, 2, 6, 7, 8], w: [4, 2, 3, 3, 3], pad: 1 }),
  conv("conv 3x3 known", { x: [1, 20, 10, 11], w: [24, 20, 3, 3], pad: 1, last: true, constant: true }),
  conv("conv 3x3 known f16", { dtype: "f16", x: [1, 32, 8, 8], w: [32, 32, 3, 3], pad: 1, last: true, constant: true }),
  conv("conv 3x3 known grouped", { x: [2, 12, 9, 9], w: [16, 6, 3, 3], groups: 2, constant: true }),
  conv("conv 1x3 known", { x: [1, 16, 7, 9], w: [16, 16, 1, 3], pad: 1, constant: true }),
  conv("conv 7x7 known", { x: [1, 16, 17, 20], w: [20, 16, 7, 7], pad: 3, last: true, constant: true }),
  conv("conv 3 channels known f16", { dtype: "f16", x: [2, 3, 13, 15], w: [16, 3, 7, 7], stride: 2, pad: 3, constant: true }),
  conv("conv 3 channels known", { x: [1, 3, 15, 14], w: [16, 3, 3, 3], stride: 2, pad: 1, constant: true }),
  conv("conv depthwise large", { x: [1, 6, 12, 11], w: [6, 1, 9, 9], pad: 4, groups: 6, last: true }),
  gemm("gemm few rows", "f32", [2], 3, 36, 70),
  gemm("gemm a row a batch", "f16", [5], 1, 40, 64),
  gemm("gemm rows of all batches", "f32", [3], 7, 24, 40),
  gemm("gemm deep", "f32", [], 8, 16, 1024),
  conv("conv 1d known", { x: [2, 16, 30], w: [16, 16, 5], pad: 2, constant: true }),
  conv("conv symbolic known", { x: [N, 8, 9, 9], w: [8, 8, 3, 3], pad: 1, constant: true }),
  bytes("bytes", [64, 96, 128], "i8", 0, true),
  bytes("bytes odd", [35, 37, 39], "u8", 3, false),
  bytes("bytes shifted", [64, 64, 64], "u8", 3, true),
  bytes("bytes symbolic", [N, 24, 32], "u8", 128, true),
  siblings(bytes("bytes siblings", [64, 96, 128], "i8", 0, false), 40, "i8", "f32"),
  siblings(bytes("bytes siblings by four", [64, 96, 128], "i8", 0, false), 36, "i8", "f16"),
  byteConv("conv bytes", [1, 32, 9, 9], [24, 32, 3, 3], 1, 1),
  bytePool("pool bytes", [2, 12, 9]),
  byteConv("conv bytes requantized", [1, 32, 9, 9], [24, 32, 3, 3], 1, 1, true),
  firstBytes("conv first bytes", [13, 21], 7, 2),
  firstBytes("conv first bytes, each place", [9, 11], 3, 1),
  firstBytes("conv first bytes, by three", [9, 20], 3, 3),
  byteConv("conv bytes in sixteens", [1, 32, 12, 12], [64, 32, 1, 1], 1, 0, true),
  beside("conv bytes in sixteens beside", byteConv("", [1, 32, 9, 9], [48, 32, 1, 1], 1, 0, true), 16),
  beside("conv bytes beside", byteConv("", [1, 32, 9, 9], [24, 32, 1, 1], 1, 0, true), 8),
  byteConv("conv bytes grouped", [2, 24, 7, 7], [16, 12, 3, 3], 2, 1),
  byteConv("conv bytes depthwise", [1, 12, 11, 13], [12, 1, 3, 3], 12, 1),
  block("block", { channels: [4, 24, 12], size: [5, 7] }),
  block("block residual f16", { dtype: "f16", channels: [8, 32, 8], size: [4, 4], residual: true }),
  block("block strided", { batch: 2, channels: [4, 24, 8], size: [10, 7], stride: 2 }),
  block("block depthwise first", { channels: [undefined, 16, 20], size: [7, 7], kernel: 5 }),
  block("block dilated symbolic", { batch: N, channels: [8, 16, 8], size: [5, 5], dilation: 2, residual: true }),
  conv("conv symbolic", { x: [N, 8, 9, 9], w: [8, 8, 3, 3], pad: 1 }),
];
