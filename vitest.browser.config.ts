// As vitest.config.ts, for tests that drive Chromium.
import base from "./vitest.config.ts";

export default {
  ...base,
  test: {
    ...base.test,
    include: ["test/browser/**/*.browser.ts"],
    maxWorkers: 1, // Chromium's software WebGPU takes all cores itself
    testTimeout: 240_000,
  },
};
