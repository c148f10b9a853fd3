// Holds the layout of the house: which room of src/ may import which, that no imports go in circles, that the lean runtime
// stays lean, and that only the rims know their platform. Reads the source text; runs none of it.

import { readdirSync, readFileSync } from "node:fs";
import { join, posix, relative } from "node:path";
import { expect, it } from "vitest";

const ROOT = join(import.meta.dirname, "..");
const STAGES = ["importer", "passes", "calibrator", "lowering", "autotuner", "plan"];

/** What each folder of src/, or file beside them, may import. `shaders` is the folder of WGSL beside src/. */
const MAY_IMPORT: Readonly<Record<string, readonly string[] | "anything">> = {
  util: [],
  ir: ["util"],
  gpu: ["util"],
  ops: ["ir", "util"],
  kernels: ["ir", "util", "shaders"],
  engine: ["gpu", "ir", "util", "shaders"],
  importer: ["ops", "ir", "util"],
  lowering: ["ops", "ir", "util"],
  passes: ["ops", "ir", "util"],
  calibrator: ["ops", "ir", "util"],
  autotuner: ["kernels", "gpu", "ir", "util"],
  plan: ["kernels", "engine", "ir", "util"],
  "builder.ts": [...STAGES, "engine", "ops", "gpu", "ir", "util"],
  "runtime.ts": ["engine", "gpu", "ir", "util", "shaders"],
  "api.ts": [...STAGES, "builder.ts", "runtime.ts", "engine", "gpu", "ir", "util"],
  "index.ts": ["api.ts", "browser.ts"],
  ort: ["builder.ts", "importer", "autotuner", "plan", "engine", "gpu", "ir", "util"],
  "ort-node.ts": "anything",
  "ort-browser.ts": "anything",
  "browser.ts": "anything",
  "node.ts": "anything",
  "node-device.ts": "anything",
  "node-pictures.ts": "anything",
  "node-polls.ts": "anything",
  cli: "anything",
};
/** Rooms that may name the platform, and install what they like. */
const RIMS: ReadonlySet<string> = new Set([
  "browser.ts",
  "node.ts",
  "node-device.ts",
  "node-pictures.ts",
  "node-polls.ts",
  "ort-browser.ts",
  "ort-node.ts",
  "cli",
]);
const PACKAGES: Readonly<Record<string, readonly string[]>> = {
  importer: ["onnx-proto"],
  util: ["debug"],
  ort: ["onnxruntime-common"],
};

interface Import {
  /** Path from the project's root, or a package's name. */
  readonly target: string;
  readonly isPackage: boolean;
  readonly typeOnly: boolean;
}
interface Source {
  readonly path: string;
  readonly room: string;
  readonly imports: readonly Import[];
  /** Without comments and the contents of strings. */
  readonly code: string;
}

const roomOf = (path: string): string => (path.startsWith("src/") ? path.split("/")[1]! : path.split("/")[0]!);
const withoutComments = (text: string): string =>
  text.replace(
    /("(?:[^"\\\n]|\\.)*"|`(?:[^`\\]|\\.)*`)|\/\*[\s\S]*?\*\/|\/\/[^\n]*/g,
    (_, literal: string | undefined) => literal ?? "",
  );

/** `import … from "x"`, `export … from "x"`, `import "x"` and `import("x")`. */
const IMPORT =
  /(?:^|\n)\s*(?:import|export)(?<type>\s+type)?\s+(?:[^"';]*?\sfrom\s+)?"(?<fixed>[^"\n]+)"|\bimport\(\s*"(?<dynamic>[^"\n]+)"/g;

function readSource(path: string): Source {
  const text = withoutComments(readFileSync(join(ROOT, path), "utf8"));
  const imports = [...text.matchAll(IMPORT)].map(({ groups }): Import => {
    const specifier = (groups!.fixed ?? groups!.dynamic)!;
    const isPackage = !specifier.startsWith(".");
    return {
      target: isPackage ? specifier : posix.normalize(posix.join(posix.dirname(path), specifier)),
      isPackage,
      typeOnly: groups!.type !== undefined,
    };
  });
  return { path, room: roomOf(path), imports, code: text.replace(/"(?:[^"\\\n]|\\.)*"/g, '""') };
}

const sources: readonly Source[] = readdirSync(join(ROOT, "src"), { recursive: true, withFileTypes: true })
  .filter((entry) => entry.isFile() && entry.name.endsWith(".ts") && !entry.name.endsWith(".d.ts"))
  .map((entry) => readSource(relative(ROOT, join(entry.parentPath, entry.name)).replaceAll("\\", "/")));
const byPath = new Map(sources.map((source) => [source.path, source]));

it("finds the sources and their imports", () => {
  expect(sources.length).toBeGreaterThan(50);
  expect(byPath.get("src/ir/task.ts")!.imports).toContainEqual({ target: "src/ir/dims.ts", isPackage: false, typeOnly: false });
  expect(byPath.get("src/ir/task.ts")!.imports).toContainEqual({ target: "src/ir/value.ts", isPackage: false, typeOnly: true });
});

it("every room is in the table", () => {
  expect([...new Set(sources.map(({ room }) => room))].filter((room) => !(room in MAY_IMPORT))).toEqual([]);
});

it("no room imports what the table does not allow", () => {
  const wrong = sources.flatMap(({ path, room, imports }) => {
    const allowed = MAY_IMPORT[room]!;
    if (allowed === "anything") return [];
    return imports
      .filter(({ target, isPackage }) => !isPackage && roomOf(target) !== room && !allowed.includes(roomOf(target)))
      .map(({ target }) => `${path} imports ${target}`);
  });
  expect(wrong).toEqual([]);
});

it("no file imports itself in a circle", () => {
  const state = new Map<string, "open" | "done">();
  const circles: string[] = [];
  const visit = (path: string, trail: readonly string[]): void => {
    if (state.get(path) === "done") return;
    if (state.get(path) === "open") {
      circles.push([...trail.slice(trail.indexOf(path)), path].join(" -> "));
      return;
    }
    state.set(path, "open");
    for (const { target, typeOnly } of byPath.get(path)?.imports ?? []) if (!typeOnly) visit(target, [...trail, path]);
    state.set(path, "done");
  };
  for (const { path } of sources) visit(path, []);
  expect(circles).toEqual([]);
});

it("the lean runtime reaches no stage", () => {
  const reached = new Set<string>();
  const pending = ["src/runtime.ts"];
  for (let path = pending.pop(); path !== undefined; path = pending.pop()) {
    if (reached.has(path)) continue;
    reached.add(path);
    for (const { target, isPackage, typeOnly } of byPath.get(path)?.imports ?? [])
      if (!typeOnly && !isPackage) pending.push(target);
  }
  expect(
    [...new Set([...reached].map(roomOf))].filter(
      (room) => ![...(MAY_IMPORT["runtime.ts"] as readonly string[]), "runtime.ts"].includes(room),
    ),
  ).toEqual([]);
});

it("packages are imported only where the table says", () => {
  const wrong = sources
    .filter(({ room }) => !RIMS.has(room))
    .flatMap(({ path, room, imports }) =>
      imports
        .filter(({ target, isPackage }) => isPackage && !PACKAGES[room]?.includes(target))
        .map(({ target }) => `${path} imports ${target}`),
    );
  expect(wrong).toEqual([]);
});

it("only the rims name their platform", () => {
  const wrong = sources
    .filter(({ room }) => !RIMS.has(room))
    .flatMap(({ path, code }) =>
      [...code.matchAll(/(?<![\w.$])(process|navigator|require|indexedDB|Deno|Bun)(?=\s*[.[(?])/g)].map(
        ([, name]) => `${path} names ${name}`,
      ),
    );
  expect(wrong).toEqual([]);
});
