// Products of a few rows with a matrix: bound by how fast the matrix is read, so it is read once, in vectors, by all
// invocations of a workgroup together, whose partial sums meet in workgroup memory.

import { ceilDiv, type Dim, isStatic, product } from "../ir/dims.ts";
import { type Expr, int, mul, substitute, unflatten, type Var, variable } from "../ir/expr.ts";
import { type GemmTask, mapStore } from "../ir/task.ts";
import type { Caps } from "../util/caps.ts";
import { ENTRY_PARAMETERS, gridOf, WORKGROUP_NUMBER } from "./grid.ts";
import { asGemm, storesElements } from "./product.ts";
import { type Config, type Kernel, tactic } from "./tactic.ts";
import { readFour, vectorLoad } from "./vector.ts";
import { Block, Module } from "./writer.ts";

const MOST_ROWS = 8;

/** Whether the matrix's vectors lie along its columns, along its depth, or nowhere. */
const direction = ({ b, n, k }: GemmTask, caps: Caps): "n" | "k" | undefined =>
  vectorLoad(b, n, caps) ? "n" : vectorLoad(b, k, caps) ? "k" : undefined;

/** With the batches that share the matrix as rows, where those are few. */
function fewRows(task: GemmTask): GemmTask {
  const { m } = asGemm(task);
  return isStatic(m.extent) && m.extent <= MOST_ROWS ? asGemm(task) : task;
}

export const gemmVectorMatrix = tactic("gemm", {
  name: "gemm.gemv",
  applicable: (task, caps) =>
    task.acc.type === "f32" &&
    storesElements(task, caps) &&
    isStatic(task.m.extent) &&
    task.m.extent <= MOST_ROWS &&
    direction(task, caps) !== undefined,
  likelihood: (_task, caps) => (caps.tier === "core" ? 0.5 : 0.9),
  *candidates(task, caps) {
    // [invocations, vectors (or columns, along k) a workgroup makes]
    const shapes =
      direction(task, caps) === "n"
        ? [
            [256, 32],
            [128, 16],
            [256, 16],
            [256, 64],
            [128, 32],
            [64, 8],
          ]
        : [
            [128, 4],
            [64, 4],
            [128, 2],
            [64, 2],
            [256, 4],
            [64, 8],
            [64, 1],
          ];
    for (const [size, width] of shapes as [number, number][]) {
      const bytes = 4 * size * (fewRows(task).m.extent as number) * (direction(task, caps) === "n" ? 4 : width);
      if (size > caps.limits.maxComputeInvocationsPerWorkgroup || bytes > caps.limits.maxComputeWorkgroupStorageSize) continue;
      yield { size, width };
    }
  },
  emit: emitGemv,
});

function emitGemv(task: GemmTask, config: Config, caps: Caps): Kernel {
  const whole = fewRows(task);
  const { size, width } = config as { size: number; width: number };
  const along = direction(whole, caps)!;
  const module = new Module(caps);
  const block = new Block(module);
  const rows = whole.m.extent as number;
  /** Columns that a workgroup makes. */
  const columns = along === "n" ? 4 * width : width;
  const blocks = ceilDiv(whole.n.extent, columns);
  const batches = product(whole.batch.map(({ extent }) => extent));
  const groups = product([batches, blocks]);
  const group = variable("group", groups);
  block.line(`let group = ${WORKGROUP_NUMBER};`);
  block.line(`if (group >= ${module.dim(groups)}) { return; }`);
  block.bind(group, "group");
  const shape: Dim[] = [...whole.batch.map(({ extent }) => extent), blocks];
  const place = unflatten(group, shape);
  const at = new Map<Expr, Expr>(whole.batch.map((v, i) => [v, place[i]!]));
  const first = block.value(mul(place.at(-1)!, int(columns)));
  const { m, n, k, acc } = whole;
  const a = substitute(whole.a, at);
  const b = substitute(whole.b, at);
  const rowOf = (e: Expr, row: number): Expr => substitute(e, new Map<Expr, Expr>([[m, int(row)]]));
  const limit = module.dim(n.extent);
  const sums = Array.from({ length: rows }, () => block.fresh());

  if (along === "n") {
    // Lane x takes the vector x % width of columns, and every (size / width)th term.
    const slices = size / width;
    for (const sum of sums) block.line(`var ${sum} = vec4<f32>();`);
    block.line(`let n = min(${first} + i32(lane % ${width}u) * 4, ${limit} - 4);`);
    block.bind(n, "n");
    block.loop(
      k,
      () => {
        const four = readFour(block, b, n);
        sums.forEach((sum, row) => block.line(`${sum} = fma(vec4<f32>(${block.value(rowOf(a, row))}), ${four}, ${sum});`));
      },
      `i32(lane / ${width}u)`,
      String(slices),
    );
    module.add(`var<workgroup> partial: array<vec4<f32>, ${size * rows}>;`);
    sums.forEach((sum, row) => block.line(`partial[${row * size}u + lane] = ${sum};`));
    block.line("workgroupBarrier();");
    finish(block, columns, rows, (item) => {
      block.line(`let vector = (${item} % ${columns}u) / 4u;`);
      block.line(`for (var other = 0u; other < ${slices}u; other++) {`);
      block.line(`  sum += partial[(${item} / ${columns}u) * ${size}u + other * ${width}u + vector][${item} % 4u];`);
      block.line("}");
    });
  } else {
    // All lanes take neighbouring vectors along the depth, of every column of the workgroup.
    const parts = sums.map(() => Array.from({ length: width }, () => block.fresh()));
    for (const part of parts.flat()) block.line(`var ${part} = vec4<f32>();`);
    const vector = variable("vector", ceilDiv(k.extent, 4));
    block.loop(
      vector,
      () => {
        block.line(`let k = ${block.value(vector)} * 4;`);
        block.bind(k, "k");
        const left = sums.map((_, row) => readFour(block, rowOf(a, row), k));
        for (let column = 0; column < width; column++) {
          const here: Var = variable("column", n.extent);
          block.line(`let column${column} = min(${first} + ${column}, ${limit} - 1);`);
          block.bind(here, `column${column}`);
          const four = readFour(block, substitute(b, new Map<Expr, Expr>([[n, here]])), k);
          parts.forEach((part, row) => block.line(`${part[column]} = fma(${left[row]}, ${four}, ${part[column]});`));
        }
      },
      "i32(lane)",
      String(size),
    );
    module.add(`var<workgroup> partial: array<f32, ${size * rows * width}>;`);
    parts.forEach((part, row) =>
      part.forEach((name, column) =>
        block.line(`partial[${(row * width + column) * size}u + lane] = dot(${name}, vec4<f32>(1.0));`),
      ),
    );
    block.nest(`for (var half = ${size / 2}u; half > 0u; half = half >> 1u)`, () => {
      block.line("workgroupBarrier();");
      block.line(
        `if (lane < half) { for (var i = 0u; i < ${rows * width}u; i++) { partial[i * ${size}u + lane] += partial[i * ${size}u + lane + half]; } }`,
      );
    });
    block.line("workgroupBarrier();");
    finish(block, columns, rows, (item) => block.line(`sum = partial[${item} * ${size}u];`));
  }
  module.add(`@compute @workgroup_size(${size})\nfn main(${ENTRY_PARAMETERS}) {\n${block.text()}\n}`);
  return { steps: [module.step(gridOf(groups))], scratch: [], packed: [] };

  /** Stores result row · columns + column of the workgroup for every item, from what `gather` adds to `sum`. */
  function finish(target: Block, perRow: number, count: number, gather: (item: string) => void): void {
    const [row, column] = [variable("row", rows), variable("result", n.extent)];
    target.nest(`for (var item = lane; item < ${perRow * count}u; item += ${size}u)`, () => {
      target.line(`let row = i32(item / ${perRow}u);`);
      target.line(`let result = ${first} + i32(item % ${perRow}u);`);
      target.line("var sum = 0.0;");
      gather("item");
      target.bind(row, "row");
      target.bind(column, "result");
      target.bind(acc, "sum");
      const here = new Map<Expr, Expr>([...at, [m, row], [n, column]]);
      target.nest(
        `if (result < ${limit})`,
        () => {
          for (const store of whole.stores) target.store(mapStore(store, (e) => substitute(e, here)));
        },
        true,
      );
    });
  }
}
