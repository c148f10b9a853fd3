// Subgroup matrices of f16 on devices without them: a kernel's text with every matrix as an array that each invocation has whole,
// and changes where it stands: a software driver compiles copies of it for minutes. Slow, and exactly what the kernel around the
// matrices does: staging, slices, strips, edges, results.

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
fn ${name}(matrix: ptr<function, array<ACC, ${length}>>, offset: u32, stride: u32) {
  for (var r = 0u; r < ${lines}; r++) {
    for (var c = 0u; c < ${width}; c++) { (*matrix)[${at}] = element(offset + r * stride, c); }
  }
}`,
);

const DECLARATIONS = `
fn element(line: u32, at: u32) -> ACC { return unpack2x16float(tiles[line + at / 8u][at / 2u % 4u])[at % 2u]; }
${loads.join("\n")}
fn multiply(a: ptr<function, array<ACC, M * K>>, b: ptr<function, array<ACC, K * N>>, c: ptr<function, array<ACC, M * N>>) {
  for (var i = 0u; i < M; i++) {
    for (var j = 0u; j < N; j++) {
      for (var k = 0u; k < K; k++) { (*c)[i * N + j] += (*a)[i * K + k] * (*b)[k * N + j]; }
    }
  }
}
fn store_result(offset: u32, matrix: ptr<function, array<ACC, M * N>>, stride: u32) {
  for (var r = 0u; r < M; r++) {
    for (var c = 0u; c < N; c += 4u) {
      let at = r * N + c;
      let four = vec4<ACC>((*matrix)[at], (*matrix)[at + 1u], (*matrix)[at + 2u], (*matrix)[at + 3u]);
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
      .replace(
        /(\S.*) = subgroupMatrixLoad<subgroup_matrix_(left|right)<[^>]*>, (row_major|col_major)>\(&tiles, /g,
        "load_$2_$3(&$1, ",
      )
      .replace(/subgroupMatrixStore<row_major>\(&tiles, ([^,]*), ([^,]*), /g, "store_result($1, &$2, ")
      .replace(/(\S.*) = subgroupMatrixMultiplyAccumulate\(([^,]*), ([^,]*), [^,]*\);/g, "multiply(&$2, &$3, &$1);")
      .replace(
        /subgroup_matrix_(left|right|result)<[^>]*>/g,
        (_, kind: keyof typeof LENGTHS) => `array<ACC, ${LENGTHS[kind]}>`,
      );
    return { ...step, wgsl: `${wgsl}${DECLARATIONS}` };
  }),
});
