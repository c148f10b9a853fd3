// with-setup.mjs COMMAND ARGS…: sets the checkout up where that is needed, then runs the command with npm's binaries on PATH
// and the environment in which Dawn finds an adapter. Exit status and signals pass through.
import { spawn } from "node:child_process";
import { delimiter, join } from "node:path";
import { ensureBuild, ensureDependencies, ensureVulkan } from "./setup.mjs";
import { root } from "./vulkan-env.mjs";

const [command, ...args] = process.argv.slice(2);
if (!command) {
  console.error("usage: node scripts/with-setup.mjs COMMAND ARGS…");
  process.exit(2);
}

let env;
try {
  ensureDependencies();
  env = ensureVulkan().env;
  ensureBuild();
} catch (error) {
  console.error(`setup: ${error.message}`);
  process.exit(1);
}

const PATH = [join(root, "node_modules", ".bin"), process.env.PATH].join(delimiter);
const child = spawn(command, args, {
  stdio: "inherit",
  env: { ...process.env, ...env, PATH },
  shell: process.platform === "win32",
});
const signals = ["SIGINT", "SIGTERM", "SIGHUP"];
for (const signal of signals) {
  process.on(signal, () => {
    const fromTerminal = signal === "SIGINT" && process.stdin.isTTY; // which sent it to the command too
    if (!fromTerminal) child.kill(signal);
  });
}
child.on("error", (error) => {
  console.error(`${command}: ${error.message}`);
  process.exit(127);
});
child.on("exit", (status, signal) => {
  if (!signal) process.exit(status);
  process.removeAllListeners(signal);
  process.kill(process.pid, signal);
});
