// What the tactics that tile a product with a shader share: the product with its batch as one number, the shader's hooks written
// from expressions, and how well a tile suits a product.

import { ceilDiv, type Dim, isStatic, product } from "../ir/dims.ts";
import { type Expr, type Slot, substitute, unflatten, type Var, variable } from "../ir/expr.ts";
import { type ConvTask, type GemmTask, mapStore } from "../ir/task.ts";
import type { Caps } from "../util/caps.ts";
import { gridOf } from "./grid.ts";
import { asGemm } from "./product.ts";
import type { Kernel } from "./tactic.ts";
import { Block, Module } from "./writer.ts";

/** A size for estimates: that of a dimension which only the run knows is taken to be 512. */
export const known = (dim: Dim): number => (isStatic(dim) ? dim : 512);

/** How many tiles a product takes, and the results they make for each that it has. */
export function coverOf({ batch, m, n }: GemmTask, tileM: number, tileN: number): { groups: number; padded: number } {
  const batches = known(product(batch.map(({ extent }) => extent)));
  const groups = Math.ceil(known(m.extent) / tileM) * Math.ceil(known(n.extent) / tileN) * batches;
  return { groups, padded: (groups * tileM * tileN) / (known(m.extent) * known(n.extent) * batches) };
}

/** What a processor has for its workgroups, how many processors there are and their clock, of the GPUs that were measured. */
export const PROCESSOR = { count: 132, gigahertz: 1.755, registers: 65_536, invocations: 2048 } as const;

/** How many workgroups a processor holds, and how often `groups` of them take turns: a last turn of few counts half. */
export function turnsOf(groups: number, room: number): { readonly together: number; readonly waves: number } {
  const held = Math.max(1, Math.floor(room));
  const turns = groups / (PROCESSOR.count * held);
  return {
    together: Math.min(held, Math.ceil(groups / PROCESSOR.count)),
    waves: turns > 1 ? (turns + Math.ceil(turns)) / 2 : 1,
  };
}

/** Workgroups that keep a GPU of a hundred processors busy. */
const ENOUGH = 200;

/**
 * What a tile costs a product: results beyond its edges, processors without work (`idle`, an exponent, says how much that
 * weighs), and operands read again (`reread` is the side of a tile for which that costs as much as the arithmetic).
 */
export function wasteOf(gemm: GemmTask, tileM: number, tileN: number, { idle, reread }: Weights): number {
  const { groups, padded } = coverOf(gemm, tileM, tileN);
  return padded * Math.max(1, ENOUGH / groups) ** idle * (1 + reread / tileM + reread / tileN);
}
interface Weights {
  readonly idle: number;
  readonly reread: number;
}

/** The body of a hook that has the batch and these, by the names that they were given, as parameters. */
export type Hook = (parameters: readonly (Var | Slot)[], write: (block: Block) => void) => string;

/** Hooks of a module; `batch` is bound in all of them. */
export const hooksOf =
  (module: Module, batch: Var, names: ReadonlyMap<Expr, string>): Hook =>
  (parameters, write) => {
    const block = new Block(module);
    block.bind(batch, "batch");
    for (const parameter of parameters) block.bind(parameter, names.get(parameter)!);
    write(block);
    return block.text();
  };

export interface Frame {
  readonly module: Module;
  /** The product; operands and stores are over `batch`, m, n and k of the hooks. */
  readonly gemm: GemmTask;
  readonly batches: Dim;
  /** Parameters are named as the product names them. */
  readonly hook: Hook;
  readonly value: (e: Expr) => string;
  readonly sizes: { readonly size_m: string; readonly size_n: string; readonly size_k: string };
  /**
   * The body of a hook that says which batch, row and column of tiles the workgroup of a `number` makes, none of it where that is
   * over. Those of `height` rows come column by column, so that tiles at work together share operands.
   */
  readonly tileAt: (tileM: number, tileN: number, height?: number) => string;
  /** Stores one result, `acc`, at m and n. */
  readonly storeOne: () => string;
  /** The kernel of the module as it stands, a workgroup a tile. */
  readonly tiles: (tileM: number, tileN: number) => Kernel;
}

export function frameOf(task: GemmTask | ConvTask, caps: Caps): Frame {
  const module = new Module(caps);
  const whole = asGemm(task);
  const { batch, m, n, k, acc } = whole;
  const extents = batch.map(({ extent }) => extent);
  const batches = product(extents);
  const flat = variable("batch", batches);
  const index = unflatten(flat, extents);
  const at = new Map<Expr, Expr>(batch.map((v, i) => [v, index[i]!]));
  const gemm: GemmTask = {
    ...whole,
    a: substitute(whole.a, at),
    b: substitute(whole.b, at),
    stores: whole.stores.map((store) => mapStore(store, (e) => substitute(e, at))),
  };
  const names = new Map<Expr, string>([
    [m, "m"],
    [n, "n"],
    [k, "k"],
    [acc, "acc"],
  ]);
  const hook = hooksOf(module, flat, names);
  const size = ({ extent }: Var): string => `  return ${module.dim(extent)};`;
  return {
    module,
    gemm,
    batches,
    hook,
    value: (e) => hook([], (block) => block.line(`return ${block.value(e)};`)),
    sizes: { size_m: size(m), size_n: size(n), size_k: size(k) },
    storeOne: () =>
      hook([m, n, acc], (block) => {
        for (const store of gemm.stores) block.store(store);
      }),
    tileAt: (tileM, tileN, height = 1) => `  let columns = ${module.dim(ceilDiv(n.extent, tileN))};
  let rows = ${module.dim(ceilDiv(m.extent, tileM))};
  let batch = number / (rows * columns);
  if (batch >= ${module.dim(batches)}) { return vec3<i32>(-1); }
  let turn = number % (rows * columns);
  let above = turn / (${height} * columns) * ${height};
  let high = min(rows - above, ${height});
  let inside = turn % (${height} * columns);
  return vec3<i32>(batch, above + inside % high, inside / high);`,
    tiles: (tileM, tileN) => ({
      steps: [module.step(gridOf(product([ceilDiv(n.extent, tileN), ceilDiv(m.extent, tileM), batches])))],
      scratch: [],
      packed: [],
    }),
  };
}
