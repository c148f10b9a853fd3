// DeformConv: the pixels that a kernel meets are sampled at offsets that an input gives; a matrix product does the rest.
// ONNX: https://onnx.ai/onnx/operators/onnx__DeformConv.html

import { type Dim, floorDiv, isStatic, mul, product, shapeText } from "../ir/dims.ts";
import type { Expr } from "../ir/expr.ts";
import * as x from "../ir/expr.ts";
import { shapeMismatch } from "../util/errors.ts";
import { differ } from "./bounds.ts";
import { defineOp, need, type Operator } from "./define.ts";
import { sumTaps, tapsAt } from "./interpolation.ts";
import { inside, padsOf, perAxis } from "./window.ts";

interface Attributes {
  readonly dilations: readonly number[] | undefined;
  readonly strides: readonly number[] | undefined;
  readonly pads: readonly number[] | undefined;
  readonly groups: number;
  readonly offsetGroups: number;
}

const perGroup = (channels: Dim, groups: number): Dim | undefined =>
  isStatic(channels) && channels % groups !== 0 ? undefined : floorDiv(channels, groups);

export const deformables: readonly Operator[] = [
  defineOp<Attributes>({
    name: "DeformConv",
    since: [19, 22],
    attrs: (read) => {
      read.ignore("kernel_shape");
      return {
        dilations: read.ints("dilations"),
        strides: read.ints("strides"),
        pads: read.ints("pads"),
        groups: read.int("group", 1),
        offsetGroups: read.int("offset_group", 1),
      };
    },
    lower: (b, inputs, { groups, offsetGroups, ...attrs }, node) => {
      const [image, weights, offset] = [need(node, inputs, 0), need(node, inputs, 1), need(node, inputs, 2)];
      const [, , , bias, mask] = inputs;
      const [batch, given, ...sizes] = image.shape;
      const [filters, depth, ...kernel] = weights.shape;
      const channels = mul(depth ?? 1, groups);
      const rank = sizes.length;
      const out = offset.shape.slice(2);
      const [rows, shared] = [perGroup(filters!, groups), perGroup(channels, offsetGroups)];
      if (rank < 1 || weights.shape.length !== rank + 2 || offset.shape.length !== rank + 2)
        throw shapeMismatch(
          node,
          `X ${shapeText(image.shape)}, W ${shapeText(weights.shape)} and offset ${shapeText(offset.shape)} must have one rank of 3 or more`,
        );
      if (rows === undefined || shared === undefined || differ(channels, given!))
        throw shapeMismatch(
          node,
          `X ${shapeText(image.shape)} and W ${shapeText(weights.shape)} do not fit ${groups} groups and ${offsetGroups} offset groups`,
        );
      const points = product(kernel);
      if (differ(offset.shape[1]!, mul(points, offsetGroups * rank)))
        throw shapeMismatch(
          node,
          `offset has ${shapeText(offset.shape)}, expected ${offsetGroups}·${shapeText(kernel)}·${rank} channels`,
        );
      const strides = perAxis(node, "strides", attrs.strides, rank);
      const dilations = perAxis(node, "dilations", attrs.dilations, rank);
      const { before } = padsOf(node, attrs.pads, rank);

      const columns = b.map(image.dtype, [batch!, channels, ...kernel, ...out], ([n, c, ...rest]) => {
        const [k, o] = [rest.slice(0, rank), rest.slice(rank)];
        const point = x.add(x.mul(x.floorDiv(c!, x.int(shared)), x.int(points)), x.flatten(k, kernel));
        const positions = sizes.map((_, axis) => {
          const start = x.add(
            x.mul(o[axis]!, x.int(strides[axis]!)),
            x.mul(k[axis]!, x.int(dilations[axis]!)),
            x.int(-before[axis]!),
          );
          return x.add(x.convert(start, "f32"), x.load(offset, [n!, x.add(x.mul(point, x.int(rank)), x.int(axis)), ...o]));
        });
        const sample = sumTaps(
          positions.map((position) => tapsAt(position, "linear", 0)),
          (index) => x.select(inside(index, sizes), x.load(image, [n!, c!, ...index]), x.float(0)),
        );
        return mask ? x.mul(sample, x.load(mask, [n!, point, ...o])) : sample;
      });
      const outer = [depth!, ...kernel];
      const sums = b.gemm(
        image.dtype,
        { batch: [batch!, groups], m: rows, n: product(out), k: product(outer) },
        ([, group], m, k) => x.load(weights, [x.add(x.mul(group!, x.int(rows)), m), ...x.unflatten(k, outer)]),
        ([n, group], k, position) => {
          const [c, ...at] = x.unflatten(k, outer);
          return x.load(columns, [n!, x.add(x.mul(group!, x.int(depth!)), c!), ...at, ...x.unflatten(position, out)]);
        },
        (acc, [, group, m]): Expr => (bias ? x.add(acc, x.load(bias, [x.add(x.mul(group!, x.int(rows)), m!)])) : acc),
      );
      return [b.reshape(sums, [batch!, filters!, ...out])];
    },
  }),
];
