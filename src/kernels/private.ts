// Maps that combine many elements into few cells (histograms, bin counts, maxima): each workgroup combines into memory of its
// own first and then once into the result, so that invocations seldom meet in the same cell of device memory.

import { ceilDiv, isStatic, product } from "../ir/dims.ts";
import { type Expr, flatten, int, mul, substitute, unflatten, variable } from "../ir/expr.ts";
import { storageOf } from "../ir/storage.ts";
import { type MapTask, mapExpressions, type Store } from "../ir/task.ts";
import { sizeOf } from "../ir/tensor.ts";
import type { Caps } from "../util/caps.ts";
import { ENTRY_PARAMETERS, gridFor, WORKGROUP_NUMBER } from "./grid.ts";
import { type Config, type Kernel, tactic } from "./tactic.ts";
import { Block, Module } from "./writer.ts";

/** Combinations whose neutral element is 0. */
const ATOMICS: Readonly<Partial<Record<Store["mode"], string>>> = { add: "atomicAdd", max: "atomicMax" };

/** How many of the first indices are the same for all elements of a store. */
function fixedOf({ index }: Store): number {
  const free = index.findIndex(({ kind }) => kind !== "dim");
  return free < 0 ? index.length : free;
}

/** True for a store of which all elements meet in one cell. */
const isSingle = (store: Store): boolean => fixedOf(store) === store.index.length;

/** Cells that a store needs in workgroup memory: those of the part of its value that it stores into. */
function cellsOf(store: Store): number {
  const shape = store.value.shape.slice(fixedOf(store));
  return shape.every(isStatic) ? sizeOf(shape as readonly number[]) : Number.POSITIVE_INFINITY;
}

/** Where in its part an element is, and where the part begins. */
function placeOf(store: Store): { readonly cell: Expr; readonly start: Expr } {
  const fixed = fixedOf(store);
  const { index } = store;
  const { shape } = store.value;
  return {
    cell: flatten(index.slice(fixed), shape.slice(fixed)),
    start: mul(flatten(index.slice(0, fixed), shape.slice(0, fixed)), int(cellsOf(store))),
  };
}

export const mapPrivate = tactic("map", {
  name: "map.private",
  applicable: (task, caps) => {
    const targets = new Set(task.stores.map(({ value }) => value));
    const fits = task.stores.every(
      ({ value, mode, init }) => ATOMICS[mode] && init && storageOf(value, caps).item === "u32" && value.dtype === "u32",
    );
    return (
      fits &&
      targets.size === task.stores.length &&
      task.stores.reduce((sum, store) => sum + 4 * cellsOf(store), 0) <= caps.limits.maxComputeWorkgroupStorageSize
    );
  },
  likelihood: () => 0.9,
  *candidates(task, caps) {
    const cells = Math.max(...task.stores.map(cellsOf));
    for (const size of [256, 128, 64]) {
      // As many elements a workgroup as it has cells to clear and to hand over, at the least.
      if (size <= caps.limits.maxComputeInvocationsPerWorkgroup)
        yield { size, items: Math.max(8, Math.ceil((2 * cells) / size)) };
    }
  },
  emit: emitPrivate,
});

function emitPrivate(task: MapTask, config: Config, caps: Caps): Kernel {
  const { size, items } = config as { size: number; items: number };
  const module = new Module(caps);
  const block = new Block(module);
  const extents = task.vars.map(({ extent }) => extent);
  const total = product(extents);
  const cells = task.stores.map((store, i) => {
    module.add(`var<workgroup> cells${i}: array<atomic<u32>, ${cellsOf(store)}>;`);
    if (isSingle(store)) block.line(`var single${i} = 0u;`);
    return `cells${i}`;
  });
  const flat = variable("flat", total);
  // In words: a trusted engine's workgroup memory begins with anything.
  task.stores.forEach((store, i) => {
    block.line(`for (var cell = lane; cell < ${cellsOf(store)}u; cell += ${size}u) { atomicStore(&${cells[i]}[cell], 0u); }`);
  });
  block.line("workgroupBarrier();");
  block.line(`let first = ${WORKGROUP_NUMBER} * ${size * items} + i32(lane);`);
  block.line(`let limit = min(first + ${size * (items - 1)} + 1, ${module.dim(total)});`);
  block.nest(`for (var flat = first; flat < limit; flat += ${size})`, () => {
    block.bind(flat, "flat");
    const index = unflatten(flat, extents);
    const at = new Map<Expr, Expr>(task.vars.map((v, i) => [v, index[i]!]));
    const { stores } = mapExpressions(task, (e) => substitute(e, at));
    stores.forEach((store, i) => {
      block.under(store.when, () => {
        const value = block.value(store.expr);
        if (isSingle(store))
          block.line(`single${i} = ${store.mode === "add" ? `single${i} + ${value}` : `max(single${i}, ${value})`};`);
        else block.line(`${ATOMICS[store.mode]}(&${cells[i]}[${block.value(placeOf(store).cell)}], ${value});`);
      });
    });
  });
  task.stores.forEach((store, i) => {
    if (isSingle(store)) block.line(`${ATOMICS[store.mode]}(&${cells[i]}[0], single${i});`);
  });
  block.line("workgroupBarrier();");
  task.stores.forEach((store, i) => {
    const target = module.buffer(store.value, "write", true);
    const start = block.value(placeOf(store).start);
    block.nest(`for (var cell = lane; cell < ${cellsOf(store)}u; cell += ${size}u)`, () => {
      block.line(`let sum = atomicLoad(&${cells[i]}[cell]);`);
      block.line(`if (sum != 0u) { ${ATOMICS[store.mode]}(&${target}[u32(${start}) + cell], sum); }`);
    });
  });
  module.add(`@compute @workgroup_size(${size})\nfn main(${ENTRY_PARAMETERS}) {\n${block.text()}\n}`);
  return { steps: [module.step(gridFor(ceilDiv(total, items), size))], scratch: [], packed: [] };
}
