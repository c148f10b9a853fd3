// Where pairs go, which of them share scales, what becomes of weights and biases, and that the result means the same to ONNX
// Runtime once it is written out.

import { describe, expect, it } from "vitest";
import { insertPairs } from "../../src/calibrator/insert.ts";
import { findSites, type SiteOptions, type Sites } from "../../src/calibrator/sites.ts";
import { quantizeBias, quantizeWeights } from "../../src/calibrator/weights.ts";
import { exportModel } from "../../src/importer/export.ts";
import { importModel } from "../../src/importer/import.ts";
import type { Graph } from "../../src/ir/graph.ts";
import { numbersOf, type Tensor, tensor } from "../../src/ir/tensor.ts";
import { verifyGraph } from "../../src/ir/verify.ts";
import { runInterpreted } from "../support/interpret-model.ts";
import { type ModelSpec, model } from "../support/onnx-model.ts";
import { runOnnxRuntime } from "../support/onnxruntime.ts";
import { filled, generator } from "../support/random.ts";

const next = generator(42);
const weights = (shape: readonly number[]): Tensor => filled("f32", shape, next, -0.5, 0.5);
const x = (shape: readonly number[] = [1, 4, 6, 6]): Tensor => filled("f32", shape, next, -1, 1);

type Network = Omit<ModelSpec, "opset" | "inputs"> & { readonly opset?: number; readonly shape?: readonly (number | string)[] };
const network = ({ opset = 13, shape = [1, 4, 6, 6], ...rest }: Network): Uint8Array =>
  model({ opset, inputs: { x: { dtype: "f32", shape } }, ...rest });

/** A residual block behind a convolution, a pool, a classifier. */
const residual: Network = {
  outputs: ["y"],
  initializers: {
    w1: weights([4, 4, 3, 3]),
    b1: weights([4]),
    w2: weights([4, 4, 3, 3]),
    w3: weights([4, 4, 3, 3]),
    f: weights([4, 5]),
    fb: weights([5]),
  },
  nodes: [
    { op: "Conv", name: "first", inputs: ["x", "w1", "b1"], outputs: ["c1"], attributes: { pads: [1, 1, 1, 1] } },
    { op: "Relu", inputs: ["c1"], outputs: ["r1"] },
    { op: "Conv", name: "second", inputs: ["r1", "w2"], outputs: ["c2"], attributes: { pads: [1, 1, 1, 1] } },
    { op: "Add", name: "join", inputs: ["c2", "r1"], outputs: ["s"] },
    { op: "Relu", inputs: ["s"], outputs: ["r2"] },
    { op: "Conv", name: "third", inputs: ["r2", "w3"], outputs: ["c3"], attributes: { pads: [1, 1, 1, 1] } },
    { op: "GlobalAveragePool", inputs: ["c3"], outputs: ["p"] },
    { op: "Flatten", inputs: ["p"], outputs: ["v"] },
    { op: "Gemm", name: "last", inputs: ["v", "f", "fb"], outputs: ["y"] },
  ],
};

/** Two branches joined, pooled, reshaped, and read by a product. */
const branches: Network = {
  outputs: ["y"],
  initializers: { w1: weights([3, 4, 1, 1]), w2: weights([5, 4, 1, 1]), m: weights([9, 7]), to: tensor("i64", [3], [1, 8, 9]) },
  nodes: [
    { op: "Conv", inputs: ["x", "w1"], outputs: ["a"] },
    { op: "Conv", inputs: ["x", "w2"], outputs: ["b"] },
    { op: "Concat", inputs: ["a", "b"], outputs: ["j"], attributes: { axis: 1 } },
    { op: "MaxPool", inputs: ["j"], outputs: ["p"], attributes: { kernel_shape: [2, 2], strides: [2, 2] } },
    { op: "Reshape", inputs: ["p", "to"], outputs: ["v"] },
    { op: "MatMul", inputs: ["v", "m"], outputs: ["y"] },
  ],
};

const groupsOf = (onnx: Uint8Array, options: SiteOptions = {}): string[] =>
  findSites(importModel(onnx), options)
    .groups.map(({ values }) =>
      values
        .map(({ name }) => name)
        .sort()
        .join("+"),
    )
    .sort();

describe("sites", () => {
  /** The numbers of the inputs that the addition reads in bytes. */
  const addedInBytes = (spec: Network): number[] => {
    const { reads } = findSites(importModel(network(spec)));
    return [...reads].flatMap(([{ op }, inputs]) => (op === "Add" ? [...inputs] : [])).sort();
  };

  it("a product adds what it alone makes before it rounds; what is absorbed into kernels gets no scale", () => {
    expect(groupsOf(network(residual))).toEqual(["c3", "p", "r1", "r2", "x"]);
    expect(addedInBytes(residual)).toEqual([1]);
  });

  it("of two products' sum that is in bytes which shares its input with another", () => {
    const side = { op: "Conv", name: "side", inputs: ["x", "w3"], outputs: ["c0"], attributes: { pads: [1, 1, 1, 1] } };
    const nodes = [side, ...residual.nodes.map((node) => (node.op === "Add" ? { ...node, inputs: ["c2", "c0"] } : node))];
    expect(groupsOf(network({ ...residual, nodes }))).toEqual(["c0", "c3", "p", "r1", "r2", "x"]);
    expect(addedInBytes({ ...residual, nodes })).toEqual([1]);
  });

  it("inputs that others read too share a scale", () => {
    const twice = { op: "Conv", name: "other", inputs: ["c2", "w3"], outputs: ["c4"], attributes: { pads: [1, 1, 1, 1] } };
    const nodes = [...residual.nodes, twice];
    expect(groupsOf(network({ ...residual, nodes, outputs: ["y", "c4"] }))).toEqual(["c2+r1", "c3", "p", "r2", "x"]);
    expect(addedInBytes({ ...residual, nodes, outputs: ["y", "c4"] })).toEqual([0, 1]);
  });

  it("the parts of a concatenation share its scale through a pool; a view gets no pair", () => {
    expect(groupsOf(network(branches))).toEqual(["a+b+j+p", "x"]);
  });

  it("calibrates on what leaves pools and concatenations, and on every branch of an addition", () => {
    const measured = (spec: Network): string[] =>
      findSites(importModel(network(spec)))
        .groups.flatMap((group) => group.measured.map(({ name }) => name))
        .sort();
    expect(measured(branches)).toEqual(["p", "x"]);
    expect(measured(residual)).toEqual(["c3", "p", "r1", "r2", "x"]);
  });

  it("leaves out first and last layers, and layers by name", () => {
    expect(groupsOf(network(residual), { firstLayers: false })).toEqual(["c3", "p", "r1", "r2"]);
    expect(groupsOf(network(residual), { lastLayers: false })).toEqual(["c3", "r1", "r2", "x"]);
    expect(groupsOf(network(residual), { keep: ["second", "third"] })).toEqual(["p", "x"]);
  });

  it("an addition that something reads in float stays in float", () => {
    expect(groupsOf(network({ ...residual, outputs: ["y", "s"] }))).toEqual(["c3", "p", "r1", "r2", "x"]);
  });

  it("both operands of an attention product, neither of a product of integers", () => {
    const onnx = model({
      opset: 13,
      inputs: {
        q: { dtype: "f32", shape: [2, 3, 4] },
        k: { dtype: "f32", shape: [2, 4, 3] },
        i: { dtype: "i32", shape: [3, 3] },
      },
      outputs: ["y", "z"],
      nodes: [
        { op: "MatMul", inputs: ["q", "k"], outputs: ["y"] },
        { op: "MatMul", inputs: ["i", "i"], outputs: ["z"] },
      ],
    });
    expect(groupsOf(onnx)).toEqual(["k", "q"]);
  });
});

/** The network with every scale 1/20. */
function quantized(onnx: Uint8Array, options: SiteOptions = {}): { graph: Graph; sites: Sites } {
  const graph = importModel(onnx);
  const sites = findSites(graph, options);
  const made = insertPairs(graph, sites, new Map(sites.groups.flatMap(({ values }) => values).map(({ name }) => [name, 0.05])));
  verifyGraph(made);
  return { graph: made, sites };
}

describe("pairs", () => {
  const cases: Readonly<Record<string, Network>> = { residual, branches };
  for (const [name, spec] of Object.entries(cases)) {
    it(`${name}: one pair a value, one scale a group, and the float network's result nearly`, async () => {
      const onnx = network(spec);
      const { graph, sites } = quantized(onnx);
      const pairs = graph.nodes.filter(({ op }) => op === "QuantizeLinear");
      expect(pairs.length).toBe(sites.groups.flatMap(({ values }) => values).length);
      expect(new Set(pairs.map(({ inputs }) => inputs[1])).size).toBe(sites.groups.length);
      const given = { x: x() };
      const [exact, rounded] = [runInterpreted(onnx, given), runInterpreted(exportModel(graph), given)].map(({ y }) =>
        numbersOf(y!),
      ) as [number[], number[]];
      const size = Math.max(...exact.map(Math.abs));
      expect(Math.max(...exact.map((value, i) => Math.abs(value - rounded[i]!)))).toBeLessThan(0.1 * size);
      expect(rounded).not.toEqual(exact);
    });

    it(`${name}: ONNX Runtime gives the same once it is written out`, async () => {
      const bytes = exportModel(quantized(network(spec)).graph);
      const given = { x: x() };
      const [mine, theirs] = [runInterpreted(bytes, given).y!, (await runOnnxRuntime(bytes, given)).y!];
      expect(theirs.shape).toEqual(mine.shape);
      numbersOf(mine).forEach((value, i) => expect(numbersOf(theirs)[i]).toBeCloseTo(value, 4));
    });
  }

  it("weights that two layers share are written once", () => {
    const shared: Network = {
      outputs: ["y"],
      initializers: { w: weights([4, 4, 1, 1]) },
      nodes: [
        { op: "Conv", inputs: ["x", "w"], outputs: ["a"] },
        { op: "Conv", inputs: ["a", "w"], outputs: ["y"] },
      ],
    };
    const { graph } = quantized(network(shared));
    expect(graph.nodes.filter(({ op, inputs }) => op === "DequantizeLinear" && inputs[0]!.data).length).toBe(1);
  });

  it("leaves a graph with nothing to quantize as it is", () => {
    const plain = importModel(network({ outputs: ["y"], nodes: [{ op: "Relu", inputs: ["x"], outputs: ["y"] }] }));
    expect(insertPairs(plain, findSites(plain), new Map()).nodes).toEqual(plain.nodes);
  });
});

describe("weights", () => {
  it("are rounded to the nearest of 255 levels of their channel", () => {
    const w = tensor("f32", [2, 3], [1, -0.3, 0.004, 100, -127, 0.4]);
    const { data, scales } = quantizeWeights(w, 0);
    expect([...scales]).toEqual([Math.fround(1 / 127), 1]);
    expect(numbersOf(data)).toEqual([127, -38, 1, 100, -127, 0]);
    expect([...quantizeWeights(w, 1).scales]).toEqual([100, 127, 0.4].map((value) => Math.fround(value / 127)));
  });

  it("a channel of zeros has a scale, and one whose bias would overflow a larger one", () => {
    expect([...quantizeWeights(tensor("f32", [2, 1], [0, 1]), 0).scales]).toEqual([1, Math.fround(1 / 127)]);
    const bias = tensor("f32", [2], [1000, 1]);
    const { scales } = quantizeWeights(tensor("f32", [2, 1], [1e-9, 1]), 0, 0.01, bias);
    const { data } = quantizeBias(bias, 0.01, scales);
    expect(Math.abs(numbersOf(data)[0]!)).toBeLessThanOrEqual(2 ** 30 * 1.001);
    expect(numbersOf(data)[0]! * Math.fround(0.01 * scales[0]!)).toBeCloseTo(1000, 3);
  });
});

describe("export", () => {
  const image = [1, 2, 4, 6];
  const old: Readonly<
    Record<
      string,
      {
        opset: number;
        op: string;
        attributes?: NonNullable<Network["nodes"][number]["attributes"]>;
        shape?: readonly number[];
        more?: Readonly<Record<string, Tensor>>;
        outputs?: readonly string[];
      }
    >
  > = {
    "Clip with attributes": { opset: 7, op: "Clip", attributes: { min: { float: -0.25 }, max: 0.5 } },
    "Pad with attributes": { opset: 7, op: "Pad", attributes: { pads: [0, 0, 1, 2, 0, 0, 0, 1], value: { float: 3 } } },
    "Slice with attributes": { opset: 7, op: "Slice", attributes: { axes: [3, 2], starts: [1, 0], ends: [-1, 3] } },
    "Squeeze with attributes": { opset: 7, op: "Squeeze", attributes: { axes: [0] } },
    "Unsqueeze with attributes": { opset: 7, op: "Unsqueeze", attributes: { axes: [0, 2] } },
    "Split with attributes": { opset: 7, op: "Split", attributes: { axis: 3, split: [2, 4] }, outputs: ["y", "z"] },
    "ReduceSum with attributes": { opset: 7, op: "ReduceSum", attributes: { axes: [2, 3], keepdims: 0 } },
    "ReduceMean with attributes": { opset: 7, op: "ReduceMean", attributes: { axes: [1] } },
    "Softmax over the last axis": { opset: 7, op: "Softmax", attributes: { axis: 3 } },
    "Softmax with axes of size 1 behind": { opset: 7, op: "Softmax", shape: [2, 7, 1, 1] },
    Upsample: { opset: 9, op: "Upsample", attributes: { mode: "nearest" }, more: { scales: tensor("f32", [4], [1, 1, 2, 3]) } },
    "Upsample with attributes": { opset: 7, op: "Upsample", attributes: { mode: "linear", scales: { floats: [1, 1, 2, 1] } } },
    "Resize of version 10": {
      opset: 10,
      op: "Resize",
      attributes: { mode: "nearest" },
      more: { scales: tensor("f32", [4], [1, 1, 2, 2]) },
    },
    "TopK with attributes": { opset: 7, op: "TopK", attributes: { k: 3 }, outputs: ["y", "z"] },
    "Dropout of a trained network": { opset: 7, op: "Dropout", attributes: { ratio: { float: 0.5 } } },
    BatchNormalization: {
      opset: 7,
      op: "BatchNormalization",
      attributes: { spatial: 1 },
      more: {
        scale: tensor("f32", [2], [1, 2]),
        shift: tensor("f32", [2], [0, 1]),
        mean: tensor("f32", [2], [0.5, 0]),
        variance: tensor("f32", [2], [1, 4]),
      },
    },
  };
  for (const [name, { opset, op, attributes = {}, shape = image, more = {}, outputs = ["y"] }] of Object.entries(old)) {
    it(`${name} of operator set ${opset} means the same in a newer one`, async () => {
      const onnx = model({
        opset,
        outputs,
        inputs: { x: { dtype: "f32", shape } },
        initializers: more,
        nodes: [{ op, inputs: ["x", ...Object.keys(more)], outputs: [...outputs], attributes }],
      });
      const given = { x: x(shape) };
      const [before, after] = [await runOnnxRuntime(onnx, given), await runOnnxRuntime(exportModel(importModel(onnx)), given)];
      for (const output of outputs) {
        expect(after[output]!.shape).toEqual(before[output]!.shape);
        numbersOf(before[output]!).forEach((value, i) => expect(numbersOf(after[output]!)[i]).toBeCloseTo(value, 5));
      }
    });
  }

  it("writes free sizes, results under two names, constants as results and branches", async () => {
    const onnx = model({
      opset: 17,
      inputs: { x: { dtype: "f32", shape: ["N", 2] }, c: { dtype: "bool", shape: [] } },
      outputs: ["x", "k", "y", "y2"],
      initializers: { k: tensor("f32", [2], [1, 2]) },
      nodes: [
        {
          op: "If",
          inputs: ["c"],
          outputs: ["y"],
          attributes: {
            then_branch: { graph: { inputs: {}, outputs: ["t"], nodes: [{ op: "Add", inputs: ["x", "k"], outputs: ["t"] }] } },
            else_branch: {
              graph: {
                inputs: {},
                outputs: ["e"],
                initializers: { own: tensor("f32", [2], [5, 6]) },
                nodes: [{ op: "Mul", inputs: ["x", "own"], outputs: ["e"] }],
              },
            },
          },
        },
        { op: "Identity", inputs: ["y"], outputs: ["y2"] },
      ],
    });
    const written = exportModel(importModel(onnx));
    for (const c of [0, 1]) {
      const given = { x: tensor("f32", [3, 2], [1, 2, 3, 4, 5, 6]), c: tensor("bool", [], [c]) };
      const [before, after] = [await runOnnxRuntime(onnx, given), await runOnnxRuntime(written, given)];
      for (const name of ["x", "k", "y", "y2"]) expect(numbersOf(after[name]!), name).toEqual(numbersOf(before[name]!));
    }
  });
});
