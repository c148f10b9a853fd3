// Padding in front of a convolution or pooling becomes the window's own.

import type { GraphNode } from "../ir/graph.ts";
import { attributesOf, hasOneOutput, integers } from "./attributes.ts";
import { any, int, ints, op, optional, rule, rulesPass, scalarOf, text } from "./rewrite/index.ts";

interface Padding {
  /** Before each spatial axis, then after each. */
  readonly spatial: readonly number[];
  readonly value: number;
}

/** What a Pad node puts around spatial axes; undefined when it does anything else. */
function paddingOf(node: GraphNode): Padding | undefined {
  const read = attributesOf(node);
  const rank = node.inputs[0]!.shape.length;
  const pads = integers(node, 1, "pads");
  const axes = integers(
    node,
    3,
    "axes",
    Array.from({ length: rank }, (_, axis) => axis),
  );
  const value = node.inputs[2] ? scalarOf(node.inputs[2]) : read.float("value", 0);
  if (!pads || !axes || value === undefined || read.string("mode", "constant") !== "constant") return undefined;
  const all = new Array<number>(2 * rank).fill(0);
  axes.forEach((axis, i) => {
    all[(axis + rank) % rank] = pads[i]!;
    all[((axis + rank) % rank) + rank] = pads[i + axes.length]!;
  });
  const outside = [all[0], all[1], all[rank], all[rank + 1]];
  if (outside.some((pad) => pad !== 0) || all.some((pad) => pad < 0)) return undefined;
  return { spatial: [...all.slice(2, rank), ...all.slice(rank + 2)], value };
}

/** The window's own padding, `count` zeros when it has none; undefined when it depends on the size. */
export function ownPads(node: GraphNode, count: number): readonly number[] | undefined {
  const read = attributesOf(node);
  const mode = read.string("auto_pad", "NOTSET");
  if (mode !== "NOTSET" && mode !== "VALID") return undefined;
  const pads = mode === "NOTSET" ? read.ints("pads") : undefined;
  return pads?.length ? pads : new Array<number>(count).fill(0);
}

const pad = op("Pad", [any("x"), optional(any("pads")), optional(any("value")), optional(any("axes"))]).as("pad");
const sum = (a: readonly number[], b: readonly number[]): readonly number[] => a.map((value, i) => value + b[i]!);

const rules = [
  rule({
    name: "fold-pad-into-conv",
    match: op("Conv", [pad, any("w"), optional(any("b"))]),
    rewrite: ({ x, w, b, pad }, g) => {
      const padding = paddingOf(pad);
      const own = padding && ownPads(g.root, padding.spatial.length);
      return own && padding.value === 0
        ? g.like(g.root, [x, w, b], { pads: ints(sum(own, padding.spatial)), auto_pad: text("NOTSET") })
        : undefined;
    },
  }),
  rule({
    // The mean over a window counts zeros that Pad put there: the same as padding of its own that counts.
    name: "fold-pad-into-pool",
    match: op("AveragePool", [pad]),
    rewrite: ({ x, pad }, g) => {
      const padding = paddingOf(pad);
      const own = padding && ownPads(g.root, padding.spatial.length);
      const read = attributesOf(g.root);
      if (
        !own ||
        padding.value !== 0 ||
        read.flag("ceil_mode") ||
        (own.some((p) => p !== 0) && !read.flag("count_include_pad"))
      )
        return undefined;
      return g.like(g.root, [x], {
        pads: ints(sum(own, padding.spatial)),
        auto_pad: text("NOTSET"),
        count_include_pad: int(1),
      });
    },
  }),
  rule({
    name: "fold-pad-into-pool",
    match: op("MaxPool", [pad]),
    rewrite: ({ x, pad }, g) => {
      const padding = paddingOf(pad);
      const own = padding && ownPads(g.root, padding.spatial.length);
      if (!own || padding.value !== Number.NEGATIVE_INFINITY || attributesOf(g.root).flag("ceil_mode") || !hasOneOutput(g.root))
        return undefined;
      return g.like(g.root, [x], { pads: ints(sum(own, padding.spatial)), auto_pad: text("NOTSET") });
    },
  }),
];

export const foldPad = rulesPass("fold-pad", "padding becomes the padding of the convolution or pooling that reads it", rules);
