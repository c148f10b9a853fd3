// GEMM and convolution in one form: results over batch, m and n; a sum over some inner variables of a product of two
// operands. What the tactics that block or tile a product start from.

import { type Dim, product } from "../ir/dims.ts";
import { type Expr, flatten, loadsOf, offsetOf, substitute, unflatten, type Var, variable, visit } from "../ir/expr.ts";
import { storageOf } from "../ir/storage.ts";
import { asReduce, type ConvTask, type GemmTask, type KernelTask, mapStore, type Store } from "../ir/task.ts";
import type { Caps } from "../util/caps.ts";

export interface Product {
  readonly batch: readonly Var[];
  readonly m: Var;
  readonly n: Var;
  /** Outermost first. */
  readonly inner: readonly Var[];
  /** Over batch, m and inner. */
  readonly a: Expr;
  /** Over batch, n and inner. */
  readonly b: Expr;
  readonly acc: GemmTask["acc"];
  readonly stores: readonly Store[];
}

/** What each task is as a product and as a GEMM: tactics ask again and again. Layouts are known by then. */
const products = new WeakMap<ConvTask, Product>();
const gemms = new WeakMap<GemmTask | ConvTask, GemmTask>();

function remembered<K extends object, T>(table: WeakMap<K, T>, task: K, make: (task: K) => T): T {
  const known = table.get(task) ?? make(task);
  table.set(task, known);
  return known;
}

/** Of a convolution, m: batch and positions; n: output channels of one group; inner: input channels of a group and taps. */
export function asProduct(task: GemmTask | ConvTask): Product {
  if (task.kind === "conv") return remembered(products, task, productOf);
  const gemm = asGemm(task);
  return { ...gemm, inner: [gemm.k] };
}

function productOf(task: ConvTask): Product {
  const perGroup = (task.oc.extent as number) / task.groups;
  const group = variable("g", task.groups);
  const positions = [task.batch, ...task.out];
  const m = variable("m", sizeOf(positions));
  const n = variable("n", perGroup);
  const index = unflatten(
    m,
    positions.map(({ extent }) => extent),
  );
  const at = new Map<Expr, Expr>(positions.map((v, i) => [v, index[i]!]));
  at.set(task.oc, task.groups === 1 ? n : perGroup === 1 ? group : flatten([group, n], [task.groups, perGroup]));
  const { stages, stores, inner } = asReduce(task);
  const body = stages[0]!.body;
  if (body.kind !== "binary") throw new TypeError("a convolution multiplies its operands");
  const move = (e: Expr): Expr => substitute(e, at);
  return {
    batch: task.groups === 1 ? [] : [group],
    m,
    n,
    inner: channelsLast(task) ? [...task.kernel, task.ic] : inner,
    a: move(body.a),
    b: move(body.b),
    acc: task.acc,
    stores: stores.map((store) => mapStore(store, move)),
  };
}

const channelsLast = ({ x }: ConvTask): boolean => loadsOf([x]).some(({ value: { layout } }) => layout?.at(-1) === 1);

/** The product with all inner variables as one, and with as many rows as share their right operand. */
export const asGemm = (task: GemmTask | ConvTask): GemmTask =>
  remembered<GemmTask | ConvTask, GemmTask>(gemms, task, () => (task.kind === "gemm" ? withAllRows(task) : gemmOf(task)));

/** Batches that the right operand does not know become rows: fewer tiles have rows to spare. */
function withAllRows(task: GemmTask): GemmTask {
  const seen = new Set<Expr>();
  visit([task.b], (e) => void seen.add(e));
  const rows = [...task.batch.filter((v) => !seen.has(v)), task.m];
  if (rows.length === 1) return task;
  const m = variable("m", sizeOf(rows));
  const index = unflatten(
    m,
    rows.map(({ extent }) => extent),
  );
  const at = new Map<Expr, Expr>(rows.map((v, i) => [v, index[i]!]));
  const move = (e: Expr): Expr => substitute(e, at);
  return {
    ...task,
    batch: task.batch.filter((v) => seen.has(v)),
    m,
    a: move(task.a),
    stores: task.stores.map((store) => mapStore(store, move)),
  };
}

function gemmOf(task: ConvTask): GemmTask {
  const { inner, a, b, ...rest } = asProduct(task);
  const k = variable("k", sizeOf(inner));
  const index = unflatten(
    k,
    inner.map(({ extent }) => extent),
  );
  const at = new Map<Expr, Expr>(inner.map((v, i) => [v, index[i]!]));
  return { kind: "gemm", name: task.name, origins: task.origins, ...rest, k, a: substitute(a, at), b: substitute(b, at) };
}

/** True when results are stored one at a time: none of them shares a word with others. */
export const storesElements = ({ stores }: Pick<KernelTask, "stores">, caps: Pick<Caps, "f16">): boolean =>
  stores.every(({ value }) => storageOf(value, caps).lanes === 1);

const sizeOf = (vars: readonly Var[]): Dim => product(vars.map(({ extent }) => extent));

const movesBy1 = (offset: Expr, v: Var): boolean => {
  const moves = (term: Expr): boolean => term === v || (term.kind === "binary" && term.fn === "floormod" && term.a === v);
  return (
    moves(offset) || (offset.kind === "linear" && offset.terms.some(([term, coefficient]) => coefficient === 1 && moves(term)))
  );
};

/** True when neighbours along `v` are neighbours in memory for some load. */
export const isContiguous = (expressions: readonly Expr[], v: Var): boolean =>
  loadsOf(expressions).some(({ value, index }) => movesBy1(offsetOf(value, index), v));

/** True when neighbouring results along m are stored side by side. */
export const storesAlongM = ({ stores, m }: Pick<Product, "stores" | "m">): boolean =>
  stores.some(({ value, index }) => movesBy1(offsetOf(value, index), m));
