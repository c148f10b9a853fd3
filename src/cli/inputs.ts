// The tensors that a run is fed: from .npy files, from what the engine was built for, or random.

import type { Plan, PlanInput } from "../engine/plan.ts";
import { DimensionTable } from "../engine/shapes.ts";
import { type Tensor, tensor } from "../ir/tensor.ts";
import { unknownInputs } from "../util/errors.ts";
import { readBytes } from "./files.ts";
import { readNpy } from "./npy.ts";
import { tensorType } from "./print.ts";
import { randomTensor, seedOf } from "./random.ts";

export interface InputFlags {
  /** .npy files by input. */
  readonly loadInputs?: Readonly<Record<string, string>>;
  readonly shapes?: Readonly<Record<string, readonly number[]>>;
  readonly optShapes?: Readonly<Record<string, readonly number[]>>;
  readonly seed?: number;
}

export interface PreparedInputs {
  readonly tensors: Readonly<Record<string, Tensor>>;
  /** A line about each input that no file gave. */
  readonly remarks: readonly string[];
}

/**
 * Free dimensions come from the files, then --shapes, then the profile's optimum, then 1.
 * Errors: K003 and K005 for files, K603 for names that are no inputs.
 */
export function prepareInputs(
  plan: Pick<Plan, "inputs" | "profiles">,
  { loadInputs = {}, shapes = {}, optShapes = {}, seed = 0 }: InputFlags,
): PreparedInputs {
  const known = plan.inputs.map(({ name }) => name);
  const unknown = [...Object.keys(loadInputs), ...Object.keys(shapes)].filter((name) => !known.includes(name));
  if (unknown.length > 0) throw unknownInputs([...new Set(unknown)], known);
  const loaded = new Map(
    Object.entries(loadInputs).map(([name, file]) => [
      name,
      fitted(readNpy(readBytes(file, ".npy file"), file), plan.inputs.find((input) => input.name === name)!),
    ]),
  );
  const table = new DimensionTable();
  const sizes = new Map<string, number>();
  for (const { name, shape } of plan.inputs) {
    const given = loaded.get(name)?.shape ?? shapes[name] ?? optShapes[name];
    shape.forEach((text, axis) => {
      const symbol = table.symbolOf(text);
      if (symbol !== undefined && given?.[axis] !== undefined && !sizes.has(symbol)) sizes.set(symbol, given[axis]);
    });
  }
  const sizeOfSymbol = {
    get: (symbol: string): number =>
      sizes.get(symbol) ?? plan.profiles.find(({ symbols }) => symbols[symbol])?.symbols[symbol]?.opt ?? 1,
  };
  const tensors: Record<string, Tensor> = {};
  const remarks: string[] = [];
  for (const { name, dtype, shape, assumed } of plan.inputs) {
    const file = loaded.get(name);
    const size = shapes[name] ?? shape.map((text) => table.evaluate(text, sizeOfSymbol as ReadonlyMap<string, number>));
    if (file) tensors[name] = file;
    else if (assumed) {
      tensors[name] = tensor(dtype, size, assumed.map(Number));
      remarks.push(`input "${name}": what the engine was built for, ${tensorType(tensors[name])}`);
    } else {
      tensors[name] = randomTensor(dtype, size, seedOf(seed, name));
      remarks.push(`input "${name}": random ${tensorType(tensors[name])}, seed ${seed}`);
    }
  }
  return { tensors, remarks };
}

/** NumPy has no bfloat16: float32 is rounded for inputs that are. */
function fitted(array: Tensor, { dtype }: PlanInput): Tensor {
  return dtype === "bf16" && array.dtype === "f32" ? tensor("bf16", array.shape, array.data as Float32Array) : array;
}
