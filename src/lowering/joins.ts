// Concatenation without copies: whoever makes a part writes it into its slice of the whole, and whoever reads the part reads
// it there. From the last join to the first, so that a part of a part ends up in the outermost whole.

import { mod } from "../ir/dims.ts";
import { type Expr, load, substitute, transform } from "../ir/expr.ts";
import { type KernelTask, type MapTask, mapExpressions, readsOf, type Store, type Task } from "../ir/task.ts";
import { dtypeFacts } from "../ir/types.ts";
import type { Value } from "../ir/value.ts";
import { isView } from "./cost.ts";
import { type Cuts, cutsOf, piecesOf } from "./pieces.ts";
import { solve } from "./solve.ts";
import { loadsFrom, soleStore, type TaskGraph } from "./task-graph.ts";
import { fuseMap, withEpilogue, withPrologue } from "./vertical.ts";

/** Free positions that `writeSlices` needs before a task: one a piece of a join, there and where the joined value is read. */
export function roomForPieces(tasks: readonly Task[]): (task: Task) => number {
  const pieces = new Map<Value, number>();
  const room = new Map<Task, number>();
  for (const task of tasks) {
    if (task.kind !== "map") continue;
    const cuts = cutsOf(task);
    const count = cuts ? cuts.at.length + 1 : Math.max(0, ...readsOf(task).map((value) => pieces.get(value) ?? 0));
    if (cuts) pieces.set(task.stores[0]!.value, count);
    if (count > 0) room.set(task, count);
  }
  return (task) => room.get(task) ?? 0;
}

export function writeSlices(graph: TaskGraph): void {
  for (let at = graph.length - 1; at >= 0; at--) {
    absorbJoin(graph, at);
    split(graph, at);
  }
}

// --- one join ----------------------------------------------------------------------------------------------------------

/** What becomes of a piece: its value moves into the whole, its maker's epilogue stores there, or it stays a map. */
type Fate =
  | {
      readonly kind: "move";
      readonly piece: MapTask;
      readonly part: Value;
      readonly place: (index: readonly Expr[]) => readonly Expr[];
    }
  | { readonly kind: "epilogue"; readonly piece: MapTask; readonly maker: number; readonly fused: KernelTask }
  | { readonly kind: "rest"; readonly piece: MapTask };

function split(graph: TaskGraph, at: number): void {
  const join = graph.at(at);
  const cuts = join?.kind === "map" ? cutsOf(join) : undefined;
  if (join?.kind !== "map" || !cuts || !storesParts(join.stores[0]!.value, cuts)) return;
  const pieces = piecesOf(join, cuts);
  const once = onceRead(pieces);
  const fates = pieces.map((piece) => fateOf(graph, at, piece, once));
  // Pieces that stay are copies of their own: worth it as long as there are no more of them than copies saved.
  const rest = fates.filter(({ kind }) => kind === "rest").length;
  if (rest > 1 && rest > fates.length - rest) return;
  if (rest === fates.length || !graph.may("write-slices", join)) return;
  graph.remove(at);
  const moves = new Map<Value, Extract<Fate, { kind: "move" }>>();
  let free = at - fates.length;
  for (const fate of fates) {
    if (fate.kind === "move") moves.set(fate.part, fate);
    else {
      if (fate.kind === "epilogue") graph.remove(fate.maker);
      graph.replace(free++, fate.kind === "epilogue" ? fate.fused : fate.piece);
    }
  }
  move(graph, moves);
}

/** True for elements that a kernel can store one at a time without widening them, and for bytes cut between words. */
function storesParts({ dtype }: Value, { at }: Cuts): boolean {
  const { bytes, kind } = dtypeFacts[dtype];
  if (bytes >= 4 || kind === "float") return true;
  return kind === "int" && bytes === 1 && at.every((cut) => mod(cut, 4) === 0);
}

/** Values that one piece alone reads: what goes to several places cannot lie in one of them. */
function onceRead(pieces: readonly MapTask[]): ReadonlySet<Value> {
  const counts = new Map<Value, number>();
  for (const value of pieces.flatMap(readsOf)) counts.set(value, (counts.get(value) ?? 0) + 1);
  return new Set([...counts.keys()].filter((value) => counts.get(value) === 1));
}

/** `once`: values that no other piece reads. */
function fateOf(graph: TaskGraph, join: number, piece: MapTask, once: ReadonlySet<Value>): Fate {
  const { expr, value, index } = piece.stores[0]!;
  if (expr.kind === "load" && expr.value.dtype === value.dtype && once.has(expr.value) && canMove(graph, expr.value)) {
    const [part, source] = [expr.value, expr];
    if (solve(source, piece.vars, source.index)) {
      const place = (at: readonly Expr[]): readonly Expr[] => {
        const points = solve(source, piece.vars, at)!;
        return index.map((e) => substitute(e, points));
      };
      return { kind: "move", piece, part, place };
    }
  }
  const fused = epilogueFor(graph, join, piece, once);
  return fused ? { kind: "epilogue", piece, ...fused } : { kind: "rest", piece };
}

/** True when all that touches the value are kernels of this list that can as well use another place. */
function canMove(graph: TaskGraph, value: Value): boolean {
  const maker = graph.maker(value);
  if (maker === undefined || !graph.kernelReaders(value)) return false;
  return (graph.at(maker) as KernelTask).stores.every(
    (store) => store.value !== value || (store.mode === "set" && !store.init),
  );
}

function epilogueFor(
  graph: TaskGraph,
  join: number,
  piece: MapTask,
  once: ReadonlySet<Value>,
): { readonly maker: number; readonly fused: KernelTask } | undefined {
  for (const value of readsOf(piece)) {
    if (!once.has(value)) continue;
    const maker = graph.maker(value);
    if (maker === undefined || [...graph.readersOf(value)].some((reader) => reader !== join)) continue;
    const fused = withEpilogue(graph.at(maker) as KernelTask, piece);
    if (fused && graph.fits(fused)) return { maker, fused };
  }
  return undefined;
}

// --- moving ------------------------------------------------------------------------------------------------------------

/** Makes every task that stores or loads one of the values use its place in the whole. */
function move(graph: TaskGraph, moves: ReadonlyMap<Value, Extract<Fate, { kind: "move" }>>): void {
  const touched = new Set<number>();
  for (const value of moves.keys())
    for (const positions of [graph.writersOf(value), graph.readersOf(value)]) for (const at of positions) touched.add(at);
  const positions = [...touched].sort((a, b) => a - b);
  for (const at of positions) graph.replace(at, moved(graph.at(at) as KernelTask, moves));
  // What was a join of moved parts is a mere view now, and what reads it may be one in turn.
  for (const at of positions) {
    const task = graph.at(at);
    if (task?.kind === "map" && soleStore(task) && isView(task.stores[0]!.expr)) fuseMap(graph, at, false);
  }
}

function moved(task: KernelTask, moves: ReadonlyMap<Value, Extract<Fate, { kind: "move" }>>): KernelTask {
  const memo = new Map<Expr, Expr>();
  const rewrite = (e: Expr): Expr =>
    transform(
      e,
      (node) => {
        const fate = node.kind === "load" ? moves.get(node.value) : undefined;
        return fate && node.kind === "load" ? load(fate.piece.stores[0]!.value, fate.place(node.index)) : undefined;
      },
      memo,
    );
  const rewritten = mapExpressions(task, rewrite);
  const stores = rewritten.stores.map((store): Store => {
    const fate = moves.get(store.value);
    return fate ? { ...store, value: fate.piece.stores[0]!.value, index: fate.place(store.index) } : store;
  });
  return { ...rewritten, stores };
}

// --- what follows a join -------------------------------------------------------------------------------------------------

/** Makes a join compute what the map at a position makes of its result, when the parts' makers can then do it in their epilogues. */
function absorbJoin(graph: TaskGraph, at: number): void {
  const map = graph.at(at);
  const store = map?.kind === "map" ? soleStore(map) : undefined;
  if (map?.kind !== "map" || !store || cutsOf(map)) return;
  for (const value of graph.readsAt(at)) {
    const maker = graph.maker(value);
    const join = maker === undefined ? undefined : graph.at(maker);
    if (maker === undefined || join?.kind !== "map" || graph.readersOf(value).size !== 1) continue;
    const cuts = cutsOf(join);
    const [load, more] = loadsFrom([store.expr], value);
    if (
      !cuts ||
      !load ||
      more ||
      !solve(load, map.vars, load.index) ||
      !piecesOf(join, cuts).every((piece) => isMadeFor(graph, maker, piece))
    )
      continue;
    const merged = withPrologue(map, join);
    if (merged.kind !== "map" || !cutsOf(merged) || !graph.fits(merged) || !graph.may("fuse-prologue", join)) continue;
    graph.remove(maker);
    graph.replace(at, merged);
    return;
  }
}

/** True for a piece of constants, or of a value that an anchor makes for this join alone. */
function isMadeFor(graph: TaskGraph, join: number, piece: MapTask): boolean {
  const reads = readsOf(piece);
  if (reads.every(({ data }) => data)) return true;
  return reads.some((value) => {
    const maker = graph.maker(value);
    if (maker === undefined || graph.at(maker)!.kind === "map") return false;
    return (
      graph.readersOf(value).size === 1 &&
      graph.readersOf(value).has(join) &&
      withEpilogue(graph.at(maker) as KernelTask, piece) !== undefined
    );
  });
}
