// Activations that exporters spell out in primitives become the one operator of ONNX that means them.

import type { GraphNode } from "../ir/graph.ts";
import { attributesOf } from "./attributes.ts";
import {
  any,
  constant,
  either,
  exponent,
  float,
  number,
  op,
  optional,
  rule,
  rulesPass,
  scalar,
  scalarOf,
  text,
} from "./rewrite/index.ts";

const x = any("x");

// --- Gelu ----------------------------------------------------------------------------------------------------------------

/** x · ½ · (1 + inner), however the product is grouped. */
const halved = (onePlus: ReturnType<typeof onePlusErf | typeof onePlusTanh>) => [
  op("Mul", [op("Mul", [x, onePlus]), number(0.5)]),
  op("Mul", [op("Mul", [x, number(0.5)]), onePlus]),
  op("Mul", [x, op("Mul", [onePlus, number(0.5)])]),
  op("Div", [op("Mul", [x, onePlus]), number(2)]),
];
const onePlusErf = () =>
  op("Add", [op("Erf", [either(op("Div", [x, number(Math.SQRT2)]), op("Mul", [x, number(Math.SQRT1_2)]))]), number(1)]);
const cube = either(op("Pow", [x, exponent(3)]), op("Mul", [x, either(op("Mul", [x, x]), op("Pow", [x, exponent(2)]))]));
const square = either(op("Mul", [x, x]), op("Pow", [x, exponent(2)]));
const bend = number(0.044715);
const slope = number(Math.sqrt(2 / Math.PI));
/** √(2/π) · (x + 0.044715 x³), also with x taken out. */
const tanhArgument = either(
  op("Mul", [op("Add", [x, op("Mul", [bend, cube])]), slope]),
  op("Mul", [
    op("Mul", [x, slope]),
    op("Add", [either(op("Mul", [square, bend]), op("Mul", [op("Mul", [x, bend]), x])), number(1)]),
  ]),
  op("Mul", [
    x,
    op("Mul", [slope, op("Add", [either(op("Mul", [square, bend]), op("Mul", [op("Mul", [x, bend]), x])), number(1)])]),
  ]),
);
const onePlusTanh = () => op("Add", [op("Tanh", [tanhArgument]), number(1)]);

const gelu = [
  ...halved(onePlusErf()).map((match) =>
    rule({ name: "recognize-gelu", match, rewrite: ({ x }, g) => g.node("Gelu", [x], {}, 20) }),
  ),
  ...halved(onePlusTanh()).map((match) =>
    rule({ name: "recognize-gelu", match, rewrite: ({ x }, g) => g.node("Gelu", [x], { approximate: text("tanh") }, 20) }),
  ),
];

// --- sigmoids ------------------------------------------------------------------------------------------------------------

const onePlusExp = op("Add", [op("Exp", [op("Neg", [x])]), number(1)]);

const sigmoids = [
  rule({ name: "recognize-sigmoid", match: op("Div", [number(1), onePlusExp]), rewrite: ({ x }, g) => g.node("Sigmoid", [x]) }),
  rule({ name: "recognize-sigmoid", match: op("Reciprocal", [onePlusExp]), rewrite: ({ x }, g) => g.node("Sigmoid", [x]) }),
  rule({ name: "recognize-swish", match: op("Div", [x, onePlusExp]), rewrite: ({ x }, g) => g.node("Swish", [x], {}, 24) }),
  rule({
    name: "recognize-swish",
    match: op("Mul", [x, op("Sigmoid", [x])]),
    rewrite: ({ x }, g) => g.node("Swish", [x], {}, 24),
  }),
  rule({
    name: "recognize-swish",
    match: op("Mul", [x, op("Sigmoid", [op("Mul", [x, scalar("alpha")])])]),
    rewrite: ({ x, alpha }, g) => g.node("Swish", [x], { alpha: float(scalarOf(alpha)!) }, 24),
  }),
];

// --- hard sigmoids ---------------------------------------------------------------------------------------------------------

/** True for Clip with the bounds 0 and 6, as attributes or as inputs. */
function clipsToSix(node: GraphNode): boolean {
  const read = attributesOf(node);
  const bound = (input: number, name: string): number | undefined =>
    node.inputs[input] ? scalarOf(node.inputs[input]) : read.float(name);
  return bound(1, "min") === 0 && bound(2, "max") === 6;
}
const bound = (name: "low" | "high") => optional(constant(name));
/** max(0, min(6, x + 3)). */
const xPlus3 = op("Add", [x, number(3)]);
const clipped = either(
  op("Clip", [xPlus3, bound("low"), bound("high")], { where: clipsToSix }),
  op("Min", [op("Relu", [xPlus3]), number(6)]),
);
const isSixth = (node: GraphNode): boolean => {
  const read = attributesOf(node);
  return Math.abs(read.float("alpha", 0.2) - 1 / 6) < 1e-6 && read.float("beta", 0.5) === 0.5;
};
const HARD = { alpha: float(1 / 6), beta: float(0.5) };

const hardSigmoids = [
  rule({
    name: "recognize-hardswish",
    match: op("Mul", [x, op("HardSigmoid", [x], { where: isSixth })]),
    rewrite: ({ x }, g) => g.node("HardSwish", [x], {}, 14),
  }),
  rule({
    name: "recognize-hardswish",
    match: op("Div", [op("Mul", [x, clipped]), number(6)]),
    rewrite: ({ x }, g) => g.node("HardSwish", [x], {}, 14),
  }),
  rule({
    name: "recognize-hardswish",
    match: op("Mul", [op("Mul", [x, clipped]), number(1 / 6)]),
    rewrite: ({ x }, g) => g.node("HardSwish", [x], {}, 14),
  }),
  rule({
    name: "recognize-hardsigmoid",
    match: op("Div", [clipped, number(6)]),
    rewrite: ({ x }, g) => g.node("HardSigmoid", [x], HARD),
  }),
  rule({
    name: "recognize-hardsigmoid",
    match: op("Mul", [clipped, number(1 / 6)]),
    rewrite: ({ x }, g) => g.node("HardSigmoid", [x], HARD),
  }),
];

// --- Mish ----------------------------------------------------------------------------------------------------------------

/** Where log(1 + eˣ) overflows, tanh of it is 1 all the same. */
const softplus = either(op("Softplus", [x]), op("Log", [op("Add", [op("Exp", [x]), number(1)])]));
const mish = rule({
  name: "recognize-mish",
  match: op("Mul", [x, op("Tanh", [softplus])]),
  rewrite: ({ x }, g) => g.node("Mish", [x], {}, 18),
});

export const recognizeActivations = rulesPass(
  "recognize-activations",
  "Gelu, Swish, Sigmoid, HardSwish, HardSigmoid and Mish in primitives become one operator",
  [...gelu, ...sigmoids, ...hardSigmoids, mish],
);
