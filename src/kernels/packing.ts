// Constant weights in the form that a tactic binds: made once for all of a tactic's candidates, when first asked for.

import { isStatic } from "../ir/dims.ts";
import type { Load } from "../ir/expr.ts";
import { type ConvTask, plainLoad } from "../ir/task.ts";
import { reader, sizeOf, type Tensor, tensor } from "../ir/tensor.ts";
import type { DType } from "../ir/types.ts";
import { makeValue, type Value } from "../ir/value.ts";

export interface Packed {
  readonly value: Value;
  readonly pack: () => Tensor;
}

/** The weights of a convolution when they are a constant tensor [oc, ic, k…], read as it is. */
export function constantWeights({
  w,
  oc,
  ic,
  kernel,
}: ConvTask): (Load & { readonly value: Value & { data: Tensor } }) | undefined {
  const plain = plainLoad(w, [oc, ic, ...kernel]);
  const known = plain?.value.data && [oc, ic, ...kernel].every(({ extent }) => isStatic(extent));
  return known ? (plain as Load & { readonly value: Value & { data: Tensor } }) : undefined;
}

const made = new WeakMap<Value, Map<string, Packed>>();

/** `source` as a tensor of another shape and type; `how` names the form, `fill` gives its elements from those of `source`. */
export function packed(
  source: Value & { readonly data: Tensor },
  how: string,
  dtype: DType,
  shape: readonly number[],
  fill: (read: (i: number) => number, target: Float32Array) => void,
): Packed {
  let forms = made.get(source);
  if (!forms) made.set(source, (forms = new Map()));
  const key = `${how}.${dtype}`;
  let form = forms.get(key);
  if (!form) {
    let data: Tensor | undefined;
    const pack = (): Tensor => {
      if (data) return data;
      const target = new Float32Array(sizeOf(shape));
      fill(reader(source.data), target);
      return (data = dtype === "f32" ? { dtype, shape, data: target } : tensor(dtype, shape, target));
    };
    forms.set(key, (form = { value: makeValue(`${source.name}.${key}`, dtype, shape), pack }));
  }
  return form;
}

/** taps of one input channel for all output channels, [taps, output channels]: loops over what is innermost run through memory. */
export function channelTaps(
  read: (i: number) => number,
  channel: number,
  { ic, oc, taps }: { readonly ic: number; readonly oc: number; readonly taps: number },
  into: Float64Array,
): void {
  for (let o = 0; o < oc; o++) {
    const from = (o * ic + channel) * taps;
    for (let tap = 0; tap < taps; tap++) into[tap * oc + o] = read(from + tap);
  }
}
