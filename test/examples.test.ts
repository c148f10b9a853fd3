// The examples, run as a reader runs them, without measuring: what they print is what they promise.

import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { numbersOf, tensor } from "../src/ir/tensor.ts";
import { realDevice } from "./gpu/open.ts";
import { runOnnxRuntime } from "./support/onnxruntime.ts";

const ROOT = join(import.meta.dirname, "..");
const device = await realDevice();
device?.destroy();
if (!device) console.log("skipped: this machine has no GPU adapter");
const test = it.skipIf(!device);

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "kiln-examples-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

const start = (name: string, ...args: readonly string[]): ChildProcess =>
  spawn(process.execPath, [join(ROOT, "examples", name), "--level", "0", ...args], { cwd: folder });

/** A picture as text. */
const SEVEN = ["", "", "  #####", "      #", "     #", "    #", "   #", "   #", "   #"];

/** What a child prints until it ends, or until `until` is found in it. */
function printed(child: ChildProcess, until?: RegExp): Promise<string> {
  return new Promise((resolve, reject) => {
    let [out, err] = ["", ""];
    child.stderr!.on("data", (text) => (err += text));
    child.stdout!.on("data", (text) => {
      out += text;
      if (until?.test(out)) resolve(out);
    });
    child.on("close", (status) => (status === 0 ? resolve(out) : reject(new Error(`status ${status}: ${err}`))));
  });
}

it("are to be read at one go: a hundred lines at most", () => {
  const folder = join(ROOT, "examples");
  const scripts = readdirSync(folder).filter((name) => name.endsWith(".mjs"));
  expect(scripts).toEqual(expect.arrayContaining(["classify.mjs", "int8.mjs", "server.mjs"]));
  for (const name of scripts)
    expect(readFileSync(join(folder, name), "utf8").trimEnd().split("\n").length, name).toBeLessThanOrEqual(100);
});

test("classify: reads digits, from an engine file the second time", async () => {
  const args = ["classify.mjs", "--engine", join(folder, "digits.engine"), "3", "8", "1"] as const;
  const digits = /this is a 3 [\s\S]*this is a 8 [\s\S]*this is a 1 /;
  const first = await printed(start(...args));
  expect(first).toMatch(/^built in .* bytes/);
  expect(first).toMatch(digits);
  const second = await printed(start(...args));
  expect(second).toMatch(/^loaded .* ms/);
  expect(second).toMatch(digits);
});

test("int8: as good as float, and its ONNX is good in ONNX Runtime", async () => {
  const file = join(folder, "int8.onnx");
  const text = await printed(start("int8.mjs", "--onnx", file));
  const [float, int8] = text
    .match(/right +([\d.]+) % +([\d.]+) %/)!
    .slice(1)
    .map(Number);
  expect(float).toBeGreaterThan(95);
  expect(int8).toBeGreaterThan(float! - 1);
  const picture = tensor(
    "f32",
    [1, 1, 16, 12],
    Array.from(
      SEVEN.map((row) => row.padEnd(12))
        .join("")
        .padEnd(192),
      (c) => +(c === "#"),
    ),
  );
  const scores = numbersOf((await runOnnxRuntime(readFileSync(file), { picture })).scores!);
  expect(scores.indexOf(Math.max(...scores))).toBe(7);
});

test("server: answers, several requests in a run", async () => {
  const child = start("server.mjs", "--port", "0");
  const ended = printed(child);
  const [, address] = (await printed(child, /(http:\S+)/)).match(/(http:\S+)/)!;
  const post = async (body: string) => {
    const response = await fetch(address!, { method: "POST", body });
    return { status: response.status, body: (await response.json()) as Record<string, unknown> };
  };
  const answers = await Promise.all(Array.from({ length: 20 }, () => post(SEVEN.join("\n"))));
  for (const { status, body } of answers) expect([status, body.digit]).toEqual([200, 7]);
  expect(await post("#".repeat(13))).toMatchObject({ status: 400 });
  const statistics = (await (await fetch(address!)).json()) as Record<string, number>;
  expect(statistics.requests).toBe(20);
  expect(statistics.runs).toBeLessThan(20);
  expect(statistics.largestBatch).toBeGreaterThan(1);
  child.kill("SIGTERM");
  await ended;
});
