// Which environment gives Dawn a Vulkan adapter: the plain one, or that of the software driver which setup.mjs unpacked
// and described in env.json. src/cli/vulkan.ts reads the same file for the installed command.
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { homedir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const root = dirname(dirname(fileURLToPath(import.meta.url)));

/** The per-user folder of software drivers, shared by every checkout. */
export const vulkanCache = join(
  process.env.KILN_CACHE || process.env.XDG_CACHE_HOME || join(homedir(), ".cache"),
  "kiln",
  "vulkan",
);

/** The software driver's variables to add to this process's environment, or undefined when none is unpacked. */
export function softwareVulkanEnv() {
  const file = join(vulkanCache, "env.json");
  if (!existsSync(file)) return undefined;
  const driver = JSON.parse(readFileSync(file, "utf8"));
  if (!existsSync(driver.VK_DRIVER_FILES)) return undefined;
  return withLibraryPath(driver);
}

/** `driver` with its library folder put before those that LD_LIBRARY_PATH names already. */
export function withLibraryPath(driver) {
  const libraries = [driver.LD_LIBRARY_PATH, process.env.LD_LIBRARY_PATH].filter(Boolean).join(delimiter);
  return { ...driver, LD_LIBRARY_PATH: libraries };
}

/** What must be added to this process's environment for Dawn to find an adapter; {} when nothing must, or nothing would help. */
export function vulkanEnv() {
  if (process.env.VK_DRIVER_FILES || process.env.VK_ICD_FILENAMES) return {};
  const software = softwareVulkanEnv();
  return software === undefined || probeAdapter() ? {} : software;
}

/**
 * Asks Dawn for an adapter in a child process with `env` added to the environment. Returns
 * {vendor, architecture, device, description, features, limits}, or undefined when there is none.
 */
export function probeAdapter(env = {}) {
  const script = `
    const gpu = require("webgpu").create([]);
    gpu.requestAdapter().then((adapter) => {
      if (!adapter) process.exit(1);
      const { vendor, architecture, device, description } = adapter.info;
      const limits = {};
      for (const name in adapter.limits) limits[name] = adapter.limits[name];
      console.log(JSON.stringify({ vendor, architecture, device, description, features: [...adapter.features], limits }));
      process.exit(gpu ? 0 : 1); // holds what create() returned until here: Dawn crashes if it is collected earlier
    });`;
  const child = spawnSync(process.execPath, ["-e", script], {
    cwd: root,
    env: { ...process.env, ...env },
    encoding: "utf8",
    timeout: 30_000,
  });
  return child.status === 0 ? JSON.parse(child.stdout) : undefined;
}
