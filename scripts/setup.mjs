// Brings a checkout to where everything runs: npm's packages, a Vulkan adapter that Dawn accepts, a fresh dist/. Run
// directly it does all of it and says so (`--packages`: the packages only). Where the machine has no usable adapter and has
// apt, Mesa's software driver is unpacked into a per-user cache: nothing is installed, and root is not needed.
import { spawnSync } from "node:child_process";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { basename, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { probeAdapter, root, softwareVulkanEnv, vulkanCache, withLibraryPath } from "./vulkan-env.mjs";

const say = (text) => console.error(`setup: ${text}`);

/** Installs npm's packages when node_modules is missing or is not what package-lock.json asks for. */
export function ensureDependencies() {
  const read = (file) =>
    existsSync(join(root, file)) ? JSON.parse(readFileSync(join(root, file), "utf8")).packages : undefined;
  const wanted = read("package-lock.json");
  const installed = read("node_modules/.package-lock.json"); // npm's own record of what it installed
  const right = ([path, { version, optional }]) => path === "" || optional || installed[path]?.version === version;
  if (wanted && installed && Object.entries(wanted).every(right)) return;

  const command = wanted && !installed ? "ci" : "install";
  say(`npm ${command} (${installed ? "node_modules is not what package-lock.json asks for" : "there is no node_modules"})`);
  // npm prints to stdout what belongs on stderr here: stdout is the command's own.
  const npm = spawnSync("npm", [command], { cwd: root, stdio: ["ignore", 2, 2], shell: process.platform === "win32" });
  if (npm.status !== 0) throw new Error(`npm ${command} failed`);
}

/**
 * Makes sure that Dawn finds an adapter. Returns what must be added to the environment for it ({} where the machine's own
 * driver serves) and the adapter as probeAdapter() describes it; throws, saying what to run, where there is none to be had.
 */
export function ensureVulkan() {
  const own = probeAdapter();
  if (own) return { env: {}, adapter: own };

  const unpacked = softwareVulkanEnv();
  const known = unpacked && probeAdapter(unpacked);
  if (known) return { env: unpacked, adapter: known };

  const remedy = installHint();
  if (process.platform !== "linux") throw new Error(`Dawn finds no adapter on this machine. ${remedy}`);
  say("Dawn finds no adapter that it accepts; fetching Mesa's software Vulkan driver");
  try {
    const env = withLibraryPath(unpackSoftwareDriver());
    return { env, adapter: probeAdapter(env) };
  } catch (error) {
    throw new Error(`${error.message}\nInstall a Vulkan driver by hand:\n  ${remedy}`);
  }
}

/** Bundles dist/ when a source is newer than it. */
export function ensureBuild() {
  const newest = (path) => {
    const status = statSync(path);
    return status.isDirectory() ? Math.max(0, ...readdirSync(path).map((name) => newest(join(path, name)))) : status.mtimeMs;
  };
  const sources = ["src", "shaders", "examples/browser", "package.json", "package-lock.json", "scripts"].map((path) =>
    join(root, path),
  );
  const built = join(root, "dist", "cli.js");
  const changed = Math.max(...sources.filter(existsSync).map(newest));
  if (existsSync(built) && statSync(built).mtimeMs > changed) return;
  say("building dist/");
  const build = spawnSync(process.execPath, [join(root, "scripts", "build.mjs"), "--no-types"], { stdio: ["ignore", 2, 2] });
  if (build.status !== 0) throw new Error("the build failed");
}

/** Unpacks Mesa's lavapipe for Dawn into the cache, with the libraries that the system lacks, and records it in env.json. */
function unpackSoftwareDriver() {
  mkdirSync(vulkanCache, { recursive: true });
  for (const name of readdirSync(vulkanCache)) {
    const left = join(vulkanCache, name); // by a set-up that was killed
    if (name.startsWith("unpack-") && Date.now() - statSync(left).mtimeMs > 3_600_000)
      rmSync(left, { recursive: true, force: true });
  }
  const work = mkdtempSync(join(vulkanCache, "unpack-"));
  try {
    const version = downloadPackages(work);
    const driver = collectDriver(work);
    if (!probeAdapter(withLibraryPath(driverEnv(driver)))) throw new Error(`Dawn does not accept Mesa ${version}.`);

    const home = join(vulkanCache, version);
    if (existsSync(home) && !probeAdapter(withLibraryPath(driverEnv(home)))) rmSync(home, { recursive: true });
    if (!existsSync(home)) {
      try {
        renameSync(driver, home);
      } catch (error) {
        if (!existsSync(home)) throw error; // otherwise another set-up was first with the same
      }
    }
    const record = join(work, "env.json");
    writeFileSync(record, `${JSON.stringify(driverEnv(home), null, 2)}\n`);
    renameSync(record, join(vulkanCache, "env.json"));
    say(`unpacked Mesa ${version} into ${home}`);
    return driverEnv(home);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

const driverEnv = (folder) => ({ LD_LIBRARY_PATH: folder, VK_DRIVER_FILES: join(folder, "lvp_icd.json") });

/**
 * Downloads the driver's packages and those that it needs and the system lacks, and unpacks them into work/tree. apt runs
 * with lists, cache and sources of its own below `work`, so that neither root nor the system's state is touched; the
 * mirrors are the system's. Returns Mesa's package version.
 */
function downloadPackages(work) {
  const { UBUNTU_CODENAME, VERSION_CODENAME } = osRelease();
  const codename = UBUNTU_CODENAME ?? VERSION_CODENAME;
  // Asks for the sources, not for their contents: a bare machine's apt has no lists yet.
  const targets = [...run("apt-get", ["update", "--print-uris"]).matchAll(/^'(\S+)\/dists\/(\S+)\/(main|universe)\/binary-/gm)]
    .map(([, site, release, component]) => [site, release, component])
    .filter(([, release]) => release.split("-")[0] === codename);
  if (!codename || targets.length === 0) throw new Error("apt knows no mirror of this distribution.");
  // Dawn wants a newer Vulkan than Debian 12's own Mesa has; the same mirror carries the backport.
  const backports = codename === "bookworm" ? "bookworm-backports" : undefined;
  if (backports) targets.push([targets.find(([, release]) => release === codename)[0], backports, "main"]);

  const keyrings = ["debian", "ubuntu"]
    .map((name) => ["gpg", "pgp"].map((suffix) => `/usr/share/keyrings/${name}-archive-keyring.${suffix}`).find(existsSync))
    .filter(Boolean);
  const signed = keyrings.length > 0 ? `[signed-by=${keyrings.join(",")}] ` : "";
  const sources = new Set(targets.map((target) => `deb ${signed}${target.join(" ")}\n`));
  for (const folder of ["state/lists/partial", "cache/archives/partial", "debs", "tree"]) {
    mkdirSync(join(work, folder), { recursive: true });
  }
  writeFileSync(join(work, "sources.list"), [...sources].join(""));
  writeFileSync(
    join(work, "apt.conf"),
    `Dir::State "${work}/state"; Dir::State::status "/var/lib/dpkg/status"; Dir::Cache "${work}/cache";
    Dir::Etc::sourcelist "${work}/sources.list"; Dir::Etc::sourceparts "/dev/null";
    Dir::Etc::preferences "/dev/null"; Dir::Etc::preferencesparts "/dev/null";
    APT::Sandbox::User ""; APT::Install-Recommends "false"; Acquire::Languages "none"; Acquire::Retries "3";
    ${backports ? `APT::Default-Release "${backports}";` : ""}
    #clear APT::Update::Post-Invoke;
    #clear APT::Update::Post-Invoke-Success;
    `,
  );
  const apt = (...args) => run("apt-get", ["-c", join(work, "apt.conf"), "-q", ...args], join(work, "debs"));
  apt("update");
  const plan = apt("install", "--simulate", "--reinstall", "mesa-vulkan-drivers", "libvulkan1");
  const packages = [...plan.matchAll(/^Inst (\S+) (?:\[\S+\] )?\((\S+) /gm)].map(([, name, version]) => ({ name, version }));
  apt("download", ...packages.map(({ name, version }) => `${name}=${version}`));
  for (const file of readdirSync(join(work, "debs"))) run("dpkg", ["-x", join(work, "debs", file), join(work, "tree")]);
  const mesa = packages.find(({ name }) => name === "mesa-vulkan-drivers");
  if (!mesa) throw new Error("apt offers no mesa-vulkan-drivers.");
  return mesa.version.replace(/^\d+:/, "");
}

/** Copies the driver, the loader and the unpacked libraries that they link to from work/tree into one folder; returns it. */
function collectDriver(work) {
  const tree = join(work, "tree");
  const lib = join(tree, "usr", "lib");
  const triplet = readdirSync(lib).find((name) => existsSync(join(lib, name, "libvulkan_lvp.so")));
  if (!triplet) throw new Error("This distribution's mesa-vulkan-drivers has no lavapipe.");
  const libraries = join(lib, triplet);
  const folder = join(work, "driver");
  mkdirSync(folder);
  const wanted = ["libvulkan_lvp.so", "libvulkan.so.1"].map((name) => join(libraries, name));
  const search = `${libraries}:${join(tree, "lib", triplet)}`; // Debian 12 still has packages of before the /usr merge
  const linked = run("ldd", wanted, work, withLibraryPath({ LD_LIBRARY_PATH: search }));
  const missing = [...linked.matchAll(/(\S+) => not found/g)].map(([, name]) => name);
  if (missing.length > 0) throw new Error(`The driver needs libraries that apt did not bring: ${missing.join(", ")}.`);
  wanted.push(...[...linked.matchAll(/=> (\S+)/g)].map(([, path]) => path).filter((path) => path.startsWith(tree)));
  for (const path of new Set(wanted)) copyFileSync(path, join(folder, basename(path)));

  const manifests = join(tree, "usr", "share", "vulkan", "icd.d");
  const manifest = readdirSync(manifests).find((name) => name.startsWith("lvp_icd"));
  const icd = JSON.parse(readFileSync(join(manifests, manifest), "utf8"));
  icd.ICD.library_path = "./libvulkan_lvp.so"; // from the manifest's own folder, wherever that is moved to
  writeFileSync(join(folder, "lvp_icd.json"), JSON.stringify(icd));
  return folder;
}

/** What a person runs where the driver cannot be unpacked here. */
function installHint() {
  if (process.platform === "darwin") return "Dawn needs Metal there: update macOS, or run on a Mac with a GPU.";
  if (process.platform === "win32") return "Dawn needs Direct3D 12 there: update Windows and the GPU's driver.";
  const { ID = "", ID_LIKE = "", VERSION_ID = "" } = osRelease();
  const like = (names) => names.some((name) => `${ID} ${ID_LIKE}`.split(" ").includes(name));
  if (ID === "debian" && VERSION_ID === "12") {
    return "sudo apt-get install -t bookworm-backports mesa-vulkan-drivers libvulkan1   (with bookworm-backports enabled)";
  }
  if (like(["debian", "ubuntu"])) return "sudo apt-get install mesa-vulkan-drivers libvulkan1";
  if (like(["fedora", "rhel"])) return "sudo dnf install mesa-vulkan-drivers vulkan-loader";
  if (like(["arch"])) return "sudo pacman -S vulkan-swrast vulkan-icd-loader";
  if (like(["suse", "opensuse"])) return "sudo zypper install libvulkan_lvp libvulkan1";
  if (like(["alpine"])) return "Dawn's build for Node needs glibc, and Alpine has musl: run on another distribution.";
  return "install your distribution's Mesa Vulkan drivers (lavapipe, Mesa 24 or newer) and Vulkan loader";
}

function osRelease() {
  if (!existsSync("/etc/os-release")) return {};
  const lines = readFileSync("/etc/os-release", "utf8").matchAll(/^(\w+)="?(.*?)"?$/gm);
  return Object.fromEntries([...lines].map(([, name, value]) => [name, value]));
}

/** Runs a command to its end and returns what it printed; throws with its own words when it fails. */
function run(command, args, cwd = root, env = {}) {
  const child = spawnSync(command, args, {
    cwd,
    env: { ...process.env, LC_ALL: "C", ...env },
    encoding: "utf8",
    maxBuffer: 1 << 28,
  });
  if (child.error) throw new Error(`${command} could not run: ${child.error.message}.`);
  if (child.status !== 0) throw new Error(`${command} ${args.at(-1)} failed: ${child.stderr.trim()}`);
  return child.stdout;
}

if (process.argv[1] && resolve(process.argv[1]) === fileURLToPath(import.meta.url)) {
  try {
    ensureDependencies();
    say("the packages are as package-lock.json asks");
    if (!process.argv.includes("--packages")) {
      const { env, adapter } = ensureVulkan();
      say(
        `adapter: ${adapter.description || adapter.device} (${adapter.vendor}), ${env.VK_DRIVER_FILES ?? "the machine's own driver"}`,
      );
      ensureBuild();
    }
  } catch (error) {
    say(error.message);
    process.exit(1);
  }
}
