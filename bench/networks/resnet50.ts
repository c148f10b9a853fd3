// ResNet-50 v1.5: the stride of a stage is on its first 3x3 convolution (He et al., 2015, https://arxiv.org/abs/1512.03385).

import { type NetworkOptions, NetworkWriter } from "./writer.ts";

/** [blocks, width of the 3x3 convolutions] a stage. */
const STAGES = [
  [3, 64],
  [4, 128],
  [6, 256],
  [3, 512],
] as const;
const EXPANSION = 4;

export function resnet50(options: NetworkOptions = {}): Uint8Array {
  const net = new NetworkWriter("resnet50", options);
  const image = net.input("image", "f32", [net.batch, 3, 224, 224]);
  let x = net.maxPool(net.relu(net.convNorm(image, 3, 64, 7, { stride: 2 })), 3, 2, 1);
  let channels = 64;
  STAGES.forEach(([blocks, width], stage) => {
    for (let block = 0; block < blocks; block++) {
      const stride = block === 0 && stage > 0 ? 2 : 1;
      const wide = width * EXPANSION;
      const narrow = net.relu(net.convNorm(x, channels, width, 1));
      const middle = net.relu(net.convNorm(narrow, width, width, 3, { stride }));
      const main = net.convNorm(middle, width, wide, 1, { gain: 0.25 });
      const side = block === 0 ? net.convNorm(x, channels, wide, 1, { stride, gain: 1 }) : x;
      x = net.relu(net.add(main, side));
      channels = wide;
    }
  });
  net.output("logits", net.classifier(x, channels));
  return net.bytes();
}
