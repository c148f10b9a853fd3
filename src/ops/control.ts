// If, Loop and Scan. What is known when the engine is built is lowered in place: the branch taken, a loop whose turns are
// alike, the turns of a short one. The rest becomes tasks that the host drives. ONNX: https://onnx.ai/onnx/operators/

import { type Dim, isStatic, isStaticShape, sameShape, shapeText, symbol, symbolsOf } from "../ir/dims.ts";
import * as x from "../ir/expr.ts";
import { type Expr, TURN } from "../ir/expr.ts";
import type { Graph, GraphNode } from "../ir/graph.ts";
import { Lowering, type TurnResults, contentsOf } from "../ir/lower.ts";
import type { Task } from "../ir/task.ts";
import { scalarTensor, sizeOf } from "../ir/tensor.ts";
import { type Value, makeValue } from "../ir/value.ts";
import { KilnError, shapeMismatch, typeMismatch } from "../util/errors.ts";
import { differ, larger } from "./bounds.ts";
import { type NodeFacts, type Operator, axisIn, defineOp, need } from "./define.ts";
import { concat } from "./movement.ts";
import { loadScalar, unsqueeze } from "./shape.ts";

/** Loops whose turns are not alike are laid out turn by turn up to this many. */
const MAX_UNROLLED = 64;
/** Turns of a loop that only its condition ends. */
const UNBOUNDED = 2 ** 31 - 1;
/** Branches whose every value is at most this large are both computed: that is cheaper than to wait for the condition. */
const MAX_SELECTED = 1 << 16;

const known = (scalar: Value): Dim | undefined => contentsOf(scalar)?.[0];

// --- If ------------------------------------------------------------------------------------------------------------------

const isSmallMap = (task: Task): boolean =>
  task.kind === "map" && task.stores.every(({ value, mode, init }) => mode === "set" && !init && isStaticShape(value.shape) && sizeOf(value.shape) <= MAX_SELECTED);

/** Both branches, and a choice an element; undefined where one of them is more than small maps or they differ in shape. */
function selectResults(b: Lowering, condition: Value, then: (inner: Lowering) => readonly Value[], otherwise: (inner: Lowering) => readonly Value[]): Value[] | undefined {
  const [yes, no] = [new Lowering(`${b.node}/then`, b.origins), new Lowering(`${b.node}/else`, b.origins)];
  const [left, right] = [then(yes), otherwise(no)];
  const tasks = [...yes.tasks, ...no.tasks];
  const alike = left.every((value, i) => value.dtype === right[i]!.dtype && isStaticShape(value.shape) && sizeOf(value.shape) <= MAX_SELECTED && sameShape(value.shape, right[i]!.shape));
  if (!alike || !tasks.every(isSmallMap)) return undefined;
  b.tasks.push(...tasks);
  return left.map((value, i) => b.map(value.dtype, value.shape, (at) => x.select(loadScalar(condition), x.load(value, at), x.load(right[i]!, at))));
}

// --- loops ---------------------------------------------------------------------------------------------------------------

interface Limits {
  readonly count: Dim;
  /** Known only when the loop runs. */
  readonly trips?: Value;
  readonly condition?: Value;
}
type Turn = (inner: Lowering, turn: Expr, carried: readonly Value[]) => TurnResults;
interface Results {
  readonly carried: readonly Value[];
  /** The turns' pieces along a new first axis. */
  readonly scans: readonly Value[];
}

function repeat(b: Lowering, node: NodeFacts, limits: Limits, initial: readonly Value[], turn: Turn): Results {
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
  return !results.condition && results.carried.every(({ dtype, shape }, i) => dtype === initial[i]!.dtype && sameShape(shape, initial[i]!.shape)) && results.scans.every(({ shape }) => shape.every(fixed));
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
  return { carried, scans: pieces[0]!.map((_, i) => concat(b, node, pieces.map((list) => list[i]!), 0)) };
}

/** A body's input `at` is a scalar, or has one element where the body declares it so. */
const scalarShape = (body: Graph, at: number): readonly Dim[] => (body.inputs[at]?.shape.length === 1 ? [1] : []);

/**
 * ONNX Loop. A body's condition is heeded even where the node's own is absent: ONNX's text says otherwise, but its reference
 * and ONNX Runtime do so, and exporters rely on it.
 */
function lowerLoop(b: Lowering, inputs: readonly (Value | undefined)[], body: Graph, node: NodeFacts): readonly Value[] {
  const [trips, condition] = inputs;
  const initial = inputs.slice(2).map((_, i) => need(node, inputs, i + 2));
  if (body.inputs.length !== initial.length + 2) throw shapeMismatch(node, `the body has ${body.inputs.length} inputs for ${initial.length} carried values`, "it takes the turn, the condition and the carried values");
  if (body.outputs.length < initial.length + 1) throw shapeMismatch(node, `the body has ${body.outputs.length} outputs for ${initial.length} carried values`);
  const count = trips ? known(trips) : UNBOUNDED;
  const going = condition ? known(condition) : 1;
  const limits: Limits = {
    count: going === 0 ? 0 : count === undefined ? UNBOUNDED : larger(count, 0),
    ...(trips && count === undefined ? { trips } : {}),
    ...(condition && going === undefined ? { condition } : {}),
  };
  const carriedAt = initial.flatMap((_, i) => (passesOn(body, i) ? [] : [i]));
  const results = repeat(b, node, limits, carriedAt.map((i) => initial[i]!), (inner, turn, carried) => {
    const iteration = inner.map("i64", scalarShape(body, 0), () => turn);
    const yes = inner.constant({ ...scalarTensor("bool", 1), shape: scalarShape(body, 1) as readonly number[] });
    const entering = initial.map((value, i) => carried[carriedAt.indexOf(i)] ?? value);
    const [proceed, ...rest] = node.inline(inner, body, [iteration, yes, ...entering]);
    return { ...(known(proceed!) === 1 ? {} : { condition: proceed! }), carried: carriedAt.map((i) => rest[i]!), scans: rest.slice(initial.length) };
  });
  return [...initial.map((value, i) => results.carried[carriedAt.indexOf(i)] ?? value), ...results.scans];
}

/** True when a body gives carried value `i` on as it came: it stays what it was before the loop. */
function passesOn(body: Graph, i: number): boolean {
  let value: Value | undefined = body.outputs[i + 1]!.value;
  for (let node = producerOf(body, value); node?.op === "Identity"; node = producerOf(body, value)) value = node.inputs[0];
  return value === body.inputs[i + 2];
}

const producerOf = (graph: Graph, value: Value | undefined): GraphNode | undefined => graph.nodes.find(({ outputs }) => value && outputs.includes(value));

// --- Scan ----------------------------------------------------------------------------------------------------------------

interface ScanAttributes {
  readonly body: Graph;
  readonly sources: number;
  readonly axes: readonly number[];
  readonly directions: readonly number[];
  readonly outputAxes: readonly number[];
  readonly outputDirections: readonly number[];
}

interface Source {
  readonly value: Value;
  readonly axis: number;
  readonly reverse: boolean;
}

/** Runs the body along the sources' axes; where `length` is given it ends there, and what it did not make is 0. */
function scan(b: Lowering, node: NodeFacts, body: Graph, states: readonly Value[], sources: readonly Source[], length?: Expr): Results {
  const count = sources[0]!.value.shape[sources[0]!.axis]!;
  const odd = sources.find(({ value, axis }) => differ(value.shape[axis]!, count));
  if (odd) throw shapeMismatch(node, `the scanned axes have lengths ${shapeText(sources.map(({ value, axis }) => value.shape[axis]!))}: all must be equal`);
  return repeat(b, node, { count }, states, (inner, turn, carried) => {
    const last = x.sub(length ?? x.int(count), x.int(1));
    const running = length && x.lt(turn, length);
    const keep = (value: Value, otherwise: (at: readonly Expr[]) => Expr): Value =>
      running ? inner.map(value.dtype, value.shape, (at) => x.select(running, x.load(value, at), otherwise(at))) : value;
    const elements = sources.map(({ value, axis, reverse }) => {
      const back = x.maximum(x.sub(last, turn), x.int(0));
      return inner.map(value.dtype, value.shape.toSpliced(axis, 1), (at) => x.load(value, (at as readonly Expr[]).toSpliced(axis, 0, reverse ? back : turn)));
    });
    const results = node.inline(inner, body, [...carried, ...elements]);
    const next = results.slice(0, states.length);
    const changed = next.findIndex(({ dtype, shape }, i) => dtype !== carried[i]!.dtype || shape.length !== carried[i]!.shape.length);
    if (changed >= 0) throw typeMismatch(node, `state ${changed} leaves the body as ${next[changed]!.dtype}${shapeText(next[changed]!.shape)}, it entered as ${carried[changed]!.dtype}${shapeText(carried[changed]!.shape)}`);
    return {
      carried: next.map((value, i) => keep(value, (at) => x.load(carried[i]!, at))),
      scans: results.slice(states.length).map((value) => keep(value, () => x.constant(x.load(value, value.shape.map(() => x.int(0))).type, 0))),
    };
  });
}

/** With the first axis moved to `axis`, and turned round. */
function place(b: Lowering, value: Value, axis: number, reverse: boolean): Value {
  if (axis === 0 && !reverse) return value;
  const [count, ...rest] = value.shape;
  return b.map(value.dtype, rest.toSpliced(axis, 0, count!), (i) => {
    const at = i[axis]!;
    return x.load(value, [reverse ? x.sub(x.sub(x.int(count!), x.int(1)), at) : at, ...(i as readonly Expr[]).toSpliced(axis, 1)]);
  });
}

function lowerScan(b: Lowering, inputs: readonly (Value | undefined)[], attrs: ScanAttributes, node: NodeFacts): readonly Value[] {
  const { body, directions } = attrs;
  const batched = node.opset < 9;
  const values = inputs.slice(batched ? 1 : 0).map((_, i) => need(node, inputs, i + (batched ? 1 : 0)));
  const states = values.slice(0, values.length - attrs.sources);
  const scanned = values.slice(states.length);
  if (scanned.length === 0 || body.inputs.length !== values.length) throw shapeMismatch(node, `the body has ${body.inputs.length} inputs for ${states.length} states and ${attrs.sources} scanned inputs`);
  const reverse = (i: number): boolean => directions[i] === 1;
  if (!batched) {
    const { carried, scans } = scan(b, node, body, states, scanned.map((value, i) => ({ value, axis: axisIn(node, attrs.axes[i] ?? 0, value.shape.length), reverse: reverse(i) })));
    return [...carried, ...scans.map((value, i) => place(b, value, axisIn(node, attrs.outputAxes[i] ?? 0, value.shape.length), attrs.outputDirections[i] === 1))];
  }
  // Opset 8: every input has a batch axis, whose items run on their own.
  const lengths = inputs[0];
  return repeat(b, node, { count: scanned[0]!.shape[0]! }, [], (inner, item) => {
    const of = (value: Value): Value => inner.map(value.dtype, value.shape.slice(1), (at) => x.load(value, [item, ...at]));
    const { carried, scans } = scan(inner, node, body, states.map(of), scanned.map((value, i) => ({ value: of(value), axis: 0, reverse: reverse(i) })), lengths && x.load(lengths, [item]));
    return { carried: [], scans: [...carried, ...scans] };
  }).scans;
}

export const controls: readonly Operator[] = [
  defineOp<{ then: Graph; otherwise: Graph }>({
    name: "If",
    since: [1, 11, 13, 16, 19, 21, 23, 24, 25],
    attrs: (read) => ({ then: read.requiredGraph("then_branch"), otherwise: read.requiredGraph("else_branch") }),
    lower: (b, inputs, { then, otherwise }, node) => {
      const condition = need(node, inputs, 0);
      const certain = known(condition);
      if (certain !== undefined) return node.inline(b, certain !== 0 ? then : otherwise, []);
      const lowering = (graph: Graph) => (inner: Lowering): readonly Value[] => node.inline(inner, graph, []);
      return selectResults(b, condition, lowering(then), lowering(otherwise)) ?? b.branch(condition, lowering(then), lowering(otherwise));
    },
  }),
  defineOp<Graph>({
    name: "Loop",
    since: [1, 11, 13, 16, 19, 21, 23, 24, 25],
    attrs: (read) => read.requiredGraph("body"),
    lower: lowerLoop,
  }),
  defineOp<ScanAttributes>({
    name: "Scan",
    since: [8, 9, 11, 16, 19, 21, 23, 24, 25],
    attrs: (read) => ({
      body: read.requiredGraph("body"),
      sources: read.int("num_scan_inputs", 1),
      axes: read.ints("scan_input_axes") ?? [],
      directions: read.ints("scan_input_directions") ?? read.ints("directions") ?? [],
      outputAxes: read.ints("scan_output_axes") ?? [],
      outputDirections: read.ints("scan_output_directions") ?? [],
    }),
    lower: lowerScan,
  }),
];
