// Evaluates graphs on the host over made-up inputs, so that tests can compare a graph with what passes made of it.

import { evaluate, symbolsOf } from "../../src/ir/dims.ts";
import type { Graph } from "../../src/ir/graph.ts";
import { bindShape, interpret, type Tensors } from "../../src/ir/interpret.ts";
import { allocate, reader, sizeOf, type Tensor, writer } from "../../src/ir/tensor.ts";
import { isFloat } from "../../src/ir/types.ts";
import { lowerGraph } from "../../src/lowering/lower.ts";
import { inferNode } from "../../src/ops/infer.ts";
import { findOperator } from "../../src/ops/registry.ts";

/** Sets the types of a parsed graph whose text left them out. */
export function inferTypes(graph: Graph): Graph {
  for (const node of graph.nodes) inferNode(node);
  return graph;
}

/** Numbers in [-2, 2) from a seed; the same on every machine. */
function* numbers(seed: number): Generator<number> {
  for (let state = seed >>> 0; ; ) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    yield state / 2 ** 30 - 2;
  }
}

/** Inputs for a graph: symbols are worth what `given` says, others 2, 3, 4, … in order of appearance. */
export function inputsFor(graph: Graph, seed = 1, given: Readonly<Record<string, number>> = {}): Map<string, Tensor> {
  const sizes = new Map<string, number>(Object.entries(given));
  for (const { shape } of graph.inputs)
    for (const dim of shape) for (const name of symbolsOf(dim)) if (!sizes.has(name)) sizes.set(name, sizes.size + 2);
  const source = numbers(seed);
  return new Map(
    graph.inputs.map((value) => {
      const shape = value.shape.map((dim) => evaluate(dim, sizes)!);
      const made: Tensor = { dtype: value.dtype, shape, data: allocate(value.dtype, sizeOf(shape)) };
      const write = writer(made);
      for (let i = 0; i < made.data.length; i++) {
        const drawn = source.next().value!;
        write(i, isFloat(value.dtype) ? drawn : value.dtype === "bool" ? Number(drawn > 0) : Math.floor(Math.abs(drawn) * 2));
      }
      return [value.name, value.assumed ?? made];
    }),
  );
}

/** What a graph computes, by output name. */
export function evaluateGraph(graph: Graph, inputs: ReadonlyMap<string, Tensor>): Map<string, Tensor> {
  const program = lowerGraph(graph);
  const bindings = new Map<string, number>();
  const tensors: Tensors = new Map();
  for (const value of program.inputs) {
    const tensor = inputs.get(value.name)!;
    bindShape(value.shape, tensor.shape, bindings);
    tensors.set(value, tensor);
  }
  interpret(program.tasks, tensors, bindings, (task, operands) =>
    (findOperator("", task.op) ?? findOperator("com.microsoft", task.op))!.reference!(operands, task.attrs),
  );
  return new Map(program.outputs.map(({ name, value }) => [name, tensors.get(value) ?? value.data!]));
}

/** The largest difference between two tensors over max(1, |b|); infinite when types or shapes differ. */
export function distance(a: Tensor, b: Tensor): number {
  if (a.dtype !== b.dtype || a.shape.join() !== b.shape.join()) return Number.POSITIVE_INFINITY;
  const [readA, readB] = [reader(a), reader(b)];
  let worst = 0;
  for (let i = 0; i < a.data.length; i++) {
    const [x, y] = [readA(i), readB(i)];
    if (Object.is(x, y) || x === y) continue;
    const gap = Math.abs(x - y) / Math.max(1, Math.abs(y));
    worst = Math.max(worst, Number.isNaN(gap) ? Number.POSITIVE_INFINITY : gap);
  }
  return worst;
}
