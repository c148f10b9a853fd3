// A product, a softmax over its rows and a product with the result become one attention task: no score is ever stored.

import { isStatic } from "../ir/dims.ts";
import { type Expr, type Load, mul, type Slot, slot, substitute, transform, type Var, visit } from "../ir/expr.ts";
import { type AttentionTask, type GemmTask, mapStore, type ReduceTask, type Store } from "../ir/task.ts";
import { isLiteral } from "./literals.ts";
import { solve } from "./solve.ts";
import { loadsFrom, mergeOrigins, soleStore, type TaskGraph } from "./task-graph.ts";

export function fuseAttention(graph: TaskGraph): void {
  for (let at = 0; at < graph.length; at++) {
    const task = graph.at(at);
    if (task?.kind === "gemm") fuseAt(graph, at, task);
  }
}

/** Sizes of heads beyond which a row does not fit in workgroup memory beside its scores. */
const LARGEST_HEAD = 512;

function fuseAt(graph: TaskGraph, at: number, mix: GemmTask): void {
  if (mix.a.kind !== "load" || mix.acc.type !== "f32") return;
  const middle = soleReader(graph, mix.a.value, at);
  const softmax = middle === undefined ? undefined : graph.at(middle);
  if (softmax?.kind !== "reduce") return;
  const parts = softmaxOf(softmax);
  const first = parts && soleReader(graph, parts.scores.value, middle!);
  const product = first === undefined ? undefined : graph.at(first);
  if (!parts || product?.kind !== "gemm" || product.acc.type !== "f32") return;
  const fused = attentionOf(product, softmax, parts, mix);
  if (!fused || !graph.fits(fused) || !graph.may("fuse-attention", mix)) return;
  graph.remove(first!);
  graph.remove(middle!);
  graph.replace(at, fused);
}

/** The position of the kernel that makes `value`, when the task at `reader` alone reads it. */
function soleReader(graph: TaskGraph, value: Parameters<TaskGraph["maker"]>[0], reader: number): number | undefined {
  const readers = graph.readersOf(value);
  return readers.size === 1 && readers.has(reader) ? graph.maker(value) : undefined;
}

interface Softmax {
  readonly scores: Load;
  /** Over the load of a score. */
  readonly score: Expr;
  readonly peak: Slot;
  readonly shift: Expr;
  readonly sum: Slot;
  readonly weight: Expr;
  readonly store: Store;
}

/** The parts of a reduction that is a softmax over its one inner variable, or something as linear in the weights. */
function softmaxOf(task: ReduceTask): Softmax | undefined {
  const [highest, total, more] = task.stages;
  const store = soleStore(task);
  const [k] = task.inner;
  if (!task.each || more || task.inner.length !== 1 || !store || highest?.fn !== "max" || total?.fn !== "sum") return undefined;
  const weight = total.body;
  if (
    weight.kind !== "unary" ||
    weight.fn !== "exp" ||
    weight.a.kind !== "binary" ||
    weight.a.fn !== "sub" ||
    weight.a.a !== highest.body
  )
    return undefined;
  const shift = weight.a.b;
  const [scores, another] = loadsOfRow(highest.body, k!);
  if (!scores || another || dependsOn(shift, k!) || !isLinear(store.expr, weight, k!)) return undefined;
  return { scores, score: highest.body, peak: highest.slot, shift, sum: total.slot, weight, store };
}

/** Loads that a row's variable moves, but for those of constants, which may as well be read again. */
function loadsOfRow(e: Expr, k: Var): Load[] {
  const loads: Load[] = [];
  visit([e], (node) => {
    if (node.kind === "load" && !node.value.data && dependsOn(node, k)) loads.push(node);
  });
  return loads;
}

function dependsOn(e: Expr, v: Expr): boolean {
  let found = false;
  visit([e], (node) => {
    found ||= node === v;
  });
  return found;
}

/** True when `e` is `weight` times something that is the same for the whole row of `k`. */
function isLinear(e: Expr, weight: Expr, k: Var): boolean {
  if (e === weight) return true;
  const isZero = (side: Expr): boolean => side.kind === "const" && side.value === 0;
  const fixed = (side: Expr): boolean => !dependsOn(side, k);
  switch (e.kind) {
    case "select":
      return fixed(e.condition) && [e.a, e.b].every((side) => isZero(side) || isLinear(side, weight, k));
    case "binary":
      if (e.fn === "div") return isLinear(e.a, weight, k) && fixed(e.b);
      return e.fn === "mul" && ((isLinear(e.a, weight, k) && fixed(e.b)) || (isLinear(e.b, weight, k) && fixed(e.a)));
    default:
      return false;
  }
}

function attentionOf(product: GemmTask, softmax: ReduceTask, parts: Softmax, mix: GemmTask): AttentionTask | undefined {
  const source = soleStore(product);
  const [mixed] = mix.a.kind === "load" ? [mix.a] : [];
  if (!source || !mixed || loadsFrom([mix.b, ...mix.stores.map(({ expr }) => expr)], mixed.value).length > 0) return undefined;
  const { n: k, k: d, m } = product;
  if (![d.extent, mix.n.extent].every((size) => isStatic(size) && size <= LARGEST_HEAD)) return undefined;
  // Everything in the variables of the first product.
  const rows = solve(parts.scores, [...softmax.vars, ...softmax.inner], source.index);
  if (!rows || rows.get(softmax.inner[0]!) !== k) return undefined;
  const places = solve(
    mixed,
    [...mix.batch, mix.m, mix.k],
    parts.store.index.map((e) => substitute(e, rows)),
  );
  if (!places || places.get(mix.k) !== k) return undefined;
  const here = (e: Expr): Expr => substitute(e, places);
  const v = here(mix.b);
  if (dependsOn(v, m)) return undefined;
  const dot = slot("dot", "f32");
  // Numbers that queries or keys are multiplied by may as well multiply the scores: then operands are plain loads.
  const [q, key] = [factored(product.a), factored(product.b)];
  const scaled = [...q.factors, ...key.factors].reduce((e, factor) => mul(e, factor), dot as Expr);
  const raw = substitute(source.expr, new Map<Expr, Expr>([[product.acc, scaled]]));
  const inRow = (e: Expr): Expr =>
    transform(e, (node) => (node.kind === "load" && node.value === parts.scores.value ? raw : rows.get(node)));
  const acc = slot("acc", "f32");
  // The sum over keys of what is linear in the weights is the same of the weights' own sum.
  const result = inRow(transform(parts.store.expr, (node) => (node === parts.weight ? acc : undefined)));
  return {
    kind: "attention",
    name: mix.name,
    origins: mergeOrigins(product, softmax, mix),
    batch: product.batch,
    m,
    k,
    d,
    n: mix.n,
    q: q.rest,
    key: key.rest,
    dot,
    score: inRow(parts.score),
    peak: parts.peak,
    shift: inRow(parts.shift),
    sum: parts.sum,
    v,
    acc,
    stores: mix.stores.map((store) =>
      mapStore(store, (e) => transform(e, (node) => (node === mix.acc ? result : places.get(node)))),
    ),
  };
}

/** An operand and the numbers that it is multiplied by. */
function factored(e: Expr): { readonly rest: Expr; readonly factors: readonly Expr[] } {
  const isNumber = (side: Expr): boolean => side.kind === "const" || (side.kind === "load" && isLiteral(side.value));
  if (e.kind !== "binary" || e.fn !== "mul") return { rest: e, factors: [] };
  const [inner, factor] = isNumber(e.b) ? [e.a, e.b] : [e.b, e.a];
  if (!isNumber(factor)) return { rest: e, factors: [] };
  const { rest, factors } = factored(inner);
  return { rest, factors: [...factors, factor] };
}
