// Constants larger than one binding may be (WebGPU promises no more than 128 MiB) are cut along an axis into several, and
// every load of one becomes a choice among its parts.

import type { Expr, Load } from "../ir/expr.ts";
import * as x from "../ir/expr.ts";
import { bytesOf, storageOf } from "../ir/storage.ts";
import { expressionsOf, isKernelTask, type KernelTask, type Task } from "../ir/task.ts";
import { sizeOf, type Tensor } from "../ir/tensor.ts";
import type { Value } from "../ir/value.ts";
import type { Caps } from "../util/caps.ts";
import { buffersOf, replaceLoads } from "./task-graph.ts";

interface Part {
  readonly value: Value;
  /** Where it begins along the axis. */
  readonly from: number;
}
interface Cut {
  readonly axis: number;
  readonly parts: readonly Part[];
}

/** Cuts what is too large, where kernels have bindings left for the parts. */
export function splitWeights(tasks: readonly Task[], caps: Caps): Task[] {
  const cuts = new Map<Value, Cut | undefined>();
  const cutOf = (value: Value): Cut | undefined => {
    if (!cuts.has(value)) cuts.set(value, cut(value, caps));
    return cuts.get(value);
  };
  const split = (task: Task): Task => {
    if (task.kind === "loop") return { ...task, body: task.body.map(split) };
    if (task.kind === "if") return { ...task, then: task.then.map(split), else: task.else.map(split) };
    return isKernelTask(task) ? splitIn(task, cutOf, caps) : task;
  };
  return tasks.map(split);
}

function splitIn(task: KernelTask, cutOf: (value: Value) => Cut | undefined, caps: Caps): KernelTask {
  const large = new Set(x.loadsOf(expressionsOf(task)).flatMap(({ value }) => (cutOf(value) ? [value] : [])));
  const more = [...large].reduce((count, value) => count + cutOf(value)!.parts.length - 1, 0);
  if (more === 0 || buffersOf(task) + more > caps.limits.maxStorageBuffersPerShaderStage) return task;
  return replaceLoads(task, (load) => (large.has(load.value) ? choose(load, cutOf(load.value)!) : undefined));
}

function choose({ index }: Load, { axis, parts }: Cut): Expr {
  const at = index[axis]!;
  const read = ({ value, from }: Part): Expr =>
    x.load(
      value,
      index.map((e, i) => (i === axis ? x.sub(e, x.int(from)) : e)),
    );
  return parts
    .slice(0, -1)
    .reduceRight((rest, part, i) => x.select(x.lt(at, x.int(parts[i + 1]!.from)), read(part), rest), read(parts.at(-1)!));
}

/** Undefined for what fits, or cannot be cut finely enough. */
function cut(value: Value, caps: Caps): Cut | undefined {
  const { data } = value;
  if (!data) return undefined;
  // Less a word, to which narrow elements are rounded up.
  const limit = Math.min(caps.limits.maxStorageBufferBindingSize, caps.limits.maxBufferSize) - 4;
  const bytes = bytesOf({ shape: data.shape }, storageOf(value, caps)) as number;
  if (bytes <= limit) return undefined;
  const axis = data.shape.indexOf(Math.max(...data.shape));
  const extent = data.shape[axis]!;
  const step = Math.floor((extent * limit) / bytes);
  if (step === 0) return undefined;
  const parts = Array.from({ length: Math.ceil(extent / step) }, (_, i): Part => {
    const tensor = sliceOf(data, axis, i * step, Math.min(extent, (i + 1) * step));
    const { data: _data, contents: _contents, ...rest } = value;
    return { value: { ...rest, name: `${value.name}[${i}]`, shape: tensor.shape, data: tensor }, from: i * step };
  });
  return { axis, parts };
}

/** Elements `from` to `to` along an axis. */
function sliceOf({ dtype, shape, data }: Tensor, axis: number, from: number, to: number): Tensor {
  const inner = sizeOf(shape.slice(axis + 1));
  const outer = sizeOf(shape.slice(0, axis));
  const part = (to - from) * inner;
  const cutShape = shape.map((size, i) => (i === axis ? to - from : size));
  if (outer === 1) return { dtype, shape: cutShape, data: data.subarray(from * inner, to * inner) };
  const target = new (data.constructor as new (length: number) => typeof data)(outer * part);
  for (let i = 0; i < outer; i++) {
    const start = (i * shape[axis]! + from) * inner;
    target.set(data.subarray(start, start + part) as never, i * part);
  }
  return { dtype, shape: cutShape, data: target };
}
