// Keeps a GPU's clocks up while a tuner waits for compilers, and tells when they are: one that idles between short measurements
// runs at a fraction of its speed, and not by the same factor for all kernels.

import type { Memory } from "./buffers.ts";
import { BufferUsage } from "./constants.ts";
import type { Device } from "./device.ts";
import { quantumOf } from "./timer.ts";

/** Half a millisecond at full speed: what is to be measured waits behind two or three of them. */
const TURNS = 200_000;
const wgsl = `@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3u) {
  var sum = f32(id.x);
  for (var i = 0u; i < ${TURNS}u; i++) { sum = fma(sum, 0.5, 1.0); }
  x[id.x] = sum;
}
`;
const WORKGROUPS = 512;
/** Turns before its speed is believed: clocks take some tens of milliseconds to rise. */
const FIRST_TURNS = 60;
/** Clocks are up where the work takes at most so many times its least. */
const TOLERANCE = 1.08;
/** Milliseconds after which the clocks are what they are: somebody else computes, or the GPU is hot. */
const PATIENCE = 300;
/** Milliseconds for which a reading holds. */
const FRESH = 10;

/**
 * Works until it is disposed of. A device of the core tier, which may be a processor that has better things to do, and one without
 * timestamps, where measurements would take this work for theirs, are left alone and always steady.
 */
export class Warmth {
  private working: boolean;
  private turns = 0;
  private least = Number.POSITIVE_INFINITY;
  private last = Number.POSITIVE_INFINITY;
  private readAt = Number.NEGATIVE_INFINITY;
  /** Nanoseconds between two ticks of a coarse clock. */
  private quantum = 0;

  constructor(
    private readonly device: Device,
    private readonly memory: Memory,
  ) {
    this.working = device.caps.tier !== "core" && device.caps.timestamps;
    if (this.working) void this.work().catch(() => this.dispose()); // without it all is measured as it comes
  }

  dispose(): void {
    this.working = false;
  }

  /** Resolves when the clocks are up, or will not go up. */
  async steady(): Promise<void> {
    const until = performance.now() + PATIENCE;
    while (this.working && !this.isSteady()) {
      if (performance.now() > until) {
        this.least = this.last;
        return;
      }
      await new Promise((resolve) => setTimeout(resolve));
    }
  }

  private isSteady(): boolean {
    if (this.turns < FIRST_TURNS || performance.now() - this.readAt > FRESH) return false;
    return this.last <= TOLERANCE * this.least + this.quantum;
  }

  private async work(): Promise<void> {
    const { device, queue } = this.device;
    const [buffer, stamps] = await Promise.all([
      this.memory.create({ label: "warmth", bytes: WORKGROUPS * 256 * 4 }),
      this.memory.create({ label: "warmth", bytes: 16, usage: BufferUsage.QUERY_RESOLVE | BufferUsage.COPY_SRC }),
    ]);
    const module = device.createShaderModule({ label: "warmth", code: wgsl });
    const pipeline = await device.createComputePipelineAsync({ layout: "auto", compute: { module } });
    const entries = [{ binding: 0, resource: { buffer } }];
    const group = device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries });
    const querySet = device.createQuerySet({ type: "timestamp", count: 2 });
    const turn = async (): Promise<void> => {
      const encoder = device.createCommandEncoder({ label: "warmth" });
      // From end to end: a begin may be stamped before what is ahead of it has drained.
      for (const endOfPassWriteIndex of [0, 1]) {
        const pass = encoder.beginComputePass({ timestampWrites: { querySet, endOfPassWriteIndex } });
        pass.setPipeline(pipeline);
        pass.setBindGroup(0, group);
        pass.dispatchWorkgroups(WORKGROUPS);
        pass.end();
      }
      encoder.resolveQuerySet(querySet, 0, 2, stamps, 0);
      const readback = this.memory.readback(encoder, stamps, 0, 16);
      queue.submit([encoder.finish()]);
      const [from, to] = new BigUint64Array((await readback.read()).buffer) as unknown as [bigint, bigint];
      this.last = Number(to - from);
      if (this.last > 0) this.least = Math.min(this.least, this.last);
      this.quantum = quantumOf([from, to]);
      this.readAt = performance.now();
      this.turns++;
    };
    // Two at a time: the next one is with the queue before the last one has ended.
    const turns = async (): Promise<void> => {
      while (this.working && this.device.lostBy === undefined) await turn();
    };
    await Promise.allSettled([turns(), turns()]);
    this.dispose();
    querySet.destroy();
  }
}
