// Turns of a body: one loop when they are alike, one after the other when they are few, else a loop that the host counts.

import { type Dim, isStatic, sameShape, symbol, symbolsOf } from "../ir/dims.ts";
import * as x from "../ir/expr.ts";
import { type Expr, TURN } from "../ir/expr.ts";
import { contentsOf, Lowering, type TurnResults } from "../ir/lower.ts";
import type { Task } from "../ir/task.ts";
import { makeValue, type Value } from "../ir/value.ts";
import { KilnError } from "../util/errors.ts";
import type { NodeFacts } from "./define.ts";
import { concat } from "./movement.ts";
import { unsqueeze } from "./shape.ts";

/** Loops whose turns are not alike are laid out turn by turn up to this many. */
const MAX_UNROLLED = 64;
/** Turns of a loop that only its condition ends. */
export const UNBOUNDED = 2 ** 31 - 1;

/** What a scalar holds, when the build knows. */
export const known = (scalar: Value): Dim | undefined => contentsOf(scalar)?.[0];

export interface Limits {
  readonly count: Dim;
  /** Known only when the loop runs. */
  readonly trips?: Value;
  readonly condition?: Value;
}
export type Turn = (inner: Lowering, turn: Expr, carried: readonly Value[]) => TurnResults;
export interface Results {
  readonly carried: readonly Value[];
  /** The turns' pieces along a new first axis. */
  readonly scans: readonly Value[];
}

/** Runs `turn` as often as `limits` say; a turn gets what the one before left. */
export function repeat(b: Lowering, node: NodeFacts, limits: Limits, initial: readonly Value[], turn: Turn): Results {
  if (!limits.trips && !limits.condition) {
    if (turnsAreAlike(b, initial, turn)) return repeatAlike(b, limits.count, initial, turn);
    const results = unroll(b, node, limits.count, initial, turn);
    if (results) return results;
  }
  return b.loopWhile(limits, initial, turn);
}

/** True when every turn goes on, keeps the carried types and makes pieces of one size. */
function turnsAreAlike(b: Lowering, initial: readonly Value[], turn: Turn): boolean {
  const name = `${b.node}/any`;
  const inputs = initial.map(({ dtype, shape }, i) => makeValue(`${name}${i}`, dtype, shape));
  let results: TurnResults;
  try {
    results = turn(new Lowering(name, b.origins), x.int(symbol(`${name}${TURN}`)), inputs);
  } catch (error) {
    // The body may need to know more than holds for every turn: then turns are tried one by one.
    if (error instanceof KilnError) return false;
    throw error;
  }
  const fixed = (dim: Dim): boolean => [...symbolsOf(dim)].every((text) => !text.startsWith(name));
  return (
    !results.condition &&
    results.carried.every(({ dtype, shape }, i) => dtype === initial[i]!.dtype && sameShape(shape, initial[i]!.shape)) &&
    results.scans.every(({ shape }) => shape.every(fixed))
  );
}

function repeatAlike(b: Lowering, count: Dim, initial: readonly Value[], turn: Turn): Results {
  const scans: Value[] = [];
  const body = (inner: Lowering, at: Expr, inputs: readonly Value[]): readonly Value[] => {
    const { carried, scans: pieces } = turn(inner, at, inputs);
    pieces.forEach((piece, i) => {
      scans[i] = b.value(piece.dtype, [count, ...piece.shape]);
      inner.store(scans[i], piece.shape, (index) => ({ index: [at, ...index], expr: x.load(piece, index) }));
    });
    return carried;
  };
  return { carried: count === 1 ? body(b, x.int(0), initial) : b.loop(count, initial, scans, body), scans };
}

/** The turns one after the other; undefined when they are too many or when only the run knows whether there is a next one. */
function unroll(b: Lowering, node: NodeFacts, count: Dim, initial: readonly Value[], turn: Turn): Results | undefined {
  if (!isStatic(count) || count === 0 || (count > MAX_UNROLLED && count < UNBOUNDED)) return undefined;
  const tasks: Task[] = [];
  const pieces: Value[][] = [];
  let carried = initial;
  for (let at = 0, going = true; going && at < count; at++) {
    if (at === MAX_UNROLLED) return undefined;
    const inner = new Lowering(`${b.node}/turn${at}`, b.origins);
    const results = turn(inner, x.int(at), carried);
    const next = results.condition ? known(results.condition) : 1;
    if (next === undefined) return undefined;
    going = next !== 0;
    carried = results.carried;
    pieces.push(results.scans.map((piece) => unsqueeze(inner, piece, [0])));
    tasks.push(...inner.tasks);
  }
  b.tasks.push(...tasks);
  return {
    carried,
    scans: pieces[0]!.map((_, i) =>
      concat(
        b,
        node,
        pieces.map((list) => list[i]!),
        0,
      ),
    ),
  };
}
