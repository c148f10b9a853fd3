import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/browser/**/*.browser.ts"],
    pool: "forks",
    maxWorkers: 1, // Chromium's software WebGPU takes all cores itself
    testTimeout: 240_000,
    hookTimeout: 60_000,
  },
});
