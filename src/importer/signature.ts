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

/** A declared shape: numbers, the sizes given, and symbols for what stays free. */
export const declaredShape = ({ name, type }: ValueInfoProto, sizes: Sizes = {}): Dim[] =>
  (type?.tensorType?.shape?.dim ?? []).map(({ dimParam, dimValue }, axis): Dim => {
    if (!dimParam && dimValue != null) return toNumber(dimValue);
    const free = dimParam || `${name}.${axis}`;
    return sizes[free] ?? symbol(free);
  });

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
