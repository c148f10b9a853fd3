// Vertical fusion by substitution. A map that reads an anchor's result element for element becomes the anchor's epilogue;
// any other map is written into the expressions of those who read it, where that costs no more than its memory traffic.

import { sameDim } from "../ir/dims.ts";
import { type Expr, type Load, loadsOf, substitute, transform } from "../ir/expr.ts";
import { expressionsOf, type KernelTask, type MapTask, mapStore } from "../ir/task.ts";
import { dtypeFacts } from "../ir/types.ts";
import type { Value } from "../ir/value.ts";
import { elementsOf, evaluationsOf, isView, operationsOf, wideLoadsOf } from "./cost.ts";
import { isJoin } from "./pieces.ts";
import { solve } from "./solve.ts";
import { makesSingles } from "./storage.ts";
import { loadsFrom, mergeOrigins, replaceLoads, soleStore, type TaskGraph } from "./task-graph.ts";

/** Fuses every map that it can, in order. Joins are left alone until `joins`, when their producers write what they can of them. */
export function fuseVertically(graph: TaskGraph, joins: boolean): void {
  for (let at = 0; at < graph.length; at++) fuseMap(graph, at, joins);
}

/** Fuses the map at a position, if it is one, into its producer or its readers. */
export function fuseMap(graph: TaskGraph, at: number, joins: boolean): boolean {
  const task = graph.at(at);
  if (task?.kind !== "map" || !soleStore(task)) return false;
  if (!joins && (isJoin(task) || narrowsJoin(graph, task))) return false;
  return widens(task)
    ? intoReaders(graph, at, task) || intoAnchor(graph, at, task)
    : intoAnchor(graph, at, task) || intoReaders(graph, at, task);
}

/** True for a map that makes wide elements of narrow ones, as dequantization does: its readers load less where they do that. */
function widens(map: MapTask): boolean {
  const sources = sourcesOf(map);
  return sources.length > 0 && sources.every((value) => bytesOf(value) < bytesOf(map.stores[0]!.value));
}

/** True for a map that makes narrow elements of a join's: the join is to store them. */
const narrowsJoin = (graph: TaskGraph, map: MapTask): boolean =>
  sourcesOf(map).some((value) => {
    const at = graph.maker(value);
    const maker = at === undefined ? undefined : graph.at(at);
    return maker?.kind === "map" && isJoin(maker) && bytesOf(value) > bytesOf(map.stores[0]!.value);
  });

/** Values of about as many elements as the map makes. */
const sourcesOf = ({ stores: [store] }: MapTask): Value[] =>
  loadsOf([store!.expr])
    .map(({ value }) => value)
    .filter(({ shape }) => 4 * elementsOf(shape) > elementsOf(store!.value.shape));

const bytesOf = ({ dtype }: Value): number => dtypeFacts[dtype].bytes;

// --- epilogues ---------------------------------------------------------------------------------------------------------

/** Makes the map the epilogue of a reduction, GEMM or convolution whose result it alone reads: of several the one that is ready last. */
function intoAnchor(graph: TaskGraph, at: number, map: MapTask): boolean {
  let best: { position: number; fused: KernelTask } | undefined;
  for (const value of graph.readsAt(at)) {
    const position = graph.maker(value);
    if (
      position === undefined ||
      graph.readersOf(value).size !== 1 ||
      (best && graph.depthAt(best.position) >= graph.depthAt(position))
    )
      continue;
    const anchor = graph.at(position) as KernelTask;
    if (wouldWiden(anchor, map)) continue;
    const fused = withEpilogue(anchor, map);
    if (fused && graph.fits(fused)) best = { position, fused };
  }
  if (!best || !graph.may("fuse-epilogue", map)) return false;
  graph.remove(best.position);
  graph.replace(at, best.fused);
  return true;
}

/** True where many bytes would lie one to a word: whoever multiplies them reads words of four. */
const wouldWiden = (anchor: KernelTask, { stores: [store] }: MapTask): boolean =>
  isByte(store!.value) && makesSingles(anchor) && MEMORY * elementsOf(store!.value.shape) > DISPATCH;

const isByte = ({ dtype }: Value): boolean => dtype === "i8" || dtype === "u8";

/** The anchor that stores what the map makes of its result; undefined unless the map reads that element for element. */
export function withEpilogue(anchor: KernelTask, map: MapTask): KernelTask | undefined {
  const [source, store] = [soleStore(anchor), map.stores[0]!];
  if (anchor.kind === "map" || !source) return undefined;
  const [load, more] = loadsFrom([store.expr], source.value);
  if (!load || more) return undefined;
  const at = solve(load, map.vars, source.index);
  if (!at) return undefined;
  const memo = new Map<Expr, Expr>();
  const move = (e: Expr): Expr =>
    transform(e, (node) => (node.kind === "load" && node.value === source.value ? source.expr : at.get(node)), memo);
  return { ...anchor, origins: mergeOrigins(anchor, map), stores: [mapStore(store, move)] };
}

// --- prologues ---------------------------------------------------------------------------------------------------------

/** Writes the map's expression into every task that reads its result. */
function intoReaders(graph: TaskGraph, at: number, map: MapTask): boolean {
  const { value, expr, index } = map.stores[0]!;
  if (graph.maker(value) === undefined || !index.every((e, i) => e === map.vars[i])) return false;
  const readers = graph.kernelReaders(value);
  if (!readers || readers.length === 0 || !pays(map, readers)) return false;
  const fused = readers.map(([position, task]) => [position, withPrologue(task, map)] as const);
  if (!fused.every(([, task]) => graph.fits(task)) || !graph.may(isView(expr) ? "fuse-view" : "fuse-prologue", map))
    return false;
  for (const [position, task] of fused) graph.replace(position, task);
  graph.remove(at);
  return true;
}

/** What storing an element or loading one counts as, in operations. */
const MEMORY = 8;
/** What a dispatch counts as. */
const DISPATCH = 400_000;

/** Whether computing the map's elements where they are read costs less than storing and loading them. */
function pays(map: MapTask, readers: readonly (readonly [number, KernelTask])[]): boolean {
  const { value, expr } = map.stores[0]!;
  if (isView(expr)) return true;
  const [[, only]] = readers as [readonly [number, KernelTask]];
  const single = readers.length === 1 && only.kind === "map" && loadsFrom(expressionsOf(only), value).length === 1;
  const operations = operationsOf(expr);
  const evaluations = readers.reduce((sum, [, task]) => sum + evaluationsOf(task, value), 0);
  if (single && evaluations <= 1) return true;
  if (operations === Number.POSITIVE_INFINITY || readers.some(([, task]) => readsAsItLies(task, value))) return false;
  const elements = elementsOf(value.shape);
  const once = operations + MEMORY * wideLoadsOf(expr, elements);
  return elements * (evaluations * once - once - MEMORY * (1 + evaluations)) <= DISPATCH;
}

/** True for tasks whose tactics want the operand as it lies in memory: products of bytes, and convolutions with a window. */
function readsAsItLies(task: KernelTask, value: Value): boolean {
  if (task.kind !== "conv" && task.kind !== "gemm") return false;
  const isWindowed = task.kind === "conv" && task.kernel.some(({ extent }) => extent !== 1);
  const operands = task.kind === "conv" ? [task.x, task.w] : [task.a, task.b];
  return (isWindowed || task.acc.type === "i32") && loadsFrom(operands, value).length > 0;
}

/** The reader with the map's expression in place of loads of its value. */
export function withPrologue(task: KernelTask, map: MapTask): KernelTask {
  const { value, expr } = map.stores[0]!;
  const origins = mergeOrigins(map, task);
  if (task.kind === "map") {
    // A chain of element-wise maps: the reader takes over the variables, so that the long expression stays as it is.
    const [load, more] = loadsFrom(expressionsOf(task), value);
    if (
      load &&
      !more &&
      load.index.length === task.vars.length &&
      load.index.every((e, i) => e === task.vars[i] && sameDim(task.vars[i]!.extent, map.vars[i]!.extent))
    ) {
      const at = new Map<Expr, Expr>(task.vars.map((v, i) => [v, map.vars[i]!]));
      const memo = new Map<Expr, Expr>();
      const move = (e: Expr): Expr =>
        transform(e, (node) => (node.kind === "load" && node.value === value ? expr : at.get(node)), memo);
      return { ...task, origins, vars: map.vars, stores: task.stores.map((store) => mapStore(store, move)) };
    }
  }
  const read = ({ index }: Load): Expr => substitute(expr, new Map<Expr, Expr>(map.vars.map((v, i) => [v, index[i]!])));
  return { ...replaceLoads(task, (load) => (load.value === value ? read(load) : undefined)), origins };
}
