// What users get wrong: the message, and the exit status (1 the work failed, 2 the call was wrong). No stack is ever shown.

import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, expect, it } from "vitest";
import { writeNpy } from "../../src/cli/npy.ts";
import { tensor } from "../../src/ir/tensor.ts";
import { model } from "../support/onnx-model.ts";
import { useKiln } from "./kiln.ts";
import { external, perceptron, single } from "./models.ts";

const { dir, kiln, write } = useKiln();

beforeAll(async () => {
  mkdirSync(join(dir, "folder"));
  write("net.onnx", perceptron());
  write("text.onnx", "hello");
  write("picture.onnx", Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 13, 10));
  write("truncated.onnx", perceptron().subarray(0, 150));
  write("external.onnx", external());
  write(
    "cyclic.onnx",
    model({
      opset: 17,
      inputs: { x: { dtype: "f32", shape: [2] } },
      outputs: ["a"],
      nodes: [
        { op: "Add", name: "first", inputs: ["x", "b"], outputs: ["a"] },
        { op: "Relu", name: "second", inputs: ["a"], outputs: ["b"] },
      ],
    }),
  );
  write("unknown-op.onnx", single("Frobnicate", [[2]]));
  write("unknown-attribute.onnx", single("Relu", [[2]], { sharpness: 2 }));
  write(
    "mismatched.onnx",
    single("MatMul", [
      [2, 3],
      [4, 5],
    ]),
  );
  write("f64.npy", writeNpy(tensor("f64", [1, 4], [1, 2, 3, 4])));
  write("rank1.npy", writeNpy(tensor("f32", [4], [1, 2, 3, 4])));
  write("wide.npy", writeNpy(tensor("f32", [1, 5], [1, 2, 3, 4, 5])));
  write("many.npy", writeNpy(tensor("f32", [3, 4], new Float32Array(12))));
  write("not.npy", "hello");
  const built = await kiln(
    "build",
    "net.onnx",
    "-o",
    "net.engine",
    "--minShapes",
    "x:1x4",
    "--maxShapes",
    "x:2x4",
    "--builderOptimizationLevel",
    "0",
  );
  expect(built.status).toBe(0);
  write("cut.engine", readFileSync(join(dir, "net.engine")).subarray(0, 1000));
});

const CALLS: readonly (readonly [what: string, args: string, status: number, message: RegExp])[] = [
  ["text instead of a model", "build text.onnx -o y", 1, /^K101 not-onnx {2}text\.onnx: this is not an ONNX model/],
  [
    "a picture instead of a model",
    "run picture.onnx",
    1,
    /^K101 .*begins like a PNG picture\n {2}hint: give the \.onnx file\n$/,
  ],
  [
    "a truncated model",
    "build truncated.onnx -o y",
    1,
    /^K102 broken-onnx {2}truncated\.onnx: .*\n.*\n {2}hint: the file is truncated or damaged/,
  ],
  ["a cyclic graph", "build cyclic.onnx -o y", 1, /^K107 cyclic-graph .*\n {2}through .*"second"/],
  [
    "missing external data",
    "build external.onnx -o y",
    1,
    /^K104 missing-external-data {2}tensor "w": its data is in "weights\.bin", which cannot be read\n/,
  ],
  [
    "an unknown operator",
    "verify unknown-op.onnx",
    1,
    /^K201 unsupported-operators {2}unknown-op\.onnx: 1 operator is not supported\n {2}Frobnicate \(opset 17\) at "the_node": no implementation\n/,
  ],
  [
    "an unknown attribute",
    "inspect unknown-attribute.onnx",
    1,
    /^K203 unknown-attribute {2}Relu "the_node": it has no attribute "sharpness"\n/,
  ],
  ["mismatched shapes", "build mismatched.onnx -o y", 1, /^K301 shape-mismatch {2}MatMul "the_node": /],
  [
    "a wrong input name",
    "run net.engine --loadInputs z:many.npy",
    2,
    /^K603 unknown-input {2}"z": the engine has no such input\n {2}its inputs are "x"\n/,
  ],
  [
    "a wrong input type",
    "run net.engine --loadInputs x:f64.npy",
    2,
    /^K608 input-type {2}input "x": it is f64, the engine takes f32\n/,
  ],
  [
    "a wrong rank",
    "run net.engine --loadInputs x:rank1.npy",
    2,
    /^K604 input-shape {2}input "x": shape \[4\] does not fit \[N, 4\]\n/,
  ],
  [
    "a wrong dimension",
    "run net.engine --loadInputs x:wide.npy",
    2,
    /^K604 input-shape {2}input "x": shape \[1, 5\] does not fit \[N, 4\]\n/,
  ],
  [
    "a shape outside the profile",
    "run net.engine --loadInputs x:many.npy",
    2,
    /^K605 outside-profile {2}input "x" dimension 0: 3 is outside of \[1, 2\] of profile "profile 0"\n {2}hint: /,
  ],
  [
    "a profile for no input",
    "build net.onnx -o y --shapes z:1x4",
    2,
    /^K612 bad-profile .*the model has no such input\n {2}inputs: x\n/,
  ],
  ["a folder instead of a file", "build folder -o y", 2, /^K003 cannot-read {2}folder: it is a folder, not a/],
  ["a missing model", "run nothing.onnx", 2, /^K003 cannot-read {2}nothing\.onnx: there is no such/],
  [
    "a missing input file",
    "run net.engine --loadInputs x:nothing.npy",
    2,
    /^K003 cannot-read {2}nothing\.npy: there is no such \.npy file\n$/,
  ],
  ["no .npy file", "run net.engine --loadInputs x:not.npy", 2, /^K005 bad-npy {2}not\.npy: it is not a \.npy file\n/],
  [
    "a bad shape",
    "build net.onnx -o y --shapes x:1xA",
    2,
    /^K001 bad-flag {2}--shapes x:1xA: "1xA" is no shape\n {2}hint: expected: /,
  ],
  [
    "a bad level",
    "build net.onnx -o y --builderOptimizationLevel 6",
    2,
    /^K001 bad-flag {2}--builderOptimizationLevel 6: .*\n {2}hint: expected: a whole number from 0 to 5\n$/,
  ],
  ["a bad stage", "build net.onnx -o y --until never", 2, /^K001 .*\n {2}hint: expected: import, passes, .*tune\n$/],
  ["a bad regular expression", "conformance folder --filter (", 2, /^K001 bad-flag {2}--filter \(: /],
  [
    "contents for no input",
    "build net.onnx -o y --shapeValues z:1",
    2,
    /^K001 bad-flag {2}--shapeValues z:…: the model has no such input\n {2}hint: expected: x\n$/,
  ],
  ["an unknown rewrite", "build net.onnx -o y --disable-rewrite everything", 2, /^K002 unknown-rewrite {2}"everything": /],
  ["no output file", "build net.onnx", 2, /^K001 bad-flag {2}-o: /],
  ["an unknown option", "build net.onnx -o y --fp17", 2, /^error: unknown option '--fp17'/],
  ["an unknown command", "biuld net.onnx", 2, /^error: unknown command 'biuld'\n\(Did you mean build\?\)/],
  ["no command", "", 2, /^Usage: kiln /],
  ["an engine to build", "build net.engine -o y", 2, /^K003 cannot-read {2}net\.engine: this is an engine already/],
  ["a truncated engine", "run cut.engine", 1, /^K502 truncated-engine {2}cut\.engine: the engine is cut off/],
  ["no cases", "conformance folder", 2, /^K003 cannot-read {2}folder: no folder below it holds model\.onnx/],
];

it.each(CALLS)("%s", async (_, args, status, message) => {
  const outcome = await kiln(
    ...args.split(" ").filter(Boolean),
    ...(/^(build|run|inspect|verify) /.test(args) ? ["--quiet"] : []),
  );
  expect(outcome.stderr).toMatch(message);
  expect(outcome.stderr).not.toMatch(/^ +at /m);
  expect(outcome).toMatchObject({ status, stdout: "" });
});
