// Resizing some axes of a value: an axis has taps (one, two or four pixels and their weights), and a kernel sums over the taps
// of one axis or several. Antialiasing widens the taps to what an output pixel covers: a reduction an axis.

import { ceilDiv, type Dim, isStatic, max, mul, sameDim } from "../ir/dims.ts";
import type { Expr } from "../ir/expr.ts";
import * as x from "../ir/expr.ts";
import type { Lowering } from "../ir/lower.ts";
import { type DType, dtypeFacts } from "../ir/types.ts";
import type { Value } from "../ir/value.ts";
import { clampIndex, cubicWeights, kernelAt, linearWeights, sumTaps, type Tap } from "./interpolation.ts";
import { type Axis, type Coordinates, type Nearest, type Position, positionOf, scaleAsFloat } from "./resample.ts";

/** Most pixels that one kernel reads for one element. */
const MAX_TAPS = 16;

/** How pixels are chosen and weighted. */
export interface Sampling {
  readonly mode: "nearest" | "linear" | "cubic";
  readonly coordinates: Coordinates;
  /** "simple" is what there was before opset 11: up on an axis that shrinks, else down. */
  readonly nearest: Nearest | "simple";
  /** Coefficient a of the cubic kernel. */
  readonly cubic: number;
  readonly antialias: boolean;
  readonly excludeOutside: boolean;
  readonly extrapolation: number;
}

export interface ResizedAxis extends Axis {
  readonly axis: number;
}

/** False where the axis is proven not to shrink. */
const mayShrink = ({ scale }: Axis): boolean =>
  typeof scale === "number" ? scale < 1 : !isStatic(scale.p) || !isStatic(scale.q) ? scale.q !== 1 : scale.p < scale.q;
/** False where the axis is copied as it is. */
const changes = ({ size, out, scale }: Axis, { coordinates }: Sampling): boolean =>
  coordinates === "tf_crop_and_resize" || !sameDim(size, out) || typeof scale === "number" || !sameDim(scale.p, scale.q);

const positionAt = (axis: ResizedAxis, i: readonly Expr[], { coordinates }: Sampling): Position =>
  positionOf(coordinates, i[axis.axis]!, axis);

/** `e`, or the extrapolation value where a position is off the input. */
function extrapolated(e: Expr, positions: readonly Position[], value: number): Expr {
  const inside = positions.reduce<Expr>((all, position) => (position.inside ? x.and(all, position.inside) : all), x.bool(true));
  return x.select(inside, e, x.constant(e.type, value));
}

/** A sum of weighted pixels as an element of `dtype`. Integers saturate; as in ONNX Runtime they round where antialiased, else lose what is after the point (a rounding error apart). */
function asElement(e: Expr, dtype: DType, { antialias: rounds }: Sampling): Expr {
  const { bytes, kind, signed } = dtypeFacts[dtype];
  if (kind === "float") return e;
  const [low, high] = signed ? [-(2 ** (8 * bytes - 1)), 2 ** (8 * bytes - 1) - 1] : [0, 2 ** (8 * bytes) - 1];
  const settled = rounds ? x.unary("round", e) : x.add(e, x.mul(x.unary("sign", e), x.float(2 ** -10)));
  return x.convert(bytes > 2 ? settled : x.minimum(x.maximum(settled, x.float(low)), x.float(high)), dtype);
}

/** The two or four taps of an axis around a position. */
function tapsAround(position: Position, { size }: Axis, { mode, cubic, excludeOutside }: Sampling): readonly Tap[] {
  const first = mode === "linear" ? position.floor : x.sub(position.floor, x.int(1));
  const weights = mode === "linear" ? linearWeights(position.fraction) : cubicWeights(position.fraction, cubic);
  const indices = weights.map((_, tap) => x.add(first, x.int(tap)));
  const kept = excludeOutside
    ? weights.map((weight, tap) => x.select(x.within(indices[tap]!, size), weight, x.float(0)))
    : weights;
  const total = kept.reduce((a, b) => x.add(a, b));
  return kept.map((weight, tap) => ({
    index: clampIndex(indices[tap]!, x.int(size)),
    weight: excludeOutside ? x.div(weight, total) : weight,
  }));
}

function resizeNearest(
  b: Lowering,
  value: Value,
  shape: readonly Dim[],
  axes: readonly ResizedAxis[],
  sampling: Sampling,
): Value {
  return b.map(value.dtype, shape, (i) => {
    const index: Expr[] = [...i];
    const positions = axes.map((axis) => {
      const position = positionAt(axis, i, sampling);
      const mode = sampling.nearest === "simple" ? (mayShrink(axis) ? "ceil" : "floor") : sampling.nearest;
      index[axis.axis] = clampIndex(position.nearest(mode), x.int(axis.size));
      return position;
    });
    return extrapolated(x.load(value, index), positions, sampling.extrapolation);
  });
}

/** Linear or cubic over several axes in one kernel. */
function interpolate(
  b: Lowering,
  value: Value,
  dtype: DType,
  shape: readonly Dim[],
  axes: readonly ResizedAxis[],
  sampling: Sampling,
): Value {
  return b.map(dtype, shape, (i) => {
    const positions = axes.map((axis) => positionAt(axis, i, sampling));
    const sum = sumTaps(
      axes.map((axis, k) => tapsAround(positions[k]!, axis, sampling)),
      (taps) => {
        const index: Expr[] = [...i];
        axes.forEach(({ axis }, k) => {
          index[axis] = taps[k]!;
        });
        return x.convert(x.load(value, index), "f32");
      },
    );
    return asElement(extrapolated(sum, positions, sampling.extrapolation), dtype, sampling);
  });
}

/** Linear or cubic over one axis, with the kernel as wide as an output pixel is on the input. */
function antialias(
  b: Lowering,
  value: Value,
  dtype: DType,
  shape: readonly Dim[],
  resized: ResizedAxis,
  sampling: Sampling,
): Value {
  const { axis, size, scale } = resized;
  const mode = sampling.mode as "linear" | "cubic";
  const radius = mode === "linear" ? 1 : 2;
  const reach: Dim =
    typeof scale === "number"
      ? Math.ceil(radius / scale)
      : ceilDiv(
          mul(radius, isStatic(scale.p) && isStatic(scale.q) ? Math.max(scale.p, scale.q) : max(scale.p, scale.q)),
          scale.p,
        );
  const shrink = x.minimum(scaleAsFloat(scale), x.float(1));
  return b.reduce(
    dtype,
    shape,
    [mul(reach, 2)],
    (i, [tap]) => {
      const position = positionAt(resized, i, sampling);
      const offset = x.add(tap!, x.sub(x.int(1), x.int(reach)));
      const at = x.add(position.floor, offset);
      const weight = kernelAt(x.mul(x.sub(x.convert(offset, "f32"), position.fraction), shrink), mode, sampling.cubic);
      const counted = sampling.excludeOutside ? x.select(x.within(at, size), weight, x.float(0)) : weight;
      const index = (i as readonly Expr[]).toSpliced(axis, 1, clampIndex(at, x.int(size)));
      return [
        { fn: "sum", body: () => counted },
        { fn: "sum", body: () => x.mul(counted, x.convert(x.load(value, index), "f32")) },
      ];
    },
    ([total, sum], i) =>
      asElement(extrapolated(x.div(sum!, total!), [positionAt(resized, i, sampling)], sampling.extrapolation), dtype, sampling),
  );
}

/** `value` with some axes resized. */
export function resize(b: Lowering, value: Value, all: readonly ResizedAxis[], sampling: Sampling): Value {
  const axes = all.filter((axis) => changes(axis, sampling));
  const shapeWith = (done: readonly ResizedAxis[], from: readonly Dim[]): Dim[] =>
    from.map((dim, axis) => done.find((one) => one.axis === axis)?.out ?? dim);
  if (axes.length === 0) return value;
  if (sampling.mode === "nearest") return resizeNearest(b, value, shapeWith(axes, value.shape), axes, sampling);
  const wide = sampling.antialias ? axes.filter(mayShrink) : [];
  const plain = axes.filter((axis) => !wide.includes(axis));
  const perKernel = Math.log2(MAX_TAPS) / (sampling.mode === "linear" ? 1 : 2);
  const groups = Array.from({ length: Math.ceil(plain.length / perKernel) }, (_, k) =>
    plain.slice(k * perKernel, (k + 1) * perKernel),
  );
  const passes = [...wide.map((axis) => [axis]), ...groups];
  return passes.reduce((source, pass, k) => {
    const dtype = k === passes.length - 1 ? value.dtype : "f32";
    const shape = shapeWith(pass, source.shape);
    return k < wide.length
      ? antialias(b, source, dtype, shape, pass[0]!, sampling)
      : interpolate(b, source, dtype, shape, pass, sampling);
  }, value);
}
