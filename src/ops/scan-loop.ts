// Scan: a body runs along an axis of its inputs and makes its outputs along an axis.
// ONNX: https://onnx.ai/onnx/operators/onnx__Scan.html

import { shapeText } from "../ir/dims.ts";
import type { Expr } from "../ir/expr.ts";
import * as x from "../ir/expr.ts";
import type { Graph } from "../ir/graph.ts";
import type { Lowering } from "../ir/lower.ts";
import { scalarOf } from "../ir/types.ts";
import type { Value } from "../ir/value.ts";
import { shapeMismatch, typeMismatch } from "../util/errors.ts";
import { differ } from "./bounds.ts";
import { axisIn, defineOp, type NodeFacts, need, type Operator } from "./define.ts";
import { type Results, repeat } from "./repeat.ts";

interface ScanAttributes {
  readonly body: Graph;
  readonly sources: number;
  readonly axes: readonly number[];
  readonly directions: readonly number[];
  readonly outputAxes: readonly number[];
  readonly outputDirections: readonly number[];
}

interface Source {
  readonly value: Value;
  readonly axis: number;
  readonly reverse: boolean;
}

/** Runs the body along the sources' axes; where `length` is given it ends there, and what it did not make is 0. */
function scan(
  b: Lowering,
  node: NodeFacts,
  body: Graph,
  states: readonly Value[],
  sources: readonly Source[],
  length?: Expr,
): Results {
  const count = sources[0]!.value.shape[sources[0]!.axis]!;
  const odd = sources.find(({ value, axis }) => differ(value.shape[axis]!, count));
  if (odd)
    throw shapeMismatch(
      node,
      `the scanned axes have lengths ${shapeText(sources.map(({ value, axis }) => value.shape[axis]!))}: all must be equal`,
    );
  return repeat(b, node, { count }, states, (inner, turn, carried) => {
    const last = x.sub(length ?? x.int(count), x.int(1));
    const running = length && x.lt(turn, length);
    const keep = (value: Value, otherwise: (at: readonly Expr[]) => Expr): Value =>
      running ? inner.map(value.dtype, value.shape, (at) => x.select(running, x.load(value, at), otherwise(at))) : value;
    const elements = sources.map(({ value, axis, reverse }) => {
      const back = x.maximum(x.sub(last, turn), x.int(0));
      return inner.map(value.dtype, value.shape.toSpliced(axis, 1), (at) =>
        x.load(value, (at as readonly Expr[]).toSpliced(axis, 0, reverse ? back : turn)),
      );
    });
    const results = node.inline(inner, body, [...carried, ...elements]);
    const next = results.slice(0, states.length);
    const changed = next.findIndex(
      ({ dtype, shape }, i) => dtype !== carried[i]!.dtype || shape.length !== carried[i]!.shape.length,
    );
    if (changed >= 0)
      throw typeMismatch(
        node,
        `state ${changed} leaves the body as ${next[changed]!.dtype}${shapeText(next[changed]!.shape)}, it entered as ${carried[changed]!.dtype}${shapeText(carried[changed]!.shape)}`,
      );
    return {
      carried: next.map((value, i) => keep(value, (at) => x.load(carried[i]!, at))),
      scans: results.slice(states.length).map((value) => keep(value, () => x.constant(scalarOf(value.dtype), 0))),
    };
  });
}

/** With the first axis moved to `axis`, and turned round. */
function place(b: Lowering, value: Value, axis: number, reverse: boolean): Value {
  if (axis === 0 && !reverse) return value;
  const [count, ...rest] = value.shape;
  return b.map(value.dtype, rest.toSpliced(axis, 0, count!), (i) => {
    const at = i[axis]!;
    return x.load(value, [
      reverse ? x.sub(x.sub(x.int(count!), x.int(1)), at) : at,
      ...(i as readonly Expr[]).toSpliced(axis, 1),
    ]);
  });
}

function lowerScan(
  b: Lowering,
  inputs: readonly (Value | undefined)[],
  attrs: ScanAttributes,
  node: NodeFacts,
): readonly Value[] {
  const { body, directions } = attrs;
  const batched = node.opset < 9;
  const values = inputs.slice(batched ? 1 : 0).map((_, i) => need(node, inputs, i + (batched ? 1 : 0)));
  const states = values.slice(0, values.length - attrs.sources);
  const scanned = values.slice(states.length);
  if (scanned.length === 0 || body.inputs.length !== values.length)
    throw shapeMismatch(
      node,
      `the body has ${body.inputs.length} inputs for ${states.length} states and ${attrs.sources} scanned inputs`,
    );
  const reverse = (i: number): boolean => directions[i] === 1;
  if (!batched) {
    const { carried, scans } = scan(
      b,
      node,
      body,
      states,
      scanned.map((value, i) => ({ value, axis: axisIn(node, attrs.axes[i] ?? 0, value.shape.length), reverse: reverse(i) })),
    );
    return [
      ...carried,
      ...scans.map((value, i) =>
        place(b, value, axisIn(node, attrs.outputAxes[i] ?? 0, value.shape.length), attrs.outputDirections[i] === 1),
      ),
    ];
  }
  // Opset 8: every input has a batch axis, whose items run on their own.
  const lengths = inputs[0];
  return repeat(b, node, { count: scanned[0]!.shape[0]! }, [], (inner, item) => {
    const of = (value: Value): Value => inner.map(value.dtype, value.shape.slice(1), (at) => x.load(value, [item, ...at]));
    const { carried, scans } = scan(
      inner,
      node,
      body,
      states.map(of),
      scanned.map((value, i) => ({ value: of(value), axis: 0, reverse: reverse(i) })),
      lengths && x.load(lengths, [item]),
    );
    return { carried: [], scans: [...carried, ...scans] };
  }).scans;
}

export const scanOperator: Operator = defineOp<ScanAttributes>({
  name: "Scan",
  since: [8, 9, 11, 16, 19, 21, 23, 24, 25],
  attrs: (read) => ({
    body: read.requiredGraph("body"),
    sources: read.int("num_scan_inputs", 1),
    axes: read.ints("scan_input_axes") ?? [],
    directions: read.ints("scan_input_directions") ?? read.ints("directions") ?? [],
    outputAxes: read.ints("scan_output_axes") ?? [],
    outputDirections: read.ints("scan_output_directions") ?? [],
  }),
  lower: lowerScan,
});
