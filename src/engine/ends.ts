// A run's two ends as callers give them: tensors of the host, buffers of the GPU, or sources that write an input there.
// Checks them against the plan before anything runs; allocates and moves nothing.

import { BufferUsage } from "../gpu/constants.ts";
import type { Storage } from "../ir/storage.ts";
import { allocate, sizeOf, type Tensor, type TypedArray } from "../ir/tensor.ts";
import type { DType } from "../ir/types.ts";
import { BINDING_ALIGNMENT } from "../util/caps.ts";
import {
  assumptionBroken,
  inputShapeMismatch,
  missingInput,
  unknownInputs,
  unknownOutputs,
  wrongBuffer,
  wrongInputData,
  wrongInputType,
} from "../util/errors.ts";
import type { Plan, PlanInput } from "./plan.ts";
import type { Scratch } from "./scratch.ts";
import { type InputShapes, isShape } from "./shapes.ts";

/**
 * A tensor in GPU memory, row-major, each element as `Engine.inputs` and `Engine.outputs` say (`storage`): f32, i32 and u32 as
 * they are; 64-bit integers as 32-bit ones; f64 and bf16 as f32; f16 as f16, or f32 where the device has none; bools and 8-bit
 * integers four, 16-bit ones two in a u32, the first in its lowest bits. The last word is a whole one.
 */
export interface GpuTensor {
  readonly buffer: GPUBuffer;
  readonly shape: readonly number[];
  readonly dtype?: DType;
  /** Byte of the buffer at which it begins, a multiple of 256. 0 unless told. */
  readonly offset?: number;
}

/** Writes an input on the GPU: see `image`. */
export interface Source {
  /** The shape that it will write. Throws when it cannot be of such an input. */
  shapeFor(input: PlanInput): readonly number[];
  /** Encodes the writing of the whole input. `scratch` keeps what it needs for the next run. */
  encode(encoder: GPUCommandEncoder, target: SourceTarget, scratch: Scratch): Promise<void>;
}
/** The input's place, shape and storage. */
export interface SourceTarget {
  readonly name: string;
  readonly buffer: GPUBuffer;
  readonly offset: number;
  readonly bytes: number;
  readonly shape: readonly number[];
  readonly storage: Storage;
}

/** An input. Data or a buffer alone where the shape is fixed or was set. */
export type Input = Tensor | TypedArray | GpuTensor | GPUBuffer | Source;
export type Inputs = Readonly<Record<string, Input>>;

/** Where an output goes: to the host; to a new buffer, which is then the caller's to destroy; or into the caller's. */
export type Destination = "host" | "gpu" | GPUBuffer | { readonly buffer: GPUBuffer; readonly offset?: number };
export interface RunOptions {
  /** Of all outputs, or by name; those not named go to the host. */
  readonly outputs?: Destination | Readonly<Record<string, Destination>>;
  /** Ends the run early: its promise rejects with the signal's reason, what the GPU has begun it ends. */
  readonly signal?: AbortSignal;
}
/** Of a run that names no destinations. */
export type HostRunOptions = Omit<RunOptions, "outputs"> & { readonly outputs?: never };

export type Outputs = Record<string, Tensor>;
export type MixedOutputs = Record<string, Tensor | Required<GpuTensor>>;

/** An end that lies in a buffer of the caller's, or in a new one, which has none yet. */
export interface End {
  /** For messages: `output "y"`. */
  readonly label: string;
  readonly buffer: GPUBuffer | undefined;
  readonly offset: number;
  /** It was made for this run, and is the caller's to destroy once the run has succeeded. */
  readonly isNew?: boolean;
}

/** Of one run: what to upload or encode, and where ends lie, by buffer number. */
export interface Ends {
  readonly tensors: readonly { readonly input: PlanInput; readonly given: Tensor | Source }[];
  readonly shapes: ReadonlyMap<string, readonly number[]>;
  readonly places: Map<number, End>;
}

const isBuffer = (value: object): value is GPUBuffer => "mapState" in value;
const isSource = (value: object): value is Source => "shapeFor" in value;
const typeText = ({ dtype, shape }: PlanInput): string => `${dtype}[${shape.join(", ")}]`;

export class EndChecker {
  /** `uses`: what the steps do with each buffer, flags of BufferUsage. */
  constructor(
    private readonly plan: Plan,
    private readonly uses: ReadonlyMap<number, number>,
    private readonly shapes: InputShapes,
  ) {}

  /** Errors: K602, K603, K604, K606, K608, K609, K613. */
  check(inputs: Inputs, destinations: RunOptions["outputs"]): Ends {
    const names = this.plan.inputs.map(({ name }) => name);
    const unknown = Object.keys(inputs).filter((name) => !names.includes(name));
    if (unknown.length > 0) throw unknownInputs(unknown, names);
    const tensors: { input: PlanInput; given: Tensor | Source }[] = [];
    const shapes = new Map<string, readonly number[]>();
    const places = new Map<number, End>();
    for (const input of this.plan.inputs) {
      const given = inputs[input.name];
      if (given == null) throw missingInput(input.name, typeText(input));
      if (typeof given === "object" && !ArrayBuffer.isView(given)) {
        if (isSource(given)) {
          this.checkDevice(input);
          tensors.push({ input, given });
          shapes.set(input.name, given.shapeFor(input));
          continue;
        }
        const tensor: object | undefined = isBuffer(given) ? { buffer: given } : "buffer" in given ? given : undefined;
        if (tensor) {
          const { shape, ...end } = this.gpuInput(input, tensor as GpuTensor);
          places.set(input.buffer, end);
          shapes.set(input.name, shape);
          continue;
        }
      }
      const tensor = this.hostInput(input, given as Tensor | TypedArray);
      tensors.push({ input, given: tensor });
      shapes.set(input.name, tensor.shape);
    }
    for (const [number, end] of this.destinations(destinations)) {
      const label = [...places.values()].find(({ buffer }) => buffer !== undefined && buffer === end.buffer)?.label;
      if (label !== undefined)
        throw wrongBuffer(end.label, `its buffer is that of ${label} too`, "give each output a buffer of its own");
      places.set(number, end);
    }
    return { tensors, shapes, places };
  }

  private *destinations(given: RunOptions["outputs"]): Iterable<[number, End]> {
    if (given === undefined || given === "host") return;
    const known = this.plan.outputs.map(({ name }) => name);
    const single =
      typeof given === "string" || isBuffer(given) || (isBuffer((given.buffer as object) ?? {}) && !known.includes("buffer"));
    const byName = (single ? Object.fromEntries(known.map((name) => [name, given])) : given) as Readonly<
      Record<string, Destination>
    >;
    const unknown = Object.keys(byName).filter((name) => !known.includes(name));
    if (unknown.length > 0) throw unknownOutputs(unknown, known);
    for (const { name, buffer: number } of this.plan.outputs) {
      const to = byName[name];
      if (to === undefined || to === "host") continue;
      const label = `output "${name}"`;
      if (to === "gpu") {
        yield [number, { label, buffer: undefined, offset: 0 }];
        continue;
      }
      if (typeof to !== "object" || to === null)
        throw wrongBuffer(label, `its destination is ${String(to)}`, 'expected: "host", "gpu" or a GPUBuffer');
      const { buffer, offset = 0 } = isBuffer(to) ? { buffer: to } : to;
      this.checkBuffer(label, number, buffer, offset);
      yield [number, { label, buffer, offset }];
    }
  }

  private gpuInput(input: PlanInput, { buffer, shape, dtype, offset = 0 }: GpuTensor): End & { shape: readonly number[] } {
    const label = `input "${input.name}"`;
    if (dtype !== undefined && dtype !== input.dtype) throw wrongInputType(input.name, dtype, input.dtype);
    this.checkDevice(input);
    this.checkBuffer(label, input.buffer, buffer, offset);
    return { label, buffer, offset, shape: this.checkedShape(input, shape ?? this.shapes.of(input)) };
  }

  /** Throws for an input that only the host sees. */
  private checkDevice({ name, assumed, buffer }: PlanInput): void {
    const why = assumed
      ? "its contents decide shapes, so the host must know them"
      : this.plan.buffers[buffer]!.home.kind === "host"
        ? "no kernel reads it, so that it stays on the host at full width"
        : undefined;
    if (why) throw wrongBuffer(`input "${name}"`, why, "give typed arrays");
  }

  private checkBuffer(label: string, number: number, buffer: GPUBuffer, offset: number): void {
    if (typeof buffer !== "object" || buffer === null || !isBuffer(buffer))
      throw wrongBuffer(label, "`buffer` is not a GPUBuffer", "give a GPUBuffer of the engine's device");
    if (!Number.isSafeInteger(offset) || offset < 0 || offset % BINDING_ALIGNMENT !== 0)
      throw wrongBuffer(
        label,
        `offset ${offset} is not a multiple of ${BINDING_ALIGNMENT}`,
        "WebGPU binds at such offsets only",
      );
    if (buffer.mapState !== "unmapped")
      throw wrongBuffer(label, "its buffer is mapped", "unmap it before the run: the GPU cannot use it meanwhile");
    const lacking = (["STORAGE", "COPY_SRC", "COPY_DST"] as const).filter(
      (name) => ((this.uses.get(number) ?? 0) & ~buffer.usage & BufferUsage[name]) !== 0,
    );
    if (lacking.length > 0)
      throw wrongBuffer(
        label,
        `its buffer was made without ${lacking.join(" and ")}`,
        `make it with usage: ${lacking.map((name) => `GPUBufferUsage.${name}`).join(" | ")}, besides its own`,
      );
  }

  private checkedShape(input: PlanInput, shape: readonly number[]): readonly number[] {
    if (!isShape(shape)) throw inputShapeMismatch(input.name, shape, input.shape);
    return shape;
  }

  private hostInput(input: PlanInput, given: Tensor | TypedArray): Tensor {
    const expected = allocate(input.dtype, 0)[Symbol.toStringTag];
    const bare = ArrayBuffer.isView(given);
    const data = bare ? given : given.data;
    if (!bare && given.dtype !== undefined && given.dtype !== input.dtype)
      throw wrongInputType(input.name, given.dtype, input.dtype);
    // By its tag: a Node Buffer is a Uint8Array, and so is one of another window.
    if (data?.[Symbol.toStringTag] !== expected)
      throw wrongInputData(input.name, (data as object | undefined)?.constructor.name ?? typeof given, expected, input.dtype);
    const shape = this.checkedShape(input, bare ? this.shapes.of(input) : given.shape);
    if (sizeOf(shape) !== data.length)
      throw wrongInputData(
        input.name,
        `${data.length} elements`,
        `${sizeOf(shape)} for shape [${shape.join(", ")}]`,
        input.dtype,
      );
    if (input.assumed && input.assumed.join() !== Array.from(data, String).join())
      throw assumptionBroken(input.name, input.assumed.join(", "), Array.from(data, String).join(", "));
    return { dtype: input.dtype, shape, data };
  }
}
