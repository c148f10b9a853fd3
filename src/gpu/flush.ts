// Evicts a GPU's caches by writing more than they hold, so that a kernel can be timed cold.

import type { Memory } from "./buffers.ts";
import type { Device } from "./device.ts";

/** Larger than any GPU's L2. */
const flushBytes = 128 << 20;
const workgroup = 256;

const wgsl = `@group(0) @binding(0) var<storage, read_write> x: array<vec4u>;
@compute @workgroup_size(${workgroup})
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) n: vec3u) {
  for (var i = id.x; i < arrayLength(&x); i += n.x * ${workgroup}u) { x[i] = x[i] + vec4u(i); }
}
`;

export class Flusher {
  private readonly device: Device;
  private readonly memory: Memory;
  private ready:
    | { readonly buffer: GPUBuffer; readonly pipeline: GPUComputePipeline; readonly group: GPUBindGroup }
    | undefined;

  constructor(device: Device, memory: Memory) {
    this.device = device;
    this.memory = memory;
  }

  /** Makes the buffer. Errors: K407. */
  async prepare(): Promise<void> {
    if (this.ready !== undefined) return;
    const { device, caps } = this.device;
    const bytes = Math.min(flushBytes, caps.limits.maxStorageBufferBindingSize);
    const buffer = await this.memory.create({ label: "cache flush", bytes });
    const module = device.createShaderModule({ label: "cache flush", code: wgsl });
    const pipeline = await device.createComputePipelineAsync({ layout: "auto", compute: { module } });
    const group = device.createBindGroup({
      layout: pipeline.getBindGroupLayout(0),
      entries: [{ binding: 0, resource: { buffer } }],
    });
    this.ready = { buffer, pipeline, group };
  }

  /** Encodes a pass that reads and writes the whole buffer. `prepare` must have finished. */
  encode(encoder: GPUCommandEncoder, timestampWrites?: GPUComputePassTimestampWrites): void {
    const pass = encoder.beginComputePass(timestampWrites === undefined ? {} : { timestampWrites });
    if (this.ready !== undefined) {
      pass.setPipeline(this.ready.pipeline);
      pass.setBindGroup(0, this.ready.group);
      pass.dispatchWorkgroups(4096);
    }
    pass.end();
  }

  dispose(): void {
    if (this.ready !== undefined) this.memory.destroy(this.ready.buffer);
    this.ready = undefined;
  }
}
