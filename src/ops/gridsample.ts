// GridSample reads an image where a grid says; AffineGrid makes such grids. Any number of spatial axes.
// ONNX: https://onnx.ai/onnx/operators/onnx__GridSample.html https://onnx.ai/onnx/operators/onnx__AffineGrid.html

import { type Dim, shapeText } from "../ir/dims.ts";
import type { Expr } from "../ir/expr.ts";
import * as x from "../ir/expr.ts";
import { type DType, isFloat } from "../ir/types.ts";
import { shapeMismatch } from "../util/errors.ts";
import { differ } from "./bounds.ts";
import { defineOp, dimsOf, need, type Operator } from "./define.ts";
import { clampIndex, sumTaps, tapsAt } from "./interpolation.ts";
import { inside } from "./window.ts";

const MODES = { bilinear: "linear", linear: "linear", bicubic: "cubic", cubic: "cubic", nearest: "nearest" } as const;
const PADDINGS = ["zeros", "border", "reflection"] as const;
type Padding = (typeof PADDINGS)[number];
const CUBIC = -0.75;

interface Attributes {
  readonly mode: keyof typeof MODES;
  readonly padding: Padding;
  readonly alignCorners: boolean;
}

const asFloat = (size: Dim): Expr => x.convert(x.int(size), "f32");
const [zero, half, one] = [0, 0.5, 1].map(x.float) as [Expr, Expr, Expr];

/** Positions this far out are as good as any farther: their pixels still are integers. */
const FAR = x.float(1e9);

/** A grid coordinate in [-1, 1] as a position in pixels: the ends are the outer pixels' centers, or their outer edges. */
const positionOf = (coordinate: Expr, size: Expr, alignCorners: boolean): Expr => {
  const fromStart = x.add(coordinate, one);
  const position = alignCorners
    ? x.mul(x.mul(fromStart, half), x.sub(size, one))
    : x.mul(x.sub(x.mul(fromStart, size), one), half);
  return x.minimum(x.maximum(position, x.unary("neg", FAR)), FAR);
};

/** The pixel that stands for one beyond the ends. As in PyTorch every pixel is brought back on its own, not the position. */
function padIndex(index: Expr, size: Dim, { padding, alignCorners }: Attributes): Expr {
  const extent = x.int(size);
  if (padding === "zeros") return index;
  if (padding === "border") return clampIndex(index, extent);
  const period = alignCorners ? x.maximum(x.mul(x.sub(extent, x.int(1)), x.int(2)), x.int(1)) : x.mul(extent, x.int(2));
  const at = x.floorMod(index, period);
  return clampIndex(x.select(x.lt(at, extent), at, x.sub(x.sub(period, x.int(alignCorners ? 0 : 1)), at)), extent);
}

const asType = (e: Expr, dtype: DType): Expr => (isFloat(dtype) ? e : x.convert(e, dtype));

export const gridSamples: readonly Operator[] = [
  defineOp<Attributes>({
    name: "GridSample",
    since: [16, 20, 22],
    attrs: (read) => ({
      mode: read.string("mode", "linear", Object.keys(MODES) as (keyof typeof MODES)[]),
      padding: read.string("padding_mode", "zeros", PADDINGS),
      alignCorners: read.flag("align_corners"),
    }),
    lower: (b, inputs, attrs, node) => {
      const [image, grid] = [need(node, inputs, 0), need(node, inputs, 1)];
      const [batch, channels, ...sizes] = image.shape;
      const rank = sizes.length;
      if (rank < 1 || grid.shape.length !== rank + 2 || differ(grid.shape.at(-1)!, rank))
        throw shapeMismatch(
          node,
          `a grid of shape ${shapeText(grid.shape)} does not fit an input of shape ${shapeText(image.shape)}`,
          "it has the batch, the output's spatial axes and one coordinate for each of the input's",
        );
      const mode = MODES[attrs.mode];
      return [
        b.map(image.dtype, [batch!, channels!, ...grid.shape.slice(1, -1)], ([n, c, ...o]) => {
          // Coordinates are listed from the last axis to the first.
          const positions = sizes.map((size, axis) => {
            const position = positionOf(x.load(grid, [n!, ...o, x.int(rank - 1 - axis)]), asFloat(size), attrs.alignCorners);
            return mode === "nearest" ? x.unary("round", position) : position;
          });
          const pixel = (index: readonly Expr[]): Expr => {
            const padded = index.map((at, axis) => padIndex(at, sizes[axis]!, attrs));
            const value = x.load(image, [n!, c!, ...padded]);
            return attrs.padding === "zeros" ? x.select(inside(index, sizes), value, x.constant(value.type, 0)) : value;
          };
          if (mode === "nearest") return pixel(positions.map((position) => x.convert(position, "i32")));
          return asType(
            sumTaps(
              positions.map((position) => tapsAt(position, mode, CUBIC)),
              (index) => x.convert(pixel(index), "f32"),
            ),
            image.dtype,
          );
        }),
      ];
    },
  }),
  defineOp<boolean>({
    name: "AffineGrid",
    since: [20],
    attrs: (read) => read.flag("align_corners"),
    lower: (b, inputs, alignCorners, node) => {
      const theta = need(node, inputs, 0);
      const [batch, , ...sizes] = dimsOf(node, need(node, inputs, 1), "size");
      const rank = sizes.length;
      if (rank < 1 || theta.shape.length !== 3 || differ(theta.shape[1]!, rank) || differ(theta.shape[2]!, rank + 1))
        throw shapeMismatch(
          node,
          `theta of shape ${shapeText(theta.shape)} does not fit ${rank} spatial axes`,
          `expected [N, ${rank}, ${rank + 1}]`,
        );
      const coordinate = (at: Expr, size: Dim): Expr => {
        const [i, n] = [x.convert(at, "f32"), asFloat(size)];
        if (!alignCorners) return x.sub(x.div(x.add(x.mul(i, x.float(2)), one), n), one);
        return x.select(x.eq(x.int(size), x.int(1)), zero, x.sub(x.div(x.mul(i, x.float(2)), x.sub(n, one)), one));
      };
      return [
        b.map(theta.dtype, [batch!, ...sizes, rank], (index) => {
          const [n, row] = [index[0]!, index.at(-1)!];
          const terms = sizes.map((_, column) => {
            const axis = rank - 1 - column;
            return x.mul(x.load(theta, [n, row, x.int(column)]), coordinate(index[axis + 1]!, sizes[axis]!));
          });
          return x.add(...(terms as [Expr, ...Expr[]]), x.load(theta, [n, row, x.int(rank)]));
        }),
      ];
    },
  }),
];
