// RNN, GRU and LSTM, and control flow: properties and models against ONNX Runtime, and what the lowerings make of them.

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { difference } from "../../src/cli/cases.ts";
import { importModel } from "../../src/importer/import.ts";
import { type LoopTask, readsOf, type Task, writesOf } from "../../src/ir/task.ts";
import { numbersOf, type Tensor, tensor } from "../../src/ir/tensor.ts";
import { lowerGraph } from "../../src/lowering/lower.ts";
import { list, modelOf, property, size } from "../support/agreement.ts";
import { runInterpreted } from "../support/interpret-model.ts";
import { type GraphSpec, type ModelSpec, model, type NodeSpec } from "../support/onnx-model.ts";
import { runOnnxRuntime } from "../support/onnxruntime.ts";
import { filled, generator } from "../support/random.ts";

const f32 = (shape: readonly number[], seed = 1): Tensor => filled("f32", shape, generator(seed), -1, 1);
const i64 = (values: readonly number[], shape: readonly number[] = []): Tensor => tensor("i64", shape, values);
const bool = (value: boolean): Tensor => tensor("bool", [], [Number(value)]);

// --- recurrent -------------------------------------------------------------------------------------------------------------

const GATES = { RNN: 1, GRU: 3, LSTM: 4 } as const;
const FUNCTIONS = { RNN: 1, GRU: 2, LSTM: 3 } as const;
type Op = keyof typeof GATES;

interface Drawn {
  op: Op;
  steps: number;
  batch: number;
  width: number;
  hidden: number;
  direction: string;
  bias: boolean;
  lengths: number[] | undefined;
  initial: boolean;
  peepholes: boolean;
  clip: boolean;
  activations: string[] | undefined;
  variant: number;
}

const drawn: { [K in keyof Drawn]: fc.Arbitrary<Drawn[K]> } = {
  op: fc.constantFrom<Op>("RNN", "GRU", "LSTM"),
  steps: size(4),
  batch: fc.constantFrom(1, 2, 3, 9),
  width: size(3),
  hidden: size(4),
  direction: fc.constantFrom("forward", "reverse", "bidirectional"),
  bias: fc.boolean(),
  lengths: fc.option(list(fc.nat(), 9), { nil: undefined }),
  initial: fc.boolean(),
  peepholes: fc.boolean(),
  clip: fc.boolean(),
  // ONNX Runtime has 0 where ONNX has the operators' own defaults of the activations that are left out here.
  activations: fc.option(
    list(fc.constantFrom("Relu", "Tanh", "Sigmoid", "LeakyRelu", "HardSigmoid", "Elu", "Softsign", "Softplus"), 6),
    { nil: undefined },
  ),
  variant: size(1, 0),
};

function recurrent(
  { op, steps, batch, width, hidden, direction, bias, lengths, initial, peepholes, clip, activations, variant }: Drawn,
  next: () => number,
) {
  const directions = direction === "bidirectional" ? 2 : 1;
  const rows = GATES[op] * hidden;
  const values = (shape: readonly number[]): Tensor => filled("f32", shape, next, -1, 1);
  const state = initial ? values([directions, batch, hidden]) : undefined;
  return {
    op,
    opset: 14,
    attributes: {
      hidden_size: hidden,
      direction,
      ...(clip ? { clip: { float: 0.5 } } : {}),
      ...(activations ? { activations: activations.slice(0, FUNCTIONS[op] * directions) } : {}),
      ...(op === "GRU" ? { linear_before_reset: variant } : op === "LSTM" ? { input_forget: variant } : {}),
    },
    inputs: {
      x: values([steps, batch, width]),
      w: values([directions, rows, width]),
      r: values([directions, rows, hidden]),
      b: bias ? values([directions, 2 * rows]) : undefined,
      lengths:
        lengths &&
        tensor(
          "i32",
          [batch],
          lengths.slice(0, batch).map((n) => 1 + (n % steps)),
        ),
      h: state,
      ...(op === "LSTM"
        ? { c: state && values([directions, batch, hidden]), p: peepholes ? values([directions, 3 * hidden]) : undefined }
        : {}),
    },
    outputs: op === "LSTM" ? ["y", "h_last", "c_last"] : ["y", "h_last"],
  };
}

describe("recurrent", () => {
  property<Drawn>("agrees with ONNX Runtime", drawn, recurrent, { rtol: 1e-3, atol: 1e-4 });

  test("the batch may come first", () => {
    const swap = ({ shape, data }: Tensor): Tensor => {
      const [a, b, ...rest] = shape as [number, number, ...number[]];
      const width = rest.reduce((x, y) => x * y, 1);
      return tensor(
        "f32",
        [b, a, ...rest],
        Array.from(
          { length: data.length },
          (_, i) => data[(Math.floor(i / width) % a) * b * width + Math.floor(i / width / a) * width + (i % width)] as number,
        ),
      );
    };
    const inputs = {
      x: f32([3, 2, 2], 1),
      w: f32([2, 12, 2], 2),
      r: f32([2, 12, 3], 3),
      b: undefined,
      lengths: undefined,
      h: f32([2, 2, 3], 4),
      c: f32([2, 2, 3], 5),
    };
    const run = (layout: number, given: typeof inputs): Record<string, Tensor> => {
      const { bytes, fed } = modelOf({
        op: "LSTM",
        opset: 14,
        attributes: { hidden_size: 3, direction: "bidirectional", layout },
        inputs: given,
        outputs: ["y", "h_last", "c_last"],
      });
      return runInterpreted(bytes, fed);
    };
    const [steps, items] = [run(0, inputs), run(1, { ...inputs, x: swap(inputs.x), h: swap(inputs.h), c: swap(inputs.c) })];
    for (const name of ["h_last", "c_last"]) expect(difference(items[name]!, swap(steps[name]!))).toBeUndefined();
    // [steps, directions, batch, hidden] against [batch, steps, directions, hidden].
    const expected = swap({ ...steps.y!, shape: [6, 2, 3] });
    expect(difference(items.y!, { ...expected, shape: [2, 3, 2, 3] })).toBeUndefined();
  });

  test("one step needs no loop, a small batch one kernel a step", () => {
    const tasks = (steps: number, batch: number): readonly Task[] => {
      const { bytes } = modelOf({
        op: "LSTM",
        opset: 14,
        attributes: { hidden_size: 3 },
        inputs: { x: f32([steps, batch, 2]), w: f32([1, 12, 2]), r: f32([1, 12, 3]) },
      });
      return lowerGraph(importModel(bytes)).tasks;
    };
    expect(tasks(1, 2).map(({ kind }) => kind)).toEqual(["gemm", "map", "map", "reduce"]);
    const loop = (batch: number): LoopTask => tasks(5, batch).find((task) => task.kind === "loop") as LoopTask;
    expect(loop(2).body.map(({ kind }) => kind)).toEqual(["reduce"]);
    expect(loop(100).body.map(({ kind }) => kind)).toEqual(["gemm", "map"]);
  });
});

// --- control ---------------------------------------------------------------------------------------------------------------

const node = (
  op: string,
  inputs: readonly string[],
  outputs: readonly string[],
  attributes: NodeSpec["attributes"] = {},
): NodeSpec => ({ op, inputs, outputs, attributes });
const scalar = { dtype: "i64", shape: [] } as const;
const vector = { dtype: "f32", shape: [3] } as const;

/** Agrees with ONNX Runtime; gives the tasks for a closer look. */
async function agree(
  spec: Omit<ModelSpec, "inputs" | "opset"> & { opset?: number },
  inputs: Record<string, Tensor>,
  symbolic: readonly string[] = [],
): Promise<readonly Task[]> {
  const declared = Object.fromEntries(
    Object.entries(inputs).map(([name, { dtype, shape }]) => [
      name,
      { dtype, shape: symbolic.includes(name) ? shape.map((_, axis) => `${name}${axis}`) : shape },
    ]),
  );
  const bytes = model({ opset: 13, ...spec, inputs: declared });
  const [expected, actual] = [await runOnnxRuntime(bytes, inputs), runInterpreted(bytes, inputs)];
  for (const name of spec.outputs)
    expect(difference(actual[name]!, expected[name]!, { rtol: 1e-4, atol: 1e-5 }), name).toBeUndefined();
  return lowerGraph(importModel(bytes)).tasks;
}

/** A body over the turn, the condition and `a`; `nodes` compute `keep`, `a2` and the scans. */
const body = (
  nodes: readonly NodeSpec[],
  scans: readonly string[],
  more: GraphSpec["inputs"] = {},
  results: readonly string[] = ["a2"],
): { graph: GraphSpec } => ({
  graph: {
    inputs: { turn: scalar, going: { dtype: "bool", shape: [] }, a: vector, ...more },
    nodes,
    outputs: ["keep", ...results, ...scans],
  },
});
const goOn = node("Identity", ["going"], ["keep"]);
/** a2 = a + turn, s = a · x. */
const advance = [
  node("Cast", ["turn"], ["time"], { to: 1 }),
  node("Add", ["a", "time"], ["a2"]),
  node("Mul", ["a", "x"], ["s"]),
];

const kinds = (tasks: readonly Task[]): string[] => tasks.map(({ kind }) => kind);

describe("Loop", () => {
  const start = { a0: f32([3], 1), x: f32([3], 2) };

  for (const trips of [0, 1, 3, 70])
    for (const fixed of [true, false]) {
      const label = `${trips} turns, ${fixed ? "known" : "not known"} before`;
      const initializers = {
        yes: bool(true),
        limit: i64([2]),
        two: i64([2]),
        zero: i64([0]),
        ...(fixed ? { trips: i64([trips]) } : {}),
      };
      const inputs = { ...start, ...(fixed ? {} : { trips: i64([trips]) }) };
      const loop = (graph: { graph: GraphSpec }, first = ["a0"], outputs = ["last", "all"]) => ({
        initializers,
        outputs,
        nodes: [node("Loop", ["trips", "yes", ...first], outputs, { body: graph })],
      });

      test(`${label}: alike`, async () => {
        const tasks = await agree(loop(body([goOn, ...advance], ["s"])), inputs);
        if (trips === 3 && fixed) {
          const task = tasks.find(({ kind }) => kind === "loop") as LoopTask;
          expect([task.count, task.trips, task.condition, task.scans]).toEqual([3, undefined, undefined, undefined]);
        }
      });
      test(`${label}: until a condition that the turn decides`, () =>
        agree(loop(body([node("Less", ["turn", "limit"], ["keep"]), ...advance], ["s"])), inputs));
      test(`${label}: until a condition that data decides`, async () => {
        const until = [node("ReduceSum", ["a2"], ["sum"], { keepdims: 0 }), node("Less", ["sum", "bound"], ["keep"])];
        await agree(loop(body([...advance, ...until], ["s"])), { ...inputs, bound: tensor("f32", [], [6]) });
      });
      test(`${label}: a carried value that grows`, () =>
        agree(
          loop(
            body(
              [goOn, node("Concat", ["a", "x"], ["a2"], { axis: 0 }), node("ReduceSum", ["a2"], ["s"], { keepdims: 1 })],
              ["s"],
              { a: { dtype: "f32", shape: ["grown"] } },
            ),
          ),
          inputs,
        ));
      test(`${label}: carried values that change places`, () =>
        agree(
          loop(
            body([goOn, node("Add", ["a", "c"], ["sum"])], ["a"], { c: vector }, ["c", "sum"]),
            ["a0", "x"],
            ["p", "q", "all"],
          ),
          inputs,
        ));
      test(`${label}: a branch inside`, () => {
        const branch = (op: string): { graph: GraphSpec } => ({
          graph: { inputs: {}, nodes: [node(op, ["a", "x"], ["z"])], outputs: ["z"] },
        });
        const parity = [node("Mod", ["turn", "two"], ["m"]), node("Equal", ["m", "zero"], ["even"])];
        return agree(
          loop(
            body(
              [goOn, ...parity, node("If", ["even"], ["a2"], { then_branch: branch("Mul"), else_branch: branch("Sub") })],
              ["a2"],
            ),
          ),
          inputs,
        );
      });
      test(`${label}: results of a size that each turn finds`, () =>
        agree(
          loop(
            body(
              [
                goOn,
                ...advance,
                node("Relu", ["s"], ["positive"]),
                node("NonZero", ["positive"], ["where"]),
                node("Cast", ["where"], ["found"], { to: 1 }),
                node("ReduceSum", ["found"], ["total"], { keepdims: 0 }),
              ],
              ["total"],
            ),
          ),
          inputs,
        ));
      if (trips < 10)
        test(`${label}: a loop inside, as long as the turn`, () => {
          const inner: GraphSpec = {
            inputs: { i: scalar, c: { dtype: "bool", shape: [] }, b: vector },
            nodes: [node("Identity", ["c"], ["c2"]), node("Add", ["b", "a"], ["b2"])],
            outputs: ["c2", "b2", "b2"],
          };
          return agree(
            loop(
              body(
                [
                  goOn,
                  node("Loop", ["turn", "yes", "a"], ["a2", "steps"], { body: { graph: inner } }),
                  node("ReduceSum", ["steps"], ["s"], { keepdims: 0 }),
                ],
                ["s"],
              ),
            ),
            inputs,
          );
        });
    }

  test("what the run must count becomes a task that says so", async () => {
    const nodes = [
      node("Loop", ["trips", "first", "a0"], ["last", "all"], {
        body: body([node("Less", ["turn", "limit"], ["keep"]), ...advance], ["s"]),
      }),
    ];
    const tasks = await agree(
      { outputs: ["last", "all"], nodes },
      { ...start, trips: i64([5]), first: bool(true), limit: i64([3]) },
    );
    const task = tasks.find(({ kind }) => kind === "loop") as LoopTask;
    expect(task.trips?.name).toBe("trips");
    expect(task.condition?.initial?.name).toBe("first");
    expect(
      readsOf(task)
        .map(({ name }) => name)
        .sort(),
    ).toEqual(["a0", "first", "limit", "trips", "x"]);
    expect(writesOf(task)).toEqual([task.carried[0]!.final, task.scans![0]!.out]);
  });
});

describe("If", () => {
  const branches = (then: NodeSpec, otherwise: NodeSpec) => {
    const graph = (inner: NodeSpec): { graph: GraphSpec } => ({
      graph: { inputs: {}, nodes: [inner], outputs: inner.outputs },
    });
    return [
      node("If", ["test"], ["r"], { then_branch: graph(then), else_branch: graph(otherwise) }),
      node("Add", ["r", "one"], ["y"]),
    ];
  };
  const one = tensor("f32", [], [1]);

  for (const taken of [true, false]) {
    test(`results of two sizes, ${taken}`, async () => {
      const nodes = branches(node("Concat", ["a", "b"], ["t"], { axis: 0 }), node("Identity", ["a"], ["e"]));
      const tasks = await agree(
        { outputs: ["y"], nodes, initializers: { one } },
        { test: bool(taken), a: f32([3], 1), b: f32([2], 2) },
        ["a"],
      );
      expect(kinds(tasks)).toEqual(["if", "map"]);
      expect(readsOf(tasks[0]!).map(({ name }) => name)).toEqual(["test", "a", "b"]);
    });
    test(`small results are computed and selected, ${taken}`, async () => {
      const nodes = branches(node("Add", ["a", "b"], ["t"]), node("Sub", ["a", "b"], ["e"]));
      const tasks = await agree(
        { outputs: ["y"], nodes, initializers: { one } },
        { test: bool(taken), a: f32([3], 1), b: f32([3], 2) },
      );
      expect(kinds(tasks)).not.toContain("if");
    });
    test(`a known condition leaves one branch, ${taken}`, async () => {
      const nodes = branches(node("Concat", ["a", "b"], ["t"], { axis: 0 }), node("Identity", ["a"], ["e"]));
      const tasks = await agree(
        { outputs: ["y"], nodes, initializers: { one, test: bool(taken) } },
        { a: f32([3], 1), b: f32([2], 2) },
      );
      expect(kinds(tasks)).toEqual(taken ? ["map", "map"] : ["map"]);
    });
  }

  test("results of two ranks, and a branch that does not fit, need the condition", () => {
    const a = tensor("f32", [3], [1, 2, 3]);
    for (const [then, rank] of [
      [node("Unsqueeze", ["a", "axes"], ["t"]), 2],
      [node("Squeeze", ["a", "axes"], ["t"]), undefined],
    ] as const) {
      const bytes = model({
        opset: 13,
        inputs: { test: { dtype: "bool", shape: [] }, a: { dtype: "f32", shape: [3] } },
        outputs: ["y"],
        nodes: branches(then, node("Identity", ["a"], ["e"])),
        initializers: { one, axes: i64([0], [1]) },
      });
      expect(() => importModel(bytes)).toThrow(expect.objectContaining({ code: "K302" }));
      const taken = (yes: boolean): Tensor =>
        runInterpreted(bytes, { test: bool(yes), a }, { assumed: { test: bool(yes) } }).y!;
      expect(taken(false).shape).toEqual([3]);
      if (rank) expect(taken(true).shape).toHaveLength(rank);
    }
  });

  test("a size may be 0 where a condition asks", () => {
    const nodes = [
      node("Shape", ["a"], ["s"]),
      node("Squeeze", ["s"], ["n"]),
      node("Equal", ["n", "zero"], ["test"]),
      ...branches(node("Identity", ["b"], ["t"]), node("Identity", ["a"], ["e"])),
    ];
    const bytes = model({
      opset: 13,
      inputs: { a: { dtype: "f32", shape: ["N"] }, b: { dtype: "f32", shape: [2] } },
      outputs: ["y"],
      nodes,
      initializers: { one, zero: i64([0]) },
    });
    const b = tensor("f32", [2], [5, 6]);
    expect(numbersOf(runInterpreted(bytes, { a: tensor("f32", [0], []), b }).y!)).toEqual([6, 7]);
    expect(numbersOf(runInterpreted(bytes, { a: tensor("f32", [1], [1]), b }).y!)).toEqual([2]);
  });
});

describe("Scan", () => {
  const graph: GraphSpec = {
    inputs: { s: vector, u: vector, v: { dtype: "f32", shape: [2] } },
    nodes: [node("Add", ["s", "u"], ["s2"]), node("Mul", ["s2", "w"], ["o"]), node("ReduceSum", ["u"], ["p"], { keepdims: 0 })],
    outputs: ["s2", "o", "p"],
  };

  test("any axes and directions", async () => {
    const bit = fc.constantFrom(0, 1);
    await fc.assert(
      fc.asyncProperty(
        size(4),
        list(fc.integer({ min: -2, max: 1 }), 2),
        list(bit, 4),
        bit,
        fc.boolean(),
        async (steps, axes, directions, outAxis, symbolic) => {
          const along = (axis: number, width: number): Tensor =>
            f32(axis === 0 || axis === -2 ? [steps, width] : [width, steps], 7);
          const attributes = {
            body: { graph },
            num_scan_inputs: 2,
            scan_input_axes: axes,
            scan_input_directions: directions.slice(0, 2),
            scan_output_axes: [outAxis, 0],
            scan_output_directions: directions.slice(2),
          };
          const nodes = [node("Scan", ["s0", "us", "vs"], ["last", "os", "ps"], attributes)];
          await agree(
            { outputs: ["last", "os", "ps"], nodes },
            { s0: f32([3]), us: along(axes[0]!, 3), vs: along(axes[1]!, 2), w: f32([3], 3) },
            symbolic ? ["us"] : [],
          );
        },
      ),
      { numRuns: 40 },
    );
  });

  test("opset 8: a batch of sequences, each of its own length", async () => {
    const inner: GraphSpec = {
      inputs: { s: vector, u: vector },
      nodes: [node("Add", ["s", "u"], ["s2"]), node("Mul", ["s2", "u"], ["o"])],
      outputs: ["s2", "o"],
    };
    for (const lengths of [undefined, [3, 1]]) {
      const nodes = [
        node("Scan", [lengths ? "lengths" : "", "s0", "us"], ["last", "os"], { body: { graph: inner }, num_scan_inputs: 1 }),
      ];
      await agree(
        { opset: 8, outputs: ["last", "os"], nodes },
        { s0: f32([2, 3]), us: f32([2, 4, 3], 2), ...(lengths ? { lengths: i64(lengths, [2]) } : {}) },
      );
    }
  });
});
