// A random network on a device against onnxruntime-node on the CPU, for tests and for machines that have only Node.

import { Builder, type BuildOptions } from "../../src/builder.ts";
import { deviationOf } from "../../src/cli/compare.ts";
import type { Device } from "../../src/gpu/device.ts";
import { runOnnxRuntime } from "./onnxruntime.ts";
import type { RandomGraph } from "./random-graph.ts";

/** The batches to run a network at: its own, and one more where any will do. */
export const batchesOf = ({ batch, isDynamic }: RandomGraph): readonly number[] => (isDynamic ? [batch, batch + 1] : [batch]);

/** What differs, or why there is nothing to compare, fused and not; empty where all is well. */
export async function faultsOf(
  device: Device,
  graph: RandomGraph,
  optimizationLevel: NonNullable<BuildOptions["optimizationLevel"]> = 0,
): Promise<readonly string[]> {
  const shapesOf = (batch: number): Record<string, readonly number[]> =>
    Object.fromEntries(Object.entries(graph.inputs(batch)).map(([name, { shape }]) => [name, shape]));
  const batches = batchesOf(graph);
  const [min, max] = [shapesOf(1), shapesOf(batches.at(-1)!)];
  const bounds = Object.keys(max).map((name) => [name, { min: min[name]!, opt: max[name]!, max: max[name]! }] as const);
  const profiles = graph.isDynamic ? [Object.fromEntries(bounds)] : [];
  const faults: string[] = [];
  for (const fusion of [true, false]) {
    const how = fusion ? "fused" : "unfused";
    try {
      const engine = await new Builder(device).build(graph.bytes, { optimizationLevel, fusion, profiles });
      const context = engine.createExecutionContext();
      for (const batch of batches) {
        const inputs = graph.inputs(batch);
        const actual = await context.execute(inputs);
        for (const [name, expected] of Object.entries(await runOnnxRuntime(graph.bytes, inputs))) {
          const { ok, relRms } = deviationOf(actual[name]!, expected);
          if (!ok) faults.push(`${how}, batch ${batch}: "${name}" differs by ${relRms.toExponential(1)} (relative RMS)`);
        }
      }
      engine.dispose();
    } catch (failure) {
      faults.push(`${how}: ${(failure as Error).message}`);
    }
  }
  return faults;
}
