// ViT-B/16 (Dosovitskiy et al., 2020, https://arxiv.org/abs/2010.11929), with one packed projection for queries, keys and
// values as timm has it.

import { tensor } from "../../src/ir/tensor.ts";
import { type NetworkOptions, NetworkWriter } from "./writer.ts";

const HIDDEN = 768;
const HEADS = 12;
const SIZE = HIDDEN / HEADS;
const INNER = 3072;
const LAYERS = 12;
const PATCHES = (224 / 16) ** 2;

export function vit(options: NetworkOptions = {}): Uint8Array {
  const net = new NetworkWriter("vit-b16", options);
  const image = net.input("image", "f32", [net.batch, 3, 224, 224]);
  const filters = net.weight([HIDDEN, 3, 16, 16], Math.sqrt(1 / (3 * 256)));
  const patches = net.node("Conv", [image, filters, net.weight([HIDDEN], 0.05)], {
    kernel_shape: [16, 16],
    strides: [16, 16],
    pads: [0, 0, 0, 0],
  });
  const rows = net.transpose(net.reshape(patches, ["batch", HIDDEN, PATCHES]), [0, 2, 1]);
  const token = net.weight([1, 1, HIDDEN], 0.5);
  const tokens = net.isDynamic
    ? net.node("Expand", [token, shapeOfTokens(net, rows)])
    : net.node("Expand", [token, net.ints([net.batch as number, 1, HIDDEN])]);
  let x = net.add(net.concat([tokens, rows], 1), net.weight([1, PATCHES + 1, HIDDEN], 0.5));

  for (let layer = 0; layer < LAYERS; layer++) {
    const normal = net.layerNorm(x, HIDDEN, 1e-6);
    const packed = net.transpose(
      net.reshape(net.linear(normal, HIDDEN, 3 * HIDDEN), ["batch", PATCHES + 1, 3, HEADS, SIZE]),
      [2, 0, 3, 1, 4],
    );
    const [q, k, v] = net
      .split("Split", [packed, net.ints([1, 1, 1])], 3, { axis: 0 })
      .map((part) => net.node("Squeeze", [part, net.ints([0])])) as [string, string, string];
    const scores = net.node("MatMul", [net.mul(q, net.scalar(SIZE ** -0.5)), net.transpose(k, [0, 1, 3, 2])]);
    const mixed = net.node("MatMul", [net.node("Softmax", [scores], { axis: -1 }), v]);
    const attended = net.linear(
      net.reshape(net.transpose(mixed, [0, 2, 1, 3]), ["batch", PATCHES + 1, HIDDEN]),
      HIDDEN,
      HIDDEN,
    );
    x = net.add(x, attended);
    const inner = net.gelu(net.linear(net.layerNorm(x, HIDDEN, 1e-6), HIDDEN, INNER));
    x = net.add(x, net.linear(inner, INNER, HIDDEN));
  }
  const first = net.node("Gather", [net.layerNorm(x, HIDDEN, 1e-6), net.constant(tensor("i64", [], [0]))], { axis: 1 });
  net.output(
    "logits",
    net.node("Gemm", [first, net.weight([1000, HIDDEN], Math.sqrt(1 / HIDDEN)), net.weight([1000], 0.05)], { transB: 1 }),
  );
  return net.bytes();
}

function shapeOfTokens(net: NetworkWriter, rows: string): string {
  const batch = net.node("Gather", [net.node("Shape", [rows]), net.constant(tensor("i64", [], [0]))], { axis: 0 });
  return net.concat([net.node("Unsqueeze", [batch, net.ints([0])]), net.ints([1, HIDDEN])], 0);
}
