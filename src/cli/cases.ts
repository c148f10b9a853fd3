// ONNX's backend test cases on disk: model.onnx beside test_data_set_N/input_K.pb and output_K.pb.

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join, relative } from "node:path";
import { decodeTensorProto } from "../importer/proto.ts";
import { decodeTensor } from "../importer/tensors.ts";
import type { Tensor } from "../ir/tensor.ts";
import { reader } from "../ir/tensor.ts";
import { isFloat } from "../ir/types.ts";

export interface CaseData {
  readonly inputs: readonly Tensor[];
  readonly outputs: readonly Tensor[];
}

/** Folders below `dir` that hold a model.onnx and at least one test_data_set, by their relative path. */
export function findCases(dir: string): { readonly name: string; readonly folder: string }[] {
  const found: { name: string; folder: string }[] = [];
  const look = (folder: string): void => {
    const entries = readdirSync(folder, { withFileTypes: true });
    if (
      entries.some((entry) => entry.name === "model.onnx") &&
      entries.some((entry) => entry.name.startsWith("test_data_set_"))
    ) {
      found.push({ name: relative(dir, folder) || folder, folder });
      return;
    }
    for (const entry of entries) if (entry.isDirectory()) look(join(folder, entry.name));
  };
  look(dir);
  return found.sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** All data sets of a case. Throws where a tensor is of a kind that Kiln does not hold. */
export function readCaseData(folder: string): CaseData[] {
  const sets = readdirSync(folder)
    .filter((name) => name.startsWith("test_data_set_"))
    .sort();
  return sets.map((set) => ({
    inputs: readTensors(join(folder, set), "input"),
    outputs: readTensors(join(folder, set), "output"),
  }));
}

function readTensors(folder: string, kind: "input" | "output"): Tensor[] {
  const tensors: Tensor[] = [];
  for (let i = 0; existsSync(join(folder, `${kind}_${i}.pb`)); i++) {
    const proto = decodeTensorProto(readFileSync(join(folder, `${kind}_${i}.pb`)));
    tensors.push(
      decodeTensor(proto, () => {
        throw new Error("external data in a test case");
      }),
    );
  }
  return tensors;
}

export interface Tolerance {
  readonly rtol: number;
  readonly atol: number;
}

/** ONNX's own tolerances, widened for the 16-bit floats to a few of their rounding steps. */
export const toleranceOf = (dtype: Tensor["dtype"]): Tolerance =>
  dtype === "f16" ? { rtol: 2e-3, atol: 1e-3 } : dtype === "bf16" ? { rtol: 2e-2, atol: 1e-2 } : { rtol: 1e-3, atol: 1e-7 };

/** The first difference beyond the tolerance, in words; undefined when equal. NaN equals NaN; integers must be equal. */
export function difference(
  actual: Tensor,
  expected: Tensor,
  tolerance: Tolerance = toleranceOf(expected.dtype),
): string | undefined {
  if (actual.dtype !== expected.dtype) return `type ${actual.dtype}, expected ${expected.dtype}`;
  if (actual.shape.join() !== expected.shape.join())
    return `shape [${actual.shape.join(", ")}], expected [${expected.shape.join(", ")}]`;
  const [a, e] = [reader(actual), reader(expected)];
  const exact = !isFloat(expected.dtype);
  for (let i = 0; i < expected.data.length; i++) {
    if (exact ? actual.data[i] === expected.data[i] : closeTo(a(i), e(i), tolerance)) continue;
    return `element ${i} is ${exact ? actual.data[i] : a(i)}, expected ${exact ? expected.data[i] : e(i)}`;
  }
  return undefined;
}

const closeTo = (a: number, e: number, { rtol, atol }: Tolerance): boolean =>
  Object.is(a, e) || a === e || (Number.isNaN(a) && Number.isNaN(e)) || Math.abs(a - e) <= atol + rtol * Math.abs(e);
