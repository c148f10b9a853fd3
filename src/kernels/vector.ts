// Operands read four (or, in f16, eight) at a time: where neighbours along a variable are one aligned vector in memory.

import { isStatic } from "../ir/dims.ts";
import {
  add,
  type Expr,
  float,
  int,
  type Load,
  lt,
  operands,
  type Slot,
  select,
  slot,
  substitute,
  transform,
  type Var,
} from "../ir/expr.ts";
import { runOffset, variesInRun } from "../ir/runs.ts";
import { storageOf } from "../ir/storage.ts";
import { mapStore, type Store } from "../ir/task.ts";
import type { Caps } from "../util/caps.ts";
import type { Frame } from "./frame.ts";
import { isContiguous } from "./product.ts";
import type { Block } from "./writer.ts";

export interface VectorLoad {
  readonly load: Load;
  /** Where it does not hold all of them are 0. */
  readonly guard: Expr | undefined;
  readonly offset: Expr;
}

/** The expression as one load when `count` neighbours along `v` (from a multiple of that on) are one: plain, contiguous, aligned. */
export function vectorLoad(e: Expr, v: Var, caps: Caps, count = 4): VectorLoad | undefined {
  const plain =
    e.kind === "load"
      ? { load: e, guard: undefined }
      : e.kind === "select" && e.a.kind === "load" && e.b.kind === "const" && e.b.value === 0
        ? { load: e.a, guard: e.condition }
        : undefined;
  if (!plain || (plain.guard && variesInRun(plain.guard, v, count))) return undefined;
  const { item, lanes } = storageOf(plain.load.value, caps);
  if ((item !== "f32" && item !== "f16") || lanes !== 1) return undefined;
  const offset = runOffset(plain.load.value, plain.load.index, v, count);
  return offset && { ...plain, offset };
}

/** Whether to read four neighbours of an operand along `v` rather than `k`: where they are one vector, or close in memory. */
export const isAlong = (e: Expr, v: Var, k: Var, caps: Caps): boolean =>
  vectorLoad(e, v, caps) !== undefined || (vectorLoad(e, k, caps) === undefined && isContiguous([e], v));

/** Statements that read four neighbours along `v`, which lies within its extent; the name of the vector. */
export function readFour(block: Block, e: Expr, v: Var, type: "f32" | "f16" = "f32"): string {
  const { module } = block;
  const vector = vectorLoad(e, v, module.caps);
  const four = block.fresh();
  block.line(`var ${four} = vec4<${type}>();`);
  if (vector) {
    const { load, guard, offset } = vector;
    const read = (): void =>
      block.line(`${four} = vec4<${type}>(${module.vectorBuffer(load.value)}[${block.value(offset)} >> 2u]);`);
    block.under(guard, read);
    return four;
  }
  const whole = isStatic(v.extent) && v.extent % 4 === 0;
  for (let i = 0; i < 4; i++) {
    const at = substitute(e, new Map<Expr, Expr>([[v, add(v, int(i))]]));
    const element = block.value(i === 0 || whole ? at : select(lt(add(v, int(i)), int(v.extent)), at, float(0)));
    block.line(`${four}[${i}] = ${type === "f32" ? element : `${type}(${element})`};`);
  }
  return four;
}

/**
 * Stores of four neighbours along `v`, from a multiple of 4 on: for each store its four, in which `accs` stand for `acc`. Loads
 * that are one vector are read as such.
 */
export function fourOf(block: Block, stores: readonly Store[], v: Var, acc: Slot, accs: readonly Slot[]): Store[][] {
  const vectors = new Map<Expr, readonly Slot[]>();
  for (const load of loadsAlways(stores.map(({ expr }) => expr))) {
    if (!vectorLoad(load, v, block.module.caps)) continue;
    const name = readFour(block, load, v);
    const lanes = accs.map((_, lane) => {
      const one = slot("lane", "f32");
      block.bind(one, `${name}[${lane}]`);
      return one;
    });
    vectors.set(load, lanes);
  }
  return stores.map((store) =>
    accs.map((own, lane) => {
      const moved = new Map<Expr, Expr>([
        [acc, own],
        [v, add(v, int(lane))],
      ]);
      return mapStore(store, (e) =>
        substitute(
          transform(e, (node) => vectors.get(node)?.[lane]),
          moved,
        ),
      );
    }),
  );
}

/** Loads that are evaluated whatever a condition says. */
export function loadsAlways(roots: readonly Expr[]): ReadonlySet<Load> {
  const found = new Set<Load>();
  const look = (e: Expr): void => {
    if (e.kind === "load") found.add(e);
    else if (e.kind === "select") look(e.condition);
    else if (e.kind !== "reduce") operands(e).forEach(look);
  };
  roots.forEach(look);
  return found;
}

/** The hook that reads four neighbours of an operand along `v`, 0 beyond the extents of `v` and `other`. */
export const loadFour = ({ hook, module }: Frame, e: Expr, v: Var, other: Var, type: "f32" | "f16" = "f32"): string =>
  hook([v, other], (block) => {
    const tests = [v, other].map((each) => `${block.value(each)} < ${module.dim(each.extent)}`);
    const vector = vectorLoad(e, v, module.caps);
    if (vector) {
      // Without a branch, so that many loads are on their way at once: what is not there reads the first element.
      const { load, guard } = vector;
      const there = block.fresh();
      block.line(`let ${there} = ${[...tests, ...(guard ? [block.value(guard)] : [])].join(" && ")};`);
      const read = `${module.vectorBuffer(load.value)}[select(0, ${block.value(vector.offset)}, ${there}) >> 2u]`;
      block.line(`return select(vec4<${type}>(), vec4<${type}>(${read}), ${there});`);
      return;
    }
    const inside = tests.join(" && ");
    block.nest(`if (${inside})`, () => block.line(`return ${readFour(block, e, v, type)};`), true);
    block.line(`return vec4<${type}>();`);
  });

/**
 * The hook that reads eight neighbours of an f16 operand along `v` as words of two: 0 beyond the extent of `summed`, one of `v`
 * and `other`, unless `isWhole` says that nothing is read there. Beyond that of the one that is not summed it gives anything: what
 * comes of it is not stored.
 */
export const loadEight = (
  { hook, module }: Pick<Frame, "hook" | "module">,
  e: Expr,
  v: Var,
  other: Var,
  summed: Var,
  isWhole = false,
): string =>
  hook([v, other], (block) => {
    const vector = vectorLoad(e, v, module.caps, 8);
    const [own, limit] = [block.value(summed), module.dim(summed.extent)];
    if (!vector) {
      const inside = [v, other].map((each) => `${block.value(each)} < ${module.dim(each.extent)}`).join(" && ");
      block.nest(
        `if (${inside})`,
        () => {
          const halves = [0, 4].map((i) =>
            readFour(block, substitute(e, new Map<Expr, Expr>([[v, add(v, int(i))]])), v, "f16"),
          );
          block.line(`return vec4<u32>(${halves.map((four) => `bitcast<vec2<u32>>(${four})`).join(", ")});`);
        },
        true,
      );
      block.line("return vec4<u32>();");
      return;
    }
    // Without a branch, so that many loads are on their way at once: what is not there reads the first element.
    const free = summed === v ? other : v;
    const clamped = block.fresh();
    block.line(`let ${clamped} = min(${block.value(free)}, ${module.dim(free.extent)} - ${free === v ? 8 : 1});`);
    block.bind(free, clamped);
    const tests = [...(isWhole ? [] : [`${own} < ${limit}`]), ...(vector.guard ? [block.value(vector.guard)] : [])];
    const offset = block.value(vector.offset);
    const from = module.vectorBuffer(vector.load.value, "u32");
    if (tests.length === 0) {
      block.line(`return ${from}[${offset} >> 3u];`);
      return;
    }
    const there = block.fresh();
    block.line(`let ${there} = ${tests.join(" && ")};`);
    block.line(`return select(vec4<u32>(), ${from}[select(0, ${offset}, ${there}) >> 3u], ${there});`);
  });
