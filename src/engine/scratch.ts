// What sources need besides an input's own buffer: kept between runs under a name, and grown to what is asked for.

import { defaultUsage, type Memory } from "../gpu/buffers.ts";
import type { Device } from "../gpu/device.ts";
import { type CompiledPipeline, PipelineCache, type PipelineSpec } from "../gpu/pipelines.ts";

export class Scratch {
  private readonly buffers = new Map<string, GPUBuffer>();
  private readonly textures = new Map<string, GPUTexture>();
  private readonly pipelines: PipelineCache;

  constructor(
    readonly device: Device,
    readonly memory: Memory,
  ) {
    this.pipelines = new PipelineCache(device);
  }

  compile(spec: PipelineSpec): Promise<CompiledPipeline> {
    return this.pipelines.compile(spec);
  }

  /** A buffer of at least so many bytes. Errors: K404, K407. */
  async buffer(name: string, bytes: number, usage = defaultUsage): Promise<GPUBuffer> {
    const old = this.buffers.get(name);
    if (old && old.size >= bytes) return old;
    if (old) this.memory.destroy(old);
    this.buffers.delete(name);
    const made = await this.memory.create({ label: name, bytes, usage });
    this.buffers.set(name, made);
    return made;
  }

  /** A texture of exactly this size. */
  texture(name: string, { size, ...rest }: { size: [number, number]; format: GPUTextureFormat; usage: number }): GPUTexture {
    const old = this.textures.get(name);
    if (old?.width === size[0] && old.height === size[1]) return old;
    old?.destroy();
    const made = this.device.device.createTexture({ label: name, size, ...rest });
    this.textures.set(name, made);
    return made;
  }

  /** Frees the textures; buffers are freed with the memory that they are of. */
  dispose(): void {
    for (const texture of this.textures.values()) texture.destroy();
    this.textures.clear();
    this.buffers.clear();
  }
}
