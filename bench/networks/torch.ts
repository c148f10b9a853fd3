// BERT and ViT node for node as torch.onnx.export (tracing, version 17) writes Hugging Face's eager attention and torchvision's
// MultiheadAttention: sizes computed by Shape, Gather and Concat, masks expanded and chosen by Where, the scale's root on
// queries and keys. Small ones show what the exporter's forms cost; sizes are the caller's.

import { tensor } from "../../src/ir/tensor.ts";
import { type NetworkOptions, NetworkWriter } from "./writer.ts";

export interface TransformerSize {
  readonly tokens: number;
  readonly hidden: number;
  readonly heads: number;
  readonly layers: number;
}

/** Sizes as the exporter computes them. */
class Exporter extends NetworkWriter {
  /** Size of an axis, a scalar. */
  sizeOf(x: string, axis: number): string {
    return this.node("Gather", [this.node("Shape", [x]), this.index(axis)], { axis: 0 });
  }
  index(value: number): string {
    return this.constant(tensor("i64", [], [value]));
  }
  /** Scalars and numbers as one shape. */
  shape(parts: readonly (string | number)[]): string {
    return this.concat(
      parts.map((part) => (typeof part === "number" ? this.ints([part]) : this.node("Unsqueeze", [part, this.ints([0])]))),
      0,
    );
  }
  view(x: string, parts: readonly (string | number)[]): string {
    return this.node("Reshape", [x, this.shape(parts)]);
  }
  /** `x.expand(parts)`, in which -1 would keep a size. */
  expand(x: string, parts: readonly (string | number)[]): string {
    const shape = this.shape(parts);
    const ones = this.node("ConstantOfShape", [this.node("Shape", [shape])], { value: tensor("i64", [1], [1]) });
    const kept = this.node("Equal", [shape, this.node("Mul", [ones, this.ints([-1])])]);
    return this.node("Expand", [x, this.node("Where", [kept, ones, shape])]);
  }
}

/** BertModel of token numbers, named `ids`; its last hidden state. */
export function torchBert({ tokens, hidden, heads, layers }: TransformerSize, options: NetworkOptions = {}): Uint8Array {
  const net = new Exporter("bert", options);
  const ids = net.input("ids", "i64", [net.batch, tokens]);
  const [n, t] = [net.sizeOf(ids, 0), net.sizeOf(ids, 1)];
  const ones = net.node("ConstantOfShape", [net.shape([n, t])], { value: tensor("f32", [1], [1]) });
  const firstTokens = (data: readonly number[]): string =>
    net.node("Slice", [
      net.constant(tensor("i64", [1, data.length], data)),
      net.ints([0]),
      net.node("Unsqueeze", [t, net.ints([0])]),
      net.ints([1]),
    ]);
  const most = 2 * tokens;
  const types = net.expand(firstTokens(new Array(most).fill(0)), [n, t]);
  const positions = firstTokens(Array.from({ length: most }, (_, i) => i));
  const lookup = (rows: number, at: string): string => net.node("Gather", [net.weight([rows, hidden], 0.5), at], { axis: 0 });
  let x = net.layerNorm(net.add(net.add(lookup(1000, ids), lookup(2, types)), lookup(most, positions)), hidden);
  const rows = net.node("Unsqueeze", [net.node("Unsqueeze", [ones, net.ints([1])]), net.ints([2])]);
  const hiddenTokens = net.node("Sub", [net.scalar(1), net.node("Cast", [net.expand(rows, [n, 1, t, t])], { to: 1 })]);
  const mask = net.node("Where", [
    net.node("Cast", [hiddenTokens], { to: 9 }),
    net.scalar(-3.4028234663852886e38),
    hiddenTokens,
  ]);
  const size = hidden / heads;
  for (let layer = 0; layer < layers; layer++) {
    const [batch, length] = [net.sizeOf(x, 0), net.sizeOf(x, 1)];
    const [q, k, v] = [0, 1, 2].map(() =>
      net.transpose(net.view(net.linear(x, hidden, hidden), [batch, length, -1, size]), [0, 2, 1, 3]),
    ) as [string, string, string];
    const scores = net.mul(net.node("MatMul", [q, net.transpose(k, [0, 1, 3, 2])]), net.scalar(size ** -0.5));
    const shown = net.node("Slice", [
      mask,
      net.ints([0]),
      net.node("Unsqueeze", [net.sizeOf(k, 2), net.ints([0])]),
      net.ints([3]),
    ]);
    const mixed = net.node("MatMul", [net.node("Softmax", [net.add(scores, shown)], { axis: -1 }), v]);
    const attended = net.linear(net.view(net.transpose(mixed, [0, 2, 1, 3]), [batch, length, -1]), hidden, hidden);
    x = net.layerNorm(net.add(attended, x), hidden);
    const inner = net.gelu(net.linear(x, hidden, 4 * hidden));
    x = net.layerNorm(net.add(net.linear(inner, 4 * hidden, hidden), x), hidden);
  }
  net.output("y", x);
  return net.bytes();
}

/** torchvision's vision transformer of patches of 4 x 4 pixels, `tokens` of them in a row and a class token. */
export function torchVit({ tokens, hidden, heads, layers }: TransformerSize, options: NetworkOptions = {}): Uint8Array {
  const net = new Exporter("vit", options);
  const image = net.input("x", "f32", [net.batch, 3, 4, 4 * tokens]);
  const n = net.sizeOf(image, 0);
  const patches = net.node("Conv", [image, net.weight([hidden, 3, 4, 4], 0.2), net.weight([hidden], 0.05)], {
    kernel_shape: [4, 4],
    strides: [4, 4],
  });
  const rows = net.transpose(net.view(patches, [n, hidden, tokens]), [0, 2, 1]);
  const token = net.expand(net.weight([1, 1, hidden], 0.5), [n, -1, -1]);
  let x = net.add(net.concat([token, rows], 1), net.weight([1, tokens + 1, hidden], 0.5));
  const size = hidden / heads;
  for (let layer = 0; layer < layers; layer++) {
    const normal = net.transpose(net.layerNorm(x, hidden, 1e-6), [1, 0, 2]);
    const [length, batch] = [net.sizeOf(normal, 0), net.sizeOf(normal, 1)];
    const packed = net.view(net.linear(normal, hidden, 3 * hidden), [length, batch, 3, hidden]);
    const parts = net.node("Squeeze", [
      net.transpose(net.node("Unsqueeze", [packed, net.ints([0])]), [3, 1, 2, 0, 4]),
      net.ints([3]),
    ]);
    const inHeads = net.node("Mul", [batch, net.index(heads)]);
    const [q, k, v] = [0, 1, 2].map((part) => {
      const own = net.node("Gather", [parts, net.index(part)], { axis: 0 });
      return net.view(net.transpose(net.view(own, [length, inHeads, size]), [1, 0, 2]), [batch, heads, length, size]);
    }) as [string, string, string];
    const root = net.node("Sqrt", [
      net.node("Div", [net.scalar(1), net.node("Sqrt", [net.node("Cast", [net.sizeOf(q, 3)], { to: 1 })])]),
    ]);
    const scores = net.node("MatMul", [net.mul(q, root), net.mul(net.transpose(k, [0, 1, 3, 2]), root)]);
    const mixed = net.node("MatMul", [net.node("Softmax", [scores], { axis: -1 }), v]);
    const flat = net.view(net.transpose(mixed, [2, 0, 1, 3]), [net.node("Mul", [batch, length]), hidden]);
    const attended = net.node("Gemm", [flat, net.weight([hidden, hidden], 0.1), net.weight([hidden], 0.05)], { transB: 1 });
    x = net.add(net.transpose(net.view(attended, [length, batch, hidden]), [1, 0, 2]), x);
    const inner = net.gelu(net.linear(net.layerNorm(x, hidden, 1e-6), hidden, 4 * hidden));
    x = net.add(x, net.linear(inner, 4 * hidden, hidden));
  }
  const first = net.node("Gather", [net.layerNorm(x, hidden, 1e-6), net.index(0)], { axis: 1 });
  net.output("y", net.node("Gemm", [first, net.weight([10, hidden], 0.1), net.weight([10], 0.05)], { transB: 1 }));
  return net.bytes();
}
