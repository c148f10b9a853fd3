// GEMM and convolution from registers: an invocation makes rows x columns results, reading operands straight from memory, so
// that each load serves a whole row or column. No workgroup memory and no barriers: what suits caches, CPUs and odd shapes.

import { ceilDiv, type Dim, isStatic, product, sub } from "../ir/dims.ts";
import { add, and, bool, type Expr, int, lt, minimum, mul, substitute, unflatten, type Var, variable } from "../ir/expr.ts";
import { type ConvTask, type GemmTask, mapStore } from "../ir/task.ts";
import type { Caps } from "../util/caps.ts";
import { known } from "./frame.ts";
import { ENTRY_PARAMETERS, gridFor, WORKGROUP_NUMBER } from "./grid.ts";
import { besideMatrices } from "./matrix.ts";
import { asGemm, asProduct, isContiguous, storesAlongM, storesElements } from "./product.ts";
import { type Config, type Kernel, tactic } from "./tactic.ts";
import { Block, Module } from "./writer.ts";

/** Results an invocation makes, [along m, along n]. */
const BLOCKS = [
  [4, 4],
  [8, 4],
  [4, 8],
  [2, 4],
  [4, 2],
  [2, 2],
  [8, 1],
  [4, 1],
  [1, 4],
  [1, 8],
  [2, 1],
  [1, 2],
  [1, 1],
] as const;
/** How many invocations share the sum of one block, each taking every so many terms; 1 is no sharing. */
const SLICES = [1, 4, 8, 16, 32] as const;
/** Invocations that keep a large GPU busy: beyond it sharing a sum only costs. */
const ENOUGH = 100_000;

const sizeOr = (dim: Dim): number => (isStatic(dim) ? dim : 64);

/** Blocks and slices that fit, those that make enough invocations of the largest blocks first. */
function* blocks(task: GemmTask | ConvTask, caps: Caps): Generator<Config> {
  const { batch, m, n, inner, a, b } = asProduct(task);
  const fits = (block: number, dim: Dim): boolean => block === 1 || !isStatic(dim) || dim >= block;
  const results = sizeOr(product([...batch, m, n].map(({ extent }) => extent)));
  const terms = Math.max(...inner.map(({ extent }) => sizeOr(extent)));
  const found: { config: Config; score: number }[] = [];
  for (const [rows, columns] of BLOCKS) {
    if (!fits(rows, m.extent) || !fits(columns, n.extent)) continue;
    for (const slices of SLICES) {
      // A wave reads neighbouring results; slices are spread over waves, or over the lanes of one where terms are contiguous.
      const size = slices === 1 ? 128 : termsFirst(inner, a, b, slices) ? 128 : Math.max(64, 32 * slices);
      if (slices > 1 && (terms < 2 * slices || size * rows * columns * 4 > caps.limits.maxComputeWorkgroupStorageSize))
        continue;
      if (size > caps.limits.maxComputeInvocationsPerWorkgroup) continue;
      const invocations = (results * slices) / (rows * columns);
      // Loads a product, text to compile, and what idle lanes waste.
      const traffic = 1 / rows + 1 / columns + (rows * columns) / 128;
      const idle = Math.max(1, ENOUGH / invocations) ** 0.6;
      found.push({
        config: { rows, columns, slices, size },
        score: traffic * (caps.tier === "core" ? 1 : idle) * (1 + 0.05 * Math.log2(slices)),
      });
    }
  }
  for (const { config } of found.sort((x, y) => x.score - y.score)) yield config;
}

/** Whether neighbouring lanes should share one sum, because its terms lie side by side. */
const termsFirst = (inner: readonly Var[], a: Expr, b: Expr, slices: number): boolean =>
  inner.length === 1 && slices >= 16 && isContiguous([a], inner[0]!) && isContiguous([b], inner[0]!);

/** On a GPU, tiles of vectors win where they are full and sums are long, and other tactics where channels are alone. */
function likelihood(task: GemmTask | ConvTask, caps: Caps): number {
  const { m, n, k, acc } = asGemm(task);
  const isTiled = acc.type === "f32" && known(m.extent) >= 16 && known(n.extent) >= 16 && known(k.extent) >= 64;
  const isAlone = task.kind === "conv" && task.groups > 1 && n.extent === 1;
  return (caps.tier !== "core" && (isTiled || isAlone) ? 0.25 : 0.6) * besideMatrices(task, caps);
}

export const gemmBlocked = tactic("gemm", {
  name: "gemm.blocked",
  applicable: storesElements,
  likelihood,
  candidates: blocks,
  emit: emitBlocked,
});
export const convBlocked = tactic("conv", {
  name: "conv.blocked",
  applicable: (task, caps) => isStatic(task.oc.extent) && storesElements(task, caps),
  likelihood,
  candidates: blocks,
  emit: emitBlocked,
});

function emitBlocked(task: GemmTask | ConvTask, config: Config, caps: Caps): Kernel {
  const { rows, columns, slices, size } = config as { rows: number; columns: number; slices: number; size: number };
  const { batch, m, n, inner, a, b, acc, stores } = asProduct(task);
  const module = new Module(caps);
  const block = new Block(module);
  const alongM = storesAlongM({ stores, m });
  // Neighbouring invocations take neighbouring results along the stored axis, a stride apart from their own next ones.
  const [rowBlocks, columnBlocks] = [ceilDiv(m.extent, rows), ceilDiv(n.extent, columns)];
  const grid = [...batch.map(({ extent }) => extent), ...(alongM ? [columnBlocks, rowBlocks] : [rowBlocks, columnBlocks])];
  const total = product(grid);
  const perGroup = size / slices;
  const item = variable("item", total);
  const [blockLane, sliceLane] = termsFirst(inner, a, b, slices)
    ? [`lane / ${slices}u`, `lane % ${slices}u`]
    : [`lane % ${perGroup}u`, `lane / ${perGroup}u`];
  block.line(`let place = ${slices === 1 ? "lane" : blockLane};`);
  block.line(`let number = ${WORKGROUP_NUMBER} * ${perGroup} + i32(place);`);
  // With slices every invocation must reach the barriers: those beyond the end repeat the last block and store nothing.
  if (slices === 1) block.line(`if (number >= ${module.dim(total)}) { return; }\nlet item = number;`);
  else block.line(`let slice = ${sliceLane};\nlet item = min(number, ${module.dim(total)} - 1);`);
  block.bind(item, "item");
  const index = unflatten(item, grid);
  const at = new Map<Expr, Expr>(batch.map((v, i) => [v, index[i]!]));
  const [first, second] = index.slice(batch.length) as [Expr, Expr];
  const spread = (start: Expr, blocksAlong: Dim, count: number, strided: boolean): Expr[] =>
    Array.from({ length: count }, (_, i) =>
      strided ? add(start, mul(int(blocksAlong), int(i))) : add(mul(start, int(count)), int(i)),
    );
  const ms = spread(alongM ? second : first, rowBlocks, rows, alongM);
  const ns = spread(alongM ? first : second, columnBlocks, columns, !alongM);
  const isWhole = (dim: Dim, count: number): boolean => isStatic(dim) && dim % count === 0;
  const [wholeM, wholeN] = [isWhole(m.extent, rows), isWhole(n.extent, columns)];
  const inside = (e: Expr, dim: Dim, whole: boolean): Expr => (whole ? e : minimum(e, int(sub(dim, 1))));
  const rowsOf = ms.map((e) => substitute(a, new Map(at).set(m, inside(e, m.extent, wholeM))));
  const columnsOf = ns.map((e) => substitute(b, new Map(at).set(n, inside(e, n.extent, wholeN))));
  const names = ms.map(() => ns.map(() => block.fresh()));
  const zero = acc.type === "f32" ? "0.0" : acc.type === "i32" ? "0" : "0u";
  for (const name of names.flat()) block.line(`var ${name} = ${zero};`);
  const term = (): void => {
    const left = rowsOf.map((e) => block.value(e));
    const right = columnsOf.map((e) => block.value(e));
    names.forEach((row, i) =>
      row.forEach((name, j) =>
        block.line(
          acc.type === "f32" ? `${name} = fma(${left[i]}, ${right[j]}, ${name});` : `${name} += ${left[i]} * ${right[j]};`,
        ),
      ),
    );
  };
  const sliced = inner.reduce((longest, v) => (sizeOr(v.extent) > sizeOr(longest.extent) ? v : longest));
  const loops = ([v, ...rest]: readonly Var[]): void => {
    if (!v) term();
    else if (v === sliced && slices > 1) block.loop(v, () => loops(rest), "i32(slice)", String(slices));
    else block.loop(v, () => loops(rest));
  };
  loops(inner);

  const write = (i: number, j: number, text: string): void => {
    const [rowIndex, columnIndex] = [ms[i]!, ns[j]!];
    const body = (): void => {
      block.bind(acc, text);
      const here = new Map(at).set(m, rowIndex).set(n, columnIndex);
      for (const store of stores) block.store(mapStore(store, (e) => substitute(e, here)));
    };
    const valid = and(wholeM ? bool(true) : lt(rowIndex, int(m.extent)), wholeN ? bool(true) : lt(columnIndex, int(n.extent)));
    if (valid.kind === "const" && !valid.value) return;
    if (valid.kind === "const") block.scope(body);
    else block.nest(`if (${block.value(valid)})`, body, true);
  };
  const each = (visit: (i: number, j: number) => void): void => ms.forEach((_, i) => ns.forEach((__, j) => visit(i, j)));
  if (slices === 1) each((i, j) => write(i, j, names[i]![j]!));
  else {
    // Partial sums meet in workgroup memory; then result r of a block is finished by slice r, modulo the slices.
    const results = rows * columns;
    module.add(`var<workgroup> partial: array<${acc.type}, ${size * results}>;`);
    each((i, j) =>
      block.line(`partial[(slice * ${perGroup}u + place) * ${results}u + ${i * columns + j}u] = ${names[i]![j]};`),
    );
    block.line("workgroupBarrier();");
    each((i, j) => {
      const r = i * columns + j;
      block.nest(
        `if (slice == ${r % slices}u && number < ${module.dim(total)})`,
        () => {
          const sum = block.fresh();
          block.line(`var ${sum} = ${zero};`);
          block.line(
            `for (var other = 0u; other < ${slices}u; other++) { ${sum} += partial[(other * ${perGroup}u + place) * ${results}u + ${r}u]; }`,
          );
          write(i, j, sum);
        },
        true,
      );
    });
  }
  module.add(`@compute @workgroup_size(${size})\nfn main(${ENTRY_PARAMETERS}) {\n${block.text()}\n}`);
  return { steps: [module.step(gridFor(total, perGroup))], scratch: [], packed: [] };
}
