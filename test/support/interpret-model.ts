// Runs a model on the host through import, lowering and the interpreter: the expressions that the GPU's kernels are made of.

import { type ImportOptions, importModel } from "../../src/importer/import.ts";
import { bindShape, interpret } from "../../src/ir/interpret.ts";
import type { Tensor } from "../../src/ir/tensor.ts";
import type { Value } from "../../src/ir/value.ts";
import { lowerGraph } from "../../src/lowering/lower.ts";
import { hostOperator } from "../../src/ops/host.ts";

/** Outputs by name. `options.assumed` fixes inputs whose values decide shapes. */
export function runInterpreted(
  bytes: Uint8Array,
  inputs: Readonly<Record<string, Tensor>>,
  options: ImportOptions = {},
): Record<string, Tensor> {
  const program = lowerGraph(importModel(bytes, options));
  const bindings = new Map<string, number>();
  const tensors = new Map<Value, Tensor>();
  for (const value of program.inputs) {
    const given = inputs[value.name];
    if (!given) throw new Error(`input ${value.name} is missing`);
    bindShape(value.shape, given.shape, bindings);
    tensors.set(value, given);
  }
  interpret(program.tasks, tensors, bindings, ({ op, attrs }, read) => {
    const operator = hostOperator(op);
    if (!operator) throw new Error(`${op} has no reference`);
    return operator(read, attrs);
  });
  return Object.fromEntries(program.outputs.map(({ name, value }) => [name, (tensors.get(value) ?? value.data)!]));
}
