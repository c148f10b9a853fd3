// What RNN, GRU and LSTM do in one step, in words that leave shapes, directions and sequence lengths to the frame around them.
// ONNX: https://onnx.ai/onnx/operators/

import type { Expr } from "../ir/expr.ts";
import * as x from "../ir/expr.ts";
import type { Value } from "../ir/value.ts";

/** What one of the three operators adds to the common frame. */
export interface Cell {
  readonly variantName?: string;
  /** Blocks of `hidden` rows in W and R, and which of R's biases stay out of the projected input. */
  readonly gates: number;
  readonly lateBias: (variant: boolean) => number | undefined;
  readonly states: 1 | 2;
  /** Default activations of one direction. */
  readonly activations: readonly string[];
  /** Emits the kernels of one turn; the last one must `finish`. Returns the next states. */
  readonly turn: (turn: Turn) => readonly Value[];
}

/** Index [direction, batch, unit]. */
export type At = readonly [Expr, Expr, Expr];

/** One turn as a cell sees it. */
export interface Turn {
  readonly variant: boolean;
  readonly states: readonly Value[];
  /** The projected input of a gate, biases included. */
  readonly input: (at: At, gate: number) => Expr;
  /** R's bias of a gate, where it was kept out of `input`. */
  readonly bias: (at: At, gate: number) => Expr;
  /** Peephole weights of a gate, where the node has any. */
  readonly peephole: (at: At, gate: number) => Expr | undefined;
  /** Activation number i of an element's direction. */
  readonly activate: (i: number, at: At, e: Expr) => Expr;
  /** The same after `clip`: for what enters a gate. As in ONNX Runtime, LSTM's cell state is not clipped on its way out. */
  readonly gate: (i: number, at: At, e: Expr) => Expr;
  /** Values over [direction, batch, unit] made of Σ_k source[direction, batch, k]·R[direction, gate, unit, k] for each gate. */
  readonly compute: (
    source: Value,
    gates: readonly number[],
    result: (sums: readonly Expr[], at: At) => readonly Expr[],
  ) => readonly Value[];
  /** As `compute`, for the next states: keeps the old ones where a sequence has ended, and writes the first to Y. */
  readonly finish: (
    source: Value,
    gates: readonly number[],
    result: (sums: readonly Expr[], at: At) => readonly Expr[],
  ) => readonly Value[];
}

export const rnn: Cell = {
  gates: 1,
  states: 1,
  activations: ["Tanh"],
  lateBias: () => undefined,
  turn: ({ states: [hidden], input, gate, finish }) =>
    finish(hidden!, [0], ([sum], at) => [gate(0, at, x.add(sum!, input(at, 0)))]),
};

export const gru: Cell = {
  variantName: "linear_before_reset",
  gates: 3,
  states: 1,
  activations: ["Sigmoid", "Tanh"],
  lateBias: (linearBeforeReset) => (linearBeforeReset ? 2 : undefined),
  turn: ({ variant: linearBeforeReset, states: [hidden], input, bias, gate, compute, finish }) => {
    const old = (at: At): Expr => x.load(hidden!, at);
    const blend = (update: Expr, candidate: Expr, at: At): Expr =>
      x.add(x.mul(x.sub(x.float(1), update), candidate), x.mul(update, old(at)));
    const sigmoid = (i: number, at: At, sum: Expr): Expr => gate(0, at, x.add(sum, input(at, i)));
    if (linearBeforeReset) {
      return finish(hidden!, [0, 1, 2], ([z, r, h], at) => {
        const candidate = gate(1, at, x.add(input(at, 2), x.mul(sigmoid(1, at, r!), x.add(h!, bias(at, 2)))));
        return [blend(sigmoid(0, at, z!), candidate, at)];
      });
    }
    const [update, kept] = compute(hidden!, [0, 1], ([z, r], at) => [sigmoid(0, at, z!), x.mul(sigmoid(1, at, r!), old(at))]);
    return finish(kept!, [2], ([h], at) => [blend(x.load(update!, at), gate(1, at, x.add(h!, input(at, 2))), at)]);
  },
};

export const lstm: Cell = {
  variantName: "input_forget",
  gates: 4,
  states: 2,
  activations: ["Sigmoid", "Tanh", "Tanh"],
  lateBias: () => undefined,
  turn: ({ variant: coupled, states: [hidden, memory], input, peephole, activate, gate, finish }) =>
    finish(hidden!, [0, 1, 2, 3], ([i, o, f, c], at) => {
      const old = x.load(memory!, at);
      const sigmoid = (sum: Expr, block: number, hole: number, cell: Expr): Expr => {
        const weight = peephole(at, hole);
        const total = x.add(sum, input(at, block));
        return gate(0, at, weight ? x.add(total, x.mul(weight, cell)) : total);
      };
      const entry = sigmoid(i!, 0, 0, old);
      const forget = coupled ? x.sub(x.float(1), entry) : sigmoid(f!, 2, 2, old);
      const next = x.add(x.mul(forget, old), x.mul(entry, gate(1, at, x.add(c!, input(at, 3)))));
      return [x.mul(sigmoid(o!, 1, 1, next), activate(2, at, next)), next];
    }),
};
