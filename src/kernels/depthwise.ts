import { type Expr, inMemoryOrder, int, substitute, type Var } from "../ir/expr.ts";
import { asReduce, type ConvTask, mapExpressions, mapStore, parallelVars, type ReduceTask } from "../ir/task.ts";
import type { Caps } from "../util/caps.ts";
import { ENTRY_PARAMETERS, gridFor } from "./grid.ts";
import { inRuns, storeRun } from "./results.ts";
import { type Config, type Kernel, tactic } from "./tactic.ts";
import { type Bytes, byteOperands, byteRun, signed, storesWords } from "./words.ts";
import { Block, Module } from "./writer.ts";

/** The sum over taps alone. */
const overTaps = (task: ConvTask): ReduceTask => {
  const reduce = asReduce(task);
  const one = new Map<Expr, Expr>([[task.ic, int(0)]]);
  return { ...mapExpressions(reduce, (e) => substitute(e, one)), inner: task.kernel };
};

function operandsOf({ stages }: ReduceTask): readonly [Bytes, Bytes] | undefined {
  const { body } = stages[0]!;
  return body.kind === "binary" && body.fn === "mul" ? byteOperands(body.a, body.b) : undefined;
}

/** Channels lie last in the input, in the weights and in the results, a multiple of four of them. */
function applicable(task: ConvTask, caps: Caps): boolean {
  if (task.acc.type !== "i32" || task.ic.extent !== 1 || task.oc.extent !== task.groups) return false;
  const operands = operandsOf(overTaps(task));
  return (
    operands?.every((bytes) => byteRun(bytes, task.oc, 4, caps)) === true &&
    storesWords(task, task.oc, caps) &&
    orderOf(task).at(-1) === task.oc
  );
}

const orderOf = (task: ConvTask): readonly Var[] =>
  inMemoryOrder(parallelVars(task), task.stores[0]!.value, task.stores[0]!.index);

export const convDepthwise = tactic("conv", {
  name: "conv.depthwise",
  applicable,
  likelihood: () => 0.9,
  *candidates(_task, caps) {
    for (const size of [64, 128, 256]) if (size <= caps.limits.maxComputeInvocationsPerWorkgroup) yield { size };
  },
  emit: emitDepthwise,
});

function emitDepthwise(task: ConvTask, config: Config, caps: Caps): Kernel {
  const size = config.size as number;
  const module = new Module(caps);
  const block = new Block(module);
  const { first, at, total } = inRuns(block, orderOf(task), size, 4);
  const reduce = mapExpressions(overTaps(task), (e) => substitute(e, at));
  const operands = operandsOf(reduce)!;
  const read = (bytes: Bytes): string => {
    const { load, offset } = byteRun(bytes, first, 4, caps)!;
    const name = block.fresh();
    const zero = block.value(bytes.zero);
    block.line(`var ${name} = vec4<i32>();`);
    const fetch = (): void => {
      const word = signed(load, `${module.buffer(load.value, "read")}[${block.value(offset)} >> 2u]`);
      block.line(`${name} = ${module.call("unpack_bytes", word)} - ${zero};`);
    };
    block.under(bytes.guard, fetch);
    return name;
  };
  block.line("var acc = vec4<i32>();");
  block.loops(reduce.inner, () => {
    const [x, w] = operands.map(read);
    block.line(`acc += ${x} * ${w};`);
  });
  const stores = task.stores.map((store) => mapStore(store, (e) => substitute(e, at)));
  storeRun(block, stores, first, task.acc, ["acc.x", "acc.y", "acc.z", "acc.w"]);
  module.add(`@compute @workgroup_size(${size})\nfn main(${ENTRY_PARAMETERS}) {\n${block.text()}\n}`);
  return { steps: [module.step(gridFor(total, size))], scratch: [], packed: [] };
}
