// Weights and biases as integers: weights by output channel, symmetric, from -127 to 127; biases as 32-bit integers in the
// units of the sums that they are added to.

import { allocate, reader, type Tensor } from "../ir/tensor.ts";

export interface QuantizedWeights {
  /** i8, of the weights' shape. */
  readonly data: Tensor;
  /** One an output channel. */
  readonly scales: Float32Array;
}

/** A bias above this many units of the sum would leave no room for the sum. */
const MOST_BIAS = 2 ** 30;

/**
 * Quantizes weights whose output channels lie along `axis`. A channel of which `bias` would overflow 32 bits at `inputScale`
 * times its scale gets a larger one: its weights are nothing beside its bias.
 */
export function quantizeWeights(weights: Tensor, axis: number, inputScale = 1, bias?: Tensor): QuantizedWeights {
  const channels = weights.shape[axis]!;
  const inner = weights.shape.slice(axis + 1).reduce((a, b) => a * b, 1);
  const channelOf = (i: number): number => Math.floor(i / inner) % channels;
  const read = reader(weights);
  const most = new Float64Array(channels);
  for (let i = 0; i < weights.data.length; i++) {
    const c = channelOf(i);
    most[c] = Math.max(most[c]!, Math.abs(read(i)));
  }
  const readBias = bias && reader(bias);
  const scales = Float32Array.from(most, (size, c) => {
    const least = readBias ? Math.abs(readBias(c)) / (inputScale * MOST_BIAS) : 0;
    return Math.max(size / 127, least) || 1;
  });
  const data = allocate("i8", weights.data.length);
  for (let i = 0; i < data.length; i++) data[i] = Math.max(-127, Math.min(127, Math.round(read(i) / scales[channelOf(i)]!)));
  return { data: { dtype: "i8", shape: weights.shape, data }, scales };
}

/** A bias, one element a channel, in units of `inputScale` times the channel's scale. */
export function quantizeBias(
  bias: Tensor,
  inputScale: number,
  scales: Float32Array,
): { readonly data: Tensor; readonly scales: Float32Array } {
  const units = scales.map((scale) => Math.fround(inputScale * scale));
  const read = reader(bias);
  const data = Int32Array.from(units, (unit, c) => Math.round(read(c) / unit));
  return { data: { dtype: "i32", shape: bias.shape, data }, scales: units };
}
