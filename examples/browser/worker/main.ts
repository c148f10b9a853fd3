// The worker: everything that takes time. Opens the GPU, brings networks, runs them over pictures, builds models of the
// user's own. The page only draws what this gives.

import { expose } from "comlink";
import { key as fingerprintKey } from "../../../src/gpu/fingerprint.ts";
import { KilnError, openDevice, Runtime } from "../../../src/runtime.ts";
import {
  type DeviceReport,
  type Findings,
  type Listener,
  NEEDED,
  type NetworkReport,
  type Subject,
  type Workshop,
} from "../protocol.ts";
import { findFaces } from "./faces.ts";
import { factsOf } from "./facts.ts";
import { Networks } from "./networks.ts";
import { DICTIONARY, effortOn, isSoftware, longestFor, type Recipe, recipes } from "./recipes.ts";
import { forgetAll, keptNetworks } from "./store.ts";
import { readText } from "./text.ts";
import { timeEngine } from "./timing.ts";

/** All that lives on one device. */
interface Shop {
  readonly runtime: Runtime;
  readonly networks: Networks;
}
let current: Shop | undefined;

function shop(): Shop {
  if (!current) throw new Error("no device is open");
  return current;
}

async function open(listener: Listener): Promise<DeviceReport> {
  const gpu: GPU | undefined = navigator.gpu;
  if (!gpu) throw new Error("this browser has no WebGPU");
  const device = await openDevice(gpu);
  const runtime = await Runtime.create(device);
  const here = { runtime, networks: new Networks(runtime, listener) };
  current = here;
  void device.lost.then((loss) => {
    if (current === here) current = undefined;
    listener.lost(loss.format());
  });
  const { caps, fingerprint } = device;
  return {
    name: fingerprint.description || fingerprint.device || `${fingerprint.vendor} ${fingerprint.architecture}`.trim(),
    tier: caps.tier,
    isSoftware: isSoftware(device),
    fingerprint: fingerprintKey(fingerprint),
    facts: factsOf(device),
    kept: await keptNetworks(),
  };
}

async function find(subject: Subject, given: Blob | ImageBitmap): Promise<Findings> {
  const { runtime, networks } = shop();
  const picture = given instanceof Blob ? await decoded(given) : given;
  const known = recipes(runtime.device);
  const needed = [];
  for (const id of NEEDED[subject]) needed.push(await networks.bring(known[id]));
  const [first, second] = needed.map(({ context }) => context);
  const characters = subject === "text" ? await dictionary() : [];
  const start = performance.now();
  const findings = second
    ? await readText(picture, {
        detector: first!,
        recognizer: second,
        characters,
        longest: longestFor(runtime.device),
      })
    : await findFaces(picture, first!);
  const ms = performance.now() - start;
  const { width, height } = picture;
  picture.close();
  return { width, height, findings, ms };
}

/** A picture's pixels. */
async function decoded(file: Blob): Promise<ImageBitmap> {
  try {
    return await createImageBitmap(file);
  } catch {
    throw new Error("this file is no picture that the browser can decode\n  hint: JPEG, PNG, WebP, GIF and AVIF are");
  }
}

async function dictionary(): Promise<readonly string[]> {
  const response = await fetch(DICTIONARY);
  if (!response.ok) throw new Error(`${DICTIONARY}: the server said ${response.status} ${response.statusText}`);
  return ["", ...(await response.text()).trimEnd().split("\n"), " "];
}

/** The same file is the same network, on another visit too. */
async function idOf(...parts: (Uint8Array | string)[]): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", await new Blob(parts as BlobPart[]).arrayBuffer());
  return `own-${Array.from(new Uint8Array(digest, 0, 8), (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}

async function build(name: string, onnx: Uint8Array, sizes: Readonly<Record<string, number>>): Promise<NetworkReport> {
  const { runtime, networks } = shop();
  const recipe: Recipe = {
    id: await idOf(onnx, JSON.stringify(sizes)),
    title: name,
    model: async () => onnx,
    options: { ...effortOn(runtime.device), file: name, sizes },
  };
  return (await networks.bring(recipe)).report;
}

const workshop: Workshop = {
  open,
  find,
  build,
  freeSizes: async (name, onnx) => (await import("./compiler.ts")).freeSizesOf(name, onnx),
  load: async (name, engine) => (await shop().networks.load(await idOf(engine), name, engine)).report,
  time: async (network) => timeEngine((await shop().networks.get(network)).engine),
  compare: (network) => shop().networks.compare(network),
  file: async (network) => (await shop().networks.get(network)).engine.serialize(),
  forget: forgetAll,
  loseDevice: async () => shop().runtime.device.device.destroy(),
};

/** Errors cross to the page as text: that of a KilnError is whole. */
const inWords =
  <A extends unknown[], R>(call: (...args: A) => Promise<R>) =>
  async (...args: A): Promise<R> => {
    try {
      return await call(...args);
    } catch (failure) {
      throw new Error(failure instanceof KilnError ? failure.format() : (failure as Error).message);
    }
  };

expose(Object.fromEntries(Object.entries(workshop).map(([name, call]) => [name, inWords(call as () => Promise<unknown>)])));
