// Inception-v3 without its auxiliary classifier (Szegedy et al., 2015, https://arxiv.org/abs/1512.00567), as torchvision has it.

import { type NetworkOptions, NetworkWriter } from "./writer.ts";

export function inceptionv3(options: NetworkOptions = {}): Uint8Array {
  const net = new NetworkWriter("inceptionv3", options);
  let channels = 3;
  let x = net.input("image", "f32", [net.batch, 3, 299, 299]);
  type Layer = readonly [
    filters: number,
    kernel: number | readonly [number, number],
    stride?: number,
    pads?: readonly [number, number],
  ];
  /** Convolutions one after the other, from `from` with `width` channels. */
  const chain = (from: string, width: number, ...layers: readonly Layer[]): string => {
    let value = from;
    let inputs = width;
    for (const [filters, kernel, stride = 1, pads] of layers) {
      value = net.relu(net.convNorm(value, inputs, filters, kernel, { stride, ...(pads ? { pads } : {}) }));
      inputs = filters;
    }
    return value;
  };
  const here = (...layers: readonly Layer[]): string => chain(x, channels, ...layers);
  const averaged = (): string =>
    net.node("AveragePool", [x], { kernel_shape: [3, 3], strides: [1, 1], pads: [1, 1, 1, 1], count_include_pad: 1 });
  const join = (values: readonly string[], total: number): void => {
    x = net.concat(values);
    channels = total;
  };
  const stem = chain(x, 3, [32, 3, 2, [0, 0]], [32, 3, 1, [0, 0]], [64, 3]);
  x = net.maxPool(chain(net.maxPool(stem, 3, 2, 0), 64, [80, 1], [192, 3, 1, [0, 0]]), 3, 2, 0);
  channels = 192;
  for (const pool of [32, 64, 64]) {
    join(
      [here([64, 1]), here([48, 1], [64, 5]), here([64, 1], [96, 3], [96, 3]), chain(averaged(), channels, [pool, 1])],
      224 + pool,
    );
  }
  join([here([384, 3, 2, [0, 0]]), here([64, 1], [96, 3], [96, 3, 2, [0, 0]]), net.maxPool(x, 3, 2, 0)], 768);
  const row = [1, 7] as const;
  const column = [7, 1] as const;
  for (const c of [128, 160, 160, 192]) {
    const long = here([c, 1], [c, column], [c, row], [c, column], [192, row]);
    join([here([192, 1]), here([c, 1], [c, row], [192, column]), long, chain(averaged(), channels, [192, 1])], 768);
  }
  const tall = here([192, 1], [192, row], [192, column], [192, 3, 2, [0, 0]]);
  join([here([192, 1], [320, 3, 2, [0, 0]]), tall, net.maxPool(x, 3, 2, 0)], 1280);
  for (let block = 0; block < 2; block++) {
    const [a, b] = [here([384, 1]), here([448, 1], [384, 3])];
    const pair = (from: string): string[] => [chain(from, 384, [384, [1, 3]]), chain(from, 384, [384, [3, 1]])];
    join([here([320, 1]), net.concat(pair(a)), net.concat(pair(b)), chain(averaged(), channels, [192, 1])], 2048);
  }
  net.output("logits", net.classifier(x, channels));
  return net.bytes();
}
