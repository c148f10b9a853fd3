// GEMM and convolution from registers: an invocation makes rows x columns results, reading operands straight from memory, so
// that each load serves a whole row or column. No workgroup memory and no barriers: what suits caches, CPUs and odd shapes.

import { type Dim, ceilDiv, isStatic, product, sub } from "../ir/dims.ts";
import { type Expr, add, and, bool, int, lt, minimum, mul, substitute, unflatten, variable } from "../ir/expr.ts";
import type { ConvTask, GemmTask } from "../ir/task.ts";
import type { Caps } from "../util/caps.ts";
import { ENTRY_PARAMETERS, WORKGROUP_NUMBER, gridFor } from "./grid.ts";
import { asProduct, storesAlongM } from "./product.ts";
import { type Config, type Kernel, tactic } from "./tactic.ts";
import { Block, Module } from "./writer.ts";

/** Results an invocation makes, [along m, along n]. */
const BLOCKS = [[4, 4], [8, 4], [4, 8], [2, 4], [4, 2], [2, 2], [8, 1], [4, 1], [1, 4], [1, 8], [2, 1], [1, 2]] as const;

function* blocks(task: GemmTask | ConvTask, caps: Caps): Generator<Config> {
  const { m, n } = asProduct(task);
  const fits = (block: number, dim: Dim): boolean => block === 1 || !isStatic(dim) || dim >= block;
  for (const [rows, columns] of BLOCKS) {
    if (!fits(rows, m.extent) || !fits(columns, n.extent)) continue;
    for (const size of [64, 128]) if (size <= caps.limits.maxComputeInvocationsPerWorkgroup) yield { rows, columns, size };
  }
}

export const gemmBlocked = tactic("gemm", { name: "gemm.blocked", applicable: () => true, likelihood: () => 0.6, candidates: blocks, emit: emitBlocked });
export const convBlocked = tactic("conv", {
  name: "conv.blocked",
  applicable: (task) => isStatic(task.oc.extent),
  likelihood: () => 0.6,
  candidates: blocks,
  emit: emitBlocked,
});

function emitBlocked(task: GemmTask | ConvTask, config: Config, caps: Caps): Kernel {
  const { rows, columns, size } = config as { rows: number; columns: number; size: number };
  const { batch, m, n, inner, a, b, acc, stores } = asProduct(task);
  const module = new Module(caps);
  const block = new Block(module);
  const alongM = storesAlongM({ stores, m });
  // Neighbouring invocations take neighbouring results along the stored axis, a stride apart from their own next ones.
  const [rowBlocks, columnBlocks] = [ceilDiv(m.extent, rows), ceilDiv(n.extent, columns)];
  const grid = [...batch.map(({ extent }) => extent), ...(alongM ? [columnBlocks, rowBlocks] : [rowBlocks, columnBlocks])];
  const total = product(grid);
  const item = variable("item", total);
  block.line(`let item = ${WORKGROUP_NUMBER} * ${size} + i32(lane);`);
  block.line(`if (item >= ${module.dim(total)}) { return; }`);
  block.bind(item, "item");
  const index = unflatten(item, grid);
  const at = new Map<Expr, Expr>(batch.map((v, i) => [v, index[i]!]));
  const [first, second] = index.slice(batch.length) as [Expr, Expr];
  const spread = (start: Expr, blocksAlong: Dim, count: number, strided: boolean): Expr[] =>
    Array.from({ length: count }, (_, i) => (strided ? add(start, mul(int(blocksAlong), int(i))) : add(mul(start, int(count)), int(i))));
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
  block.loops(inner, () => {
    const left = rowsOf.map((e) => block.value(e));
    const right = columnsOf.map((e) => block.value(e));
    names.forEach((row, i) => row.forEach((name, j) => block.line(acc.type === "f32" ? `${name} = fma(${left[i]}, ${right[j]}, ${name});` : `${name} += ${left[i]} * ${right[j]};`)));
  });
  ms.forEach((rowIndex, i) =>
    ns.forEach((columnIndex, j) => {
      const write = (): void => {
        block.bind(acc, names[i]![j]!);
        const here = new Map(at).set(m, rowIndex).set(n, columnIndex);
        for (const store of stores) block.store({ ...store, index: store.index.map((e) => substitute(e, here)), expr: substitute(store.expr, here) });
      };
      if (wholeM && wholeN) block.scope(write);
      else {
        const valid = and(wholeM ? bool(true) : lt(rowIndex, int(m.extent)), wholeN ? bool(true) : lt(columnIndex, int(n.extent)));
        block.nest(`if (${block.value(valid)})`, write, true);
      }
    }),
  );
  module.add(`@compute @workgroup_size(${size})\nfn main(${ENTRY_PARAMETERS}) {\n${block.text()}\n}`);
  return { steps: [module.step(gridFor(total, size))], scratch: [], packed: [] };
}
