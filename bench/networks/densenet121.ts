// DenseNet-121 (Huang et al., 2016, https://arxiv.org/abs/1608.06993): every layer of a block reads all before it. The
// normalization in front of a layer cannot be folded, the one inside can.

import { type NetworkOptions, NetworkWriter } from "./writer.ts";

const BLOCKS = [6, 12, 24, 16];
const GROWTH = 32;
const BOTTLENECK = 128;

export function densenet121(options: NetworkOptions = {}): Uint8Array {
  const net = new NetworkWriter("densenet121", options);
  const image = net.input("image", "f32", [net.batch, 3, 224, 224]);
  let x = net.maxPool(net.relu(net.convNorm(image, 3, 64, 7, { stride: 2 })), 3, 2, 1);
  let channels = 64;
  BLOCKS.forEach((layers, block) => {
    const parts = [x];
    for (let layer = 0; layer < layers; layer++) {
      const joined = parts.length === 1 ? parts[0]! : net.concat(parts);
      const narrow = net.relu(net.convNorm(net.relu(net.batchNorm(joined, channels)), channels, BOTTLENECK, 1));
      parts.push(net.conv(narrow, BOTTLENECK, GROWTH, 3, { bias: false }));
      channels += GROWTH;
    }
    const normalized = net.relu(net.batchNorm(net.concat(parts), channels));
    if (block === BLOCKS.length - 1) {
      net.output("logits", net.classifier(normalized, channels));
      return;
    }
    const halved = net.conv(normalized, channels, channels / 2, 1, { bias: false });
    x = net.node("AveragePool", [halved], { kernel_shape: [2, 2], strides: [2, 2], pads: [0, 0, 0, 0] });
    channels /= 2;
  });
  return net.bytes();
}
