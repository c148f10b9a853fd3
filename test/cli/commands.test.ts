// Each command end to end on tiny models.

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { STAGES } from "../../src/cli/build-flags.ts";
import { readNpy, writeNpy } from "../../src/cli/npy.ts";
import { numbersOf, tensor } from "../../src/ir/tensor.ts";
import { model } from "../support/onnx-model.ts";
import { useKiln } from "./kiln.ts";
import { external, perceptron, range, reshaper, single, tensorFile } from "./models.ts";

const { dir, kiln, write } = useKiln();
const file = (name: string): string => join(dir, name);
const json = (name: string): unknown => JSON.parse(readFileSync(file(name), "utf8"));

/** What --dump writes: every stage of a build without calibration. */
const dumped = STAGES.map((stage, i) => `${i + 1}-${stage}.txt`).filter((name) => !name.endsWith("-calibrate.txt"));

/** y of `perceptron` for ones. */
const expected = [0, 0, 0];
for (let n = 0; n < 3; n++) {
  const { data: w } = range([4, 3], 0.5);
  expected[n] = Math.max(
    0,
    [0, 1, 2, 3].reduce((sum, k) => sum + (w[k * 3 + n] as number), range([3]).data[n] as number),
  );
}

describe("build and run", () => {
  it("builds an engine that runs as the model does", async () => {
    write("net.onnx", perceptron());
    write("x.npy", writeNpy(tensor("f32", [2, 4], new Float32Array(8).fill(1))));
    const built = await kiln(
      "build",
      "net.onnx",
      "-o",
      "out/net.engine",
      "--minShapes",
      "x:1x4",
      "--optShapes",
      "x:2x4",
      "--maxShapes",
      "x:8x4",
      "--timingCacheFile",
      "t.cache",
      "--dump",
      "dump",
      "--builderOptimizationLevel",
      "0",
    );
    expect(built).toMatchObject({ status: 0 });
    expect(built.stdout).toMatch(/^out\/net\.engine: .* kernels?, no host layer, built in /);
    expect(readdirSync(file("dump")).sort()).toEqual([...dumped, "kernels"]);
    expect(readFileSync(file("dump/1-import.txt"), "utf8")).toContain("/fc/MatMul");
    expect(readdirSync(file("dump/kernels"))[0]).toMatch(/^0000-.*\.wgsl$/);
    expect(json("t.cache")).toHaveProperty("kiln-timing-cache", 1);

    const ran = await kiln("run", "out/net.engine", "--loadInputs", "x:x.npy", "--saveOutputs", "out", "--json");
    expect(ran).toMatchObject({ status: 0, stderr: "" });
    expect(JSON.parse(ran.stdout)).toEqual({ y: { dtype: "f32", shape: [2, 3], data: [...expected, ...expected] } });
    expect(numbersOf(readNpy(readFileSync(file("out/y.npy")), "y.npy"))).toEqual([...expected, ...expected]);

    const fromModel = await kiln(
      "run",
      "net.onnx",
      "--loadInputs",
      "x:x.npy",
      "--builderOptimizationLevel",
      "0",
      "--quiet",
      "--json",
    );
    expect(JSON.parse(fromModel.stdout)).toEqual(JSON.parse(ran.stdout));
  });

  it("says what it makes up, and makes it up the same again", async () => {
    write("net.onnx", perceptron());
    const args = ["run", "net.onnx", "--shapes", "x:3x4", "--builderOptimizationLevel", "0", "--quiet", "--json"];
    const [first, again, other] = [await kiln(...args), await kiln(...args), await kiln(...args, "--seed", "1")];
    expect(first.stderr).toBe('input "x": random f32[3, 4], seed 0\n');
    expect(again.stdout).toBe(first.stdout);
    expect(other.stdout).not.toBe(first.stdout);
  });

  it("stops after a stage", async () => {
    write("net.onnx", perceptron());
    const outcome = await kiln("build", "net.onnx", "--until", "lower", "--dump", "some");
    expect(outcome).toMatchObject({
      status: 0,
      stdout: "stopped after lower\n",
      stderr: expect.stringMatching(/^import\npasses\n[\s\S]*lower\n$/),
    });
    expect(readdirSync(file("some"))).toEqual(dumped.slice(0, 3));
  });

  it("finds weights beside the model", async () => {
    write("beside/net.onnx", external());
    write("beside/weights.bin", new Uint8Array(Float32Array.of(9, 1, 2, 3, 4).buffer));
    write("zeros.npy", writeNpy(tensor("f32", [4], [0, 0, 0, 0])));
    const outcome = await kiln("run", "beside/net.onnx", "--loadInputs", "x:zeros.npy", "--json", "--quiet");
    expect(JSON.parse(outcome.stdout)).toEqual({ y: { dtype: "f32", shape: [4], data: [1, 2, 3, 4] } });
  });

  it("fixes the contents of inputs that decide shapes", async () => {
    write("reshape.onnx", reshaper());
    const outcome = await kiln("run", "reshape.onnx", "--shapeValues", "shape:3,-1", "--quiet");
    expect(outcome).toMatchObject({
      status: 0,
      stderr: expect.stringContaining('input "shape": what the engine was built for, i64[2]'),
    });
    expect(outcome.stdout).toContain("y  f32[3, 2]");
  });

  it("tells of host layers, or refuses them", async () => {
    write("unique.onnx", single("Unique", [[6]]));
    const allowed = await kiln("build", "unique.onnx", "-o", "unique.engine", "--quiet");
    expect(allowed.status).toBe(0);
    expect(allowed.stdout).toMatch(/1 host layer,[\s\S]*\nhost layer Unique "the_node": .+/);
    const refused = await kiln("build", "unique.onnx", "-o", "no.engine", "--no-host-fallback", "--quiet");
    expect(refused).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(
        /^K611 host-layer-refused {2}Unique "the_node": this layer would run on the host\n {2}.+\n {2}hint: /,
      ),
    });
    expect(existsSync(file("no.engine"))).toBe(false);
  });
});

describe("inspect", () => {
  it("prints one object", async () => {
    write("net.onnx", perceptron());
    const outcome = await kiln("inspect", "net.onnx", "--json");
    const description = JSON.parse(outcome.stdout);
    expect(Object.keys(description)).toEqual(["device", "precision", "kernels", "hostLayers", "memory", "profiles"]);
    expect(description.kernels[0]).toMatchObject({
      tactic: expect.any(String),
      nodes: expect.arrayContaining(["/fc/MatMul"]),
      wgsl: expect.stringContaining("@compute"),
    });
    expect(outcome.stderr).toBe("");
  });

  it("prints for people", async () => {
    write("net.onnx", perceptron());
    expect((await kiln("inspect", "net.onnx", "--no-fusion", "--quiet")).stdout).toMatch(
      /^device .*\nprecision {2}fp32\nmemory .*\n\n3 kernels:\n[\s\S]*MatMul[\s\S]*no host layer\n$/,
    );
  });
});

describe("bench", () => {
  it("writes trtexec's summary", async () => {
    write("net.onnx", perceptron());
    const outcome = await kiln(
      "bench",
      "net.onnx",
      "--shapes",
      "x:4x4",
      "--iterations",
      "5",
      "--duration",
      "0",
      "--warmUp",
      "0",
      "--builderOptimizationLevel",
      "0",
      "--dumpProfile",
      "--export-json",
      "bench.json",
      "--quiet",
    );
    expect(outcome.status).toBe(0);
    for (const line of ["throughput: ", "latency ", "enqueue ", "H2D ", "GPU compute ", "D2H "])
      expect(outcome.stdout).toMatch(new RegExp(`^ *${line}`, "m"));
    const result = json("bench.json") as Record<string, unknown>;
    expect(result).toMatchObject({
      runs: 5,
      throughput: expect.any(Number),
      kernels: [{ name: expect.any(String), ms: expect.any(Number) }],
    });
    for (const field of ["latencyMs", "enqueueMs", "h2dMs", "gpuMs", "d2hMs"])
      expect(Object.keys(result[field] as object)).toEqual(["min", "max", "mean", "median", "p90", "p95", "p99"]);
  });

  it("compares fused and unfused", async () => {
    write("net.onnx", perceptron());
    const outcome = await kiln(
      "bench",
      "net.onnx",
      "--iterations",
      "3",
      "--duration",
      "0",
      "--warmUp",
      "0",
      "--builderOptimizationLevel",
      "0",
      "--compare",
      "fused,unfused",
      "--export-json",
      "both.json",
      "--quiet",
    );
    expect(outcome.stdout).toMatch(/\nvariant +kernels +activations +latency ms .*\nfused +1 .*1\.00x.*\nunfused +3 .*\n$/);
    expect(json("both.json")).toMatchObject([{ variant: "fused" }, { variant: "unfused" }]);
  });
});

describe("verify", () => {
  it("agrees with onnxruntime, layer by layer", async () => {
    write("net.onnx", perceptron());
    const outcome = await kiln("verify", "net.onnx", "--layers", "--quiet");
    expect(outcome).toMatchObject({ status: 0 });
    expect(outcome.stdout).toMatch(
      /^tolerance: .*\n[\s\S]*ok {2}y [\s\S]*MatMul "\/fc\/MatMul"[\s\S]*no layer drifts: 3 values compared\nverify: agrees with onnxruntime\n$/,
    );
  });

  it("says where it differs", async () => {
    write("exp.onnx", single("Exp", [[1000]]));
    const drifts = await kiln("verify", "exp.onnx", "--layers", "--quiet", "--rtol", "0", "--atol", "0");
    expect(drifts.status).toBe(1);
    expect(drifts.stdout).toMatch(
      /DIFFERS {2}y [\s\S]*first that drifts: Exp "the_node", value "y"\nverify: differs from onnxruntime\n$/,
    );
  });

  it("fills taken-out weights", async () => {
    write(
      "light.onnx",
      model({
        opset: 17,
        inputs: { x: { dtype: "f32", shape: [2, 4] } },
        outputs: ["y"],
        nodes: [
          { op: "ConstantOfShape", inputs: ["shape"], outputs: ["w"], attributes: { value: tensor("f32", [1], [0.02]) } },
          { op: "MatMul", inputs: ["x", "w"], outputs: ["y"] },
        ],
        initializers: { shape: tensor("i64", [2], [4, 3]) },
      }),
    );
    const run = (seed: string) =>
      kiln("run", "light.onnx", "--random-weights", seed, "--quiet", "--builderOptimizationLevel", "0");
    expect((await run("1")).stdout).not.toBe((await run("2")).stdout);
    expect(await kiln("verify", "light.onnx", "--random-weights", "1", "--quiet")).toMatchObject({ status: 0 });
  });
});

describe("devices", () => {
  it("lists adapters", async () => {
    const [found] = JSON.parse((await kiln("devices", "--json")).stdout);
    expect(found).toMatchObject({
      name: expect.any(String),
      key: expect.stringMatching(/^[0-9a-f]{32}$/),
      fingerprint: { limits: expect.any(Object) },
      caps: { tier: expect.stringMatching(/^(core|subgroup|tensor)$/) },
    });
    expect((await kiln("devices")).stdout).toContain(found.key);
  });
});

describe("conformance", () => {
  const addCase = (name: string, bytes: Uint8Array, inputs: readonly Uint8Array[], outputs: readonly Uint8Array[]): void => {
    write(`cases/${name}/model.onnx`, bytes);
    inputs.forEach((input, i) => write(`cases/${name}/test_data_set_0/input_${i}.pb`, input));
    outputs.forEach((output, i) => write(`cases/${name}/test_data_set_0/output_${i}.pb`, output));
  };
  const x = tensorFile(tensor("f32", [2], [-1, 2]));
  const relu = single("Relu", [[2]]);
  const endless = model({
    opset: 17,
    inputs: { x0: { dtype: "f32", shape: [2] } },
    outputs: ["y"],
    nodes: [
      {
        op: "Loop",
        inputs: ["", "go", "x0"],
        outputs: ["y"],
        attributes: {
          body: {
            graph: {
              inputs: { turn: { dtype: "i64", shape: [] }, on: { dtype: "bool", shape: [] }, v: { dtype: "f32", shape: [2] } },
              outputs: ["again", "next"],
              nodes: [
                { op: "Identity", inputs: ["on"], outputs: ["again"] },
                { op: "Relu", inputs: ["v"], outputs: ["next"] },
              ],
            },
          },
        },
      },
    ],
    initializers: { go: tensor("bool", [], [1]) },
  });
  addCase("endless", endless, [x], [x]);
  addCase("right", relu, [x], [tensorFile(tensor("f32", [2], [0, 2]))]);
  addCase("wrong", relu, [x], [tensorFile(tensor("f32", [2], [0, 3]))]);
  addCase(
    "values",
    reshaper(),
    [tensorFile(range([2, 3])), tensorFile(tensor("i64", [2], [3, 2]))],
    [tensorFile(range([3, 2]))],
  );
  addCase("sequence", single("SequenceConstruct", [[2]]), [x], [x]);

  it("tells right, wrong, skipped and hanging cases apart", async () => {
    const outcome = await kiln("conformance", "cases", "--json", "cases.json", "--timeout", "8");
    expect(outcome.status).toBe(1);
    expect(outcome.stdout.split("\n")).toEqual([
      "failed  endless  not done after 8 s",
      "passed  right",
      expect.stringMatching(/^skipped {2}sequence {2}K201 .*sequences are not supported/),
      "passed  values",
      "failed  wrong  y: element 1 is 2, expected 3",
      "conformance: 2 passed, 2 failed, 1 skipped",
      "",
    ]);
    expect(json("cases.json")).toMatchObject([
      { name: "endless", status: "failed" },
      { name: "right", status: "passed", reason: "", hostLayers: [] },
      { status: "skipped" },
      {},
      {},
    ]);
  });

  it("filters, and interprets without a device", async () => {
    expect(await kiln("conformance", "cases", "--filter", "^(right|values)$", "--interpret", "--quiet")).toMatchObject({
      status: 0,
      stdout: "conformance: 2 passed, 0 failed, 0 skipped\n",
    });
  });
});

describe("build --target", () => {
  it("builds for a device that is not here, and says how", async () => {
    const { stdout } = await kiln("devices", "--json");
    const [device] = JSON.parse(stdout) as [{ name: string; fingerprint: object }];
    const absent = { ...device, fingerprint: { ...device.fingerprint, device: "Voodoo 2" } };
    write("voodoo.json", JSON.stringify([absent]));
    write("target.onnx", perceptron());
    const built = await kiln("build", "target.onnx", "-o", "voodoo.engine", "--target", "voodoo.json");
    expect(built.stdout).toContain("note: built for Voodoo 2, which was not there: kernels chosen by the cost model");
    expect(built.status).toBe(0);
    const refused = await kiln("run", "voodoo.engine");
    expect(refused.status).toBe(1);
    expect(refused.stderr).toContain("K505 other-device");
    expect(refused.stderr).toContain('device: built for "Voodoo 2"');
    const wrong = await kiln("build", "target.onnx", "-o", "x.engine", "--target", "target.onnx");
    expect(wrong.stderr).toContain("K003 cannot-read  target.onnx: it is not JSON");
  });
});
