// npm run test:browser: the browser demo's tests, in Chromium with its software WebGPU. Arguments go to vitest.
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { ensureChromium } from "./chromium.mjs";
import { ensureBuild, ensureDependencies } from "./setup.mjs";
import { root } from "./vulkan-env.mjs";

let CHROMIUM;
try {
  ensureDependencies();
  ensureBuild();
  CHROMIUM = ensureChromium();
} catch (error) {
  console.error(`test:browser: ${error.message}`);
  process.exit(1);
}
const vitest = join(root, "node_modules", "vitest", "vitest.mjs");
const args = [vitest, "run", "--config", "vitest.browser.config.ts", ...process.argv.slice(2)];
const { status } = spawnSync(process.execPath, args, { cwd: root, stdio: "inherit", env: { ...process.env, CHROMIUM } });
process.exit(status ?? 1);
