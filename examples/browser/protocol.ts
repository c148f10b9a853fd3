// What the page and its worker say to each other: plain data, and the worker's calls.

import type { Description, KernelDescription, RunProfile, TimingEntry } from "../../src/index.ts";

/** A point in the picture, in its pixels. */
export type Point = readonly [x: number, y: number];

export interface Finding {
  /** Corners in reading order, the upper left one first. */
  readonly corners: readonly Point[];
  /** From 0 to 1. */
  readonly score: number;
  /** What is written there; of text only. */
  readonly text?: string;
  /** Eyes, nose, mouth and ears; of faces only. */
  readonly marks?: readonly Point[];
}

export interface Findings {
  readonly width: number;
  readonly height: number;
  readonly findings: readonly Finding[];
  /** Milliseconds from pixels to findings, engines being there. */
  readonly ms: number;
}

/** What is looked for in pictures. */
export type Subject = "text" | "faces";

/** The networks for it, in the order in which they run. */
export const NEEDED = { text: ["text-detector", "text-recognizer"], faces: ["face-detector"] } as const satisfies Record<
  Subject,
  readonly string[]
>;

/** What the worker is at. `fraction` of 1; undefined where it cannot be told. */
export interface Progress {
  readonly title: string;
  readonly detail: string;
  readonly fraction?: number;
}

export interface DeviceReport {
  readonly name: string;
  readonly tier: string;
  readonly isSoftware: boolean;
  readonly fingerprint: string;
  /** What the fingerprint is of. */
  readonly facts: readonly (readonly [name: string, value: string])[];
  /** Networks whose engines are in this browser's store. */
  readonly kept: readonly string[];
}

/** A kernel that lost, or the one that won. */
export interface Contender extends Pick<TimingEntry, "tactic" | "config" | "rejected" | "error"> {
  /** Undefined where it was rejected. */
  readonly ms?: number;
  readonly won: boolean;
}
/** Of one task of a kernel; a kernel that is a bundle has several. */
export interface ContestReport {
  readonly task: string;
  readonly contenders: readonly Contender[];
}

export interface KernelReport extends KernelDescription {
  readonly contests: readonly ContestReport[];
}

export interface NetworkReport extends Omit<Description, "kernels"> {
  readonly id: string;
  readonly title: string;
  /** "built": here and now; "kept": by an earlier visit, in the browser's store; "file": given as an engine. */
  readonly from: "built" | "kept" | "file";
  /** Seconds that building or loading took. */
  readonly seconds: number;
  /** Of the engine file. */
  readonly bytes: number;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly kernels: readonly KernelReport[];
  /** It can be built again without fusion: its model is at hand. */
  readonly comparable: boolean;
  /** As an earlier visit measured it. */
  readonly comparison?: Comparison | undefined;
}

/** A network's runs on inputs of the sizes that it was tuned for. */
export interface Timing extends Omit<RunProfile, "kernels"> {
  readonly runs: number;
  /** Median of a run from inputs to outputs. */
  readonly latencyMs: number;
  /** Of each kernel, in the report's order; undefined where the device has no timestamps. */
  readonly kernelMs?: readonly number[];
}

/** One way to build a network, beside another. */
export interface Variant {
  readonly kernels: number;
  /** Activations, in bytes. */
  readonly memory: number;
  readonly latencyMs: number;
}
export interface Comparison {
  readonly fused: Variant;
  readonly unfused: Variant;
}

/** A size that a model leaves free, and what it will be unless told. */
export interface FreeSize {
  readonly name: string;
  readonly size: number;
}

export interface Listener {
  progress(progress: Progress): void;
  /** A network is ready to run. */
  network(report: NetworkReport): void;
  /** The device is gone; nothing works until `open`. */
  lost(message: string): void;
}

/** The worker's calls. They reject with what went wrong in the words of a KilnError's `format`. */
export interface Workshop {
  /** Opens a device, anew after a loss. */
  open(listener: Listener): Promise<DeviceReport>;
  find(subject: Subject, picture: Blob | ImageBitmap): Promise<Findings>;
  /** Sizes that a model leaves free. */
  freeSizes(name: string, onnx: Uint8Array): Promise<readonly FreeSize[]>;
  /** Builds a model of one's own. */
  build(name: string, onnx: Uint8Array, sizes: Readonly<Record<string, number>>): Promise<NetworkReport>;
  /** Loads an engine file. */
  load(name: string, engine: Uint8Array): Promise<NetworkReport>;
  time(network: string): Promise<Timing>;
  compare(network: string): Promise<Comparison>;
  /** The engine file. */
  file(network: string): Promise<Uint8Array<ArrayBuffer>>;
  /** Empties the browser's store. */
  forget(): Promise<void>;
  /** Destroys the device, as a driver that resets would. */
  loseDevice(): Promise<void>;
}
