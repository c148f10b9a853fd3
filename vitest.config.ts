// Test settings. `*.wgsl` imports become their text, as in the build, and where the machine has no GPU of its own the
// workers inherit the environment of the software Vulkan driver that `npm run setup` unpacked.
import { defineConfig } from "vitest/config";
import { vulkanEnv } from "./scripts/vulkan-env.mjs";

// Set before any worker starts: the dynamic linker reads LD_LIBRARY_PATH only when a process begins.
Object.assign(process.env, vulkanEnv());

// One seed for every random test of a run.
process.env.SEED ??= String(Date.now() % 1_000_000);
console.log(`random tests: seed ${process.env.SEED} (SEED=${process.env.SEED} repeats them)`);

export default defineConfig({
  plugins: [
    {
      name: "wgsl-text",
      transform: (code, id) =>
        id.endsWith(".wgsl") ? { code: `export default ${JSON.stringify(code)};`, map: null } : undefined,
    },
  ],
  test: {
    include: ["test/**/*.test.ts"],
    setupFiles: ["test/support/seed.ts"],
    pool: "forks",
    maxWorkers: 2, // the software driver is itself multi-threaded
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
});
