// The quick way to fold what only moves elements, as transposed weights: plain loops over strides instead of the
// interpreter's closures.

import { isStatic } from "../ir/dims.ts";
import { flatten, type Var } from "../ir/expr.ts";
import type { Task } from "../ir/task.ts";
import { allocate, sizeOf, type Tensor, type TypedArray } from "../ir/tensor.ts";

/** What a task writes, when it copies a constant's elements at strides that are linear in its variables; undefined for others. */
export function stridedCopy(task: Task): Tensor | undefined {
  if (task.kind !== "map" || task.stores.length !== 1) return undefined;
  const { value, index, expr, mode, init } = task.stores[0]!;
  if (mode !== "set" || init || expr.kind !== "load" || !expr.value.data || expr.value.dtype !== value.dtype) return undefined;
  const shape = task.vars.map(({ extent }) => extent);
  if (
    !shape.every(isStatic) ||
    index.length !== task.vars.length ||
    index.some((e, i) => e !== task.vars[i] && value.shape[i] !== 1)
  )
    return undefined;
  const offset = flatten(expr.index, expr.value.shape);
  const strides = task.vars.map(() => 0);
  const terms = offset.kind === "linear" ? offset.terms : offset.kind === "dim" ? [] : [[offset, 1] as const];
  for (const [term, coefficient] of terms) {
    const at = task.vars.indexOf(term as Var);
    if (at < 0 || !isStatic(coefficient)) return undefined;
    strides[at] = coefficient;
  }
  const start = offset.kind === "linear" ? offset.constant : offset.kind === "dim" ? offset.dim : 0;
  if (!isStatic(start)) return undefined;
  const data = allocate(value.dtype, sizeOf(shape as number[]));
  copy(expr.value.data.data, data, shape as number[], strides, start);
  return { dtype: value.dtype, shape: shape as number[], data };
}

/** to[i…] = from[start + Σ i·stride], row-major in `to`. */
function copy(from: TypedArray, to: TypedArray, shape: readonly number[], strides: readonly number[], start: number): void {
  const [source, target] = [from as Float32Array, to as Float32Array];
  const last = shape.length - 1;
  let at = 0;
  const level = (axis: number, offset: number): void => {
    const [extent, stride] = [shape[axis] ?? 1, strides[axis] ?? 0];
    if (axis >= last) for (let i = 0; i < extent; i++) target[at++] = source[offset + i * stride]!;
    else for (let i = 0; i < extent; i++) level(axis + 1, offset + i * stride);
  };
  level(0, start);
}
