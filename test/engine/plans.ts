// Small plans written by hand, so that engines can be tested without a compiler.

import type { DispatchStep, Plan, PlanBuffer, PlanInput, Step } from "../../src/engine/plan.ts";
import type { Storage } from "../../src/ir/storage.ts";
import type { DType } from "../../src/ir/types.ts";

const storages: Partial<Record<DType, Storage>> = {
  f32: { item: "f32", lanes: 1 },
  i32: { item: "i32", lanes: 1 },
  i64: { item: "i32", lanes: 1 },
  u8: { item: "u32", lanes: 4 },
  bool: { item: "u32", lanes: 4 },
};

/** A buffer of `shape`; `home` is a slot's number, "input", "output" or a place among the weights. */
export const buffer = (
  name: string,
  shape: readonly string[],
  home: number | "input" | "output" | { readonly offset: number; readonly length: number },
  dtype: DType = "f32",
): PlanBuffer => {
  const storage = storages[dtype]!;
  const elements = shape.length === 0 ? "1" : shape.map((dim) => `(${dim})`).join("*");
  const bytes = storage.lanes === 1 ? `${elements}*4` : `(${elements}+${storage.lanes - 1})/${storage.lanes}*4`;
  return {
    name,
    dtype,
    shape,
    storage,
    bytes,
    home:
      typeof home === "number"
        ? { kind: "activation", slot: home }
        : typeof home === "string"
          ? { kind: home }
          : { kind: "weight", ...home },
  };
};

/** The kernel `y[i] = expression of x[i], other inputs and params` over `count` elements, in workgroups of 64. */
export const mapShader = (expression: string, reads: number, params = 0): string => `
${Array.from({ length: reads }, (_, i) => `@group(0) @binding(${i}) var<storage, read> x${i}: array<f32>;`).join("\n")}
@group(0) @binding(${reads}) var<storage, read_write> y: array<f32>;
${params > 0 ? `@group(0) @binding(${reads + 1}) var<uniform> params: array<vec4<i32>, ${Math.ceil(params / 4)}>;` : ""}
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let i = id.x;
  if (i >= arrayLength(&y)) { return; }
  y[i] = ${expression};
}
`;

export const dispatch = (
  shader: number,
  reads: readonly number[],
  write: number,
  count: string,
  params: readonly string[] = [],
): DispatchStep => ({
  kind: "dispatch",
  nodes: [`node_${write}`],
  label: `kernel_${write}`,
  tactic: "map.element",
  config: { size: 64 },
  shader,
  bindings: [...reads.map((read) => ({ buffer: read, access: "read" as const })), { buffer: write, access: "write" as const }],
  params,
  workgroups: [`(${count}+63)/64`, "1", "1"],
});

/** A plan around buffers and steps: its inputs and outputs are the buffers at home there, slots as large as their tenants. */
export function makePlan(
  buffers: readonly PlanBuffer[],
  shaders: readonly string[],
  steps: readonly Step[],
  more: Partial<Plan> = {},
): Plan {
  const ends = (kind: "input" | "output"): PlanInput[] =>
    buffers.flatMap(({ name, dtype, shape, home }, number) =>
      home.kind === kind ? [{ name, dtype, shape, buffer: number }] : [],
    );
  const count = Math.max(0, ...buffers.map(({ home }) => (home.kind === "activation" ? home.slot + 1 : 0)));
  const slots = Array.from({ length: count }, (_, slot) => ({
    bytes: buffers.filter(({ home }) => home.kind === "activation" && home.slot === slot).map(({ bytes }) => bytes),
  }));
  return {
    inputs: ends("input"),
    outputs: ends("output"),
    buffers,
    shaders,
    steps,
    slots,
    profiles: [],
    hostLayers: [],
    notes: [],
    ...more,
  };
}

/** y = x · 2 for `shape`; 600 bytes of weights that nothing reads. */
export const doubling = (shape: readonly string[] = ["4"], more: Partial<Plan> = {}): Plan =>
  makePlan(
    [buffer("x", shape, "input"), buffer("y", shape, "output"), buffer("w", ["150"], { offset: 0, length: 600 })],
    [mapShader("x0[i] * 2", 1)],
    [dispatch(0, [0], 1, shape.join("*"))],
    more,
  );

export const someWeights = (): Uint8Array => Uint8Array.from({ length: 600 }, (_, i) => (i * 37) & 255);
