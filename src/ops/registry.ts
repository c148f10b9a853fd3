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

/** How a family's tasks meet their neighbours: what `lowering/` makes of them where it can. */
export const FUSION = {
  absorbed: "absorbed into the kernel before or after it",
  view: "becomes indices of the kernel that reads it",
  anchor: "takes what surrounds it as prologue and epilogue",
  mixed: "several kernels, each fused with its neighbours",
} as const;

const FAMILIES: readonly (readonly [keyof typeof FUSION, readonly (readonly Operator[])[]])[] = [
  ["absorbed", [elementwise, quantizations, bitcast]],
  ["view", [movement, shape, gathers, optionals]],
  ["anchor", [convolutions, matrixProducts, pools, reductions, softmaxes, normalizations, argmax, scatters, scans]],
  [
    "mixed",
    [
      losses,
      microsoft,
      microsoftAttentions,
      microsoftProducts,
      microsoftQuantized,
      transformerParts,
      attentions,
      randoms,
      controls,
      einsums,
      linearAlgebra,
      signals,
    ],
  ],
  ["mixed", [regionOps, gridSamples, deformables, col2ims, recurrents, resizes, selections, sorting, tfidf, [imageDecoder]]],
];

export const OPERATORS: readonly Operator[] = FAMILIES.flatMap(([, families]) => families.flat());

/** How an operator's tasks are fused, in words. */
export const fusionOf = (operator: Operator): string =>
  FUSION[FAMILIES.find(([, families]) => families.some((family) => family.includes(operator)))![0]];

const BY_NAME = new Map(OPERATORS.map((operator) => [`${operator.domain ?? ""}:${operator.name}`, operator]));

/** Domains whose operators are ONNX's under another name. */
const normalDomain = (domain: string): string => (domain === "ai.onnx" ? "" : domain);

export const findOperator = (domain: string, name: string): Operator | undefined =>
  BY_NAME.get(`${normalDomain(domain)}:${name}`);

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
