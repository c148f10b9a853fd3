// Map tasks: one invocation an element, or one a 32-bit word where narrow integers are packed.

import { ceilDiv, product } from "../ir/dims.ts";
import { add, type Expr, inMemoryOrder, int, mul, substitute, unflatten, variable } from "../ir/expr.ts";
import { storageOf } from "../ir/storage.ts";
import { type MapTask, mapExpressions, type Store } from "../ir/task.ts";
import { dtypeFacts } from "../ir/types.ts";
import type { Caps } from "../util/caps.ts";
import { ENTRY_PARAMETERS, gridFor, WORKGROUP_NUMBER } from "./grid.ts";
import { type Config, type Kernel, tactic } from "./tactic.ts";
import { Block, Module } from "./writer.ts";

export const mapElement = tactic("map", {
  name: "map.element",
  applicable: () => true,
  likelihood: () => 0.5,
  *candidates(_task, caps) {
    for (const size of [64, 128, 256]) if (size <= caps.limits.maxComputeInvocationsPerWorkgroup) yield { size };
  },
  emit: emitMap,
});

function emitMap(task: MapTask, config: Config, caps: Caps): Kernel {
  const size = config.size as number;
  const module = new Module(caps);
  const lanes = Math.max(...task.stores.map(({ value }) => storageOf(value, caps).lanes));
  const total = product(task.vars.map(({ extent }) => extent));
  const block = new Block(module);
  const item = variable("item", lanes === 1 ? total : ceilDiv(total, lanes));
  block.line(`let item = ${WORKGROUP_NUMBER} * ${size} + i32(lane);`);
  block.bind(item, "item");
  if (lanes === 1) {
    block.line(`if (item >= ${module.dim(total)}) { return; }`);
    const { stores } = at(task, item, task.stores[0]!);
    for (const store of stores) block.store(store);
  } else packedStores(block, task, item, lanes);
  module.add(`@compute @workgroup_size(${size})\nfn main(${ENTRY_PARAMETERS}) {\n${block.text()}\n}`);
  return { steps: [module.step(gridFor(total, size * lanes))], scratch: [], packed: [] };
}

/** The task's stores at flat element `flat` of the memory that `lead` stores to. */
const at = (task: MapTask, flat: Expr, lead: Store): MapTask => {
  const vars = inMemoryOrder(task.vars, lead.value, lead.index);
  const index = unflatten(
    flat,
    vars.map(({ extent }) => extent),
  );
  const values = new Map<Expr, Expr>(vars.map((v, i) => [v, index[i]!]));
  return mapExpressions(task, (e) => substitute(e, values));
};

/** Each invocation makes `lanes` neighbours and stores the packed ones as one word. */
function packedStores(block: Block, task: MapTask, word: Expr & { kind: "var" }, lanes: number): void {
  const total = product(task.vars.map(({ extent }) => extent));
  const { module } = block;
  const packed = task.stores.filter(({ value }) => storageOf(value, module.caps).lanes > 1);
  const words = packed.map(() => block.fresh());
  block.line(`if (item * ${lanes} >= ${module.dim(total)}) { return; }`);
  for (const name of words) block.line(`var ${name} = 0u;`);
  const laneVar = variable("lane", lanes);
  const flat = variable("flat", total);
  block.nest(`for (var part = 0; part < ${lanes}; part++)`, () => {
    block.bind(laneVar, "part");
    block.line(`let flat = ${block.value(add(mul(word, int(lanes)), laneVar))};`);
    block.line(`if (flat >= ${module.dim(total)}) { break; }`);
    block.bind(flat, "flat");
    for (const store of at(task, flat, packed[0]!).stores) {
      const which = packed.findIndex(({ value }) => value === store.value);
      if (which < 0) block.store(store);
      else {
        const width = dtypeFacts[store.value.dtype].bytes * 8;
        const text = block.stored(store.value, block.value(store.expr));
        block.line(`${words[which]} = insertBits(${words[which]}, ${text}, u32(part) * ${width}u, ${width}u);`);
      }
    }
  });
  packed.forEach(({ value }, i) => block.line(`${module.buffer(value, "write")}[item] = ${words[i]};`));
}
