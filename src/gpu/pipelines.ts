// Compiles WGSL into compute pipelines, each text once, all at the same time, and turns what the compiler says into errors
// that show the line. Bind group layouts are explicit and shared, so that one bind group can serve several pipelines.

import { type KilnError, limitExceeded, pipelineFailed, shaderInvalid } from "../util/errors.ts";
import { ShaderStage } from "./constants.ts";
import type { Device } from "./device.ts";
import { excerpt } from "./excerpt.ts";

/** How a kernel sees a buffer: `var<storage, read>`, `var<storage, read_write>` or `var<uniform>`. */
export type Binding = "read" | "write" | "uniform";

export interface PipelineSpec {
  /** The kernel's name, for errors and GPU debuggers; not part of the key. */
  readonly label: string;
  readonly wgsl: string;
  /** Of bind group 0, in order of binding number, from 0. */
  readonly bindings: readonly Binding[];
  /** "main" unless told. */
  readonly entryPoint?: string;
}

export interface CompiledPipeline {
  readonly pipeline: GPUComputePipeline;
  /** Of bind group 0. The same object for all pipelines with the same bindings. */
  readonly layout: GPUBindGroupLayout;
}

interface Layout {
  readonly group: GPUBindGroupLayout;
  readonly pipeline: GPUPipelineLayout;
}

export class PipelineCache {
  private readonly device: Device;
  private readonly compiled = new Map<string, Promise<CompiledPipeline>>();
  private readonly layouts = new Map<string, Layout>();
  /** Resolves when the last text that was given has been read. */
  private reading: Promise<unknown> = Promise.resolve();

  constructor(device: Device) {
    this.device = device;
  }

  /** Pipelines held. */
  get size(): number {
    return this.compiled.size;
  }

  /**
   * The pipeline for this text, entry point and bindings, compiled on first use; start many before awaiting any.
   * Errors: K404 more bindings than the device allows, K405 the text does not compile, K406 the driver refuses the kernel,
   * K408 the device is gone. A failure is not kept: the next call tries again.
   */
  compile(spec: PipelineSpec): Promise<CompiledPipeline> {
    const key = `${spec.entryPoint ?? "main"}\n${spec.bindings.join()}\n${spec.wgsl}`;
    const known = this.compiled.get(key);
    if (known !== undefined) return known;
    const started = this.start(spec);
    this.compiled.set(key, started);
    started.catch(() => this.compiled.delete(key));
    return started;
  }

  /** Resolves when the texts given so far have been read, well or not; their pipelines may compile still. */
  async textsRead(): Promise<void> {
    await this.reading;
  }

  /** The layout of bind group 0 for these bindings. Errors: K404. */
  layout(bindings: readonly Binding[], label = "bindings"): GPUBindGroupLayout {
    return this.layoutFor(bindings, label).group;
  }

  /** Lets go of all pipelines; those in use elsewhere stay valid. */
  clear(): void {
    this.compiled.clear();
  }

  private async start(spec: PipelineSpec): Promise<CompiledPipeline> {
    if (this.device.lostBy !== undefined) throw this.device.lostBy;
    const { device } = this.device;
    const { group, pipeline: layout } = this.layoutFor(spec.bindings, spec.label);
    // One after the other, as this thread reads texts: others make pipelines of those that were read meanwhile.
    const read = this.reading.then(() => this.read(spec));
    this.reading = read.catch(() => undefined);
    const module = await read;
    try {
      const compute = { module, entryPoint: spec.entryPoint ?? "main" };
      const pipeline = await device.createComputePipelineAsync({ label: spec.label, layout, compute });
      return { pipeline, layout: group };
    } catch (refusal) {
      const said = refusal instanceof Error ? refusal.message : String(refusal);
      throw this.device.lostBy ?? (await explain(spec, module, said));
    }
  }

  /** The text as a module. Waited for: without validation (Dawn's skip_validation) a pipeline of an invalid one ends the process. */
  private async read(spec: PipelineSpec): Promise<GPUShaderModule> {
    const { device } = this.device;
    device.pushErrorScope("validation");
    const module = device.createShaderModule({ label: spec.label, code: spec.wgsl });
    const invalid = await device.popErrorScope();
    if (invalid !== null) throw this.device.lostBy ?? (await explain(spec, module, invalid.message));
    return module;
  }

  private layoutFor(bindings: readonly Binding[], label: string): Layout {
    const key = bindings.join();
    const known = this.layouts.get(key);
    if (known !== undefined) return known;
    this.checkCounts(bindings, label);
    const { device } = this.device;
    const group = device.createBindGroupLayout({
      label: key,
      entries: bindings.map((binding, index) => ({
        binding: index,
        visibility: ShaderStage.COMPUTE,
        buffer: { type: bufferTypes[binding] },
      })),
    });
    const made: Layout = { group, pipeline: device.createPipelineLayout({ label: key, bindGroupLayouts: [group] }) };
    this.layouts.set(key, made);
    return made;
  }

  private checkCounts(bindings: readonly Binding[], label: string): void {
    const { limits } = this.device.caps;
    const uniform = bindings.filter((binding) => binding === "uniform").length;
    const storage = bindings.length - uniform;
    const check = (name: "maxStorageBuffersPerShaderStage" | "maxUniformBuffersPerShaderStage", count: number): void => {
      if (count > limits[name]) throw limitExceeded(`kernel "${label}"`, name, count, limits[name]);
    };
    check("maxStorageBuffersPerShaderStage", storage);
    check("maxUniformBuffersPerShaderStage", uniform);
  }
}

const bufferTypes: Readonly<Record<Binding, GPUBufferBindingType>> = {
  read: "read-only-storage",
  write: "storage",
  uniform: "uniform",
};

/** The compiler's first error with its line; where it names none, what the pipeline's creation said. */
const explain = async (spec: PipelineSpec, module: GPUShaderModule, said: string): Promise<KilnError> => {
  const { messages } = await module.getCompilationInfo();
  const errors = messages.filter((message) => message.type === "error");
  const first = errors[0];
  if (first === undefined) return pipelineFailed(spec.label, said.trim());
  const more = errors.length > 1 ? `\nand ${errors.length - 1} more` : "";
  return shaderInvalid(
    spec.label,
    first.lineNum,
    first.message,
    excerpt(spec.wgsl, first.lineNum, first.linePos, first.length) + more,
  );
};
