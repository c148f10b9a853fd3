// The process in which conformance cases run, one after the other on one device. The command watches it from outside, so
// that a case which hangs or takes the process down is one failed case.

import type { Command } from "commander";
import type { Device } from "../gpu/device.ts";
import { openNodeDevice } from "../node-device.ts";
import { type CaseResult, runCase } from "./conformance-case.ts";

export interface CaseRequest {
  readonly folder: string;
}
/** "ready" once, then a result a request. */
export type WorkerMessage = "ready" | CaseResult;

export function addConformanceWorker(program: Command): void {
  program.command("conformance-worker", { hidden: true }).option("--interpret", "run on the host").action(serveCases);
}

/** Answers requests of the parent process until it disconnects. */
async function serveCases({ interpret = false }: { readonly interpret?: boolean }): Promise<void> {
  const send = (message: WorkerMessage): void => void process.send?.(message);
  const open = async (): Promise<Device | undefined> => (interpret ? undefined : openNodeDevice());
  const served = new Promise<void>((resolve) => process.once("disconnect", resolve));
  let device = await open();
  process.on("message", async ({ folder }: CaseRequest) => {
    // An invalid call or a lost device would fail every case after the one whose fault it was.
    if (device?.lostBy || device?.firstError) {
      device.destroy();
      device = await open();
    }
    send(await runCase(folder, device));
  });
  send("ready");
  await served;
  device?.destroy();
}
