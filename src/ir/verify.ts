// The rules that every graph keeps: one producer a value, producers before readers, unique names, constants that are what
// their types say, results that exist. Knows no operator: whether types follow from the inputs is for src/passes to ask.

import { brokenGraph } from "../util/errors.ts";
import { isStatic, isStaticShape, sameShape, shapeText } from "./dims.ts";
import { type Graph, type GraphNode, subgraphsOf, typeText } from "./graph.ts";
import { sizeOf } from "./tensor.ts";
import type { Value } from "./value.ts";

/** Throws K901 for the first rule that does not hold. `after` names the rewrite that came last. */
export function verifyGraph(graph: Graph, after?: string): void {
  verifyWithin(graph, new Set(), new Set(), (place, what) => brokenGraph(place, what, after));
}

type Fail = (place: string, what: string) => Error;

/** `visible` and `taken` hold the values and the value names of the enclosing graphs. */
function verifyWithin(graph: Graph, visible: ReadonlySet<Value>, taken: ReadonlySet<string>, fail: Fail): void {
  const defined = new Set(visible);
  const names = new Set(taken);
  const nodes = new Set<string>();
  const define = (value: Value, place: string): void => {
    if (defined.has(value)) throw fail(place, `value "${value.name}" is defined twice`);
    if (names.has(value.name)) throw fail(place, `the name "${value.name}" belongs to two values`);
    defined.add(value);
    names.add(value.name);
    verifyValue(value, place, fail);
  };
  const read = (value: Value, place: string): void => {
    if (value.data) verifyValue(value, place, fail);
    else if (!defined.has(value)) throw fail(place, `reads "${value.name}", which nothing before it defines`);
  };
  for (const value of graph.inputs) define(value, `input "${value.name}"`);
  for (const node of graph.nodes) {
    const place = placeOf(node);
    if (nodes.has(node.name)) throw fail(place, "two nodes have this name");
    nodes.add(node.name);
    for (const value of node.inputs) if (value) read(value, place);
    for (const nested of subgraphsOf(node)) verifyWithin(nested, defined, names, fail);
    if (!node.outputs.some((value) => value)) throw fail(place, "it has no output");
    for (const value of node.outputs) if (value) define(value, place);
  }
  const results = new Set<string>();
  for (const { name, value } of graph.outputs) {
    if (results.has(name)) throw fail(`output "${name}"`, "two results have this name");
    results.add(name);
    read(value, `output "${name}"`);
  }
}

const placeOf = (node: GraphNode): string => `${node.op} "${node.name}"`;

function verifyValue(value: Value, place: string, fail: Fail): void {
  const { name, dtype, shape, data, contents } = value;
  for (const dim of shape) {
    if (isStatic(dim) && !(Number.isInteger(dim) && dim >= 0))
      throw fail(place, `value "${name}" has the shape ${shapeText(shape)}`);
  }
  if (data) {
    if (data.dtype !== dtype || !sameShape(data.shape, shape))
      throw fail(place, `constant "${name}" is ${typeText(data)} but its type says ${typeText(value)}`);
    if (data.data.length !== sizeOf(data.shape))
      throw fail(place, `constant "${name}" has ${data.data.length} elements for the shape ${shapeText(shape)}`);
  }
  if (contents && isStaticShape(shape) && contents.length !== sizeOf(shape))
    throw fail(place, `value "${name}" has ${contents.length} known elements for the shape ${shapeText(shape)}`);
}
