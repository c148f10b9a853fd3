// Finds the Chromium that drives the tests of the browser demo: $CHROMIUM, or one that is installed; on Debian and its like,
// as root, it installs one.
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";

const PLACES = [
  ...["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"].map((name) => `/usr/bin/${name}`),
  "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
  "/Applications/Chromium.app/Contents/MacOS/Chromium",
  "C:\\Program Files\\Google\\Chrome\\Application\\chrome.exe",
];
const installed = () => process.env.CHROMIUM ?? PLACES.find(existsSync);

/** The path of a Chromium. Throws, saying what to run, where there is none and none can be installed. */
export function ensureChromium() {
  const known = installed();
  if (known) return known;
  if (existsSync("/usr/bin/apt-get") && process.getuid?.() === 0) {
    console.error("setup: installing Chromium with apt");
    for (const args of [["update"], ["install", "--yes", "--no-install-recommends", "chromium"]])
      spawnSync("apt-get", ["--quiet", ...args], {
        stdio: ["ignore", 2, 2],
        env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" },
      });
  }
  const now = installed();
  if (now) return now;
  throw new Error(
    `there is no Chromium here. Install one, or name it in $CHROMIUM:\n  ${
      existsSync("/usr/bin/apt-get") ? "sudo apt-get install chromium" : "https://www.google.com/chrome/"
    }`,
  );
}
