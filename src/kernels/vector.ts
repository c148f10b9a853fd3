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

/**
 * Ends a hook that reads a vector at `offset`: `missing` where one of the tests fails. Without a branch, so that many loads are on
 * their way at once: what is not there reads the first element. Without `missing` the hook gives a `Fetched`, and the kernel puts
 * what is missing in its place when it needs the vector: to do so here is to wait for it.
 */
export function returnVector(
  block: Block,
  read: (offset: string) => string,
  offset: string,
  tests: readonly string[],
  missing?: string,
): void {
  const there = block.fresh();
  if (tests.length > 0) block.line(`let ${there} = ${tests.join(" && ")};`);
  const vector = read(tests.length > 0 ? `select(0, ${offset}, ${there})` : offset);
  if (missing === undefined) block.line(`return Fetched(${vector}, ${tests.length > 0 ? there : true});`);
  else block.line(`return ${tests.length > 0 ? `select(${missing}, ${vector}, ${there})` : vector};`);
}

/** How a product's hooks read an operand along `v`. */
interface Reading {
  readonly v: Var;
  /** Its other variable. */
  readonly other: Var;
  /** The one of the two that is summed over. Beyond the other's extent anything is read: what comes of it is not stored. */
  readonly summed: Var;
  /** Whether nothing is read beyond the extent of `summed`. */
  readonly isWhole: boolean;
}

/** Keeps what is not summed over within its extent; the tests of the rest. */
function testsOf(block: Block, { v, other, summed, isWhole }: Reading, count: number, guard: Expr | undefined): string[] {
  const { module } = block;
  const free = summed === v ? other : v;
  const limit = `${block.value(summed)} < ${module.dim(summed.extent)}`;
  const clamped = block.fresh();
  block.line(`let ${clamped} = min(${block.value(free)}, ${module.dim(free.extent)} - ${free === v ? count : 1});`);
  block.bind(free, clamped);
  return [...(isWhole ? [] : [limit]), ...(guard ? [block.value(guard)] : [])];
}

/** The hook that reads four neighbours of an operand, f32, as a `Fetched`: 0 beyond the extent of what is summed over. */
export const loadFour = ({ hook, module }: Frame, e: Expr, reading: Reading): string => {
  const { v, other } = reading;
  return hook([v, other], (block) => {
    const vector = vectorLoad(e, v, module.caps);
    if (!vector) {
      const inside = [v, other].map((each) => `${block.value(each)} < ${module.dim(each.extent)}`).join(" && ");
      block.nest(`if (${inside})`, () => block.line(`return Fetched(${readFour(block, e, v)}, true);`), true);
      block.line("return Fetched(vec4<f32>(), true);");
      return;
    }
    const tests = testsOf(block, reading, 4, vector.guard);
    const read = (at: string): string => `vec4<f32>(${module.vectorBuffer(vector.load.value)}[${at} >> 2u])`;
    returnVector(block, read, block.value(vector.offset), tests);
  });
};

/** The hook that reads eight neighbours of an f16 operand as words of two, likewise; `missing` as in `returnVector`. */
export const loadEight = (
  { hook, module }: Pick<Frame, "hook" | "module">,
  e: Expr,
  reading: Reading,
  missing?: string,
): string => {
  const { v, other } = reading;
  return hook([v, other], (block) => {
    const vector = vectorLoad(e, v, module.caps, 8);
    if (!vector) {
      const given = (words: string): string => `return ${missing === undefined ? `Fetched(${words}, true)` : words};`;
      const inside = [v, other].map((each) => `${block.value(each)} < ${module.dim(each.extent)}`).join(" && ");
      block.nest(
        `if (${inside})`,
        () => {
          const halves = [0, 4].map((i) =>
            readFour(block, substitute(e, new Map<Expr, Expr>([[v, add(v, int(i))]])), v, "f16"),
          );
          block.line(given(`vec4<u32>(${halves.map((four) => `bitcast<vec2<u32>>(${four})`).join(", ")})`));
        },
        true,
      );
      block.line(given("vec4<u32>()"));
      return;
    }
    const tests = testsOf(block, reading, 8, vector.guard);
    const from = module.vectorBuffer(vector.load.value, "u32");
    returnVector(block, (at) => `${from}[${at} >> 3u]`, block.value(vector.offset), tests, missing);
  });
};
