// Sixty files that are no engine of this device: each is refused in plain words, by both ways of loading, and the device goes on.

import { existsSync, readFileSync } from "node:fs";
import { deflateSync } from "node:zlib";
import { afterAll, beforeAll, expect, it } from "vitest";
import { Builder } from "../../src/builder.ts";
import { randomNumbers } from "../../src/cli/random.ts";
import { serialize } from "../../src/engine/format.ts";
import type { Device } from "../../src/gpu/device.ts";
import type { Fingerprint } from "../../src/gpu/fingerprint.ts";
import { tensor } from "../../src/ir/tensor.ts";
import { Runtime } from "../../src/runtime.ts";
import { nullDevice, realDevice, rejection } from "../gpu/open.ts";
import { model } from "../support/onnx-model.ts";

let device: Device;
beforeAll(async () => {
  device = (await realDevice()) ?? (await nullDevice());
});
afterAll(() => device.destroy());

const onnx = model({
  opset: 17,
  inputs: { x: { dtype: "f32", shape: ["N", 8] } },
  outputs: ["y"],
  nodes: [
    { op: "MatMul", inputs: ["x", "w"], outputs: ["m"] },
    { op: "Softmax", inputs: ["m"], outputs: ["y"] },
  ],
  initializers: {
    w: tensor(
      "f32",
      [8, 300],
      Array.from({ length: 2400 }, (_, i) => Math.sin(i)),
    ),
  },
});

interface Case {
  readonly what: string;
  readonly bytes: Uint8Array;
  readonly codes: RegExp;
}

/** Damage at places that a seed draws, foreign files, versions and devices. */
function cases(good: Uint8Array, elsewhere: (change: Partial<Fingerprint>) => Uint8Array): Case[] {
  const next = randomNumbers(8);
  const within = (from: number, to: number): number => from + Math.floor(next() * (to - from));
  const cut = Array.from({ length: 18 }, (_, i): Case => {
    const length = i < 3 ? within(1, 64) : within(64, good.length);
    return { what: `cut off after ${length} bytes`, bytes: good.slice(0, length), codes: /K502/ };
  });
  const flipped = Array.from({ length: 20 }, (_, i): Case => {
    const bytes = good.slice();
    const at = Array.from({ length: 1 + (i % 3) }, () => within(i < 4 ? 4 : 64, i < 4 ? 64 : good.length));
    for (const place of at) bytes[place]! ^= 1 << within(0, 8);
    // A length that grew looks like a file that was cut off.
    return { what: `bits flipped at ${at.join(", ")}`, bytes, codes: /K50[23]/ };
  });
  const text = (content: string): Uint8Array => new TextEncoder().encode(content);
  const version = (at: number, ...bytes: readonly number[]): Uint8Array => {
    const changed = good.slice();
    changed.set(bytes, at);
    return changed;
  };
  const png = Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0, 0, 0, 13, 0x49, 0x48, 0x44, 0x52, 0, 0, 0, 1);
  const foreign: [string, Uint8Array][] = [
    ["an ONNX file", onnx],
    ["a PNG picture", png],
    ["a JPEG picture", Uint8Array.of(0xff, 0xd8, 0xff, 0xe0, 0, 16)],
    ["a zip archive", text("PK\x03\x04 and so on")],
    ["a gzip archive", Uint8Array.of(0x1f, 0x8b, 8, 0, 0)],
    ["JSON", text('{"plan": {}}')],
    ["a web page", text("<!doctype html><title>404</title>")],
    ["an LFS pointer", text("version https://git-lfs.github.com/spec/v1\noid sha256:0")],
    ["an empty file", new Uint8Array(0)],
    ["zeros", new Uint8Array(5000)],
    ["deflated data", new Uint8Array(deflateSync(good.slice(0, 4000)))],
    ["this test", new Uint8Array(readFileSync(import.meta.filename))],
  ];
  const real = "../shared/models/mnist-burn/mnist.onnx";
  if (existsSync(real)) foreign[11] = ["a real ONNX model", new Uint8Array(readFileSync(real))];
  const longer = new Uint8Array(good.length + 7);
  longer.set(good);
  return [
    ...cut,
    ...flipped,
    ...foreign.map(([what, bytes]): Case => ({ what, bytes, codes: /K501/ })),
    { what: "a newer format without a checksum that fits", bytes: version(4, 9), codes: /K503/ },
    { what: "another compiler without a checksum that fits", bytes: version(40, 57), codes: /K503/ },
    { what: "bytes after the end", bytes: longer, codes: /K503/ },
    { what: "no manifest", bytes: version(32, 0, 0, 0, 0, 0, 0, 0, 0), codes: /K503/ },
    { what: "another GPU", bytes: elsewhere({ vendor: "other", device: "Voodoo 2" }), codes: /K505/ },
    { what: "another architecture", bytes: elsewhere({ architecture: "ampere", vendor: "nvidia" }), codes: /K505/ },
    {
      what: "a feature that is not here",
      bytes: elsewhere({ features: [...device.fingerprint.features, "glide"] }),
      codes: /K505/,
    },
    { what: "other subgroups", bytes: elsewhere({ subgroupMinSize: 128, subgroupMaxSize: 128 }), codes: /K505/ },
    {
      what: "larger limits",
      bytes: elsewhere({ limits: { ...device.fingerprint.limits, maxBufferSize: 2 ** 50 } }),
      codes: /K505/,
    },
    { what: "the other half", bytes: good.slice(good.length >> 1), codes: /K501/ },
  ];
}

it("sixty of them", { timeout: 300_000 }, async () => {
  const engine = await new Builder(device).build(onnx, { optimizationLevel: 0 });
  const good = engine.serialize();
  const elsewhere = (change: Partial<Fingerprint>): Uint8Array =>
    serialize(engine.plan, engine.weights, engine.digest, { ...device.fingerprint, ...change });
  const all = cases(good, elsewhere);
  expect(all).toHaveLength(60);
  const runtime = new Runtime(device, { onWarning: () => {} });
  for (const { what, bytes, codes } of all) {
    const parsed = await rejection(runtime.deserialize(bytes, "net.engine"));
    const streamed = await rejection(runtime.load(new Blob([bytes.slice()]).stream(), { file: "net.engine" }));
    for (const error of [parsed, streamed]) {
      expect(error.code, `${what}: ${error.message}`).toMatch(codes);
      expect(error.message).toContain("net.engine: ");
      expect(error.hint, what).toBeTruthy();
    }
  }
  const again = await runtime.deserialize(good);
  const { y } = await again.createExecutionContext().execute({ x: tensor("f32", [1, 8], [1, 2, 3, 4, 5, 6, 7, 8]) });
  expect(y!.shape).toEqual([1, 300]);
  device.check();
});
