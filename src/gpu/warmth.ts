// Keeps a GPU's clocks up while a tuner waits for compilers: one that idles between short measurements runs at a fraction of its
// speed, and not by the same factor for all kernels.

import type { Memory } from "./buffers.ts";
import type { Device } from "./device.ts";

/** Well under a millisecond at full speed: what is to be measured waits behind it. */
const TURNS = 60_000;
const wgsl = `@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3u) {
  var sum = f32(id.x);
  for (var i = 0u; i < ${TURNS}u; i++) { sum = fma(sum, 0.5, 1.0); }
  x[id.x] = sum;
}
`;
const WORKGROUPS = 512;

/**
 * Works until it is disposed of. A device of the core tier, which may be a processor that has better things to do, and one without
 * timestamps, where measurements would take this work for theirs, are left alone.
 */
export class Warmth {
  private working = true;

  constructor(
    private readonly device: Device,
    private readonly memory: Memory,
  ) {
    if (device.caps.tier !== "core" && device.caps.timestamps) void this.work().catch(() => undefined);
  }

  dispose(): void {
    this.working = false;
  }

  private async work(): Promise<void> {
    const { device, queue } = this.device;
    const buffer = await this.memory.create({ label: "warmth", bytes: WORKGROUPS * 256 * 4 });
    const module = device.createShaderModule({ label: "warmth", code: wgsl });
    const pipeline = await device.createComputePipelineAsync({ layout: "auto", compute: { module } });
    const entries = [{ binding: 0, resource: { buffer } }];
    const group = device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries });
    while (this.working && this.device.lostBy === undefined) {
      const encoder = device.createCommandEncoder({ label: "warmth" });
      const pass = encoder.beginComputePass();
      pass.setPipeline(pipeline);
      pass.setBindGroup(0, group);
      pass.dispatchWorkgroups(WORKGROUPS);
      pass.end();
      queue.submit([encoder.finish()]);
      await queue.onSubmittedWorkDone();
    }
  }
}
