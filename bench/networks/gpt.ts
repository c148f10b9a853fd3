// One step of a small GPT-2-like decoder (Radford et al., 2019): a token a sequence, keys and values of the past as inputs and outputs.

import { type NetworkOptions, NetworkWriter } from "./writer.ts";

const HIDDEN = 384;
const HEADS = 6;
const SIZE = HIDDEN / HEADS;
const LAYERS = 6;
const VOCABULARY = 8192;

/** `past`: how many positions came before; text makes it a symbol. */
export function gptStep(options: NetworkOptions & { readonly past?: number | string } = {}): Uint8Array {
  const net = new NetworkWriter("gpt-step", options);
  const past = options.past ?? 64;
  const ids = net.input("input_ids", "i64", [net.batch, 1]);
  const positions = net.input("position_ids", "i64", [net.batch, 1]);
  const table = net.weight([VOCABULARY, HIDDEN], 0.5);
  let x = net.add(
    net.node("Gather", [table, ids], { axis: 0 }),
    net.node("Gather", [net.weight([1024, HIDDEN], 0.2), positions], { axis: 0 }),
  );

  /** addmm over flattened rows. */
  const project = (value: string, from: number, to: number): string => {
    const rows = net.node("Reshape", [value, net.ints([-1, from])]);
    return net.reshape(net.node("Gemm", [rows, net.weight([from, to], Math.sqrt(1 / from)), net.weight([to], 0.05)]), [
      "batch",
      1,
      to,
    ]);
  };
  const gelu = (value: string): string => {
    const cube = net.mul(net.node("Pow", [value, net.scalar(3)]), net.scalar(0.044715));
    const inner = net.mul(net.add(value, cube), net.scalar(Math.sqrt(2 / Math.PI)));
    return net.mul(net.mul(value, net.scalar(0.5)), net.add(net.node("Tanh", [inner]), net.scalar(1)));
  };
  for (let layer = 0; layer < LAYERS; layer++) {
    const parts = net.split(
      "Split",
      [project(net.layerNorm(x, HIDDEN, 1e-5), HIDDEN, 3 * HIDDEN), net.ints([HIDDEN, HIDDEN, HIDDEN])],
      3,
      { axis: 2 },
    );
    const [q, k, v] = parts.map((part) => net.transpose(net.reshape(part, ["batch", 1, HEADS, SIZE]), [0, 2, 1, 3])) as [
      string,
      string,
      string,
    ];
    const cached = (kind: string, now: string): string => {
      const before = net.input(`past.${layer}.${kind}`, "f32", [net.batch, HEADS, past, SIZE]);
      const all = net.concat([before, now], 2);
      net.output(`present.${layer}.${kind}`, all);
      return all;
    };
    const [keys, values] = [cached("key", k), cached("value", v)];
    const scores = net.node("Div", [net.node("MatMul", [q, net.transpose(keys, [0, 1, 3, 2])]), net.scalar(Math.sqrt(SIZE))]);
    const mixed = net.node("MatMul", [net.node("Softmax", [scores], { axis: -1 }), values]);
    x = net.add(project(net.reshape(net.transpose(mixed, [0, 2, 1, 3]), ["batch", 1, HIDDEN]), HIDDEN, HIDDEN), x);
    x = net.add(x, project(gelu(project(net.layerNorm(x, HIDDEN, 1e-5), HIDDEN, 4 * HIDDEN)), 4 * HIDDEN, HIDDEN));
  }
  net.output("logits", net.node("MatMul", [net.layerNorm(x, HIDDEN, 1e-5), net.transpose(table, [1, 0])]));
  return net.bytes();
}
