// Subgroup matrices of f16 on devices without them: a kernel's text with every matrix as an array that each invocation has whole.
// Slow, and exactly what the kernel around the matrices does: staging, slices, strips, edges, results.

import type { Kernel } from "../../src/kernels/tactic.ts";

const LENGTHS = { left: "M * K", right: "K * N", result: "M * N" } as const;

const loads = (
  [
    ["load_left_row_major", "M * K", "M", "K", "r * K + c"],
    ["load_left_col_major", "M * K", "K", "M", "c * K + r"],
    ["load_right_row_major", "K * N", "K", "N", "r * N + c"],
    ["load_right_col_major", "K * N", "N", "K", "c * N + r"],
  ] as const
).map(
  ([name, length, lines, width, at]) => `
fn ${name}(offset: u32, stride: u32) -> array<ACC, ${length}> {
  var matrix: array<ACC, ${length}>;
  for (var r = 0u; r < ${lines}; r++) {
    for (var c = 0u; c < ${width}; c++) { matrix[${at}] = element(offset + r * stride, c); }
  }
  return matrix;
}`,
);

const DECLARATIONS = `
fn element(line: u32, at: u32) -> ACC { return unpack2x16float(tiles[line + at / 8u][at / 2u % 4u])[at % 2u]; }
${loads.join("\n")}
fn multiply(left: array<ACC, M * K>, right: array<ACC, K * N>, sums: array<ACC, M * N>) -> array<ACC, M * N> {
  var a = left;
  var b = right;
  var c = sums;
  for (var i = 0u; i < M; i++) {
    for (var j = 0u; j < N; j++) {
      for (var k = 0u; k < K; k++) { c[i * N + j] += a[i * K + k] * b[k * N + j]; }
    }
  }
  return c;
}
fn store_result(offset: u32, matrix: array<ACC, M * N>, stride: u32) {
  var whole = matrix;
  for (var r = 0u; r < M; r++) {
    for (var c = 0u; c < N; c += 4u) {
      let four = vec4<ACC>(whole[r * N + c], whole[r * N + c + 1u], whole[r * N + c + 2u], whole[r * N + c + 3u]);
      tiles[offset + r * stride + c / 4u] = bitcast<vec4<u32>>(four);
    }
  }
}
`;

/** A kernel of `gemm_matrix.wgsl` without subgroup matrices. */
export const withoutMatrices = (kernel: Kernel): Kernel => ({
  ...kernel,
  steps: kernel.steps.map((step) => {
    const wgsl = step.wgsl
      .replace(/^(?:enable (?:chromium_experimental_subgroup_matrix|subgroups)|diagnostic.*);\n/gm, "")
      .replace(/^alias T = f16;\n/m, "")
      .replace(/subgroupMatrixLoad<subgroup_matrix_(left|right)<[^>]*>, (row_major|col_major)>\(&tiles, /g, "load_$1_$2(")
      .replace(/subgroupMatrixStore<row_major>\(&tiles, /g, "store_result(")
      .replace(/subgroupMatrixMultiplyAccumulate/g, "multiply")
      .replace(
        /subgroup_matrix_(left|right|result)<[^>]*>/g,
        (_, kind: keyof typeof LENGTHS) => `array<ACC, ${LENGTHS[kind]}>`,
      );
    return { ...step, wgsl: `${wgsl}${DECLARATIONS}` };
  }),
});
