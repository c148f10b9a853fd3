// Convolution layers of well-known networks, and large kernels, as tasks with seeded constant weights, channels last.

import { add, convert, type Expr, float, load, maximum, mul } from "../src/ir/expr.ts";
import { Lowering } from "../src/ir/lower.ts";
import type { ConvTask } from "../src/ir/task.ts";
import { tensor } from "../src/ir/tensor.ts";
import type { DType } from "../src/ir/types.ts";
import { makeValue, type Value } from "../src/ir/value.ts";
import { requantize } from "../src/ops/quantized.ts";

export interface Layer {
  readonly name: string;
  /** Input channels, output channels, input rows and columns. */
  readonly shape: readonly [number, number, number];
  readonly kernel: number;
  readonly stride?: number;
  /** Every channel on its own. */
  readonly depthwise?: boolean;
}

const layer = (net: string, ic: number, oc: number, size: number, kernel: number, stride = 1, depthwise = false): Layer => ({
  name: `${net} ${depthwise ? "dw " : ""}${kernel}x${kernel}${stride > 1 ? `/${stride}` : ""} ${ic}${ic === oc ? "" : `>${oc}`} ${size}`,
  shape: [ic, oc, size],
  kernel,
  stride,
  depthwise,
});

export const LAYERS: readonly Layer[] = [
  layer("resnet50", 3, 64, 224, 7, 2),
  layer("resnet50", 64, 64, 56, 1),
  layer("resnet50", 64, 64, 56, 3),
  layer("resnet50", 64, 256, 56, 1),
  layer("resnet50", 256, 128, 56, 1),
  layer("resnet50", 128, 128, 56, 3, 2),
  layer("resnet50", 128, 128, 28, 3),
  layer("resnet50", 128, 512, 28, 1),
  layer("resnet50", 256, 256, 28, 3, 2),
  layer("resnet50", 256, 256, 14, 3),
  layer("resnet50", 256, 1024, 14, 1),
  layer("resnet50", 512, 512, 14, 3, 2),
  layer("resnet50", 512, 512, 7, 3),
  layer("resnet50", 512, 2048, 7, 1),
  layer("vgg16", 3, 64, 224, 3),
  layer("vgg16", 64, 64, 224, 3),
  layer("vgg16", 64, 128, 112, 3),
  layer("vgg16", 128, 128, 112, 3),
  layer("vgg16", 256, 256, 56, 3),
  layer("vgg16", 512, 512, 28, 3),
  layer("vgg16", 512, 512, 14, 3),
  layer("mobilenetv2", 3, 32, 224, 3, 2),
  layer("mobilenetv2", 32, 32, 112, 3, 1, true),
  layer("mobilenetv2", 96, 96, 112, 3, 2, true),
  layer("mobilenetv2", 96, 24, 56, 1),
  layer("mobilenetv2", 144, 144, 56, 3, 1, true),
  layer("mobilenetv2", 384, 384, 14, 3, 1, true),
  layer("mobilenetv2", 384, 96, 14, 1),
  layer("mobilenetv2", 960, 960, 7, 3, 1, true),
  layer("mobilenetv2", 320, 1280, 7, 1),
  layer("large", 64, 64, 56, 5),
  layer("large", 128, 128, 28, 5),
  layer("large", 64, 64, 56, 7),
  layer("large", 128, 128, 28, 7),
  layer("large", 32, 32, 112, 11),
  layer("large", 64, 64, 56, 11),
  layer("large", 32, 32, 56, 31),
  layer("large", 96, 96, 56, 7, 1, true),
  layer("large", 96, 96, 56, 11, 1, true),
  layer("large", 96, 96, 56, 31, 1, true),
];

/** Blocks and width of each stage of ResNet-50 v1.5, and the size of what it reads. */
const STAGES = [
  [3, 64, 56],
  [4, 128, 56],
  [6, 256, 28],
  [3, 512, 14],
] as const;

/** The distinct convolutions of ResNet-50 v1.5, and how often each occurs. */
export function resnet50Layers(): { readonly layer: Layer; readonly count: number }[] {
  const found = [{ layer: layer("stem", 3, 64, 224, 7, 2), count: 1 }];
  STAGES.forEach(([blocks, width, size], stage) => {
    const stride = stage === 0 ? 1 : 2;
    const [before, after, small] = [stage === 0 ? 64 : 2 * width, 4 * width, size / stride];
    const add = (count: number, ic: number, oc: number, at: number, kernel: number, by = 1): void =>
      void found.push({ layer: layer(`stage ${stage + 1}`, ic, oc, at, kernel, by), count });
    add(1, before, width, size, 1);
    if (stride > 1) add(1, width, width, size, 3, stride);
    add(1, before, after, size, 1, stride);
    add(blocks - 1, after, width, small, 1);
    add(stride > 1 ? blocks - 1 : blocks, width, width, small, 3);
    add(blocks, width, after, small, 1);
  });
  // The first stage's side branch is the convolution that widens its blocks.
  const merged = new Map<string, { layer: Layer; count: number }>();
  for (const { layer: each, count } of found)
    merged.set(each.name, { layer: each, count: count + (merged.get(each.name)?.count ?? 0) });
  return [...merged.values()];
}

/** The same layer made smaller `by` times in channels and size, for slow devices; what is small stays. */
export const shrunk = ({ shape: [ic, oc, size], ...rest }: Layer, by: number): Layer => {
  const less = (count: number, least: number): number => Math.min(count, Math.max(least, Math.ceil(count / by)));
  return { ...rest, shape: [ic <= 4 ? ic : less(ic, 8), less(oc, 8), less(size, Math.max(7, rest.kernel))] };
};

/** Floating-point operations of a layer. */
export const flopsOf = ({ shape: [ic, oc, size], kernel, stride = 1, depthwise = false }: Layer, batch: number): number =>
  2 * batch * Math.ceil(size / stride) ** 2 * oc * (depthwise ? 1 : ic) * kernel ** 2;

/** Convolution, bias and ReLU, as a network has them; of bytes with a factor a channel, and rounded to bytes again. */
export function taskOf(
  { name, shape, kernel, stride = 1, depthwise = false }: Layer,
  batch: number,
  dtype: "f32" | "f16" | "i8",
): ConvTask {
  const [channels, oc, size] = shape;
  const isBytes = dtype === "i8";
  // Bytes of three channels are filled up to words before they are multiplied.
  const ic = isBytes && channels % 4 === 3 ? channels + 1 : channels;
  const b = new Lowering(name);
  const known = (what: string, type: DType, dims: readonly number[], scale = 1): Value => ({
    ...makeValue(`${name} ${what}`, type, dims),
    data: tensor(
      type,
      dims,
      randomNumbers(dims.reduce((all, dim) => all * dim, 1)).map((value) => scale * value),
    ),
  });
  const x = { ...makeValue("x", dtype, [batch, ic, size, size]), layout: [0, 2, 3, 1] };
  const weights = {
    ...known("weights", dtype, [oc, depthwise ? 1 : ic, kernel, kernel], isBytes ? 254 : 1),
    layout: isBytes && !depthwise ? [0, 2, 3, 1] : [2, 3, 1, 0],
  };
  const bias = known("bias", isBytes ? "i32" : dtype, [oc], isBytes ? 1e4 : 1);
  const factors = known("factors", "f32", [oc], 1 / (40 * Math.sqrt(ic) * kernel));
  const pad = Math.floor(kernel / 2);
  const out = Math.floor((size + 2 * pad - kernel) / stride) + 1;
  const finish = (acc: Expr, [, channel]: readonly Expr[]): Expr => {
    const sum = add(acc, load(bias, [channel!]));
    if (!isBytes) return maximum(sum, float(0));
    return requantize(maximum(mul(convert(sum, "f32"), load(factors, [channel!])), float(0)), undefined, "i8");
  };
  const y = b.conv(
    isBytes ? "i32" : dtype,
    x,
    weights,
    { groups: depthwise ? ic : 1, strides: [stride, stride], dilations: [1, 1], pads: [pad, pad], out: [out, out] },
    undefined,
    finish,
  );
  y.dtype = dtype;
  y.layout = [0, 2, 3, 1];
  return b.tasks[0] as ConvTask;
}

function randomNumbers(count: number): Float32Array {
  const numbers = new Float32Array(count);
  let state = 1;
  for (let i = 0; i < count; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    numbers[i] = state / 2 ** 32 - 0.5;
  }
  return numbers;
}
