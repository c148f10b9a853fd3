// com.microsoft's activations, normalizations and embeddings: what ONNX Runtime's optimizer writes in place of plain graphs.
// https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md

import type { Dim } from "../ir/dims.ts";
import * as dims from "../ir/dims.ts";
import type { Expr } from "../ir/expr.ts";
import * as x from "../ir/expr.ts";
import type { Lowering } from "../ir/lower.ts";
import type { Value } from "../ir/value.ts";
import { shapeMismatch } from "../util/errors.ts";
import { loadBroadcast } from "./broadcast.ts";
import { axisIn, defineOp, type NodeFacts, need, type Operator } from "./define.ts";
import { broadcasting, geluErf, geluTanh, sigmoid } from "./elementwise.ts";
import { affine, layerStatistics, normalize, rmsNormalize } from "./moments.ts";
import { rotate } from "./transformer.ts";

const domain = "com.microsoft";

/** input + skip + bias, which the skip normalizations normalize and may return. */
function skipSum(b: Lowering, input: Value, skip: Value, bias: Value | undefined): Value {
  return b.map(input.dtype, input.shape, (i) => {
    const sum = x.add(x.load(input, i), loadBroadcast(skip, i, input.shape));
    return bias ? x.add(sum, loadBroadcast(bias, i, input.shape)) : sum;
  });
}

/** Token ids [batch, length] as sums of embeddings [batch, length, hidden], normalized. */
function embedLayerNormalization(
  b: Lowering,
  node: NodeFacts,
  inputs: readonly (Value | undefined)[],
  epsilon: number,
): (Value | undefined)[] {
  const [ids, words, places] = [need(node, inputs, 0), need(node, inputs, 2), need(node, inputs, 3)];
  const [segments, segmentTable, scale, shift, mask, positions] = [
    inputs[1],
    inputs[4],
    need(node, inputs, 5),
    need(node, inputs, 6),
    inputs[7],
    inputs[8],
  ];
  if (ids.shape.length !== 2) throw shapeMismatch(node, `token ids are ${dims.shapeText(ids.shape)}, expected [batch, length]`);
  const shape: readonly Dim[] = [...ids.shape, words.shape[1]!];
  const sum = b.map(words.dtype, shape, (i) => {
    const [n, s, h] = i as readonly Expr[];
    const word = x.load(words, [x.load(ids, [n!, s!]), h!]);
    const place = x.load(places, [positions ? x.load(positions, [n!, s!]) : s!, h!]);
    const both = x.add(word, place);
    return segments && segmentTable ? x.add(both, x.load(segmentTable, [x.load(segments, [n!, s!]), h!])) : both;
  });
  const out = normalize(b, words.dtype, shape, [2], (i) => x.load(sum, i), epsilon, affine(node, shape, scale, shift));
  const counted = (n: Expr, s: Expr): Expr => (mask ? x.convert(x.eq(x.load(mask, [n, s]), x.int(1)), "i32") : x.int(0));
  const maskIndex = node.outputs[1]
    ? b.reduce("i32", [ids.shape[0]!], [ids.shape[1]!], ([n], [s]) => [{ fn: "sum", body: () => counted(n!, s!) }])
    : undefined;
  return [out, maskIndex, sum];
}

interface SimplifiedAttributes {
  readonly axis: number;
  readonly epsilon: number;
}

const simplified = (under: string): Operator =>
  defineOp<SimplifiedAttributes>({
    name: "SimplifiedLayerNormalization",
    domain: under,
    since: [1],
    attrs: (read) => {
      read.ignore("stash_type");
      return { axis: read.int("axis", -1), epsilon: read.float("epsilon", 1e-5) };
    },
    lower: (b, inputs, { axis, epsilon }, node) => {
      const [input, scale] = [need(node, inputs, 0), need(node, inputs, 1)];
      const first = axisIn(node, axis, input.shape.length);
      const axes = Array.from({ length: input.shape.length - first }, (_, i) => first + i);
      const out = rmsNormalize(
        b,
        input.dtype,
        input.shape,
        axes,
        (i) => x.load(input, i),
        epsilon,
        affine(node, input.shape, scale, undefined),
      );
      if (!node.outputs[1]) return [out];
      const outer = input.shape.map((dim, at) => (at < first ? dim : 1));
      const inner = axes.map((at) => input.shape[at]!);
      const count = x.convert(x.int(dims.product(inner)), "f32");
      const inverse = b.reduce(
        "f32",
        outer,
        inner,
        (o, i) => {
          const element = x.load(input, [...o.slice(0, first), ...i]);
          return [{ fn: "sum", body: () => x.mul(element, element) }];
        },
        ([squares]) => x.div(x.float(1), x.unary("sqrt", x.add(x.div(squares!, count), x.float(epsilon)))),
      );
      return [out, inverse];
    },
  });

export const microsoft: readonly Operator[] = [
  broadcasting("Gelu", [1], ([a]) => geluErf(a!), { domain }),
  broadcasting("FastGelu", [1], ([a, bias]) => geluTanh(bias ? x.add(a!, bias) : a!), { domain }),
  broadcasting("BiasGelu", [1], ([a, bias]) => geluErf(x.add(a!, bias!)), { domain }),
  broadcasting<number>("QuickGelu", [1], ([a], _, alpha) => x.mul(a!, sigmoid(x.mul(x.float(alpha), a!))), {
    domain,
    attrs: (read) => read.float("alpha", 1.702),
  }),
  defineOp<number>({
    name: "SkipLayerNormalization",
    domain,
    since: [1],
    attrs: (read) => read.float("epsilon", 1e-12),
    lower: (b, inputs, epsilon, node) => {
      const [input, skip, scale, shift, bias] = [
        need(node, inputs, 0),
        need(node, inputs, 1),
        need(node, inputs, 2),
        inputs[3],
        inputs[4],
      ];
      const { shape } = input;
      const sum = skipSum(b, input, skip, bias);
      const read = (i: readonly Expr[]): Expr => x.load(sum, i);
      const axes = [shape.length - 1];
      const out = normalize(b, input.dtype, shape, axes, read, epsilon, affine(node, shape, scale, shift));
      return [
        out,
        ...layerStatistics(
          b,
          shape,
          axes,
          read,
          epsilon,
          { mean: node.outputs[1] ?? false, inverse: node.outputs[2] ?? false },
          "f32",
        ),
        sum,
      ];
    },
  }),
  defineOp<number>({
    name: "SkipSimplifiedLayerNormalization",
    domain,
    since: [1],
    attrs: (read) => read.float("epsilon", 1e-12),
    lower: (b, inputs, epsilon, node) => {
      const [input, skip, scale, bias] = [need(node, inputs, 0), need(node, inputs, 1), need(node, inputs, 2), inputs[3]];
      const sum = skipSum(b, input, skip, bias);
      const out = rmsNormalize(
        b,
        input.dtype,
        input.shape,
        [input.shape.length - 1],
        (i) => x.load(sum, i),
        epsilon,
        affine(node, input.shape, scale, undefined),
      );
      return [out, undefined, undefined, sum];
    },
  }),
  simplified(""),
  simplified(domain),
  defineOp<number>({
    name: "EmbedLayerNormalization",
    domain,
    since: [1],
    attrs: (read) => {
      read.ignore("mask_index_type");
      return read.float("epsilon", 1e-12);
    },
    lower: (b, inputs, epsilon, node) => embedLayerNormalization(b, node, inputs, epsilon),
  }),
  defineOp<{ readonly interleaved: boolean; readonly heads: number; readonly width: number }>({
    name: "RotaryEmbedding",
    domain,
    since: [1],
    attrs: (read) => {
      read.ignore("scale", "is_packed_batching");
      return {
        interleaved: read.flag("interleaved"),
        heads: read.int("num_heads", 0),
        width: read.int("rotary_embedding_dim", 0),
      };
    },
    lower: (b, inputs, { interleaved, heads, width }, node) => {
      const [input, positions, cos, sin] = [
        need(node, inputs, 0),
        need(node, inputs, 1),
        need(node, inputs, 2),
        need(node, inputs, 3),
      ];
      // A single position is that of the first element; without a head count the cache tells the size of a head.
      const at = (n: Expr, s: Expr): Expr =>
        positions.shape.length === 1 ? x.add(x.load(positions, [x.int(0)]), s) : x.load(positions, [n, s]);
      const size = dims.mul(cos.shape[1]!, 2);
      const count = heads > 0 ? heads : dims.floorDiv(input.shape.at(-1)!, size);
      return [
        rotate(b, node, input, count, width, interleaved, (cache, n, s, pair) =>
          x.load(cache === "cos" ? cos : sin, [at(n, s), pair]),
        ),
      ];
    },
  }),
];
