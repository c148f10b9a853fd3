// Activations that the recurrent operators name in an attribute, with the values of activation_alpha and activation_beta
// that each takes. ONNX: https://onnx.ai/onnx/operators/onnx__LSTM.html

import type { Expr } from "../ir/expr.ts";
import * as x from "../ir/expr.ts";
import { badAttribute } from "../util/errors.ts";
import { relu, sigmoid, softplus } from "./elementwise.ts";

export type Activation = (a: Expr) => Expr;

interface Row {
  /** Defaults of the parameters that it has. */
  readonly alpha?: number;
  readonly beta?: number;
  readonly make: (alpha: Expr, beta: Expr) => Activation;
}

const tanh: Activation = (a) => x.unary("tanh", a);
const zero = x.float(0);
const one = x.float(1);
const belowZero = (a: Expr, below: Expr): Expr => x.select(x.lt(a, zero), below, a);

const ROWS: Readonly<Record<string, Row>> = {
  Relu: { make: () => relu },
  Tanh: { make: () => tanh },
  Sigmoid: { make: () => sigmoid },
  Affine: { alpha: 1, beta: 0, make: (alpha, beta) => (a) => x.add(x.mul(alpha, a), beta) },
  LeakyRelu: { alpha: 0.01, make: (alpha) => (a) => belowZero(a, x.mul(alpha, a)) },
  ThresholdedRelu: { alpha: 1, make: (alpha) => (a) => x.select(x.lt(a, alpha), zero, a) },
  ScaledTanh: { alpha: 1, beta: 1, make: (alpha, beta) => (a) => x.mul(alpha, tanh(x.mul(beta, a))) },
  HardSigmoid: {
    alpha: 0.2,
    beta: 0.5,
    make: (alpha, beta) => (a) => x.minimum(x.maximum(x.add(x.mul(alpha, a), beta), zero), one),
  },
  Elu: { alpha: 1, make: (alpha) => (a) => belowZero(a, x.mul(alpha, x.sub(x.unary("exp", a), one))) },
  Softsign: { make: () => (a) => x.div(a, x.add(one, x.unary("abs", a))) },
  Softplus: { make: () => softplus },
};
const BY_NAME = new Map(Object.entries(ROWS).map(([name, row]) => [name.toLowerCase(), row]));

/** The named activations; names ignore case. Values are taken in order by those that have such a parameter. */
export function activationsOf(
  node: { name: string; op: string },
  names: readonly string[],
  alpha: readonly number[],
  beta: readonly number[],
): Activation[] {
  const [alphas, betas] = [[...alpha], [...beta]];
  return names.map((name) => {
    const row = BY_NAME.get(name.toLowerCase());
    if (!row) throw badAttribute(node, "activations", JSON.stringify(name), `one of ${Object.keys(ROWS).join(", ")}`);
    const a = row.alpha === undefined ? 0 : (alphas.shift() ?? row.alpha);
    const b = row.beta === undefined ? 0 : (betas.shift() ?? row.beta);
    return row.make(x.float(a), x.float(b));
  });
}
