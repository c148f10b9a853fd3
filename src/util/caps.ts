// What a device can do, as plain serialisable data: all that kernels may choose by. It is read from a live device in
// gpu/caps.ts, or parsed from a file when an engine is built for a device that is not here.

/** Element type of the two factors of a subgroup matrix product. */
export type MatrixComponent = "f16" | "f32" | "i8" | "u8";

/** Element type of the accumulator and result of a subgroup matrix product. */
export type MatrixResult = "f16" | "f32" | "i32" | "u32";

/** One shape of subgroup matrix product that the device runs: an m×k times a k×n matrix. */
export interface MatrixConfig {
  readonly component: MatrixComponent;
  readonly result: MatrixResult;
  readonly m: number;
  readonly n: number;
  readonly k: number;
}

/**
 * How subgroup matrices are loaded and stored in WGSL: "template" is `subgroupMatrixLoad<T, row_major>(&p, offset, stride)`,
 * "legacy" is `subgroupMatrixLoad<T>(&p, offset, colMajor, stride)`.
 */
export type MatrixDialect = "template" | "legacy" | "none";

/**
 * A device in one word, for people and reports; tactics look at the single fields. "tensor": subgroup matrices with at least
 * one shape; "subgroup": subgroups of 16 or more; "core": the rest.
 */
export type Tier = "tensor" | "subgroup" | "core";

/** The limits that a compute kernel or buffer can meet, in WebGPU's words. Sizes in bytes. */
export const limitNames = [
  "maxBindGroups",
  "maxBindingsPerBindGroup",
  "maxStorageBuffersPerShaderStage",
  "maxUniformBuffersPerShaderStage",
  "maxUniformBufferBindingSize",
  "maxStorageBufferBindingSize",
  "minUniformBufferOffsetAlignment",
  "minStorageBufferOffsetAlignment",
  "maxBufferSize",
  "maxComputeWorkgroupStorageSize",
  "maxComputeInvocationsPerWorkgroup",
  "maxComputeWorkgroupSizeX",
  "maxComputeWorkgroupSizeY",
  "maxComputeWorkgroupSizeZ",
  "maxComputeWorkgroupsPerDimension",
] as const;

export type LimitName = (typeof limitNames)[number];
export type Limits = Readonly<Record<LimitName, number>>;

export interface Caps {
  readonly tier: Tier;
  /** Features that the device was opened with, sorted. */
  readonly features: readonly string[];
  readonly limits: Limits;
  readonly f16: boolean;
  readonly subgroups: boolean;
  /** Invocations a subgroup may have; both 0 without subgroups. */
  readonly subgroupMinSize: number;
  readonly subgroupMaxSize: number;
  /** `dot4I8Packed`, `dot4U8Packed` and their packing functions are there. */
  readonly dot4: boolean;
  /** GPU timestamps are there. */
  readonly timestamps: boolean;
  readonly matrix: readonly MatrixConfig[];
  readonly matrixDialect: MatrixDialect;
}

/** The limits that every WebGPU device has (https://www.w3.org/TR/webgpu/#limits). */
export const coreLimits: Limits = {
  maxBindGroups: 4,
  maxBindingsPerBindGroup: 1000,
  maxStorageBuffersPerShaderStage: 8,
  maxUniformBuffersPerShaderStage: 12,
  maxUniformBufferBindingSize: 65536,
  maxStorageBufferBindingSize: 134217728,
  minUniformBufferOffsetAlignment: 256,
  minStorageBufferOffsetAlignment: 256,
  maxBufferSize: 268435456,
  maxComputeWorkgroupStorageSize: 16384,
  maxComputeInvocationsPerWorkgroup: 256,
  maxComputeWorkgroupSizeX: 256,
  maxComputeWorkgroupSizeY: 256,
  maxComputeWorkgroupSizeZ: 64,
  maxComputeWorkgroupsPerDimension: 65535,
};

/** What every WebGPU device can do, and nothing beyond: an engine built for this loads anywhere. */
export const coreCaps: Caps = {
  tier: "core",
  features: [],
  limits: coreLimits,
  f16: false,
  subgroups: false,
  subgroupMinSize: 0,
  subgroupMaxSize: 0,
  dot4: false,
  timestamps: false,
  matrix: [],
  matrixDialect: "none",
};

/** The tier of a device with these matrix shapes and this largest subgroup (0 without subgroups). */
export const tierOf = (matrix: readonly MatrixConfig[], dialect: MatrixDialect, subgroupMaxSize: number): Tier => {
  if (matrix.length > 0 && dialect !== "none") return "tensor";
  return subgroupMaxSize >= 16 ? "subgroup" : "core";
};

/** Bytes at whose multiples every device binds storage. */
export const BINDING_ALIGNMENT = coreLimits.minStorageBufferOffsetAlignment;
