// What every entry point exports of engines: the lean runtime's and the compiler's alike.

export { type ContextOptions, ExecutionContext } from "./context.ts";
export type { Description, KernelDescription, MemoryDescription } from "./describe.ts";
export type { Destination, GpuTensor, HostRunOptions, Input, Inputs, MixedOutputs, Outputs, RunOptions } from "./ends.ts";
export { Engine, type HostOperator, type HostOperators } from "./engine.ts";
export { type ImageOptions, type ImageSource, image, type Picture, type Pixels } from "./image.ts";
