// Finds the software Vulkan driver that `npm run setup` unpacked, for machines on which Dawn finds no adapter of its own.
// Whether it is needed is the caller's to decide; scripts/vulkan-env.mjs reads the same file for the checkout's scripts.
import { existsSync, readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";

/**
 * The variables to add to this process's environment, in a new process, for Dawn to use the unpacked software driver.
 * Undefined when none is unpacked, or when this process was started with a driver chosen already: so a command that starts
 * itself again with them does so once.
 */
export function softwareVulkanEnv(): Record<string, string> | undefined {
  if (process.env.VK_DRIVER_FILES || process.env.VK_ICD_FILENAMES) return undefined;
  const cache = process.env.KILN_CACHE || process.env.XDG_CACHE_HOME || join(homedir(), ".cache");
  const file = join(cache, "kiln", "vulkan", "env.json");
  if (!existsSync(file)) return undefined;
  const driver = JSON.parse(readFileSync(file, "utf8")) as { LD_LIBRARY_PATH: string; VK_DRIVER_FILES: string };
  if (!existsSync(driver.VK_DRIVER_FILES)) return undefined;
  const libraries = [driver.LD_LIBRARY_PATH, process.env.LD_LIBRARY_PATH].filter(Boolean).join(":");
  return { ...driver, LD_LIBRARY_PATH: libraries };
}
