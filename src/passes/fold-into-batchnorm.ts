// Constant factors and shifts of channels after a BatchNormalization become its own scale and shift: what Caffe's Scale
// layers are exported as.

import { numbersOf, type Tensor, tensor } from "../ir/tensor.ts";
import { attributesOf, hasOneOutput } from "./attributes.ts";
import { perChannel } from "./linear.ts";
import { any, type Constant, constant, op, type Replacement, rule, rulesPass } from "./rewrite/index.ts";

const norm = op("BatchNormalization", [any("x"), constant("scale"), constant("shift"), any("mean"), any("variance")], {
  singleUse: true,
  where: (node) => hasOneOutput(node) && !attributesOf(node).flag("training_mode") && attributesOf(node).flag("spatial", true),
}).as("norm");

/** The constant's number for each channel of the normalization's output. */
const numbersFor = (g: Replacement, c: Constant, channels: number): readonly number[] | undefined =>
  perChannel(c, channels, 1, g.root.outputs[0]!.shape.length);

const combined = ({ data }: Constant, other: readonly number[], combine: (a: number, b: number) => number): Tensor =>
  tensor(
    data.dtype,
    data.shape,
    numbersOf(data).map((value, c) => combine(value, other[c]!)),
  );

export const foldIntoBatchNorm = rulesPass(
  "fold-into-batchnorm",
  "constant factors and shifts of channels after a BatchNormalization become its own",
  [
    rule({
      name: "fold-scale-into-batchnorm",
      match: op("Mul", [norm, constant("c")]),
      rewrite: ({ x, scale, shift, mean, variance, norm, c }, g) => {
        const factor = numbersFor(g, c, scale.data.data.length);
        if (!factor) return undefined;
        const [s, b] = [scale, shift].map((value) => g.constant(combined(value, factor, (a, by) => a * by)));
        return g.like(norm, [x, s, b, mean, variance]);
      },
    }),
    rule({
      name: "fold-shift-into-batchnorm",
      match: op("Add", [norm, constant("c")]),
      rewrite: ({ x, scale, shift, mean, variance, norm, c }, g) => {
        const by = numbersFor(g, c, scale.data.data.length);
        return by && g.like(norm, [x, scale, g.constant(combined(shift, by, (a, more) => a + more)), mean, variance]);
      },
    }),
  ],
);
