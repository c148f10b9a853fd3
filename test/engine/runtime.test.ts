// The lean runtime: small, free of compiler parts, and loads engines or says why not.

import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Engine } from "../../src/engine/engine.ts";
import { serialize } from "../../src/engine/format.ts";
import type { Plan } from "../../src/engine/plan.ts";
import type { Device } from "../../src/gpu/device.ts";
import { fingerprintOf } from "../../src/gpu/fingerprint.ts";
import { Runtime } from "../../src/runtime.ts";
import { coreCaps } from "../../src/util/caps.ts";
import { digestOf } from "../../src/util/digest.ts";
import { nullDevice, realDevice, rejection } from "../gpu/open.ts";
import { doubling, someWeights } from "./plans.ts";

const digest = await digestOf(someWeights());
let device: Device;
beforeAll(async () => {
  device = await nullDevice();
});
afterAll(() => device.destroy());

const file = (plan: Plan = doubling()): Uint8Array<ArrayBuffer> => serialize(plan, someWeights(), digest, device.fingerprint);

describe("the lean runtime's bundle", () => {
  const bundled = build({
    entryPoints: ["src/runtime.ts"],
    bundle: true,
    minify: true,
    write: false,
    metafile: true,
    format: "esm",
    target: "es2023",
    platform: "browser",
    loader: { ".wgsl": "text" },
  });

  it("is at most 30 kB and holds nothing of the compiler, and no package", async () => {
    const { outputFiles, metafile } = await bundled;
    const bytes = gzipSync(outputFiles[0]!.contents, { level: 9 }).length;
    expect(bytes).toBeLessThanOrEqual(30_000);
    const folders = new Set(Object.keys(metafile.inputs).map((path) => path.split("/").slice(0, -1).join("/")));
    expect([...folders].sort()).toEqual(["shaders", "src", "src/engine", "src/gpu", "src/ir", "src/util"]);
  });

  it("runs an engine in Node, as it stands", async ({ skip }) => {
    const real = await realDevice();
    if (!real) return skip("no GPU adapter");
    real.destroy();
    const folder = mkdtempSync(join(tmpdir(), "kiln-runtime-"));
    const path = join(folder, "runtime.mjs");
    writeFileSync(path, (await bundled).outputFiles[0]!.contents);
    const portable = fingerprintOf({ vendor: "", architecture: "", device: "", description: "" }, coreCaps, [], "");
    writeFileSync(join(folder, "net.engine"), serialize(doubling(), someWeights(), digest, portable));
    // A process of its own, in a folder without packages: the bundle, a GPU and an engine are all there is.
    const script = `
      const { create } = await import(${JSON.stringify(import.meta.resolve("webgpu"))});
      const { Runtime } = await import("./runtime.mjs");
      const { readFile } = await import("node:fs/promises");
      globalThis.gpu = create([]);
      const engine = await (await Runtime.create(globalThis.gpu)).deserialize(await readFile("net.engine"));
      const { y } = await engine.createExecutionContext().execute({ x: Float32Array.of(1, 2, 3, 4) });
      console.log([...y.data].join());
      process.exit(0);`;
    const said = execFileSync(process.execPath, ["--input-type=module", "-e", script], { cwd: folder, encoding: "utf8" });
    expect(said.trim()).toBe("2,4,6,8");
    rmSync(folder, { recursive: true });
  });
});

describe("Runtime.deserialize", () => {
  it("loads from a Uint8Array or an ArrayBuffer and writes the same file again", async () => {
    const runtime = new Runtime(device);
    const bytes = file();
    for (const given of [bytes, bytes.buffer]) {
      const engine = await runtime.deserialize(given);
      expect(engine).toBeInstanceOf(Engine);
      expect(engine.serialize()).toEqual(bytes);
      engine.dispose();
    }
    expect((await Runtime.create(device)).device).toBe(device);
  });

  it("warns of another driver, and keeps saying which device the engine was built for", async () => {
    const warnings: string[] = [];
    const runtime = new Runtime(device, { onWarning: (message) => warnings.push(message) });
    const bytes = serialize(doubling(), someWeights(), digest, { ...device.fingerprint, implementation: "dawn.node 0.0.1" });
    const engine = await runtime.deserialize(bytes, "net.engine");
    expect(warnings).toHaveLength(1);
    expect(warnings[0]).toContain('net.engine: WebGPU implementation: built for "dawn.node 0.0.1"');
    expect(engine.serialize()).toEqual(bytes);
    engine.dispose();
  });

  it("refuses what is no engine, and an engine of another device", async () => {
    const runtime = new Runtime(device);
    expect((await rejection(runtime.deserialize(Uint8Array.of(8, 7, 18, 4), "model.onnx"))).message).toContain(
      "K501 not-an-engine  model.onnx",
    );
    expect((await rejection(runtime.deserialize(file().slice(0, 700)))).code).toBe("K502");
    const elsewhere = serialize(doubling(), someWeights(), digest, {
      ...device.fingerprint,
      device: "Voodoo 2",
      features: ["glide"],
    });
    const error = await rejection(runtime.deserialize(elsewhere));
    expect(error.code).toBe("K505");
    expect(error.message).toContain("built for Voodoo 2");
    expect(error.why).toContain('feature "glide": built with it, not here');
  });

  it("refuses a host layer without its operator, and takes one with it", async () => {
    const plan: Plan = {
      ...doubling(),
      steps: [{ kind: "host", node: "/nz", op: "NonZero", attrs: {}, inputs: [0], outputs: [1] }],
      hostLayers: [{ node: "/nz", op: "NonZero", reason: "the shape depends on the data" }],
    };
    expect((await rejection(new Runtime(device).deserialize(file(plan)))).message).toContain('K508 host-layer  NonZero "/nz"');
    const able = new Runtime(device, { hostOperators: (op) => (op === "NonZero" ? (inputs) => [inputs[0]!] : undefined) });
    (await able.deserialize(file(plan))).dispose();
  });

  it("frees what it had uploaded when a kernel does not compile", async () => {
    const broken = file({ ...doubling(), shaders: ["fn main( {"] });
    expect((await rejection(new Runtime(device).deserialize(broken))).code).toBe("K405");
    await device.queue.onSubmittedWorkDone();
    device.check();
  });
});
