// What a model takes and gives, as its file declares it: names, element types and shapes, without a look at its nodes.

import { type Dim, symbol } from "../ir/dims.ts";
import type { DType } from "../ir/types.ts";
import { decodeModel, toNumber, type ValueInfoProto } from "./proto.ts";
import { dtypeOf } from "./tensors.ts";

/** Sizes of free dimensions, by name; one without a name is "input.axis". */
export type Sizes = Readonly<Record<string, number>>;

export interface Declared {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly Dim[];
}
export interface Undeclared {
  readonly name: string;
  readonly dtype?: undefined;
}
export interface Signature {
  /** Without those that have an initializer. */
  readonly inputs: readonly Declared[];
  /** An output's type may be left to inference. */
  readonly outputs: readonly (Declared | Undeclared)[];
}

/** Each dimension: a number, or the name of a free one. */
const dimensionsOf = ({ name, type }: ValueInfoProto): (number | string)[] =>
  (type?.tensorType?.shape?.dim ?? []).map(({ dimParam, dimValue }, axis) =>
    !dimParam && dimValue != null ? toNumber(dimValue) : dimParam || `${name}.${axis}`,
  );

/** A declared shape: numbers, the sizes given, and symbols for what stays free. */
export const declaredShape = (info: ValueInfoProto, sizes: Sizes = {}): Dim[] =>
  dimensionsOf(info).map((dim): Dim => (typeof dim === "number" ? dim : (sizes[dim] ?? symbol(dim))));

/** Axes whose sizes have a name that is asked for. */
export const freeAxes = (info: ValueInfoProto, isAsked: (name: string) => boolean): number[] =>
  dimensionsOf(info).flatMap((dim, axis) => (typeof dim === "string" && isAsked(dim) ? [axis] : []));

/** Bounds of inputs' shapes, by name. */
export type ShapeBounds = Readonly<Record<string, { readonly min?: readonly number[]; readonly max?: readonly number[] }>>;

/** Sizes of the free dimensions to which every profile gives one size, and all of them the same. */
export function pinnedSizes(inputs: readonly ValueInfoProto[], profiles: readonly ShapeBounds[]): Sizes {
  const each = profiles.map((bounds) => {
    const sizes = new Map<string, number>();
    for (const info of inputs) {
      const { min = [], max = [] } = bounds[info.name ?? ""] ?? {};
      dimensionsOf(info).forEach((dim, axis) => {
        if (typeof dim === "string" && min[axis] !== undefined && min[axis] === max[axis]) sizes.set(dim, min[axis]);
      });
    }
    return sizes;
  });
  const [first, ...others] = each;
  return Object.fromEntries([...(first ?? [])].filter(([name, size]) => others.every((sizes) => sizes.get(name) === size)));
}

/** Errors: K101–K103 for what is no model, K202 for types that Kiln does not hold. */
export function readSignature(bytes: Uint8Array, file: string, sizes: Sizes): Signature {
  const graph = decodeModel(bytes, file).graph!;
  const constants = new Set((graph.initializer ?? []).map(({ name }) => name));
  const declared = (info: ValueInfoProto, role: string): Declared => ({
    name: info.name ?? "",
    dtype: dtypeOf(info.type?.tensorType?.elemType ?? 0, `${role} "${info.name}"`),
    shape: declaredShape(info, sizes),
  });
  return {
    inputs: (graph.input ?? []).filter(({ name }) => !constants.has(name)).map((info) => declared(info, "input")),
    outputs: (graph.output ?? []).map((info) => (info.type ? declared(info, "output") : { name: info.name ?? "" })),
  };
}
