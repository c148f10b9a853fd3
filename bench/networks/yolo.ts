// A YOLOv8-style detector of the smallest width: C2f blocks, SPPF, a path-aggregating neck, decoupled heads with a
// distribution over box distances, and the decoding of boxes (https://docs.ultralytics.com/models/yolov8/).

import { tensor } from "../../src/ir/tensor.ts";
import { type NetworkOptions, NetworkWriter } from "./writer.ts";

const CLASSES = 80;
/** Bins of the distribution over a distance. */
const BINS = 16;
const STRIDES = [8, 16, 32];

/** `size`: height and width of the image, a multiple of 32. */
export function yolo(options: NetworkOptions & { readonly size?: number } = {}): Uint8Array {
  const net = new NetworkWriter("yolo", options);
  const size = options.size ?? 320;
  const conv = (x: string, channels: number, filters: number, kernel: number, stride = 1): string =>
    net.silu(net.convNorm(x, channels, filters, kernel, { stride }));
  const c2f = (x: string, channels: number, filters: number, count: number, shortcut: boolean): string => {
    const half = filters / 2;
    const parts = net.split("Split", [conv(x, channels, filters, 1), net.ints([half, half])], 2, { axis: 1 });
    for (let i = 0; i < count; i++) {
      const last = parts.at(-1)!;
      const inner = conv(conv(last, half, half, 3), half, half, 3);
      parts.push(shortcut ? net.add(last, inner) : inner);
    }
    return conv(net.concat(parts), half * (2 + count), filters, 1);
  };
  const up = (x: string): string =>
    net.node("Resize", [x, "", net.constant(tensor("f32", [4], [1, 1, 2, 2]))], {
      mode: "nearest",
      coordinate_transformation_mode: "asymmetric",
      nearest_mode: "floor",
    });

  const image = net.input("image", "f32", [net.batch, 3, size, size]);
  const stem = c2f(conv(conv(image, 3, 16, 3, 2), 16, 32, 3, 2), 32, 32, 1, true);
  const p3 = c2f(conv(stem, 32, 64, 3, 2), 64, 64, 2, true);
  const p4 = c2f(conv(p3, 64, 128, 3, 2), 128, 128, 2, true);
  const deep = conv(c2f(conv(p4, 128, 256, 3, 2), 256, 256, 1, true), 256, 128, 1);
  const pooled = [deep];
  for (let i = 0; i < 3; i++) pooled.push(net.maxPool(pooled.at(-1)!, 5, 1, 2));
  const p5 = conv(net.concat(pooled), 512, 256, 1);

  const n4 = c2f(net.concat([up(p5), p4]), 384, 128, 1, false);
  const out3 = c2f(net.concat([up(n4), p3]), 192, 64, 1, false);
  const out4 = c2f(net.concat([conv(out3, 64, 64, 3, 2), n4]), 192, 128, 1, false);
  const out5 = c2f(net.concat([conv(out4, 128, 128, 3, 2), p5]), 384, 256, 1, false);

  const outputs = 4 * BINS + CLASSES;
  const levels = [
    [out3, 64],
    [out4, 128],
    [out5, 256],
  ] as const;
  const flat = levels.map(([x, channels]) => {
    const boxes = net.conv(conv(conv(x, channels, 64, 3), 64, 64, 3), 64, 4 * BINS, 1, { gain: 1 });
    const classes = net.conv(conv(conv(x, channels, CLASSES, 3), CLASSES, CLASSES, 3), CLASSES, CLASSES, 1, { gain: 1 });
    return net.reshape(net.concat([boxes, classes]), ["batch", outputs, -1]);
  });
  const [boxes, classes] = net.split("Split", [net.concat(flat, 2), net.ints([4 * BINS, CLASSES])], 2, { axis: 1 }) as [
    string,
    string,
  ];

  const { anchors, strides, count } = anchorsOf(size);
  const distribution = net.node("Softmax", [net.transpose(net.reshape(boxes, ["batch", 4, BINS, count]), [0, 2, 1, 3])], {
    axis: 1,
  });
  const bins = net.constant(
    tensor(
      "f32",
      [1, BINS, 1, 1],
      Array.from({ length: BINS }, (_, i) => i),
    ),
  );
  const distances = net.reshape(net.node("Conv", [distribution, bins], { kernel_shape: [1, 1] }), ["batch", 4, count]);
  const anchor = net.constant(tensor("f32", [1, 2, count], anchors));
  const low = net.node("Sub", [anchor, net.slice(distances, 1, 0, 2)]);
  const high = net.add(anchor, net.slice(distances, 1, 2, 4));
  const center = net.node("Div", [net.add(low, high), net.scalar(2)]);
  const scaled = net.mul(net.concat([center, net.node("Sub", [high, low])]), net.constant(tensor("f32", [1, count], strides)));
  net.output("detections", net.concat([scaled, net.node("Sigmoid", [classes])]));
  return net.bytes();
}

/** Centers of all cells, x then y, and their strides. */
function anchorsOf(size: number): { anchors: number[]; strides: number[]; count: number } {
  const cells = STRIDES.flatMap((stride) => {
    const side = size / stride;
    return Array.from({ length: side * side }, (_, i) => ({ x: (i % side) + 0.5, y: Math.floor(i / side) + 0.5, stride }));
  });
  return {
    anchors: [...cells.map(({ x }) => x), ...cells.map(({ y }) => y)],
    strides: cells.map(({ stride }) => stride),
    count: cells.length,
  };
}
