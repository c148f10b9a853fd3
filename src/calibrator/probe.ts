// A network in which every scale, and every layer's precision, is an input: what each choice costs in the outputs' accuracy is
// measured by running it, without compiling anything anew.

import type { Graph, GraphNode } from "../ir/graph.ts";
import { allocate, reader, scalarTensor, sizeOf, type Tensor, tensor, writer } from "../ir/tensor.ts";
import { dtypeFacts, isFloat } from "../ir/types.ts";
import { makeValue, type Value } from "../ir/value.ts";
import type { Sample } from "./collect.ts";
import { Draft } from "./draft.ts";
import type { MakeRunner, Runner } from "./quantize.ts";
import { type Sites, weightsOf } from "./sites.ts";
import { quantizeWeights } from "./weights.ts";

const SCALES = "int8/scales";
const LAYERS = "int8/layers";

export class Probe {
  private constructor(
    private readonly sites: Sites,
    private readonly runner: Runner,
    private readonly samples: readonly Sample[],
    private readonly expected: readonly Outputs[],
  ) {}

  /** Compiles the network, and runs it in float on the samples to measure on. */
  static async open(graph: Graph, sites: Sites, samples: readonly Sample[], makeRunner: MakeRunner): Promise<Probe> {
    const runner = await makeRunner(probeGraph(graph, sites));
    const float = inputsFor(
      sites,
      () => 1,
      () => false,
    );
    const expected: Outputs[] = [];
    for (const sample of samples) expected.push(await runner.run({ ...sample, ...float }));
    return new Probe(sites, runner, samples, expected);
  }

  /** The error of the outputs, relative to what the float network gives, with `scales` and the layers for which `isOn`. */
  async error(scales: ReadonlyMap<string, number>, isOn: (node: GraphNode) => boolean): Promise<number> {
    const inputs = inputsFor(this.sites, (name) => scales.get(name)!, isOn);
    let sum = 0;
    for (const [i, sample] of this.samples.entries())
      sum += relativeRms(await this.runner.run({ ...sample, ...inputs }), this.expected[i]!);
    return sum / this.samples.length;
  }

  /** The error that each product alone contributes, the largest first. */
  async sensitivity(scales: ReadonlyMap<string, number>): Promise<{ readonly layer: string; readonly error: number }[]> {
    const found: { layer: string; error: number }[] = [];
    for (const product of this.sites.products)
      found.push({ layer: product.name, error: await this.error(scales, (node) => node === product) });
    return found.sort((a, b) => b.error - a.error);
  }

  dispose(): void {
    this.runner.dispose();
  }
}

type Outputs = Readonly<Record<string, Tensor>>;

function inputsFor(
  sites: Sites,
  scaleOf: (name: string) => number,
  isOn: (node: GraphNode) => boolean,
): Record<string, Tensor> {
  const layers = [...sites.reads.keys()];
  return {
    [SCALES]: tensor(
      "f32",
      [sites.groups.length],
      sites.groups.map(({ values }) => scaleOf(values[0]!.name)),
    ),
    [LAYERS]: tensor(
      "bool",
      [layers.length],
      layers.map((node) => Number(isOn(node))),
    ),
  };
}

/** The graph with each layer's quantized inputs and weights rounded where its switch is on. */
function probeGraph(graph: Graph, sites: Sites): Graph {
  const draft = new Draft(graph);
  const scales = makeValue(SCALES, "f32", [sites.groups.length]);
  const switches = makeValue(LAYERS, "bool", [sites.reads.size]);
  const pick = (from: Value, i: number, name: string): Value =>
    draft.node("Gather", name, [from, draft.constant(`${name}/index`, scalarTensor("i64", i))]);
  const groupOf = new Map<Value, number>(
    sites.groups.flatMap(({ values }, i) => values.map((value): [Value, number] => [value, i])),
  );
  const zero = draft.constant("int8/zero", scalarTensor("i8", 0));
  const instead = new Map<Value, Value>();

  const round = (value: Value): void => {
    const group = groupOf.get(value);
    if (group === undefined) return;
    const name = `int8/${value.name}`;
    const scale = pick(scales, group, `${name}/scale`);
    const bytes = draft.node("QuantizeLinear", `${name}/quantized`, [value, scale, zero], {}, 23);
    instead.set(
      value,
      draft.node(
        "DequantizeLinear",
        `${name}/rounded`,
        [bytes, scale, zero],
        { output_dtype: { kind: "int", value: dtypeFacts[value.dtype].onnx } },
        23,
      ),
    );
  };

  const products = new Set(sites.products);
  for (const value of graph.inputs) round(value);
  for (const node of graph.nodes) {
    const reads = sites.reads.get(node);
    if (reads) {
      const on = pick(switches, [...sites.reads.keys()].indexOf(node), `int8/${node.name}/on`);
      const either = (rounded: Value, exact: Value): Value =>
        draft.node("Where", `int8/${node.name}/${exact.name}`, [on, rounded, exact]);
      const inputs = node.inputs.map((value, i) =>
        value && reads.has(i) && instead.has(value) ? either(instead.get(value)!, value) : value,
      );
      const weights = products.has(node) ? weightsOf(node) : undefined;
      if (weights)
        inputs[weights.at] = either(
          draft.constant(`int8/${weights.value.name}`, roundedWeights(weights.value.data!, weights.axis)),
          weights.value,
        );
      draft.nodes.push({ ...node, inputs });
    } else draft.nodes.push(node);
    for (const value of node.outputs) if (value) round(value);
  }
  return { ...graph, inputs: [...graph.inputs, scales, switches], nodes: draft.nodes };
}

/** Weights as their integers stand for them. */
function roundedWeights(weights: Tensor, axis: number): Tensor {
  const { data, scales } = quantizeWeights(weights, axis);
  const inner = weights.shape.slice(axis + 1).reduce((a, b) => a * b, 1);
  const made: Tensor = { ...weights, data: allocate(weights.dtype, weights.data.length) };
  const write = writer(made);
  for (let i = 0; i < made.data.length; i++)
    write(i, (data.data[i] as number) * scales[Math.floor(i / inner) % scales.length]!);
  return made;
}

/** Root of the mean square of the error over that of the expected values, the mean of the float outputs'. */
export function relativeRms(actual: Outputs, expected: Outputs): number {
  const names = Object.keys(expected).filter((name) => isFloat(expected[name]!.dtype) && sizeOf(expected[name]!.shape) > 0);
  const ratios = names.map((name) => {
    const [a, e] = [reader(actual[name]!), reader(expected[name]!)];
    let [error, total] = [0, 0];
    for (let i = 0; i < expected[name]!.data.length; i++) {
      error += (a(i) - e(i)) ** 2;
      total += e(i) ** 2;
    }
    const ratio = error === 0 ? 0 : Math.sqrt(error / total);
    return Number.isNaN(ratio) ? Number.POSITIVE_INFINITY : ratio;
  });
  return ratios.reduce((sum, ratio) => sum + ratio, 0) / Math.max(1, ratios.length);
}
