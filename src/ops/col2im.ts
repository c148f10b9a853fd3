// Col2Im: every pixel of the image gathers what the blocks over it hold, so no two threads write one element.
// ONNX: https://onnx.ai/onnx/operators/onnx__Col2Im.html

import { add, type Dim, dimText, floorDiv, product, shapeText, sub } from "../ir/dims.ts";
import * as x from "../ir/expr.ts";
import { shapeMismatch } from "../util/errors.ts";
import { differ } from "./bounds.ts";
import { defineOp, dimsOf, need, type Operator } from "./define.ts";
import { wrap } from "./elementwise.ts";
import { padsOf, perAxis, span } from "./window.ts";

interface Attributes {
  readonly dilations: readonly number[] | undefined;
  readonly strides: readonly number[] | undefined;
  readonly pads: readonly number[] | undefined;
}

export const col2ims: readonly Operator[] = [
  defineOp<Attributes>({
    name: "Col2Im",
    since: [18],
    attrs: (read) => ({ dilations: read.ints("dilations"), strides: read.ints("strides"), pads: read.ints("pads") }),
    lower: (b, inputs, attrs, node) => {
      const blocks = need(node, inputs, 0);
      const image = dimsOf(node, need(node, inputs, 1), "image_shape");
      const kernel = dimsOf(node, need(node, inputs, 2), "block_shape");
      const rank = image.length;
      if (blocks.shape.length !== 3 || kernel.length !== rank)
        throw shapeMismatch(
          node,
          `blocks ${shapeText(blocks.shape)}, image ${shapeText(image)} and block ${shapeText(kernel)} do not fit`,
        );
      const strides = perAxis(node, "strides", attrs.strides, rank);
      const dilations = perAxis(node, "dilations", attrs.dilations, rank);
      const { before, after } = padsOf(node, attrs.pads, rank);
      /** Blocks along each axis. */
      const counts = image.map(
        (size, axis): Dim =>
          add(floorDiv(sub(add(size, before[axis]! + after[axis]!), span(kernel[axis]!, dilations[axis]!)), strides[axis]!), 1),
      );
      if (differ(blocks.shape[2]!, product(counts)))
        throw shapeMismatch(
          node,
          `${dimText(blocks.shape[2]!)} blocks are given`,
          `an image of ${shapeText(image)} has ${shapeText(counts)}`,
        );
      const channels = floorDiv(blocks.shape[1]!, product(kernel));
      return [
        b.reduce(
          blocks.dtype,
          [blocks.shape[0]!, channels, ...image],
          kernel,
          ([n, c, ...pixel], k) => {
            const starts = pixel.map((at, axis) =>
              x.sub(x.add(at, x.int(before[axis]!)), x.mul(k[axis]!, x.int(dilations[axis]!))),
            );
            const block = starts.map((start, axis) => x.floorDiv(start, x.int(strides[axis]!)));
            const hits = starts.map((start, axis) =>
              x.and(x.eq(x.floorMod(start, x.int(strides[axis]!)), x.int(0)), x.within(block[axis]!, counts[axis]!)),
            );
            const value = x.load(blocks, [
              n!,
              x.add(x.mul(c!, x.int(product(kernel))), x.flatten(k, kernel)),
              x.flatten(block, counts),
            ]);
            return [
              {
                fn: "sum",
                body: () =>
                  x.select(
                    hits.reduce((a, hit) => x.and(a, hit), x.bool(true)),
                    value,
                    x.constant(value.type, 0),
                  ),
              },
            ];
          },
          ([sum]) => wrap(sum!, blocks.dtype),
        ),
      ];
    },
  }),
];
