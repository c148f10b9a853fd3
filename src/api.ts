// What the browser's and Node's entry points have in common: all of the public names but Builder and Runtime, which know
// where a GPU comes from.

export { TimingCache, type TimingEntry } from "./autotuner/cache.ts";
export { type Contest, contestsOf } from "./autotuner/contests.ts";
export type { Choices } from "./autotuner/tune.ts";
export type { BuildOptions, BuildProgress, Stage } from "./builder.ts";
export { type CalibrationCache, parseCache, writeCache } from "./calibrator/cache.ts";
export type { Sample, Samples } from "./calibrator/collect.ts";
export { divergenceAt, divergences, entropyCut } from "./calibrator/entropy.ts";
export { Histogram } from "./calibrator/histogram.ts";
export type { Int8Options, Int8Report } from "./calibrator/quantize.ts";
export { CALIBRATORS, type Calibrator, calibratorNamed } from "./calibrator/thresholds.ts";
export type { Size, TensorDescription } from "./engine/describe.ts";
export type { Plan, PlanInput, PlanOutput, Profile } from "./engine/plan.ts";
export { Profiler, type RunProfile } from "./engine/profiler.ts";
export * from "./engine/public.ts";
export type { InferredShapes } from "./engine/shapes.ts";
export { type Device, type DeviceOptions, openDevice } from "./gpu/device.ts";
export { type Fingerprint, key as fingerprintKey } from "./gpu/fingerprint.ts";
export type { ReadExternal } from "./importer/tensors.ts";
export type { Tensor, TypedArray } from "./ir/tensor.ts";
export type { DType } from "./ir/types.ts";
export type { ProfileShapes, ShapeRange } from "./plan/profiles.ts";
export type { LoadOptions, RuntimeOptions } from "./runtime.ts";
export type { Caps } from "./util/caps.ts";
export { KilnError } from "./util/errors.ts";
export { VERSION } from "./util/version.ts";
