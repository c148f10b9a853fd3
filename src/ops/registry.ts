// Every operator, by domain and name. One line a family.

import { argmax } from "./argmax.ts";
import { attentions } from "./attention.ts";
import { bitcast } from "./bitcast.ts";
import { col2ims } from "./col2im.ts";
import { controls } from "./control.ts";
import { convolutions } from "./conv.ts";
import type { Operator } from "./define.ts";
import { deformables } from "./deform.ts";
import { einsums } from "./einsum.ts";
import { elementwise } from "./elementwise.ts";
import { gathers } from "./gather.ts";
import { gridSamples } from "./gridsample.ts";
import { imageDecoder } from "./image-decoder.ts";
import { linearAlgebra } from "./linalg.ts";
import { losses } from "./losses.ts";
import { matrixProducts } from "./matmul.ts";
import { microsoft } from "./microsoft.ts";
import { microsoftAttentions } from "./microsoft-attention.ts";
import { microsoftProducts } from "./microsoft-products.ts";
import { microsoftQuantized } from "./microsoft-quantized.ts";
import { movement } from "./movement.ts";
import { normalizations } from "./normalization.ts";
import { optionals } from "./optional.ts";
import { pools } from "./pool.ts";
import { quantizations } from "./quantize.ts";
import { randoms } from "./random.ts";
import { recurrents } from "./recurrent.ts";
import { reductions } from "./reduce.ts";
import { resizes } from "./resize.ts";
import { regionOps } from "./roi.ts";
import { scans } from "./scan.ts";
import { scatters } from "./scatter.ts";
import { selections } from "./select.ts";
import { shape } from "./shape.ts";
import { signals } from "./signal.ts";
import { softmaxes } from "./softmax.ts";
import { tfidf } from "./tfidf.ts";
import { sorting } from "./topk.ts";
import { transformerParts } from "./transformer.ts";

/** How an operator's tasks meet their neighbours: what `lowering/` makes of them where it can. */
export const FUSION = {
  absorbed: "absorbed into the kernel before or after it",
  view: "becomes indices of the kernel that reads it",
  anchor: "one kernel, with what surrounds it as prologue and epilogue",
  mixed: "several kernels, each fused with its neighbours",
  control: "kernels of its bodies, fused within them",
  host: "none",
} as const;
export type Fusion = keyof typeof FUSION;

const FAMILIES: readonly (readonly [Fusion, readonly (readonly Operator[])[]])[] = [
  ["absorbed", [elementwise, quantizations, bitcast, microsoft, transformerParts, randoms]],
  ["view", [movement, shape, gathers, optionals]],
  [
    "anchor",
    [
      convolutions,
      matrixProducts,
      microsoftProducts,
      microsoftQuantized,
      attentions,
      pools,
      reductions,
      softmaxes,
      normalizations,
      losses,
      argmax,
      scatters,
      regionOps,
      gridSamples,
      deformables,
      col2ims,
      resizes,
      tfidf,
    ],
  ],
  ["mixed", [microsoftAttentions, scans, einsums, linearAlgebra, signals, recurrents, sorting]],
  ["control", [controls]],
  ["host", [selections, [imageDecoder]]],
];

/** Operators that are not as their family. */
const APART: Readonly<Record<string, Fusion>> = {
  ":MatMulInteger": "anchor",
  ":QLinearMatMul": "anchor",
  ":SimplifiedLayerNormalization": "anchor",
  "com.microsoft:SimplifiedLayerNormalization": "anchor",
  "com.microsoft:SkipLayerNormalization": "anchor",
  "com.microsoft:SkipSimplifiedLayerNormalization": "anchor",
  "com.microsoft:MultiHeadAttention": "anchor",
  "com.microsoft:QLinearAdd": "absorbed",
  "com.microsoft:QLinearMul": "absorbed",
  "com.microsoft:QLinearSigmoid": "absorbed",
  "com.microsoft:QLinearLeakyRelu": "absorbed",
  "com.microsoft:QLinearConcat": "absorbed",
  ":HannWindow": "absorbed",
  ":HammingWindow": "absorbed",
  ":BlackmanWindow": "absorbed",
  ":MelWeightMatrix": "absorbed",
  ":ConvTranspose": "mixed",
  ":DynamicQuantizeLinear": "mixed",
  "com.microsoft:DynamicQuantizeMatMul": "mixed",
  "com.microsoft:EmbedLayerNormalization": "mixed",
  ":SoftmaxCrossEntropyLoss": "mixed",
  ":LinearAttention": "mixed",
  ":CausalConvWithState": "mixed",
  "ai.onnx.preview:FlexAttention": "mixed",
  ":Scatter": "mixed",
  ":ScatterElements": "mixed",
  ":ScatterND": "mixed",
  ":TensorScatter": "mixed",
  ":MaxRoiPool": "mixed",
  ":MaxUnpool": "mixed",
  ":Multinomial": "mixed",
};

export const OPERATORS: readonly Operator[] = FAMILIES.flatMap(([, families]) => families.flat());

const keyOf = ({ domain = "", name }: Pick<Operator, "domain" | "name">): string => `${domain}:${name}`;

export const fusionOf = (operator: Operator): Fusion =>
  APART[keyOf(operator)] ?? FAMILIES.find(([, families]) => families.some((family) => family.includes(operator)))![0];

const BY_NAME = new Map(OPERATORS.map((operator) => [keyOf(operator), operator]));

/** Domains whose operators are ONNX's under another name. */
const normalDomain = (domain: string): string => (domain === "ai.onnx" ? "" : domain);

export const findOperator = (domain: string, name: string): Operator | undefined =>
  BY_NAME.get(keyOf({ domain: normalDomain(domain), name }));

/** Out of scope on purpose, by kind. */
const REFUSED: readonly (readonly [RegExp, string])[] = [
  [/^(Sequence|SplitToSequence|ConcatFromSequence)/, "sequences are not supported"],
  [/^Optional$/, "optional types are not supported"],
  [/^(String|RegexFullMatch)/, "strings are not supported"],
  [/^(Adagrad|Adam|Momentum|Gradient)$/, "training is not supported"],
];

/** Why an operator that `findOperator` does not find is refused. */
export function refusalOf(domain: string, name: string): string {
  if (/^ai\.onnx(\.preview)?\.training$/.test(domain)) return "training is not supported";
  if (domain !== "" && domain !== "com.microsoft") return `the domain ${domain} is not known`;
  return REFUSED.find(([pattern]) => pattern.test(name))?.[1] ?? "no implementation";
}
