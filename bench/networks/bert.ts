// BERT-base, 128 tokens (Devlin et al., 2018, https://arxiv.org/abs/1810.04805), with eager attention as PyTorch exports it.

import { tensor } from "../../src/ir/tensor.ts";
import { type NetworkOptions, NetworkWriter } from "./writer.ts";

const HIDDEN = 768;
const HEADS = 12;
const SIZE = HIDDEN / HEADS;
const INNER = 3072;
const LAYERS = 12;
const TOKENS = 128;
const VOCABULARY = 30522;

export function bert(options: NetworkOptions = {}): Uint8Array {
  const net = new NetworkWriter("bert-base", options);
  const ids = net.input("input_ids", "i64", [net.batch, TOKENS]);
  const mask = net.input("attention_mask", "i64", [net.batch, TOKENS]);
  const types = net.input("token_type_ids", "i64", [net.batch, TOKENS]);
  const lookup = (rows: number, at: string): string => net.node("Gather", [net.weight([rows, HIDDEN], 0.5), at], { axis: 0 });
  const positions = net.constant(
    tensor(
      "i64",
      [1, TOKENS],
      Array.from({ length: TOKENS }, (_, i) => i),
    ),
  );
  const embedded = net.add(net.add(lookup(VOCABULARY, ids), lookup(2, types)), lookup(512, positions));
  let x = net.layerNorm(embedded, HIDDEN);

  const shown = net.node("Cast", [net.node("Unsqueeze", [net.node("Unsqueeze", [mask, net.ints([1])]), net.ints([2])])], {
    to: 1,
  });
  const bias = net.mul(net.node("Sub", [net.scalar(1), shown]), net.scalar(-3.4028234663852886e38));

  for (let layer = 0; layer < LAYERS; layer++) {
    const heads = (perm: readonly number[]): string =>
      net.transpose(net.reshape(net.linear(x, HIDDEN, HIDDEN), ["batch", -1, HEADS, SIZE]), perm);
    const [q, k, v] = [heads([0, 2, 1, 3]), heads([0, 2, 3, 1]), heads([0, 2, 1, 3])];
    const scores = net.add(net.node("Div", [net.node("MatMul", [q, k]), net.scalar(Math.sqrt(SIZE))]), bias);
    const mixed = net.node("MatMul", [net.node("Softmax", [scores], { axis: -1 }), v]);
    const attended = net.linear(net.reshape(net.transpose(mixed, [0, 2, 1, 3]), ["batch", -1, HIDDEN]), HIDDEN, HIDDEN);
    x = net.layerNorm(net.add(attended, x), HIDDEN);
    const inner = net.gelu(net.linear(x, HIDDEN, INNER));
    x = net.layerNorm(net.add(net.linear(inner, INNER, HIDDEN), x), HIDDEN);
  }
  net.output("last_hidden_state", x);
  const first = net.node("Gather", [x, net.constant(tensor("i64", [], [0]))], { axis: 1 });
  const pooled = net.node("Gemm", [first, net.weight([HIDDEN, HIDDEN], Math.sqrt(1 / HIDDEN)), net.weight([HIDDEN], 0.05)], {
    transB: 1,
  });
  net.output("pooler_output", net.node("Tanh", [pooled]));
  return net.bytes();
}
