// onnxruntime adds an InstanceNormalization's elements in one long chain of f32 sums, which is off by up to a percent for
// pictures: the reference computes the same formula in f64.

import type { ModelProto, NodeProto, TensorProto } from "../importer/proto.ts";

const INT64 = 7;
const FLOAT = 1;
const DOUBLE = 11;
const INT = 2;
const TENSOR = 4;
const INTS = 7;
/** The operator set from which on ReduceMean takes its axes as an input. */
const AXES_ARE_INPUT = 18;

const constant = (name: string, t: TensorProto): NodeProto => ({
  opType: "Constant",
  name,
  input: [],
  output: [name],
  attribute: [{ name: "value", type: TENSOR, t }],
});
const ints = (name: string, values: readonly number[]): NodeProto =>
  constant(name, {
    dataType: INT64,
    dims: [values.length],
    rawData: new Uint8Array(BigInt64Array.from(values, BigInt).buffer),
  });
const scalar = (name: string, value: number): NodeProto =>
  constant(name, { dataType: DOUBLE, dims: [], rawData: new Uint8Array(Float64Array.of(value).buffer) });

/** The model with every f32 InstanceNormalization of the outermost graph spelled out: (x − mean) / √(variance + ε) · scale + bias. */
export function withPreciseNormalization(model: ModelProto): ModelProto {
  const graph = model.graph;
  const floats = new Set(graph?.initializer?.flatMap(({ name, dataType }) => (name && dataType === FLOAT ? [name] : [])));
  const isSpelled = ({ opType, domain, input }: NodeProto): boolean =>
    opType === "InstanceNormalization" && !domain && floats.has(input?.[1] ?? "");
  if (!graph?.node?.some(isSpelled)) return model;
  const version = Number(model.opsetImport?.find(({ domain }) => !domain)?.version ?? 1);
  const node = graph.node.flatMap((one, i) => (isSpelled(one) ? spell(one, `kiln.precise.${i}`, version) : [one]));
  return { ...model, graph: { ...graph, node } };
}

function spell(node: NodeProto, prefix: string, version: number): NodeProto[] {
  const [x = "", scale = "", bias = ""] = node.input ?? [];
  const epsilon = node.attribute?.find(({ name }) => name === "epsilon")?.f ?? 1e-5;
  const at = (name: string): string => `${prefix}.${name}`;
  const op = (opType: string, input: readonly string[], output: string): NodeProto => ({
    opType,
    name: output,
    input: [...input],
    output: [output],
  });
  const cast = (input: string, output: string, to: number): NodeProto => ({
    ...op("Cast", [input], output),
    attribute: [{ name: "to", type: INT, i: to }],
  });
  const mean = (input: string, output: string): NodeProto =>
    version >= AXES_ARE_INPUT
      ? op("ReduceMean", [input, at("axes")], output)
      : { ...op("ReduceMean", [input], output), attribute: [{ name: "axes", type: INTS, ints: [2] }] };
  return [
    ints(at("rows"), [0, 0, -1]),
    ints(at("column"), [-1, 1]),
    ints(at("axes"), [2]),
    scalar(at("epsilon"), epsilon),
    op("Shape", [x], at("shape")),
    op("Reshape", [x, at("rows")], at("rows of x")),
    cast(at("rows of x"), at("x"), DOUBLE),
    mean(at("x"), at("mean")),
    op("Sub", [at("x"), at("mean")], at("centred")),
    op("Mul", [at("centred"), at("centred")], at("squared")),
    mean(at("squared"), at("variance")),
    op("Add", [at("variance"), at("epsilon")], at("safe")),
    op("Sqrt", [at("safe")], at("deviation")),
    op("Div", [at("centred"), at("deviation")], at("normal")),
    op("Reshape", [scale, at("column")], at("column of scale")),
    op("Reshape", [bias, at("column")], at("column of bias")),
    cast(at("column of scale"), at("scale"), DOUBLE),
    cast(at("column of bias"), at("bias"), DOUBLE),
    op("Mul", [at("normal"), at("scale")], at("scaled")),
    op("Add", [at("scaled"), at("bias")], at("rows of y")),
    cast(at("rows of y"), at("y"), FLOAT),
    op("Reshape", [at("y"), at("shape")], node.output![0]!),
  ];
}
