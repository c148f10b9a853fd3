// Whether a manifest read from a file holds together: every number that points somewhere points at something there, every
// dimension can be read. What the kernels do is WebGPU's to check.

import type { Fingerprint } from "../gpu/fingerprint.ts";
import { parseDim } from "../ir/dims.ts";
import { DTYPES } from "../ir/types.ts";
import { limitNames } from "../util/caps.ts";
import type { Manifest } from "./format.ts";
import { type Plan, type PlanBuffer, type Step, schedulesOf } from "./plan.ts";

/** The manifest's parts. Throws an Error that says what is wrong with it. */
export function checkManifest(manifest: unknown): Manifest {
  // What is checked is data of unknown form: where it is of another form altogether, a TypeError says so as well.
  const { plan, fingerprint, weights } = manifest as Manifest;
  const { bytes, digest } = weights;
  checkFingerprint(fingerprint);
  need(isCount(bytes) && isText(digest), "it does not say which weights it needs");
  checkPlan(plan, bytes);
  return { plan, fingerprint, weights: { bytes, digest } };
}

function need(right: boolean, what: string): void {
  if (!right) throw new RangeError(what);
}

const isText = (value: unknown): boolean => typeof value === "string";
const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;
const among = <T>(all: readonly T[], value: T, what: string): void => need(all.includes(value), `${what} is ${String(value)}`);
const texts = (list: readonly unknown[], what: string): void =>
  list.forEach((value) => need(isText(value), `${what} is not text`));
const dims = (list: readonly string[]): void => list.forEach((text) => void parseDim(text));
const pointer = (value: number, length: number, what: string): void =>
  need(isCount(value) && value < length, `there is no ${what} ${value}`);

function checkFingerprint({
  vendor,
  architecture,
  device,
  description,
  implementation,
  toggles,
  features,
  matrix,
  limits,
}: Fingerprint): void {
  texts([vendor, architecture, device, description, implementation, ...toggles, ...features], "a part of the fingerprint");
  for (const { component, result } of matrix) texts([component, result], "a subgroup matrix");
  for (const name of limitNames) need(typeof limits[name] === "number", `the fingerprint has no limit ${name}`);
}

function checkPlan(plan: Plan, weightBytes: number): void {
  texts([...plan.shaders, ...plan.notes], "a shader or note");
  for (const { node, op, reason } of plan.hostLayers) texts([node, op, reason], "a host layer");
  for (const { node, verb, shapes, sizes } of plan.requirements ?? []) {
    texts([node, verb], "a requirement");
    for (const shape of [...shapes, sizes]) dims(shape);
  }
  for (const { name, symbols } of plan.profiles) {
    need(isText(name), "a profile has no name");
    for (const bounds of Object.values(symbols))
      need([bounds.min, bounds.opt, bounds.max].every(isCount), `profile "${name}" has no bounds`);
  }
  const schedules = schedulesOf(plan);
  for (const { slots } of schedules) for (const { bytes } of slots) dims(bytes);
  const mostSlots = Math.max(...schedules.map(({ slots }) => slots.length));
  for (const buffer of plan.buffers) checkBuffer(buffer, mostSlots, weightBytes);
  for (const { name, dtype, shape, buffer } of [...plan.inputs, ...plan.outputs]) {
    need(isText(name), "an input or output has no name");
    among(DTYPES, dtype, `the type of "${name}"`);
    dims(shape);
    pointer(buffer, plan.buffers.length, "buffer");
  }
  const isPinned = plan.inputs.every(
    ({ pinned = [] }) => pinned.every(isCount) && (pinned.length === 0 || plan.profiles.length > 0),
  );
  need(isPinned, "an input's size is pinned by no profile");
  for (const { name, dtype, shape, buffer } of plan.refit ?? []) {
    among(DTYPES, dtype, `the type of weight "${name}"`);
    need(isText(name) && shape.every(isCount), "a weight to refit has no name or shape");
    pointer(buffer, plan.buffers.length, "buffer");
    const { home } = plan.buffers[buffer]!;
    need(home.kind === "weight", `"${name}" is to be refitted and is no weight`);
  }
  for (const { steps } of schedules) checkSteps(steps, plan);
}

function checkBuffer({ name, dtype, shape, storage, bytes, home }: PlanBuffer, slots: number, weightBytes: number): void {
  need(isText(name), "a buffer has no name");
  among(DTYPES, dtype, `the type of buffer "${name}"`);
  among(["f32", "f16", "i32", "u32"], storage.item, `the item of buffer "${name}"`);
  among([1, 2, 4], storage.lanes, `the lanes of buffer "${name}"`);
  dims([...shape, bytes]);
  among(["weight", "activation", "input", "output", "host"], home.kind, `the home of buffer "${name}"`);
  if (home.kind === "activation") {
    pointer(home.slot, slots, "slot");
    dims([home.offset ?? "0"]);
  }
  if (home.kind !== "weight" && (home.kind !== "host" || home.offset === undefined)) return;
  const { offset, length = Number.NaN } = home;
  need(isCount(offset) && isCount(length) && offset + length <= weightBytes, `weight "${name}" lies outside of the weights`);
}

function checkSteps(steps: readonly Step[], plan: Plan): void {
  const buffers = (...numbers: readonly (number | null)[]): void =>
    numbers.forEach((number) => number !== null && pointer(number, plan.buffers.length, "buffer"));
  for (const step of steps) {
    switch (step.kind) {
      case "dispatch":
        texts([step.label, step.tactic, ...step.nodes], "a kernel's name");
        pointer(step.shader, plan.shaders.length, "shader");
        for (const { buffer, access } of step.bindings) {
          buffers(buffer);
          among(["read", "write"], access, "an access");
        }
        need(step.workgroups.length === 3, `kernel "${step.label}" has no workgroups`);
        dims([...step.params, ...step.workgroups]);
        break;
      case "copy":
        buffers(step.from, step.to);
        break;
      case "host":
        need(
          plan.hostLayers.some(({ op }) => op === step.op),
          `${step.op} is not among the host layers`,
        );
        buffers(...step.inputs, ...step.outputs);
        break;
      case "loop":
        need(isText(step.index), "a loop has no index");
        dims([step.count]);
        buffers(step.trips, step.condition?.initial ?? null, step.condition?.output ?? null, ...step.outputs);
        for (const { init, input, output, final } of step.carried) buffers(init, input, output, final);
        for (const { piece, out } of step.scans) buffers(piece, out);
        checkSteps(step.body, plan);
        break;
      case "if":
        buffers(step.condition);
        for (const { then, else: other, out } of step.results) buffers(then, other, out);
        checkSteps(step.then, plan);
        checkSteps(step.else, plan);
        break;
      default:
        throw new RangeError(`a step is of kind ${String((step as { kind: unknown }).kind)}`);
    }
  }
}
