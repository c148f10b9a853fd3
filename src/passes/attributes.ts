// What rules ask about nodes and constants.

import { type Dim, isStatic, sameShape } from "../ir/dims.ts";
import type { GraphNode } from "../ir/graph.ts";
import { contentsOf } from "../ir/lower.ts";
import { reader, sizeOf, type Tensor, tensor } from "../ir/tensor.ts";
import type { DType } from "../ir/types.ts";
import type { Value } from "../ir/value.ts";
import { AttributeReader } from "../ops/define.ts";

export const attributesOf = (node: GraphNode): AttributeReader => new AttributeReader(node, node.attributes);

/** True when only the first output is wanted. */
export const hasOneOutput = (node: GraphNode): boolean => node.outputs.slice(1).every((value) => !value);

/** Integers that an input, or in older versions an attribute, gives; undefined when unknown, or `absent` when neither is there. */
export function integers(
  node: GraphNode,
  input: number,
  attribute: string,
  absent?: readonly number[],
): readonly number[] | undefined {
  const value = node.inputs[input];
  if (!value) return attributesOf(node).ints(attribute) ?? absent;
  const contents = contentsOf(value);
  return contents?.every(isStatic) ? (contents as readonly number[]) : undefined;
}

/** True when every element of a constant is `wanted`. */
export function isFilled({ data }: Value, wanted: number): boolean {
  if (!data) return false;
  const read = reader(data);
  for (let i = 0; i < data.data.length; i++) if (!Object.is(read(i), wanted)) return false;
  return true;
}

export const filled = (dtype: DType, shape: readonly number[], value: number): Tensor =>
  tensor(dtype, shape, new Array<number>(sizeOf(shape)).fill(value));

/** Without the leading 1s by which it may exceed `rank`. */
export function trimmedShape(shape: readonly Dim[], rank: number): readonly Dim[] {
  let extra = 0;
  while (shape.length - extra > rank && shape[extra] === 1) extra++;
  return shape.slice(extra);
}

export const hasShape = (value: Value, shape: readonly Dim[]): boolean => sameShape(value.shape, shape);
