// Reads what a live device can do into plain `Caps`. What kernels make of it is theirs; nothing here knows a vendor.

import {
  type Caps,
  coreCaps,
  coreLimits,
  type LimitName,
  type Limits,
  limitNames,
  type MatrixComponent,
  type MatrixConfig,
  type MatrixDialect,
  type MatrixResult,
  tierOf,
} from "../util/caps.ts";

export const matrixFeature = "chromium-experimental-subgroup-matrix";

/** Fields of `GPUAdapterInfo` that are not in the type declarations yet. */
interface MatrixAdapterInfo {
  readonly subgroupMatrixConfigs?: Iterable<{
    readonly componentType: string;
    readonly resultComponentType: string;
    readonly M: number;
    readonly N: number;
    readonly K: number;
  }>;
}

const components: readonly string[] = ["f16", "f32", "i8", "u8"] satisfies MatrixComponent[];
const results: readonly string[] = ["f16", "f32", "i32", "u32"] satisfies MatrixResult[];

/** The caps of a device just opened. `portable`: WebGPU's core and nothing else, whatever the device has besides. */
export const readCaps = async (gpu: GPU, info: GPUAdapterInfo, device: GPUDevice, portable: boolean): Promise<Caps> => {
  if (portable) return coreCaps;
  const features = [...device.features].sort();
  const has = (feature: string): boolean => features.includes(feature);
  const subgroups = has("subgroups");
  const subgroupMinSize = subgroups ? (info.subgroupMinSize ?? 4) : 0;
  const subgroupMaxSize = subgroups ? (info.subgroupMaxSize ?? 128) : 0;
  const matrix = has(matrixFeature) ? matrixConfigs(info, has("shader-f16")) : [];
  const matrixDialect = has(matrixFeature) ? await probeDialect(device, matrix[0]) : "none";
  return {
    tier: tierOf(matrix, matrixDialect, subgroupMaxSize),
    features,
    limits: readLimits(device.limits),
    f16: has("shader-f16"),
    subgroups,
    subgroupMinSize,
    subgroupMaxSize,
    dot4: gpu.wgslLanguageFeatures?.has("packed_4x8_integer_dot_product") ?? false,
    timestamps: has("timestamp-query"),
    matrix,
    matrixDialect,
  };
};

const readLimits = (limits: GPUSupportedLimits): Limits =>
  Object.fromEntries(limitNames.map((name) => [name, limits[name] ?? coreLimits[name]])) as Record<LimitName, number>;

const matrixConfigs = (info: GPUAdapterInfo, f16: boolean): readonly MatrixConfig[] =>
  [...((info as MatrixAdapterInfo).subgroupMatrixConfigs ?? [])]
    .filter((c) => components.includes(c.componentType) && results.includes(c.resultComponentType))
    .map((c) => ({
      component: c.componentType as MatrixComponent,
      result: c.resultComponentType as MatrixResult,
      m: c.M,
      n: c.N,
      k: c.K,
    }))
    .filter((c) => f16 || (c.component !== "f16" && c.result !== "f16"))
    .sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1));

/** Compiles one load and one store in each dialect; the first that passes is the device's. */
const probeDialect = async (device: GPUDevice, config: MatrixConfig | undefined): Promise<MatrixDialect> => {
  for (const dialect of ["template", "legacy"] as const) {
    device.pushErrorScope("validation");
    device.createShaderModule({ label: `probe ${dialect}`, code: probeText(dialect, config) });
    if ((await device.popErrorScope()) === null) return dialect;
  }
  return "none";
};

const probeText = (dialect: "template" | "legacy", config: MatrixConfig | undefined): string => {
  const { component, m, k } = config ?? ({ component: "f32", m: 8, k: 8 } as const);
  const element = component === "i8" ? "i32" : component === "u8" ? "u32" : component;
  const type = `subgroup_matrix_left<${component}, ${k}, ${m}>`;
  const load = dialect === "template" ? `<${type}, row_major>(&x, 0, ${k})` : `<${type}>(&x, 0, false, ${k})`;
  const store = dialect === "template" ? `<row_major>(&x, 0, a, ${k})` : `(&x, 0, a, false, ${k})`;
  return `${component === "f16" ? "enable f16;\n" : ""}enable subgroups;
enable chromium_experimental_subgroup_matrix;
@group(0) @binding(0) var<storage, read_write> x: array<${element}>;
@compute @workgroup_size(128) fn main() {
  let a = subgroupMatrixLoad${load};
  subgroupMatrixStore${store};
}
`;
};
