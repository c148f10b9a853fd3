// kiln conformance: ONNX's backend test cases, each compiled, run and compared with its expected outputs. Several processes
// share them out, because a software device compiles a kernel in one thread.

import { type ChildProcess, fork } from "node:child_process";
import { existsSync, statSync } from "node:fs";
import { availableParallelism } from "node:os";
import { type Command, Option } from "commander";
import { cannotRead } from "../util/errors.ts";
import { findCases } from "./cases.ts";
import type { CaseResult } from "./conformance-case.ts";
import type { CaseRequest, WorkerMessage } from "./conformance-worker.ts";
import { patternOf, writeOut } from "./files.ts";
import { withDevice } from "./network.ts";
import { numberOption } from "./options.ts";
import { say } from "./print.ts";

interface Flags {
  readonly json?: string;
  readonly filter?: string;
  readonly interpret?: boolean;
  readonly timeout: number;
  readonly jobs: number;
  readonly quiet?: boolean;
}

/** Processes at a time, unless told. */
const JOBS = Math.min(4, availableParallelism());

export function addConformance(program: Command): void {
  program
    .command("conformance")
    .description("run every folder below DIR that holds model.onnx and test_data_set_*")
    .argument("<dir>")
    .option("--json <file>", "write {name, status, reason, hostLayers} of each case")
    .option("--filter <regexp>", "only cases whose name matches")
    .option("--interpret", "run on the host, without a GPU")
    .addOption(new Option("--timeout <seconds>", "that a case may take").default(60).argParser(numberOption("--timeout", 0.1)))
    .addOption(
      new Option("--jobs <n>", "processes that run cases").default(JOBS).argParser(numberOption("--jobs", 1, undefined, true)),
    )
    .option("--quiet", "print the last line alone")
    .action(conformance);
}

async function conformance(dir: string, flags: Flags): Promise<void> {
  if (!existsSync(dir)) throw cannotRead(dir, "there is no such folder");
  if (!statSync(dir).isDirectory()) throw cannotRead(dir, "it is a file, not a folder", "name the folder that holds the cases");
  const filter = patternOf("--filter", flags.filter ?? "");
  const cases = findCases(dir).filter(({ name }) => filter.test(name));
  if (cases.length === 0)
    throw cannotRead(
      dir,
      flags.filter === undefined
        ? "no folder below it holds model.onnx and test_data_set_*"
        : `no case matches ${flags.filter}`,
    );
  // Fails here, in the process that can restart with a software driver, where there is no adapter.
  if (!flags.interpret) await withDevice(async () => undefined);
  const queue = cases.entries();
  const results: ({ readonly name: string } & CaseResult)[] = [];
  let told = 0;
  await Promise.all(
    Array.from({ length: Math.min(flags.jobs, cases.length) }, async () => {
      const worker = new CaseWorker(flags);
      for (const [at, { name, folder }] of queue) {
        results[at] = { name, ...(await worker.run(folder)) };
        for (; results[told]; told++) if (!flags.quiet) say(lineOf(results[told]!));
      }
      worker.stop();
    }),
  );
  if (flags.json !== undefined) writeOut(flags.json, `${JSON.stringify(results, undefined, 1)}\n`);
  const count = (status: CaseResult["status"]): number => results.filter((result) => result.status === status).length;
  say(`conformance: ${count("passed")} passed, ${count("failed")} failed, ${count("skipped")} skipped`);
  if (count("failed") > 0) process.exitCode = 1;
}

const lineOf = ({ name, status, reason, hostLayers }: { readonly name: string } & CaseResult): string => {
  const onHost = [...new Set(hostLayers.map(({ op }) => op))].join(", ");
  return `${status}  ${name}${reason ? `  ${reason}` : ""}${onHost ? `  (on the host: ${onHost})` : ""}`;
};

/** The process that runs cases; a new one takes over where one hangs or dies. */
class CaseWorker {
  private child: ChildProcess | undefined;

  constructor(private readonly flags: Flags) {}

  async run(folder: string): Promise<CaseResult> {
    const child = this.child ?? (await this.start());
    this.child = child;
    return new Promise((resolve) => {
      const finish = (result: CaseResult): void => {
        clearTimeout(timer);
        child.off("message", answered).off("exit", died);
        resolve(result);
      };
      const fail = (reason: string): void => {
        this.child = undefined;
        child.kill("SIGKILL");
        finish({ status: "failed", reason, hostLayers: [] });
      };
      const answered = (message: WorkerMessage): void => {
        if (message !== "ready") finish(message);
      };
      const died = (status: number | null, signal: string | null): void =>
        fail(`the process ended: ${signal ?? `status ${status}`}`);
      const timer = setTimeout(() => fail(`not done after ${this.flags.timeout} s`), this.flags.timeout * 1000);
      child.on("message", answered).on("exit", died);
      child.send({ folder } satisfies CaseRequest);
    });
  }

  stop(): void {
    this.child?.disconnect();
  }

  private start(): Promise<ChildProcess> {
    const child = fork(process.argv[1]!, ["conformance-worker", ...(this.flags.interpret ? ["--interpret"] : [])]);
    return new Promise((resolve, reject) => {
      child.once("message", () => resolve(child));
      child.once("error", reject);
      child.once("exit", (status) => reject(new Error(`the worker ended with status ${status} before its first case`)));
    });
  }
}
