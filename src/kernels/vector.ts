// Operands read four at a time: where four neighbours along a variable are one aligned vector in memory.

import { type Dim, isStatic, mod } from "../ir/dims.ts";
import { add, type Expr, float, int, type Load, lt, offsetOf, operands, select, substitute, type Var } from "../ir/expr.ts";
import { storageOf } from "../ir/storage.ts";
import type { Caps } from "../util/caps.ts";
import type { Block } from "./writer.ts";

export interface VectorLoad {
  readonly load: Load;
  /** Where it does not hold all four are 0. */
  readonly guard: Expr | undefined;
  readonly offset: Expr;
}

/** The expression as one vector load when four neighbours along `v` (from a multiple of 4 on) are one: plain, contiguous, aligned. */
export function vectorLoad(e: Expr, v: Var, caps: Caps): VectorLoad | undefined {
  const plain =
    e.kind === "load"
      ? { load: e, guard: undefined }
      : e.kind === "select" && e.a.kind === "load" && e.b.kind === "const" && e.b.value === 0
        ? { load: e.a, guard: e.condition }
        : undefined;
  if (!plain || !isStatic(v.extent) || v.extent % 4 !== 0) return undefined;
  const { item, lanes } = storageOf(plain.load.value, caps);
  if ((item !== "f32" && item !== "f16") || lanes !== 1) return undefined;
  const offset = offsetOf(plain.load.value, plain.load.index);
  const terms: readonly (readonly [Expr, Dim])[] = offset.kind === "linear" ? offset.terms : [[offset, 1]];
  if (offset.kind === "linear" && mod(offset.constant, 4) !== 0) return undefined;
  let along = false;
  for (const [term, coefficient] of terms) {
    if (coefficient === 1 && !along && (term === v || isFineRemainder(term, v))) along = true;
    else if (mod(coefficient, 4) !== 0) return undefined;
  }
  return along && !(plain.guard && dependsFinely(plain.guard, v)) ? { ...plain, offset } : undefined;
}

/** v modulo a multiple of 4: a group of four never wraps. */
const isFineRemainder = (e: Expr, v: Var): boolean =>
  e.kind === "binary" && e.fn === "floormod" && e.a === v && e.b.kind === "dim" && mod(e.b.dim, 4) === 0;

/** True unless `v` occurs only in quotients by multiples of 4: then all four of a group see the same. */
function dependsFinely(e: Expr, v: Var): boolean {
  if (e === v) return true;
  if (e.kind === "binary" && e.fn === "floordiv" && e.a === v && e.b.kind === "dim") return mod(e.b.dim, 4) !== 0;
  return e.kind === "load" || e.kind === "reduce" || operands(e).some((operand) => dependsFinely(operand, v));
}

/** Statements that read four neighbours along `v`, which lies within its extent; the name of the vec4<f32>. */
export function readFour(block: Block, e: Expr, v: Var): string {
  const { module } = block;
  const vector = vectorLoad(e, v, module.caps);
  const four = block.fresh();
  block.line(`var ${four} = vec4<f32>();`);
  if (vector) {
    const { load, guard, offset } = vector;
    const read = (): void =>
      block.line(`${four} = vec4<f32>(${module.vectorBuffer(load.value)}[${block.value(offset)} >> 2u]);`);
    if (guard) block.nest(`if (${block.value(guard)})`, read, true);
    else read();
    return four;
  }
  const whole = isStatic(v.extent) && v.extent % 4 === 0;
  for (let i = 0; i < 4; i++) {
    const at = substitute(e, new Map<Expr, Expr>([[v, add(v, int(i))]]));
    block.line(
      `${four}[${i}] = ${block.value(i === 0 || whole ? at : select(lt(add(v, int(i)), int(v.extent)), at, float(0)))};`,
    );
  }
  return four;
}

/** Writes `return` of four neighbours along `v`, 0 beyond the extents of `v` and `other`; both are bound. */
export function returnFour(block: Block, e: Expr, v: Var, other: Var): void {
  const { module } = block;
  const inside = `${block.value(v)} < ${module.dim(v.extent)} && ${block.value(other)} < ${module.dim(other.extent)}`;
  block.nest(`if (${inside})`, () => block.line(`return ${readFour(block, e, v)};`), true);
  block.line("return vec4<f32>();");
}
