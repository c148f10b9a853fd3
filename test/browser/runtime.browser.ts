// The lean runtime alone in Chromium: an engine built in Node arrives by its address, runs, and agrees with ONNX Runtime.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { expect, it } from "vitest";
import { Builder } from "../../src/builder.ts";
import { tensor } from "../../src/ir/tensor.ts";
import { openNodeDevice } from "../../src/node-device.ts";
import { model } from "../support/onnx-model.ts";
import { runOnnxRuntime } from "../support/onnxruntime.ts";
import { requestsOf, serve, Visitor } from "./chromium.ts";

const wave = (...shape: number[]) =>
  tensor(
    "f32",
    shape,
    Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => Math.sin(i * 0.7)),
  );

const onnx = model({
  opset: 17,
  inputs: { x: { dtype: "f32", shape: ["N", 3, "H", "W"] } },
  outputs: ["y"],
  nodes: [
    { op: "Conv", inputs: ["x", "w"], outputs: ["c"], attributes: { pads: [1, 1, 1, 1] } },
    { op: "Relu", inputs: ["c"], outputs: ["r"] },
    { op: "GlobalAveragePool", inputs: ["r"], outputs: ["p"] },
    { op: "Flatten", inputs: ["p"], outputs: ["f"] },
    { op: "Softmax", inputs: ["f"], outputs: ["y"] },
  ],
  initializers: { w: wave(8, 3, 3, 3) },
});
const profile = { x: { min: [1, 3, 4, 4], opt: [1, 3, 16, 16], max: [2, 3, 32, 32] } };

/** What the page has of the runtime. */
interface Lean {
  readonly Runtime: typeof import("../../src/runtime.ts").Runtime;
}

it("runs an engine, of at most 30 kB of code", async () => {
  const device = await openNodeDevice({ backend: "null" });
  const engine = await new Builder(device).build(onnx, {
    optimizationLevel: 0,
    hardwareCompatibility: "portable",
    profiles: [profile],
  });
  const file = Buffer.from(engine.serialize());
  device.destroy();
  const site = await serve(join(import.meta.dirname, "../../dist"));
  const visitor = await Visitor.arrive();
  try {
    await visitor.context.route("**/net.engine", (route) => route.fulfill({ body: file }));
    await visitor.context.route("**/page.html", (route) =>
      route.fulfill({ contentType: "text/html", body: '<!doctype html><link rel="icon" href="data:,">' }),
    );
    const { page, problems } = await visitor.open(`${site.address}page.html`);
    const requests = requestsOf(page);
    await page.addScriptTag({
      type: "module",
      content: 'import * as lean from "/runtime.js"; Object.assign(globalThis, lean);',
    });
    await page.waitForFunction(() => "Runtime" in globalThis);
    const shapes = [
      [1, 3, 16, 16],
      [2, 3, 5, 31],
    ];
    const inputs = shapes.map((shape) => ({ shape, data: [...(wave(...shape).data as Float32Array)] }));
    const { results, refusal } = await page.evaluate(async (given) => {
      const { Runtime } = globalThis as unknown as Lean;
      const runtime = await Runtime.create(navigator.gpu);
      const loaded = await runtime.load("/net.engine");
      const context = loaded.createExecutionContext();
      const results: number[][] = [];
      for (const { shape, data } of given) {
        const { y } = await context.execute({ x: { dtype: "f32", shape, data: Float32Array.from(data) } });
        results.push([...(y!.data as Float32Array)]);
      }
      const tall = { dtype: "f32" as const, shape: [1, 3, 33, 8], data: new Float32Array(3 * 33 * 8) };
      const refusal = await context.execute({ x: tall }).then(
        () => "",
        (error: Error) => error.message,
      );
      loaded.dispose();
      return { results, refusal };
    }, inputs);
    for (const [i, shape] of shapes.entries()) {
      const expected = (await runOnnxRuntime(onnx, { x: wave(...shape) })).y!.data as Float32Array;
      expect(results[i]).toHaveLength(expected.length);
      results[i]!.forEach((value, at) => expect(value).toBeCloseTo(expected[at]!, 5));
    }
    expect(refusal).toBe('K605 outside-profile  input "x" dimension 2: 33 is outside of [4, 32] of profile "profile 0"');
    expect(problems).toEqual([]);
    expect(requests.map(({ path }) => path).sort()).toEqual(["/net.engine", "/runtime.js"]);
    expect(gzipSync(readFileSync(join(import.meta.dirname, "../../dist/runtime.js"))).length).toBeLessThanOrEqual(30_000);
  } finally {
    await visitor.leave();
    site.close();
  }
});
