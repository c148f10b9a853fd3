// A device's fingerprint: all that may change what kernels compute or how long they take. Engines and timing caches carry it.

import type { Caps, Limits, MatrixConfig, MatrixDialect } from "../util/caps.ts";
import { hash } from "../util/hash.ts";

/** Plain data; `JSON.stringify` of it is stable. */
export interface Fingerprint {
  readonly vendor: string;
  readonly architecture: string;
  /** The adapter's name or id, as WebGPU gives it; browsers may leave it empty. */
  readonly device: string;
  /** As the driver reports it; in Dawn it holds the driver's version. */
  readonly description: string;
  /** What implements WebGPU, with its version ("dawn.node 0.6.2", "Chrome 142"); empty where nobody said. */
  readonly implementation: string;
  readonly toggles: readonly string[];
  readonly subgroupMinSize: number;
  readonly subgroupMaxSize: number;
  /** Those features in use that a compute kernel can notice, sorted. */
  readonly features: readonly string[];
  readonly dot4: boolean;
  readonly limits: Limits;
  readonly matrix: readonly MatrixConfig[];
  readonly matrixDialect: MatrixDialect;
}

/** Features of textures, drawing and adapters that no compute kernel can notice. */
const unnoticed =
  /texture|blend|renderable|storage$|depth|clip|primitive|multi-draw|filterable|indirect-first|timestamp|-table|^core-/;

/** `info`: the adapter's; `toggles`: switches of the implementation that were asked for, in any order. */
export const fingerprintOf = (
  info: Pick<GPUAdapterInfo, "vendor" | "architecture" | "device" | "description">,
  caps: Caps,
  toggles: readonly string[],
  implementation: string,
): Fingerprint => ({
  vendor: info.vendor,
  architecture: info.architecture,
  device: info.device,
  description: info.description,
  implementation,
  toggles: [...toggles].sort(),
  subgroupMinSize: caps.subgroupMinSize,
  subgroupMaxSize: caps.subgroupMaxSize,
  features: caps.features.filter((feature) => !unnoticed.test(feature)),
  dot4: caps.dot4,
  limits: caps.limits,
  matrix: caps.matrix,
  matrixDialect: caps.matrixDialect,
});

/** The device in a few words for people: what WebGPU names first of it. */
export const deviceName = ({ vendor, architecture, device, description }: Fingerprint): string =>
  device || description || `${vendor} ${architecture}`.trim() || "an unnamed device";

/** 32 hex digits; equal for fingerprints that compare as "same", whatever the order of their fields. */
export const key = (fingerprint: Fingerprint): string => hash(JSON.stringify(sorted(fingerprint)));

export type Comparison =
  | { readonly verdict: "same" }
  /** Only the version of the driver or of the WebGPU implementation differs: results hold, timings may not. */
  | { readonly verdict: "driver"; readonly differences: readonly string[] }
  | { readonly verdict: "different"; readonly differences: readonly string[] };

/** Compares the device that something was built for with the device at hand. `differences` are phrases for people. */
export const compare = (built: Fingerprint, here: Fingerprint): Comparison => {
  const differences: string[] = [];
  let onlyVersions = true;
  const note = (words: string, versionOnly = false): void => {
    differences.push(words);
    onlyVersions &&= versionOnly;
  };
  for (const name of ["vendor", "architecture", "device"] as const) {
    if (built[name] !== here[name]) note(`${name}: built for ${quoted(built[name])}, here ${quoted(here[name])}`);
  }
  for (const [name, words] of [
    ["description", "driver"],
    ["implementation", "WebGPU implementation"],
  ] as const) {
    if (built[name] === here[name]) continue;
    const versionOnly = withoutVersions(built[name]) === withoutVersions(here[name]);
    note(`${words}: built for ${quoted(built[name])}, here ${quoted(here[name])}`, versionOnly);
  }
  for (const name of ["subgroupMinSize", "subgroupMaxSize", "dot4", "matrixDialect"] as const) {
    if (built[name] !== here[name]) note(`${name}: built for ${built[name]}, here ${here[name]}`);
  }
  for (const [name, word] of [
    ["features", "feature"],
    ["toggles", "toggle"],
  ] as const) {
    for (const one of built[name]) if (!here[name].includes(one)) note(`${word} "${one}": built with it, not here`);
    for (const one of here[name]) if (!built[name].includes(one)) note(`${word} "${one}": built without it, on here`);
  }
  for (const name of Object.keys(built.limits) as (keyof Limits)[]) {
    if (built.limits[name] !== here.limits[name])
      note(`limit ${name}: built for ${built.limits[name]}, here ${here.limits[name]}`);
  }
  const shapes = { built: built.matrix.map(matrixWords), here: here.matrix.map(matrixWords) };
  for (const one of shapes.built) if (!shapes.here.includes(one)) note(`subgroup matrix ${one}: built with it, not here`);
  for (const one of shapes.here) if (!shapes.built.includes(one)) note(`subgroup matrix ${one}: built without it, on here`);
  if (differences.length === 0) return { verdict: "same" };
  return { verdict: onlyVersions ? "driver" : "different", differences };
};

const quoted = (text: string): string => (text === "" ? "an unnamed one" : `"${text}"`);

/** Masks dotted numbers, "580.65.06" or "19.1.7", and the number after a "/" or at the end, "Chrome 142". */
const withoutVersions = (text: string): string => text.replace(/\d+(\.\d+)+[\w~+-]*|\b\d+$/g, "#");

const matrixWords = (c: MatrixConfig): string => `${c.component}→${c.result} ${c.m}×${c.n}×${c.k}`;

/** The same data with the keys of every object in order. */
const sorted = (value: unknown): unknown => {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, inner]) => [name, sorted(inner)]),
  );
};
