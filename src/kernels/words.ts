// Integer products in words of four signed bytes, read along the summed axis. A byte stands for byte - zero; u8 becomes i8 by
// turning its top bit, which moves its zero by 128.

import { isStatic } from "../ir/dims.ts";
import { add, constant, type Expr, int, type Load, lt, select, sub, substitute, type Var, visit } from "../ir/expr.ts";
import { runOffset, variesInRun } from "../ir/runs.ts";
import { storageOf } from "../ir/storage.ts";
import type { ConvTask, GemmTask } from "../ir/task.ts";
import { dtypeFacts } from "../ir/types.ts";
import type { Block } from "./writer.ts";

/** An operand as signed bytes: each stands for `byte` - `zero`, and for 0 where `guard` does not hold. */
export interface Bytes {
  readonly byte: Expr;
  readonly guard: Expr | undefined;
  /** One number for all elements, from -128 to 127. */
  readonly zero: Expr;
  /** Where the bytes lie as they are, but for their top bit when they are u8. */
  readonly load: Load | undefined;
}

/** The operand of an integer product as bytes; undefined when it is not made of them, or has more zeros than one. */
export function bytesOf(operand: Expr): Bytes | undefined {
  const isGuarded = operand.kind === "select" && operand.b.kind === "dim" && operand.b.dim === 0;
  const guard = isGuarded ? operand.condition : undefined;
  const whole = isGuarded ? operand.a : operand;
  const terms = whole.kind === "linear" ? whole.terms : [[whole, 1] as const];
  const [term] = terms.find(([e, coefficient]) => coefficient === 1 && sourceOf(e)) ?? [];
  const source = term && sourceOf(term);
  const zero = term && sub(term, whole);
  if (!source || !zero || !isSame(zero)) return undefined;
  const shift = dtypeFacts[source.dtype].signed ? 0 : -128;
  return { byte: add(term, int(shift)), guard, zero: add(zero, int(shift)), load: source.load };
}

/** What is converted to i32, when it fits into a byte. */
function sourceOf(e: Expr): { readonly dtype: "i8" | "u8"; readonly load: Load | undefined } | undefined {
  if (e.kind === "load")
    return e.value.dtype === "i8" || e.value.dtype === "u8" ? { dtype: e.value.dtype, load: e } : undefined;
  if (e.kind !== "convert") return undefined;
  if (e.to === "i8" || e.to === "u8") return { dtype: e.to, load: undefined };
  return e.to === "i32" ? sourceOf(e.a) : undefined;
}

/** True for what does not depend on where in the product it is read. */
function isSame(e: Expr): boolean {
  let same = true;
  visit([e], ({ kind }) => {
    if (kind === "var" || kind === "slot") same = false;
  });
  return same;
}

/** Both operands of an integer product as bytes. */
export function byteOperands(a: Expr, b: Expr): readonly [Bytes, Bytes] | undefined {
  const [left, right] = [bytesOf(a), bytesOf(b)];
  return left && right && [left, right];
}

/** True when every packed result can be stored by whole words along `n`. */
export const storesWords = ({ stores }: GemmTask | ConvTask, n: Var, caps: { readonly f16: boolean }): boolean =>
  stores.every(
    ({ value, index, when }) =>
      storageOf(value, caps).lanes === 1 || (!(when && variesInRun(when, n, 4)) && runOffset(value, index, n, 4) !== undefined),
  );

/** Word of four zeros. */
export function zeroWord(block: Block, { zero }: Bytes): string {
  return zero.kind === "dim" && zero.dim === 0 ? "0u" : `(bitcast<u32>(${block.value(zero)}) & 255u) * 0x01010101u`;
}

/** Where `length` bytes along `v` are one aligned run of a packed buffer, all of them there or none. */
export function byteRun(
  bytes: Bytes,
  v: Var,
  length: number,
  caps: { readonly f16: boolean },
): { load: Load; offset: Expr } | undefined {
  const { load, guard } = bytes;
  if (!load || storageOf(load.value, caps).lanes !== 4 || (guard && variesInRun(guard, v, length))) return undefined;
  const offset = runOffset(load.value, load.index, v, length);
  return offset && { load, offset };
}

/** Bytes read as a word, or as a vector of words, with u8 turned into i8. */
export function signed({ value }: Load, text: string, type: "u32" | "vec4<u32>" = "u32"): string {
  return dtypeFacts[value.dtype].signed ? text : `${text} ^ ${type}(0x80808080u)`;
}

/** Writes the return of four bytes along `v`, zeros where there is nothing. `inside` is the test that the first is there. */
export function returnWord(block: Block, bytes: Bytes, v: Var, inside: string): void {
  const { module } = block;
  const { byte, guard, zero } = bytes;
  const run = byteRun(bytes, v, 4, module.caps);
  block.nest(
    `if (${inside})`,
    () => {
      if (run) {
        const read = (): void =>
          block.line(
            `return ${signed(run.load, `${module.buffer(run.load.value, "read")}[${block.value(run.offset)} >> 2u]`)};`,
          );
        block.under(guard, read);
        return;
      }
      const element = guard ? select(guard, byte, zero) : byte;
      const isWhole = isStatic(v.extent) && v.extent % 4 === 0;
      const word = block.fresh();
      block.line(`var ${word} = 0u;`);
      for (let i = 0; i < 4; i++) {
        const next = add(v, int(i));
        const here = substitute(element, new Map<Expr, Expr>([[v, next]]));
        const text = block.value(i === 0 || isWhole ? here : select(lt(next, int(v.extent)), here, zero));
        block.line(`${word} = insertBits(${word}, bitcast<u32>(${text}), ${8 * i}u, 8u);`);
      }
      block.line(`return ${word};`);
    },
    true,
  );
  block.line(`return ${zeroWord(block, bytes)};`);
}

/** Whether bytes are their own numbers. */
export const isSymmetric = ({ zero }: Bytes): boolean => zero === constant("i32", 0);
