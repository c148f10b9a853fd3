// kiln inspect: what an engine is made of.

import type { Command } from "commander";
import type { Description, TensorDescription } from "../engine/describe.ts";
import { addBuildFlags, type BuildFlags } from "./build-flags.ts";
import { openEngine, readNetwork, withDevice } from "./network.ts";
import { amountText, columns, plural, say, tensorType } from "./print.ts";

interface Flags extends BuildFlags {
  readonly json?: boolean;
}
const LEVEL = 0;

export function addInspect(program: Command): void {
  const command = program
    .command("inspect")
    .description("show layers, tactics, shapes and memory")
    .argument("<net.engine|model.onnx>")
    .option("--json", "print all of it as one JSON object");
  addBuildFlags(command, LEVEL).action(inspect);
}

async function inspect(file: string, flags: Flags): Promise<void> {
  const network = readNetwork(file, flags);
  await withDevice(async (device) => {
    const engine = await openEngine(device, network, { ...flags, quiet: flags.quiet || (flags.json ?? false) }, LEVEL);
    const description = engine.describe();
    say(flags.json ? JSON.stringify(description, undefined, 2) : textOf(description));
    engine.dispose();
  });
}

function textOf({ device, precision, kernels, hostLayers, memory, profiles }: Description): string {
  const tensors = (list: readonly TensorDescription[]): string =>
    list.map((tensor) => `${tensor.name} ${tensorType(tensor)}`).join(", ");
  const config = (values: object): string =>
    Object.entries(values)
      .map(([key, value]) => `${key}=${value}`)
      .join(" ");
  const rows = kernels.map((kernel, i) => [
    String(i),
    kernel.name,
    kernel.tactic,
    config(kernel.config),
    kernel.workgroups.join("x"),
    tensors(kernel.outputs),
    kernel.nodes.length > 1 ? kernel.nodes.join(" + ") : "",
  ]);
  return [
    `device     ${device}`,
    `precision  ${precision}`,
    `memory     weights ${amountText(memory.weights)}, activations ${amountText(memory.activations)} (lower bound ${amountText(memory.activationsLowerBound)}), staging ${amountText(memory.staging)}`,
    ...profiles.map(
      ({ name, symbols }) =>
        `${name}  ${
          Object.entries(symbols)
            .map(([symbol, { min, opt, max }]) => `${symbol} ${min}..${opt}..${max}`)
            .join(", ") || "all shapes fixed"
        }`,
    ),
    "",
    `${plural(kernels.length, "kernel")}:`,
    columns([["", "name", "tactic", "config", "workgroups", "writes", "nodes"], ...rows], [1, 2, 3, 4, 5, 6]),
    "",
    hostLayers.length === 0 ? "no host layer" : `${plural(hostLayers.length, "host layer")}:`,
    ...hostLayers.map(({ node, op, reason }) => `  ${op} "${node}": ${reason}`),
  ].join("\n");
}
