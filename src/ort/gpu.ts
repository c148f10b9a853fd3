// Tensors in GPU buffers, laid out as ONNX Runtime does: elements one after another at their own width, 64-bit integers whole.

import type { Tensor as OrtTensor } from "onnxruntime-common";
import { Memory } from "../gpu/buffers.ts";
import type { Device } from "../gpu/device.ts";
import { arrayOfBytes, sizeOf, type Tensor } from "../ir/tensor.ts";
import { type DType, dtypeFacts } from "../ir/types.ts";
import { ortType } from "./values.ts";

export class GpuTensors {
  private readonly memory: Memory;

  constructor(
    device: Device,
    private readonly Tensor: typeof OrtTensor,
  ) {
    this.memory = new Memory(device);
  }

  /** The elements of a tensor in a GPU buffer, which needs COPY_SRC. */
  async read(buffer: GPUBuffer, dtype: DType, shape: readonly number[]): Promise<Tensor> {
    const bytes = await this.memory.download(buffer, 0, sizeOf(shape) * dtypeFacts[dtype].bytes);
    return { dtype, shape, data: arrayOfBytes(dtype, bytes) };
  }

  /** Writes a tensor's elements into a GPU buffer, which needs COPY_DST. */
  async write(buffer: GPUBuffer, { data }: Tensor): Promise<void> {
    if (data.length > 0) await this.memory.upload(buffer, data);
  }

  /** A tensor in a buffer of its own, freed by the tensor's `dispose`. */
  async place(tensor: Tensor, name: string): Promise<OrtTensor> {
    const gpuBuffer = await this.memory.create({ label: name, bytes: tensor.data.byteLength });
    await this.write(gpuBuffer, tensor);
    return this.Tensor.fromGpuBuffer(gpuBuffer, {
      dataType: ortType(tensor.dtype, `output "${name}"`) as OrtTensor.GpuBufferDataTypes,
      dims: [...tensor.shape],
      download: async () => (await this.read(gpuBuffer, tensor.dtype, tensor.shape)).data as Float32Array,
      dispose: () => this.memory.destroy(gpuBuffer),
    }) as OrtTensor;
  }
}
