// Signal processing: DFT, STFT, the windows and the mel filter bank. ONNX: https://onnx.ai/onnx/operators/

import { add, type Dim, floorDiv, mul, product, shapeText, sub } from "../ir/dims.ts";
import type { Expr } from "../ir/expr.ts";
import * as x from "../ir/expr.ts";
import { type DType, scalarOf } from "../ir/types.ts";
import type { Value } from "../ir/value.ts";
import { badAttribute, shapeMismatch } from "../util/errors.ts";
import { axisIn, defineOp, dimsOf, intsOf, type NodeFacts, need, type Operator } from "./define.ts";
import { fourier, type Signal } from "./fourier.ts";
import { dtypeOfAttribute, loadScalar } from "./shape.ts";

const scalarDim = (node: NodeFacts, value: Value, role: string): Dim => dimsOf(node, value, role)[0]!;
const asElement = (e: Expr, dtype: DType): Expr => (scalarOf(dtype) === "f32" ? e : x.convert(e, dtype));
const asFloat = (size: Dim): Expr => x.convert(x.int(size), "f32");
/** Bins of a real signal's spectrum that the others repeat. */
const oneSided = (length: Dim): Dim => add(floorDiv(length, 2), 1);

/** Real (1) or complex (2) numbers in the last axis. */
function partsOf(node: NodeFacts, value: Value): 1 | 2 {
  const parts = value.shape.at(-1);
  if (value.shape.length < 2 || (parts !== 1 && parts !== 2))
    throw shapeMismatch(
      node,
      `an input of shape ${shapeText(value.shape)} holds no real or complex numbers`,
      "its last axis has 1 or 2 elements",
    );
  return parts;
}

interface DftAttributes {
  readonly axis: number | undefined;
  readonly inverse: boolean;
  readonly oneSided: boolean;
}

const dft: Operator = defineOp<DftAttributes>({
  name: "DFT",
  since: [17, 20],
  attrs: (read) => ({ axis: read.int("axis"), inverse: read.flag("inverse"), oneSided: read.flag("onesided") }),
  lower: (b, inputs, attrs, node) => {
    const value = need(node, inputs, 0);
    const parts = partsOf(node, value);
    const rank = value.shape.length;
    const axis = axisIn(
      node,
      inputs[2] ? intsOf(node, inputs[2], "axis")[0]! : (attrs.axis ?? (node.opset < 20 ? 1 : -2)),
      rank,
    );
    if (axis === rank - 1) throw shapeMismatch(node, `axis ${axis} holds the parts of complex numbers`);
    const { inverse } = attrs;
    /** Half a spectrum in, a real signal out. */
    const halfIn = inverse && attrs.oneSided;
    const halfOut = !inverse && attrs.oneSided;
    const size = value.shape[axis]!;
    const length = inputs[1] ? scalarDim(node, inputs[1], "dft_length") : halfIn ? mul(sub(size, 1), 2) : size;
    const others = value.shape.filter((_, k) => k !== axis && k !== rank - 1);
    const read = (row: Expr, at: Expr, part: Expr): Expr =>
      x.select(x.within(at, size), x.load(value, [...x.unflatten(row, others).toSpliced(axis, 0, at), part]), x.float(0));
    // The other half of a real signal's spectrum is the conjugate of the first.
    const mirrored = (row: Expr, at: Expr, part: Expr): Expr => {
      const first = x.lt(at, x.int(oneSided(length)));
      const found = read(row, x.select(first, at, x.sub(x.int(length), at)), part);
      return parts === 1 ? found : x.select(x.or(first, x.eq(part, x.int(0))), found, x.unary("neg", found));
    };
    const out = halfOut ? oneSided(length) : length;
    const spectrum = fourier(
      b,
      { rows: product(others), length, out, complex: parts === 2, inverse, dtype: value.dtype },
      halfIn ? mirrored : read,
    );
    const shape = [...value.shape.with(axis, out).slice(0, -1), halfIn ? 1 : 2];
    return [
      b.map(value.dtype, shape, (i) => {
        const index = (i as readonly Expr[]).slice(0, -1);
        const sum = spectrum(x.flatten(index.toSpliced(axis, 1), others), index[axis]!, i.at(-1)!);
        return inverse ? x.div(sum, asFloat(length)) : sum;
      }),
    ];
  },
});

const stft: Operator = defineOp<boolean>({
  name: "STFT",
  since: [17],
  attrs: (read) => read.flag("onesided", true),
  lower: (b, inputs, onesided, node) => {
    const signal = need(node, inputs, 0);
    const parts = signal.shape.length === 2 ? 1 : partsOf(node, signal);
    const [batch, size] = signal.shape as [Dim, Dim];
    if (onesided && parts === 2) throw badAttribute(node, "onesided", "1", "0 for a complex signal");
    const step = scalarDim(node, need(node, inputs, 1), "frame_step");
    const [, , window, frameLength] = inputs;
    const length = frameLength ? scalarDim(node, frameLength, "frame_length") : window ? window.shape[0]! : size;
    const frames = add(floorDiv(sub(size, length), step), 1);
    const framed: Signal = (row, at, part) => {
      const position = x.add(x.mul(x.floorMod(row, x.int(frames)), x.int(step)), at);
      const index = [x.floorDiv(row, x.int(frames)), position];
      const sample = x.load(signal, signal.shape.length === 2 ? index : [...index, part]);
      return window ? x.mul(sample, x.load(window, [at])) : sample;
    };
    const out = onesided ? oneSided(length) : length;
    const spectrum = fourier(
      b,
      { rows: mul(batch, frames), length, out, complex: parts === 2, inverse: false, dtype: signal.dtype },
      framed,
    );
    return [
      b.map(signal.dtype, [batch, frames, out, 2], ([n, frame, bin, part]) =>
        spectrum(x.add(x.mul(n!, x.int(frames)), frame!), bin!, part!),
      ),
    ];
  },
});

/** A window of Σ_k coefficient_k·cos(2πk·n / N), where N is the size, or one less for a symmetric window. */
const window = (name: string, coefficients: readonly number[]): Operator =>
  defineOp<{ dtype: number; periodic: boolean }>({
    name,
    since: [17],
    attrs: (read) => ({ dtype: read.int("output_datatype", 1), periodic: read.flag("periodic", true) }),
    lower: (b, inputs, { dtype: code, periodic }, node) => {
      const dtype = dtypeOfAttribute(node, code);
      const size = scalarDim(node, need(node, inputs, 0), "size");
      const period = periodic ? asFloat(size) : x.maximum(asFloat(sub(size, 1)), x.float(1));
      return [
        b.map(dtype, [size], ([n]) => {
          const terms = coefficients.map((coefficient, k) => {
            if (k === 0) return x.float(coefficient);
            return x.mul(
              x.float(coefficient),
              x.unary("cos", x.div(x.mul(x.float(2 * Math.PI * k), x.convert(n!, "f32")), period)),
            );
          });
          return asElement(
            terms.reduce((a, c) => x.add(a, c)),
            dtype,
          );
        }),
      ];
    },
  });

const melWeights: Operator = defineOp<number>({
  name: "MelWeightMatrix",
  since: [17],
  attrs: (read) => read.int("output_datatype", 1),
  lower: (b, inputs, code, node) => {
    const dtype = dtypeOfAttribute(node, code);
    const [bands, length, rate, low, high] = [0, 1, 2, 3, 4].map((at) => need(node, inputs, at)) as [
      Value,
      Value,
      Value,
      Value,
      Value,
    ];
    const count = scalarDim(node, bands, "num_mel_bins");
    const samples = scalarDim(node, length, "dft_length");
    const melOf = (edge: Value): Expr =>
      x.mul(
        x.float(2595 / Math.LN10),
        x.unary("log", x.add(x.float(1), x.div(x.convert(loadScalar(edge), "f32"), x.float(700)))),
      );
    // Spectrogram bins at equal distances in mel: band i rises from edge i to i + 1 and falls to i + 2.
    const edges = b.map("i32", [add(count, 2)], ([i]) => {
      const step = x.div(x.sub(melOf(high), melOf(low)), asFloat(add(count, 2)));
      const hertz = x.mul(
        x.float(700),
        x.sub(
          x.binary("pow", x.float(10), x.div(x.add(x.mul(x.convert(i!, "f32"), step), melOf(low)), x.float(2595))),
          x.float(1),
        ),
      );
      return x.convert(
        x.unary("floor", x.div(x.mul(asFloat(add(samples, 1)), hertz), x.convert(loadScalar(rate), "f32"))),
        "i32",
      );
    });
    return [
      b.map(dtype, [oneSided(samples), count], ([bin, band]) => {
        const [lower, center, upper] = [0, 1, 2].map((k) => x.load(edges, [x.add(band!, x.int(k))])) as [Expr, Expr, Expr];
        const ratio = (a: Expr, c: Expr): Expr => x.div(x.convert(a, "f32"), x.convert(c, "f32"));
        const rising = x.select(x.eq(lower, center), x.float(1), ratio(x.sub(bin!, lower), x.sub(center, lower)));
        const falling = ratio(x.sub(upper, bin!), x.sub(upper, center));
        const onRise = x.select(x.eq(lower, center), x.eq(bin!, center), x.and(x.le(lower, bin!), x.le(bin!, center)));
        const onFall = x.and(x.le(center, bin!), x.lt(bin!, upper));
        return asElement(x.select(onFall, falling, x.select(onRise, rising, x.float(0))), dtype);
      }),
    ];
  },
});

export const signals: readonly Operator[] = [
  dft,
  stft,
  window("HannWindow", [0.5, -0.5]),
  window("HammingWindow", [25 / 46, -21 / 46]),
  window("BlackmanWindow", [0.42, -0.5, 0.08]),
  melWeights,
];
