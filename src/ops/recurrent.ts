// RNN, GRU and LSTM. The input meets its weights in one matrix product over all steps; then each step is one or two kernels
// in a loop that carries the states. ONNX: https://onnx.ai/onnx/operators/

import { dimText, isStatic, mul, sub } from "../ir/dims.ts";
import type { Expr, Var } from "../ir/expr.ts";
import * as x from "../ir/expr.ts";
import type { Lowering } from "../ir/lower.ts";
import type { Store } from "../ir/task.ts";
import type { Value } from "../ir/value.ts";
import { badAttribute, shapeMismatch } from "../util/errors.ts";
import { type Activation, activationsOf } from "./activation.ts";
import { differ } from "./bounds.ts";
import { type AttributeReader, defineOp, type NodeFacts, need, type Operator } from "./define.ts";
import { transpose } from "./movement.ts";
import { type At, type Cell, gru, lstm, rnn } from "./recurrent-cells.ts";

/** Up to this batch a step multiplies in the kernel that updates the state; above it a matrix product of its own is faster. */
const SMALL_BATCH = 8;

interface Attributes {
  readonly direction: "forward" | "reverse" | "bidirectional";
  readonly activations: readonly string[] | undefined;
  readonly alpha: readonly number[];
  readonly beta: readonly number[];
  readonly clip: number | undefined;
  readonly hidden: number | undefined;
  readonly batchFirst: boolean;
  /** GRU's linear_before_reset, LSTM's input_forget. */
  readonly variant: boolean;
}

function readAttributes(read: AttributeReader, variant: string | undefined): Attributes {
  read.ignore("output_sequence");
  return {
    direction: read.string("direction", "forward", ["forward", "reverse", "bidirectional"]),
    activations: read.strings("activations"),
    alpha: read.floats("activation_alpha") ?? [],
    beta: read.floats("activation_beta") ?? [],
    clip: read.float("clip"),
    hidden: read.int("hidden_size"),
    batchFirst: read.flag("layout"),
    variant: variant !== undefined && read.flag(variant),
  };
}

function lowerRecurrent(
  cell: Cell,
  b: Lowering,
  inputs: readonly (Value | undefined)[],
  attrs: Attributes,
  node: NodeFacts,
): readonly (Value | undefined)[] {
  const [source, weights, recurrence] = [need(node, inputs, 0), need(node, inputs, 1), need(node, inputs, 2)];
  const [, , , bias, lengths, firstHidden, firstMemory, peepholes] = inputs;
  const { dtype } = source;
  const directions = attrs.direction === "bidirectional" ? 2 : 1;
  if (source.shape.length !== 3 || weights.shape.length !== 3 || recurrence.shape.length !== 3)
    throw shapeMismatch(node, "X, W and R must have rank 3");
  const [steps, batch] = attrs.batchFirst ? [source.shape[1]!, source.shape[0]!] : [source.shape[0]!, source.shape[1]!];
  const hidden = recurrence.shape[2]!;
  const rows = mul(cell.gates, hidden);
  if (attrs.hidden !== undefined && differ(attrs.hidden, hidden))
    throw badAttribute(node, "hidden_size", String(attrs.hidden), `${dimText(hidden)}, as R has it`);
  if (differ(weights.shape[0]!, directions))
    throw shapeMismatch(node, `W has ${dimText(weights.shape[0]!)} directions, "${attrs.direction}" has ${directions}`);

  const activations = directionActivations(node, cell, attrs, directions);
  const activate = (i: number, at: At, e: Expr): Expr => {
    const [forward, backward] = activations.map((list) => list[i]!(e));
    return backward ? x.select(x.eq(at[0], x.int(0)), forward!, backward) : forward!;
  };
  const clip = (e: Expr): Expr =>
    attrs.clip === undefined ? e : x.minimum(x.maximum(e, x.float(-attrs.clip)), x.float(attrs.clip));

  const row = (gate: number, unit: Expr): Expr => x.add(x.int(mul(gate, hidden)), unit);
  const late = cell.lateBias(attrs.variant);
  const recurrentBias = (direction: Expr, of: Expr): Expr => x.load(bias!, [direction, x.add(x.int(rows), of)]);
  const projected = b.gemm(
    dtype,
    { batch: [], m: mul(steps, batch), n: mul(directions, rows), k: source.shape[2]! },
    (_, m, k) => {
      const [step, item] = [x.floorDiv(m, x.int(batch)), x.floorMod(m, x.int(batch))];
      return x.load(source, attrs.batchFirst ? [item, step, k] : [step, item, k]);
    },
    (_, k, n) => x.load(weights, [x.floorDiv(n, x.int(rows)), x.floorMod(n, x.int(rows)), k]),
    (acc, [, n]) => {
      if (!bias) return acc;
      const [direction, of] = [x.floorDiv(n!, x.int(rows)), x.floorMod(n!, x.int(rows))];
      const both = x.add(x.load(bias, [direction, of]), recurrentBias(direction, of));
      const own = late === undefined ? both : x.select(x.lt(of, x.int(mul(late, hidden))), both, x.load(bias, [direction, of]));
      return x.add(acc, own);
    },
  );

  const shape = [directions, batch, hidden] as const;
  const initial = [firstHidden, firstMemory]
    .slice(0, cell.states)
    .map((value) =>
      value ? (attrs.batchFirst ? transpose(b, value, [1, 0, 2]) : value) : b.map(dtype, shape, () => x.float(0)),
    );
  const all = node.outputs[0]
    ? b.value(dtype, attrs.batchFirst ? [batch, steps, directions, hidden] : [steps, directions, batch, hidden])
    : undefined;

  const body = (inner: Lowering, turn: Expr, states: readonly Value[]): readonly Value[] => {
    const length = (item: Expr): Expr | undefined => lengths && x.minimum(x.load(lengths, [item]), x.int(steps));
    /** Where a direction reads and writes in this turn: a reversed sequence ends at its own length. */
    const position = ([direction, item]: At): Expr => {
      const own = length(item);
      const back = own ? x.select(x.lt(turn, own), x.sub(x.sub(own, x.int(1)), turn), turn) : x.sub(x.int(sub(steps, 1)), turn);
      if (attrs.direction !== "bidirectional") return attrs.direction === "forward" ? turn : back;
      return own ? x.select(x.eq(direction, x.int(0)), turn, back) : x.add(turn, x.mul(direction, x.sub(back, turn)));
    };
    const emit = (
      from: Value,
      gates: readonly number[],
      stores: (sums: readonly Expr[], at: readonly [Var, Var, Var]) => readonly Store[],
    ): void => {
      const at = x.variables("i", shape) as unknown as readonly [Var, Var, Var];
      const { node: name, origins } = inner;
      if (isStatic(batch) && batch <= SMALL_BATCH) {
        const k = x.variable("k", hidden);
        const stages = gates.map((gate) => ({
          slot: x.slot(`s${gate}`, "f32"),
          fn: "sum" as const,
          body: x.mul(x.load(from, [at[0], at[1], k]), x.load(recurrence, [at[0], row(gate, at[2]), k])),
        }));
        inner.tasks.push({
          kind: "reduce",
          name,
          origins,
          vars: at,
          inner: [k],
          stages,
          each: false,
          stores: stores(
            stages.map(({ slot }) => slot),
            at,
          ),
        });
        return;
      }
      const first = x.int(mul(gates[0]!, hidden));
      const sums = inner.gemm(
        "f32",
        { batch: [directions], m: batch, n: mul(gates.length, hidden), k: hidden },
        ([direction], m, k) => x.load(from, [direction!, m, k]),
        ([direction], k, n) => x.load(recurrence, [direction!, x.add(first, n), k]),
      );
      inner.tasks.push({
        kind: "map",
        name,
        origins,
        vars: at,
        stores: stores(
          gates.map((_, i) => x.load(sums, [at[0], at[1], row(i, at[2])])),
          at,
        ),
      });
    };
    const values = (count: number): Value[] => Array.from({ length: count }, () => inner.value(dtype, shape));
    return cell.turn({
      variant: attrs.variant,
      states,
      activate,
      gate: (i, at, e) => activate(i, at, clip(e)),
      input: (at, gate) =>
        x.load(projected, [
          x.add(x.mul(position(at), x.int(batch)), at[1]),
          x.add(x.mul(at[0], x.int(rows)), row(gate, at[2])),
        ]),
      bias: (at, gate) => (bias ? recurrentBias(at[0], row(gate, at[2])) : x.float(0)),
      peephole: (at, gate) => peepholes && x.load(peepholes, [at[0], row(gate, at[2])]),
      compute: (from, gates, result) => {
        let made: Value[] = [];
        emit(from, gates, (sums, at) => {
          const exprs = result(sums, at);
          made = values(exprs.length);
          return exprs.map((expr, i) => ({ value: made[i]!, index: at, expr, mode: "set" }));
        });
        return made;
      },
      finish: (from, gates, result) => {
        const next = values(cell.states);
        emit(from, gates, (sums, at) => {
          const exprs = result(sums, at);
          const own = length(at[1]);
          const kept = (e: Expr, otherwise: Expr): Expr => (own ? x.select(x.lt(turn, own), e, otherwise) : e);
          const stores: Store[] = next.map((value, i) => ({
            value,
            index: at,
            expr: kept(exprs[i]!, x.load(states[i]!, at)),
            mode: "set",
          }));
          const index = attrs.batchFirst ? [at[1], position(at), at[0], at[2]] : [position(at), at[0], at[1], at[2]];
          return all ? [...stores, { value: all, index, expr: kept(exprs[0]!, x.float(0)), mode: "set" }] : stores;
        });
        return next;
      },
    });
  };
  const final = steps === 1 ? body(b, x.int(0), initial) : b.loop(steps, initial, all ? [all] : [], body);
  return [all, ...final.map((value) => (attrs.batchFirst ? transpose(b, value, [1, 0, 2]) : value))];
}

/** Activations by direction; each takes its own values of activation_alpha and activation_beta, in order. */
function directionActivations(
  node: NodeFacts,
  cell: Cell,
  attrs: Attributes,
  directions: number,
): readonly (readonly Activation[])[] {
  const names = attrs.activations ?? Array.from({ length: directions }, () => cell.activations).flat();
  const each = cell.activations.length;
  if (names.length !== directions * each)
    throw badAttribute(node, "activations", `a list of ${names.length}`, `${directions * each} names`);
  const made = activationsOf(node, names, attrs.alpha, attrs.beta);
  return Array.from({ length: directions }, (_, direction) => made.slice(direction * each, (direction + 1) * each));
}

const recurrent = (name: string, since: readonly number[], cell: Cell): Operator =>
  defineOp<Attributes>({
    name,
    since,
    attrs: (read) => readAttributes(read, cell.variantName),
    lower: (b, inputs, attrs, node) => lowerRecurrent(cell, b, inputs, attrs, node),
  });

export const recurrents: readonly Operator[] = [
  recurrent("RNN", [7, 14, 22], rnn),
  recurrent("GRU", [7, 14, 22], gru),
  recurrent("LSTM", [7, 14, 22], lstm),
];
