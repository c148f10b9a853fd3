// MobileNetV2 at width 1 (Sandler et al., 2018, https://arxiv.org/abs/1801.04381).

import { type NetworkOptions, NetworkWriter } from "./writer.ts";

/** [expansion, channels, blocks, stride of the first] a stage. */
const STAGES = [
  [1, 16, 1, 1],
  [6, 24, 2, 2],
  [6, 32, 3, 2],
  [6, 64, 4, 2],
  [6, 96, 3, 1],
  [6, 160, 3, 2],
  [6, 320, 1, 1],
] as const;

export function mobilenetv2(options: NetworkOptions = {}): Uint8Array {
  const net = new NetworkWriter("mobilenetv2", options);
  const image = net.input("image", "f32", [net.batch, 3, 224, 224]);
  const relu6 = (x: string): string => net.node("Clip", [x, net.scalar(0), net.scalar(6)]);
  let x = relu6(net.convNorm(image, 3, 32, 3, { stride: 2 }));
  let channels = 32;
  for (const [expansion, filters, blocks, firstStride] of STAGES) {
    for (let block = 0; block < blocks; block++) {
      const stride = block === 0 ? firstStride : 1;
      const wide = channels * expansion;
      const expanded = expansion === 1 ? x : relu6(net.convNorm(x, channels, wide, 1));
      const depthwise = relu6(net.convNorm(expanded, wide, wide, 3, { stride, groups: wide }));
      const projected = net.convNorm(depthwise, wide, filters, 1, { gain: 1 });
      x = stride === 1 && channels === filters ? net.add(x, projected) : projected;
      channels = filters;
    }
  }
  net.output("logits", net.classifier(relu6(net.convNorm(x, channels, 1280, 1)), 1280));
  return net.bytes();
}
