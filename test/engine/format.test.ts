// The engine file: what is written is read, and whatever else one may hand to it is refused in plain words.

import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { checkDevice, type Manifest, readManifest, serialize, wholeHeader } from "../../src/engine/format.ts";
import type { Plan } from "../../src/engine/plan.ts";
import { type Fingerprint, fingerprintOf } from "../../src/gpu/fingerprint.ts";
import { type Caps, coreCaps } from "../../src/util/caps.ts";
import { digestOf } from "../../src/util/digest.ts";
import { KilnError } from "../../src/util/errors.ts";
import { Hasher } from "../../src/util/hash.ts";
import { VERSION } from "../../src/util/version.ts";
import { doubling, someWeights } from "./plans.ts";

const caps: Caps = {
  ...coreCaps,
  features: ["shader-f16", "subgroups"],
  f16: true,
  subgroups: true,
  subgroupMinSize: 32,
  subgroupMaxSize: 32,
};
const info = { vendor: "nvidia", architecture: "hopper", device: "NVIDIA H200", description: "NVIDIA: 580.65.06" };
const h200 = fingerprintOf(info, caps, [], "dawn.node 0.6.2");

const plan = doubling();
const weights = someWeights();
const digest = await digestOf(weights);
const written = (of: Plan, fingerprint = h200): Uint8Array<ArrayBuffer> => serialize(of, weights, digest, fingerprint);
const good = written(plan);
const { weightsAt } = wholeHeader(good, "good");

const read = (bytes: Uint8Array, file = "engine"): Manifest => readManifest(bytes, wholeHeader(bytes, file), file);

const changed = (at: number, ...bytes: readonly number[]): Uint8Array => {
  const copy = good.slice();
  copy.set(bytes, at);
  return copy;
};

/** The file with a checksum that fits: damage by a program, not by chance. */
const sealed = (file: Uint8Array): Uint8Array => {
  const head = file.subarray(0, wholeHeader(file, "forged").weightsAt);
  const sum = new Hasher().update(head.subarray(0, 16)).update(head.subarray(32)).digest();
  file.set(
    sum.match(/../g)!.map((pair) => Number.parseInt(pair, 16)),
    16,
  );
  return file;
};

const text = (characters: string): Uint8Array => Uint8Array.from(characters, (character) => character.charCodeAt(0));

/** The KilnError that reading these bytes ends with; fails when they are read, or with any other error. */
const refusal = (bytes: Uint8Array): KilnError => {
  try {
    read(bytes, "net.engine");
  } catch (failure) {
    if (!(failure instanceof KilnError)) throw failure;
    expect(failure.hint, failure.message).toBeTruthy();
    return failure;
  }
  throw new Error("it was read");
};

describe("an engine file", () => {
  it("gives back what was written", () => {
    expect(read(good)).toEqual({ plan, fingerprint: h200, weights: { bytes: weights.length, digest } });
    expect(weightsAt % 256).toBe(0);
    expect(good.subarray(weightsAt)).toEqual(weights);
  });

  it("may lie anywhere in a buffer", () => {
    const shifted = new Uint8Array(good.length + 3);
    shifted.set(good, 3);
    expect(read(shifted.subarray(3)).plan).toEqual(plan);
  });

  it("is the same for the same engine, and may have no weights", () => {
    expect(written(plan)).toEqual(good);
    const empty: Plan = { ...plan, buffers: plan.buffers.slice(0, 2) };
    expect(read(serialize(empty, new Uint8Array(0), digest, h200)).weights.bytes).toBe(0);
  });

  it("keeps numbers that JSON has not", () => {
    const attrs = { low: Number.NEGATIVE_INFINITY, zero: -0, list: [Number.NaN, 1, Number.POSITIVE_INFINITY], name: "number" };
    const host: Plan = {
      ...plan,
      steps: [{ kind: "host", node: "n", op: "Odd", attrs, inputs: [0, null], outputs: [1] }],
      hostLayers: [{ node: "n", op: "Odd", reason: "a test" }],
    };
    const [step] = read(written(host)).plan.steps;
    expect(step).toEqual({ kind: "host", node: "n", op: "Odd", attrs, inputs: [0, null], outputs: [1] });
  });

  it("carries the version of package.json", () => {
    const { version } = JSON.parse(readFileSync("package.json", "utf8")) as { version: string };
    expect(VERSION).toBe(version);
    expect(String.fromCharCode(...good.subarray(40, 40 + VERSION.length))).toBe(VERSION);
  });
});

describe("reading refuses", () => {
  it.each<[string, Uint8Array, string]>([
    ["nothing", new Uint8Array(0), "it is empty"],
    ["an ONNX file", Uint8Array.of(8, 7, 18, 4, 107, 105, 108, 110), "this is an ONNX file"],
    ["an ONNX file without producer", Uint8Array.of(8, 10, 58, 200, 1, 10), "this is an ONNX file"],
    ["a PNG picture", Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 13, 10, 26, 10, 0, 0), "a PNG picture"],
    ["a JPEG picture", Uint8Array.of(0xff, 0xd8, 0xff, 0xe0), "a JPEG picture"],
    ["a zip archive", text("PK\x03\x04rest"), "a zip archive"],
    ["a gzip archive", Uint8Array.of(0x1f, 0x8b, 8, 0), "a gzip archive"],
    ["a Git LFS pointer", text("version https://git-lfs.github.com/spec/v1\n"), "a Git LFS pointer"],
    ["a web page", text("\n<!doctype html><title>404</title>"), "a web page"],
    ["JSON", text('{"kiln": 1}'), "JSON text"],
    ["some text", text("hello"), 'it does not begin with "KILN"'],
    ["zeros", new Uint8Array(4096), 'it does not begin with "KILN"'],
    ["another case", text("kiln"), 'it does not begin with "KILN"'],
  ])("%s as K501", (_, bytes, words) => {
    const error = refusal(bytes);
    expect(error.message).toContain("K501 not-an-engine  net.engine: this is not a Kiln engine: ");
    expect(error.message).toContain(words);
  });

  it("an ONNX file with the command to use", () => {
    expect(refusal(Uint8Array.of(8, 7, 18, 4, 107)).format()).toBe(
      "K501 not-an-engine  net.engine: this is not a Kiln engine: this is an ONNX file\n  hint: run `kiln build` on it",
    );
  });

  it.each([1, 3, 4, 5, 16, 40, 63, 64, 65, 255, 1000, 2047, good.length - 600, good.length - 2, good.length - 1])(
    "a file cut off after %i bytes as K502",
    (length) => {
      const error = refusal(good.slice(0, length));
      expect(error.code).toBe("K502");
      expect(error.message).toContain(`${length} of ${length < 64 ? 64 : good.length} bytes`);
    },
  );

  it("bytes after the end as K503", () => {
    const longer = new Uint8Array(good.length + 1);
    longer.set(good);
    expect(refusal(longer).why).toBe(`it holds ${good.length + 1} bytes, its header says ${good.length}`);
  });

  it("any flipped bit", async () => {
    for (let at = weightsAt; at < good.length; at++)
      expect(await digestOf(changed(at, good[at]! ^ (1 << (at % 8))).subarray(weightsAt)), `byte ${at}`).not.toBe(digest);
    for (let at = 0; at < weightsAt; at++) {
      const error = refusal(changed(at, good[at]! ^ (1 << (at % 8))));
      expect(error.code, `byte ${at}`).toMatch(at < 4 ? /K501/ : at < 8 || at >= 16 ? /K503/ : /K50[23]/);
    }
  });

  it("random bytes, with and without the magic", () => {
    let state = 12345;
    const random = (): number => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return state >>> 24;
    };
    for (let round = 0; round < 200; round++) {
      const noise = Uint8Array.from({ length: random() * 2 }, random);
      if (round % 2 === 0) noise.set(text("KILN").subarray(0, noise.length));
      expect(refusal(noise).code).toMatch(/K50[123]/);
    }
  });

  it.each<[string, Uint8Array, string]>([
    ["a newer format", changed(4, 3), "the engine is too new: its format version is 3, this Kiln reads 2"],
    ["an older format", changed(4, 1), "the engine is too old: its format version is 1, this Kiln reads 2"],
    [
      "a newer compiler",
      changed(40, ...text("0.2.0")),
      "the engine is too new: its compiler version is 0.2.0, this Kiln reads 0.1.x",
    ],
    ["a much newer compiler", changed(40, ...text("10.0.0")), "too new: its compiler version is 10.0.0, this Kiln reads 0.1.x"],
    ["an older compiler", changed(40, ...text("0.0.9")), "too old: its compiler version is 0.0.9, this Kiln reads 0.1.x"],
  ])("%s as K504", (_, bytes, words) => {
    const error = refusal(sealed(bytes));
    expect(error.code).toBe("K504");
    expect(error.message).toContain(words);
  });

  it("not another patch of the compiler", () => {
    expect(read(sealed(changed(40, ...text("0.1.77")))).plan).toEqual(plan);
  });
});

describe("a forged manifest", () => {
  const forged = (forgery: Plan | object): KilnError => refusal(written(forgery as Plan));
  const [step] = plan.steps;
  const [x, y, w] = plan.buffers;

  it.each<[string, object, string]>([
    ["a shader that is not there", { ...plan, steps: [{ ...step, shader: 1 }] }, "there is no shader 1"],
    [
      "a buffer that is not there",
      { ...plan, steps: [{ ...step, bindings: [{ buffer: 9, access: "read" }] }] },
      "there is no buffer 9",
    ],
    ["a buffer by fraction", { ...plan, inputs: [{ ...plan.inputs[0], buffer: 0.5 }] }, "there is no buffer 0.5"],
    [
      "a weight beyond the end",
      { ...plan, buffers: [x, y, { ...w, home: { kind: "weight", offset: 4, length: 600 } }] },
      'weight "w" lies outside',
    ],
    [
      "a weight before the start",
      { ...plan, buffers: [x, y, { ...w, home: { kind: "weight", offset: -4, length: 4 } }] },
      'weight "w" lies outside',
    ],
    [
      "a slot that is not there",
      { ...plan, buffers: [x, y, { ...w, home: { kind: "activation", slot: 0 } }] },
      "there is no slot 0",
    ],
    ["an unknown type", { ...plan, inputs: [{ ...plan.inputs[0], dtype: "f24" }] }, 'the type of "x" is f24'],
    ["an unknown step", { ...plan, steps: [{ kind: "teleport" }] }, "a step is of kind teleport"],
    ["a broken dimension", { ...plan, steps: [{ ...step, workgroups: ["(1", "1", "1"] }] }, 'dimension "(1": expected ")"'],
    ["too few workgroups", { ...plan, steps: [{ ...step, workgroups: ["1"] }] }, "has no workgroups"],
    [
      "an unlisted host layer",
      { ...plan, steps: [{ kind: "host", node: "n", op: "Exec", attrs: {}, inputs: [], outputs: [] }] },
      "Exec is not among the host layers",
    ],
    ["no steps", { ...plan, steps: undefined }, ""],
    ["no plan", [], ""],
  ])("with %s is K506", (_, forgery, words) => {
    const error = forged(forgery);
    expect(error.code).toBe("K506");
    expect(error.why).toContain(words);
  });

  it("is refused or read, but never ends otherwise", () => {
    const paths = (value: unknown, path: readonly string[] = []): (readonly string[])[] =>
      typeof value === "object" && value !== null
        ? Object.entries(value).flatMap(([name, inner]) => [[...path, name], ...paths(inner, [...path, name])])
        : [];
    const replaced = (value: unknown, [name, ...rest]: readonly string[], by: unknown): unknown => {
      if (name === undefined) return by;
      const copy = (Array.isArray(value) ? [...value] : { ...(value as object) }) as Record<string, unknown>;
      copy[name] = replaced(copy[name], rest, by);
      return copy;
    };
    let refused = 0;
    for (const path of paths(plan)) {
      for (const by of [undefined, null, -1, 1e9, "?", [], {}]) {
        try {
          read(written(replaced(plan, path, by) as Plan));
        } catch (failure) {
          expect(failure).toBeInstanceOf(KilnError);
          expect((failure as KilnError).code).toBe("K506");
          refused++;
        }
      }
    }
    expect(refused).toBeGreaterThan(300);
  });

  it("whose text is no JSON, or whose length is wrong, is K506", () => {
    expect(refusal(sealed(changed(64, 0xff))).code).toBe("K506");
    expect(refusal(sealed(changed(32, 10, 0))).code).toBe("K506");
    expect(refusal(sealed(changed(32, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff))).code).toBe("K506");
  });

  it("with a fingerprint that is none is K506", () => {
    for (const forgery of [null, {}, { ...h200, features: undefined }, { ...h200, limits: {} }, { ...h200, vendor: 3 }]) {
      expect(refusal(written(plan, forgery as Fingerprint)).code).toBe("K506");
    }
  });
});

describe("an engine's device", () => {
  const here = (other: Partial<Fingerprint>): Fingerprint => ({ ...h200, ...other });

  it("may be the same", () => expect(checkDevice(h200, here({}))).toEqual([]));

  it("may have another version of the driver, with a warning", () => {
    expect(checkDevice(h200, here({ description: "NVIDIA: 590.11" }), "net.engine")).toEqual([
      'net.engine: driver: built for "NVIDIA: 580.65.06", here "NVIDIA: 590.11": it may run slower than it could, build it again to tune it',
    ]);
    expect(checkDevice(h200, here({ implementation: "dawn.node 0.7.0" }))).toHaveLength(1);
  });

  it.each<[Partial<Fingerprint>, string]>([
    [{ device: "NVIDIA H100" }, 'device: built for "NVIDIA H200", here "NVIDIA H100"'],
    [{ architecture: "ada" }, 'architecture: built for "hopper", here "ada"'],
    [{ features: ["subgroups"] }, 'feature "shader-f16": built with it, not here'],
    [{ subgroupMaxSize: 64 }, "subgroupMaxSize: built for 32, here 64"],
    [
      { limits: { ...caps.limits, maxComputeWorkgroupStorageSize: 49152 } },
      "limit maxComputeWorkgroupStorageSize: built for 16384, here 49152",
    ],
    [{ description: "Mesa 25.0.7" }, 'driver: built for "NVIDIA: 580.65.06", here "Mesa 25.0.7"'],
    [
      { matrix: [{ component: "f16", result: "f32", m: 16, n: 16, k: 16 }] },
      "subgroup matrix f16→f32 16×16×16: built without it, on here",
    ],
  ])("may not differ by %j", (other, words) => {
    try {
      checkDevice(h200, here(other), "net.engine");
    } catch (failure) {
      const error = failure as KilnError;
      expect(error.code).toBe("K505");
      expect(error.message).toContain(`the engine was built for NVIDIA H200, this device is ${other.device ?? "NVIDIA H200"}`);
      expect(error.why).toBe(words);
      expect(error.hint).toContain("portable");
      return;
    }
    throw new Error("it was let through");
  });

  it("may be any when the engine needs nothing beyond WebGPU's core", () => {
    const portable = fingerprintOf(info, coreCaps, [], "dawn.node 0.6.2");
    expect(checkDevice(portable, { ...h200, vendor: "apple", device: "M4", features: ["subgroups"] })).toEqual([]);
    const greedy = { ...portable, limits: { ...portable.limits, maxComputeWorkgroupStorageSize: 32768 } };
    expect(() => checkDevice(greedy, h200)).toThrow("K505");
  });
});
