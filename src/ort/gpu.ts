// Tensors in GPU buffers, laid out as ONNX Runtime does: elements one after another at their own width, 64-bit integers whole.
// Where an engine stores them otherwise, they go through the host.

import type { Tensor as OrtTensor } from "onnxruntime-common";
import type { GpuTensor } from "../engine/ends.ts";
import { Memory } from "../gpu/buffers.ts";
import { BufferUsage } from "../gpu/constants.ts";
import type { Device } from "../gpu/device.ts";
import { isHostLayout, type Storage } from "../ir/storage.ts";
import { arrayOfBytes, sizeOf, type Tensor } from "../ir/tensor.ts";
import { type DType, dtypeFacts } from "../ir/types.ts";
import { wrongBuffer } from "../util/errors.ts";
import { ortType } from "./values.ts";

export class GpuTensors {
  private readonly memory: Memory;

  constructor(
    device: Device,
    private readonly Tensor: typeof OrtTensor,
  ) {
    this.memory = new Memory(device);
  }

  /** A caller's buffer as an engine's input: the buffer itself, or its elements where the engine stores them otherwise. */
  input({ gpuBuffer, dims }: OrtTensor, name: string, dtype: DType, storage: Storage): GpuTensor | Promise<Tensor> {
    const buffer = gpuBuffer as GPUBuffer;
    if (isHostLayout(dtype, storage)) return { buffer, shape: dims, dtype };
    needUsage(buffer, "COPY_SRC", `input "${name}"`, dtype);
    return this.read(buffer, dtype, dims);
  }

  /** Writes an output's elements into a caller's buffer. */
  async write(buffer: GPUBuffer, { dtype, data }: Tensor, name: string): Promise<void> {
    needUsage(buffer, "COPY_DST", `output "${name}"`, dtype);
    if (data.length > 0) await this.memory.upload(buffer, data);
  }

  /** A host result as a tensor in a buffer of its own. */
  async place(result: Tensor, name: string): Promise<OrtTensor> {
    const buffer = await this.memory.create({ label: name, bytes: result.data.byteLength });
    await this.write(buffer, result, name);
    return this.own({ buffer, dtype: result.dtype, shape: result.shape }, name);
  }

  /** A tensor over a buffer made for it, which its `dispose` frees. */
  own({ buffer, dtype, shape }: Omit<Required<GpuTensor>, "offset">, name: string): OrtTensor {
    return this.Tensor.fromGpuBuffer(buffer, {
      dataType: ortType(dtype, `output "${name}"`) as OrtTensor.GpuBufferDataTypes,
      dims: [...shape],
      download: async () => (await this.read(buffer, dtype, shape)).data as Float32Array,
      dispose: () => buffer.destroy(),
    }) as OrtTensor;
  }

  private async read(buffer: GPUBuffer, dtype: DType, shape: readonly number[]): Promise<Tensor> {
    const bytes = await this.memory.download(buffer, 0, sizeOf(shape) * dtypeFacts[dtype].bytes);
    return { dtype, shape, data: arrayOfBytes(dtype, bytes) };
  }
}

function needUsage(buffer: GPUBuffer, usage: "COPY_SRC" | "COPY_DST", place: string, dtype: DType): void {
  if ((buffer.usage & BufferUsage[usage]) !== 0) return;
  throw wrongBuffer(
    place,
    `its buffer was made without ${usage}`,
    `${dtype} goes through the host: make it with GPUBufferUsage.${usage}`,
  );
}
