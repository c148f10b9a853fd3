// Results that leave several neighbours at a time: what their expressions read, and what is stored, as vectors and words where
// they are runs in memory.

import { type Dim, isStatic, product } from "../ir/dims.ts";
import {
  add,
  type Expr,
  int,
  type Load,
  lt,
  mul,
  offsetOf,
  type Slot,
  slot,
  substitute,
  unflatten,
  type Var,
  variable,
  visit,
} from "../ir/expr.ts";
import { runOffset, variesInRun } from "../ir/runs.ts";
import { storageOf } from "../ir/storage.ts";
import { type GemmTask, mapStore, type Store } from "../ir/task.ts";
import { dtypeFacts } from "../ir/types.ts";
import type { Value } from "../ir/value.ts";
import type { Caps } from "../util/caps.ts";
import type { Frame } from "./frame.ts";
import { WORKGROUP_NUMBER } from "./grid.ts";
import { ROUNDER, saturated } from "./rounding.ts";
import { loadsAlways } from "./vector.ts";
import type { Block } from "./writer.ts";

/** Results of a run that one invocation stores: sixteen only of bytes. */
export type Count = 4 | 8 | 16;

/** Gives an expression its form for neighbour `i` of a run. */
export type ToLane = (e: Expr, i: number) => Expr;

/**
 * Writes the stores of `sums.length` results along `n`, 4 or 8 from a multiple of that on, of which the first is inside and has
 * the number that `n` is bound to.
 */
export function storeRun(
  block: Block,
  stores: readonly Store[],
  n: Var,
  acc: Slot,
  sums: readonly string[],
  isAhead = false,
): void {
  const slots = sums.map((text, i) => {
    const lane = slot(`acc${i}`, acc.type);
    block.bind(lane, text);
    return lane;
  });
  const to: ToLane = (e, i) =>
    substitute(
      e,
      new Map<Expr, Expr>([
        [n, add(n, int(i))],
        [acc, slots[i]!],
      ]),
    );
  storeLanes(block, stores, n, to, sums.length, isAhead);
}

/**
 * As `storeRun`, with results that `to` puts into each neighbour's expressions. `isAhead`: loads were read before, and are fields of
 * `along` and `beside` (see `storeApart`).
 */
export function storeLanes(block: Block, stores: readonly Store[], n: Var, to: ToLane, count: number, isAhead = false): void {
  const { module } = block;
  const at = (store: Store, i: number): Store => mapStore(store, (e) => to(e, i));
  const isWhole = isStatic(n.extent) && n.extent % count === 0;
  const read = alwaysRead(stores, n, count);
  const fields = { along: 0, beside: 0 };
  for (const load of read) {
    const part = isAlong(load, n) ? "along" : "beside";
    if (isAhead) for (const { bind } of readsOf(block, load, n, to, count)) bind(`${part}.f${fields[part]++}`);
    else readRun(block, load, n, to, count);
  }
  const asVectors = new Set(
    stores.map(({ value }) => value).filter((value) => isWhole && isVector(block, stores, value, n, count)),
  );
  for (const store of stores) {
    const { when, ...always } = store;
    if (!isWhole || (when && variesInRun(when, n, count))) {
      for (let i = 0; i < count; i++)
        block.under(i === 0 || isWhole ? undefined : lt(add(n, int(i)), int(n.extent)), () => block.store(at(store, i)));
      continue;
    }
    block.under(when, () => {
      for (const load of loadsAlways([store.expr])) if (!read.has(load)) readRun(block, load, n, to, count);
      const isVector = asVectors.has(store.value);
      if (storageOf(store.value, module.caps).lanes > 1) storeWords(block, always, at, count, isVector);
      else if (isVector) storeVectors(block, always, at, count);
      else for (let i = 0; i < count; i++) block.store(at(always, i));
    });
  }
}

/**
 * Begins a kernel in workgroups of `size` in which an invocation makes `count` neighbours along the last of `order`: `first` is
 * the first of them, `at` what each variable is, `total` how many invocations there are.
 */
export function inRuns(
  block: Block,
  order: readonly Var[],
  size: number,
  count: number,
): { readonly first: Var; readonly at: ReadonlyMap<Expr, Expr>; readonly total: Dim } {
  const along = order.at(-1)!;
  const grid = [...order.slice(0, -1).map(({ extent }) => extent), (along.extent as number) / count];
  const total = product(grid);
  const item = variable("item", total);
  block.line(`let item = ${WORKGROUP_NUMBER} * ${size} + i32(lane);`);
  block.line(`if (item >= ${block.module.dim(total)}) { return; }`);
  block.bind(item, "item");
  const index = unflatten(item, grid);
  const first = variable("first", along.extent);
  block.line(`let first = ${block.value(mul(index.at(-1)!, int(count)))};`);
  block.bind(first, "first");
  return { first, at: new Map<Expr, Expr>(order.map((v, i) => [v, v === along ? first : index[i]!])), total };
}

/** The hook that stores `count` results along n, `acc` being a vector or an array of them. */
export const storeResults = ({ gemm, hook }: Frame, count: Count, isAhead = false): string =>
  hook([gemm.m, gemm.n], (block) =>
    storeRun(
      block,
      gemm.stores,
      gemm.n,
      gemm.acc,
      Array.from({ length: count }, (_, i) => `acc[${i}]`),
      isAhead,
    ),
  );

/**
 * Three hooks for `storeResults`'s one, so that memory's latency passes while sums are on their way: what results need beside
 * their sums, `along` what varies along n alone and `beside` the rest, and the store that is given both; with the types of the two and
 * the words that `beside` gives.
 */
export function storeApart(
  frame: Frame,
  count: Count,
): Readonly<Record<"Along" | "Beside" | "along" | "beside" | "store", string>> & { readonly words: number } {
  const { gemm, hook, module } = frame;
  const to: ToLane = (e, i) => substitute(e, new Map<Expr, Expr>([[gemm.n, add(gemm.n, int(i))]]));
  const loads = [...alwaysRead(gemm.stores, gemm.n, count)];
  /** The hook that reads some of the loads, and what it gives. */
  const reading = (
    type: string,
    parameters: readonly Var[],
    some: readonly Load[],
  ): readonly [type: string, hook: string, words: number] => {
    const types: string[] = [];
    const text = hook(parameters, (block) => {
      const names = some
        .flatMap((load) => readsOf(block, load, gemm.n, to, count))
        .map((read) => {
          types.push(read.type);
          const name = block.fresh();
          block.line(`let ${name} = ${read.text()};`);
          return name;
        });
      block.line(`return ${type}(${names.join(", ")});`);
    });
    if (types.length === 0) return ["u32", text, 0];
    module.add(`struct Loaded${type} {\n${types.map((each, i) => `  f${i}: ${each},`).join("\n")}\n}`);
    return [`Loaded${type}`, text, types.reduce((words, each) => words + (each.startsWith("vec4") ? 4 : 1), 0)];
  };
  const [along, readAlong] = reading(
    "Along",
    [gemm.n],
    loads.filter((load) => isAlong(load, gemm.n)),
  );
  const [beside, readBeside, words] = reading(
    "Beside",
    [gemm.m, gemm.n],
    loads.filter((load) => !isAlong(load, gemm.n)),
  );
  const store = storeResults(frame, count, along !== "u32" || beside !== "u32");
  return { Along: along, Beside: beside, along: readAlong, beside: readBeside, store, words };
}

/** Whether a load is the same for all of what n alone does not tell apart. */
function isAlong({ index }: Load, n: Var): boolean {
  let others = false;
  visit(index, (e) => {
    others ||= e.kind === "load" || (e.kind === "var" && e !== n);
  });
  return !others;
}

/** Results that one lane stores: sixteen bytes of f16, where they are whole and stored under one condition, or of f32. */
export function resultsOf({ module: { caps }, gemm: { n, stores } }: Frame): 4 | 8 {
  const isHalf = stores.some(({ value }) => storageOf(value, caps).item === "f16");
  const isWhole = isStatic(n.extent) && n.extent % 8 === 0;
  return isHalf && isWhole && !stores.some(({ when }) => when && variesInRun(when, n, 8)) ? 8 : 4;
}

/** Whether results are bytes that lie in runs of sixteen, and nothing else. */
export const areBytes = ({ n, stores }: Pick<GemmTask, "n" | "stores">, caps: Caps): boolean =>
  isStatic(n.extent) &&
  n.extent % 16 === 0 &&
  stores.every(
    ({ value, index, mode, when }) =>
      isByte(value, caps) &&
      mode === "set" &&
      !(when && variesInRun(when, n, 16)) &&
      runOffset(value, index, n, 16) !== undefined,
  );

const isByte = (value: Value, caps: Caps): boolean =>
  storageOf(value, caps).lanes === 4 && dtypeFacts[value.dtype].kind === "int";

/** Loads that results need whatever a condition says, where `count` of them are whole. */
const alwaysRead = (stores: readonly Store[], n: Var, count: number): ReadonlySet<Load> =>
  isStatic(n.extent) && n.extent % count === 0
    ? loadsAlways(stores.flatMap(({ expr, when }) => (when ? [] : [expr])))
    : new Set<Load>();

/** Reads `count` neighbours of a load at once, if they are a run, and lets the block know each by its expression. */
export function readRun(block: Block, load: Load, n: Var, to: ToLane, count: number): void {
  for (const { text, bind } of readsOf(block, load, n, to, count)) {
    const name = block.fresh();
    block.line(`let ${name} = ${text()};`);
    bind(name);
  }
}

/** A vector or a word of a run: its type, what reads it and, once it has a name, its lanes by their expressions. */
interface Read {
  readonly type: string;
  readonly text: () => string;
  readonly bind: (name: string) => void;
}

/** The vectors or words that `count` neighbours of a load are, none if they are no run. */
function readsOf(block: Block, load: Load, n: Var, to: ToLane, count: number): Read[] {
  const { module } = block;
  const { value } = load;
  const { item, lanes } = storageOf(value, module.caps);
  const ofBytes = isByte(value, module.caps);
  const width = item === "f16" ? Math.min(count, 8) : ofBytes && count === 16 && runOffset(value, load.index, n, 16) ? 16 : 4;
  const isNumber = lanes === 1 && (item === "f32" || item === "f16" || value.dtype === "i32");
  if (!(ofBytes || isNumber) || !runOffset(value, load.index, n, width)) return [];
  return Array.from({ length: count / width }, (_, k): Read => {
    const offset = (): string => block.value(offsetOf(value, (to(load, k * width) as Load).index));
    const lanes = (text: (i: number) => string): void => {
      for (let i = 0; i < width; i++) block.bind(to(load, k * width + i), text(i));
    };
    if (ofBytes) {
      const word = (name: string): string => (dtypeFacts[value.dtype].signed ? `bitcast<i32>(${name})` : name);
      if (width === 16)
        return {
          type: "vec4<u32>",
          text: () => `${module.vectorBuffer(value)}[${offset()} >> 4u]`,
          bind: (name) => lanes((i) => `extractBits(${word(`${name}[${i >> 2}]`)}, ${8 * (i % 4)}u, 8u)`),
        };
      return {
        type: "u32",
        text: () => `${module.buffer(value, "read")}[${offset()} >> 2u]`,
        bind: (name) => lanes((i) => `extractBits(${word(name)}, ${8 * i}u, 8u)`),
      };
    }
    if (width === 8)
      return {
        type: "vec4<u32>",
        text: () => `${module.vectorBuffer(value, "u32")}[${offset()} >> 3u]`,
        bind: (name) => lanes((i) => `unpack2x16float(${name}[${i >> 1}])[${i & 1}]`),
      };
    const type = `vec4<${item === "i32" ? "i32" : "f32"}>`;
    return {
      type,
      text: () => `${type}(${module.vectorBuffer(value)}[${offset()} >> 2u])`,
      bind: (name) => lanes((i) => `${name}[${i}]`),
    };
  });
}

/** Whether every store of a value of f32, f16, i32 or bytes is a run of vectors, and nothing else of the kernel touches it. */
function isVector({ module }: Block, stores: readonly Store[], value: Value, n: Var, count: number): boolean {
  const { item, lanes } = storageOf(value, module.caps);
  const isNumber = lanes === 1 && (item === "f32" || item === "f16" || value.dtype === "i32") && value.dtype !== "bf16";
  const ofBytes = count === 16 && isByte(value, module.caps);
  if (!(isNumber || ofBytes) || module.isBound(value)) return false;
  const width = ofBytes ? 16 : item === "f16" ? Math.min(count, 8) : 4;
  return stores.every(
    (store) =>
      store.value !== value ||
      (store.mode === "set" &&
        !(store.when && variesInRun(store.when, n, count)) &&
        runOffset(value, store.index, n, width) !== undefined),
  );
}

function storeVectors(block: Block, store: Store, at: (store: Store, i: number) => Store, count: number): void {
  const { module } = block;
  const { value } = store;
  const { item } = storageOf(value, module.caps);
  const isHalf = item === "f16";
  const width = isHalf ? Math.min(count, 8) : 4;
  const results = Array.from({ length: count }, (_, i) => block.value(at(store, i).expr));
  for (let first = 0; first < count; first += width) {
    const offset = block.value(offsetOf(value, at(store, first).index));
    const own = results.slice(first, first + width);
    if (!isHalf || width === 4) {
      const four = item === "i32" ? `vec4<i32>(${own.join(", ")})` : `vec4<${item}>(vec4<f32>(${own.join(", ")}))`;
      block.line(`${module.vectorBuffer(value, item, "write")}[${offset} >> 2u] = ${four};`);
      continue;
    }
    module.features.add("f16");
    const pairs = [0, 2, 4, 6].map((i) => `bitcast<u32>(vec2<f16>(vec2<f32>(${own[i]}, ${own[i + 1]})))`);
    block.line(`${module.vectorBuffer(value, "u32", "write")}[${offset} >> 3u] = vec4<u32>(${pairs.join(", ")});`);
  }
}

/** u32 text whose low byte is a rounded and saturated number; undefined for other expressions. */
function roundedBits(block: Block, e: Expr): string | undefined {
  const number = e.kind === "convert" ? saturated(e.a) : undefined;
  if (!number) return undefined;
  const { within, zero } = number;
  const bits = block.fresh();
  block.line(`let ${bits} = bitcast<u32>(${block.value(within)} + ${ROUNDER}.0);`);
  return zero === 0 ? bits : `(${bits} + ${(zero >>> 0).toString()}u)`;
}

/** Packed bytes, which lie along n; four words at once where they are a vector. */
function storeWords(
  block: Block,
  store: Store,
  at: (store: Store, i: number) => Store,
  count: number,
  isVector: boolean,
): void {
  const { module } = block;
  const words: string[] = [];
  for (let first = 0; first < count; first += 4) {
    const word = block.fresh();
    words.push(word);
    const bytes = [0, 1, 2, 3].map((i) => {
      const { expr } = at(store, first + i);
      return roundedBits(block, expr) ?? block.stored(store.value, block.value(expr));
    });
    const parts = bytes.map((text, i) =>
      i === 0 ? `(${text} & 0xffu)` : i < 3 ? `((${text} & 0xffu) << ${8 * i}u)` : `(${text} << 24u)`,
    );
    block.line(`let ${word} = ${parts.join(" | ")};`);
    if (isVector) continue;
    const offset = block.value(offsetOf(store.value, at(store, first).index));
    block.line(`${module.buffer(store.value, "write")}[${offset} >> 2u] = ${word};`);
  }
  if (!isVector) return;
  const offset = block.value(offsetOf(store.value, at(store, 0).index));
  block.line(`${module.vectorBuffer(store.value, "u32", "write")}[${offset} >> 4u] = vec4<u32>(${words.join(", ")});`);
}
