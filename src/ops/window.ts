// Sliding windows: where convolution and pooling kernels stand over their input, for numbers and symbolic sizes alike.
// ONNX: https://onnx.ai/onnx/operators/onnx__Conv.html, https://onnx.ai/onnx/operators/onnx__MaxPool.html

import type { Dim } from "../ir/dims.ts";
import * as dims from "../ir/dims.ts";
import type { Expr } from "../ir/expr.ts";
import * as x from "../ir/expr.ts";
import { badAttribute } from "../util/errors.ts";
import type { AttributeReader, NodeFacts } from "./define.ts";

export const AUTO_PADS = ["NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"] as const;
export type AutoPad = (typeof AUTO_PADS)[number];

/** Window attributes as written: absent lists take their defaults when the rank is known. */
export interface WindowAttributes {
  readonly kernel: readonly number[] | undefined;
  readonly strides: readonly number[] | undefined;
  readonly dilations: readonly number[] | undefined;
  readonly pads: readonly number[] | undefined;
  readonly autoPad: AutoPad;
}

export const readWindow = (read: AttributeReader): WindowAttributes => ({
  kernel: read.ints("kernel_shape"),
  strides: read.ints("strides"),
  dilations: read.ints("dilations"),
  pads: read.ints("pads"),
  autoPad: read.string("auto_pad", "NOTSET", AUTO_PADS),
});

/** Window `o` covers the positions o·stride + k·dilation − before for k in [0, kernel), on each axis. */
export interface Window {
  readonly kernel: readonly Dim[];
  readonly strides: readonly number[];
  readonly dilations: readonly number[];
  readonly before: readonly Dim[];
  readonly after: readonly Dim[];
  /** How many windows there are on each axis. */
  readonly out: readonly Dim[];
}

/** The list of one positive number an axis that attribute `name` gives, or ones. */
export function perAxis(node: NodeFacts, name: string, given: readonly number[] | undefined, rank: number): readonly number[] {
  if (!given || given.length === 0) return new Array<number>(rank).fill(1);
  if (given.length !== rank || given.some((value) => value < 1))
    throw badAttribute(node, name, `[${given.join(", ")}]`, `${rank} positive numbers`);
  return given;
}

/** Padding before and after each axis as attribute `pads` gives it, or zeros. */
export function padsOf(
  node: NodeFacts,
  pads: readonly number[] | undefined,
  rank: number,
): { readonly before: readonly number[]; readonly after: readonly number[] } {
  if (!pads || pads.length === 0) return { before: new Array<number>(rank).fill(0), after: new Array<number>(rank).fill(0) };
  if (pads.length !== 2 * rank) throw badAttribute(node, "pads", `[${pads.join(", ")}]`, `${2 * rank} numbers`);
  return { before: pads.slice(0, rank), after: pads.slice(rank) };
}

/** Extent of a dilated kernel. */
export const span = (kernel: Dim, dilation: number): Dim => dims.add(dims.mul(dims.sub(kernel, 1), dilation), 1);

/**
 * Places windows over the spatial sizes `size`. With `ceil` a last window that hangs over the end counts too, as long as
 * it starts inside of the input or the padding before it.
 */
export function placeWindows(
  node: NodeFacts,
  size: readonly Dim[],
  kernel: readonly Dim[],
  attrs: WindowAttributes,
  ceil = false,
): Window {
  const rank = size.length;
  const strides = perAxis(node, "strides", attrs.strides, rank);
  const dilations = perAxis(node, "dilations", attrs.dilations, rank);
  const extents = kernel.map((k, axis) => span(k, dilations[axis]!));
  const given = padsOf(node, attrs.autoPad === "NOTSET" ? attrs.pads : undefined, rank);
  if (attrs.autoPad === "SAME_UPPER" || attrs.autoPad === "SAME_LOWER") {
    const out = size.map((extent, axis) => dims.ceilDiv(extent, strides[axis]!));
    const total = out.map((count, axis) =>
      dims.max(0, dims.sub(dims.add(dims.mul(dims.sub(count, 1), strides[axis]!), extents[axis]!), size[axis]!)),
    );
    const [less, more] = [total.map((pad) => dims.floorDiv(pad, 2)), total.map((pad) => dims.ceilDiv(pad, 2))];
    const [before, after] = attrs.autoPad === "SAME_UPPER" ? [less, more] : [more, less];
    return { kernel, strides, dilations, before, after, out };
  }
  const out = size.map((extent, axis): Dim => {
    const room = dims.sub(dims.add(extent, given.before[axis]!, given.after[axis]!), extents[axis]!);
    if (!ceil) return dims.max(0, dims.add(dims.floorDiv(room, strides[axis]!), 1));
    const startingInside = dims.ceilDiv(dims.add(extent, given.before[axis]!), strides[axis]!);
    return dims.max(0, dims.min(dims.add(dims.ceilDiv(room, strides[axis]!), 1), startingInside));
  });
  return { kernel, strides, dilations, ...given, out };
}

/** Position in the input of kernel element `k` of window `o`; it may lie outside. */
export const positionIn = (window: Window, o: readonly Expr[], k: readonly Expr[]): Expr[] =>
  o.map((at, axis) =>
    x.add(
      x.mul(at, x.int(window.strides[axis]!)),
      x.mul(k[axis]!, x.int(window.dilations[axis]!)),
      x.int(dims.mul(window.before[axis]!, -1)),
    ),
  );

/** Whether a position lies inside of the input. */
export const inside = (position: readonly Expr[], size: readonly Dim[]): Expr =>
  position.reduce((all, at, axis) => x.and(all, x.within(at, size[axis]!)), x.bool(true));

/** How many kernel elements of window `o` on `axis` have a position in [low, high). */
export function countWithin(window: Window, axis: number, o: Expr, low: Dim, high: Dim): Expr {
  const kernel = window.kernel[axis]!;
  const start = x.add(x.mul(o, x.int(window.strides[axis]!)), x.int(dims.mul(window.before[axis]!, -1)));
  // The first k at or past `limit`: ceil((limit - start) / dilation), held in [0, kernel].
  const first = (limit: Dim): Expr => {
    const steps = x.floorDiv(
      x.add(x.sub(x.int(limit), start), x.int(window.dilations[axis]! - 1)),
      x.int(window.dilations[axis]!),
    );
    return x.minimum(x.maximum(steps, x.int(0)), x.int(kernel));
  };
  return x.sub(first(high), first(low));
}
