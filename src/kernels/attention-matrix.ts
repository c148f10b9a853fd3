// Attention on subgroup matrices, for operands that are f16 in memory.

import attentionMatrixShader from "../../shaders/attention_matrix.wgsl";
import { ceilDiv, isStatic } from "../ir/dims.ts";
import type { AttentionTask } from "../ir/task.ts";
import type { Caps } from "../util/caps.ts";
import { attentionFrame } from "./attention.ts";
import { known } from "./frame.ts";
import { isHalf, matrixOf } from "./matrix.ts";
import { storeRun } from "./results.ts";
import { specialize } from "./specialize.ts";
import { type Config, type Kernel, tactic } from "./tactic.ts";
import { loadEight } from "./vector.ts";

/** What stands for eight elements that are not there. */
const NOTHING = "vec4<u32>()";

/** Queries and keys of a block. */
const SHAPES = [
  [16, 64],
  [32, 64],
  [64, 64],
  [16, 128],
  [32, 128],
  [32, 32],
  [64, 32],
  [112, 32],
  [128, 32],
] as const;

/** Fragments of the results that pass through the strip at once: an invocation takes eight columns or more of each row. */
const passOf = (width: number): number => (width % 32 === 0 ? 2 : 1);

/** Vectors of a row of the strip: scores, results of a pass or a query, and one of padding. */
const stripOf = (depth: number, width: number, keys: number): number => Math.max(keys / 4, 4 * passOf(width), depth / 8) + 1;

/** Whole fragments. */
const padded = (size: number): number => 16 * Math.ceil(size / 16);

const isWhole = (extent: AttentionTask["d"]["extent"]): extent is number =>
  isStatic(extent) && extent % 8 === 0 && extent <= 256;

export const attentionMatrix = tactic("attention", {
  name: "attention.matrix",
  applicable: ({ d, n, q, key, v }, caps) =>
    matrixOf(caps, "f16", "f32", 16) !== undefined &&
    caps.f16 &&
    caps.subgroups &&
    caps.subgroupMinSize === caps.subgroupMaxSize &&
    isWhole(d.extent) &&
    isWhole(n.extent) &&
    // An invocation owns at least eight columns of its row.
    padded(n.extent as number) % (caps.subgroupMaxSize / 2) === 0 &&
    [q, key, v].every(isHalf),
  likelihood: ({ m }) => (known(m.extent) >= 16 ? 0.9 : 0.1),
  *candidates({ m, d, n }, caps) {
    const [depth, width, queries] = [padded(d.extent as number), padded(n.extent as number), known(m.extent)];
    const fitting = SHAPES.filter(([rows, keys]) => {
      const halves = rows * (keys + 8) + keys * (depth + 8) + keys * (width + 8);
      const bytes = 2 * halves + 16 * rows * stripOf(depth, width, keys);
      const threads = (rows / 16) * caps.subgroupMaxSize;
      return bytes <= caps.limits.maxComputeWorkgroupStorageSize && threads <= caps.limits.maxComputeInvocationsPerWorkgroup;
    });
    const waste = (rows: number): number => (Math.ceil(queries / rows) * rows) / queries + 8 / rows;
    for (const [rows, keys] of [...fitting].sort(([a], [b]) => waste(a) - waste(b))) yield { rows, keys };
  },
  emit: emitMatrix,
});

function emitMatrix(task: AttentionTask, config: Config, caps: Caps): Kernel {
  const { rows, keys } = config as { rows: number; keys: number };
  const frame = attentionFrame(task, caps);
  const { module, attention, batches, hook, scores } = frame;
  const { m, k, d, n, q, key, v, peak, sum, acc, stores } = attention;
  const [depth, width] = [padded(d.extent as number), padded(n.extent as number)];
  const lanes = caps.subgroupMaxSize / 16;
  const threads = (rows / 16) * caps.subgroupMaxSize;
  const pass = passOf(width);
  const results = Array.from({ length: 8 }, (_, i) => `acc[${i}]`);
  const text = specialize("attention_matrix", attentionMatrixShader, {
    specs: {
      ROWS: rows,
      KEYS: keys,
      DEPTH: depth,
      WIDTH: width,
      SUBGROUP: caps.subgroupMaxSize,
      DEPTH_FRAGMENTS: depth / 16,
      KEY_FRAGMENTS: keys / 16,
      PASS: pass,
      PASSES: width / 16 / pass,
      OWN_KEYS: keys / lanes,
      OWN_FOURS: keys / lanes / 4,
      FETCHES_K: Math.ceil((keys * depth) / 8 / threads),
      FETCHES_V: Math.ceil((keys * width) / 8 / threads),
      OWN_PASS: (16 * pass) / lanes,
      STRIP: stripOf(depth, width, keys),
    },
    hooks: {
      ...scores,
      load_q: loadEight(frame, q, { v: d, other: m, summed: d, isWhole: depth === d.extent }, NOTHING),
      load_key: loadEight(frame, key, { v: d, other: k, summed: d, isWhole: depth === d.extent }, NOTHING),
      load_v: loadEight(frame, v, { v: n, other: k, summed: k, isWhole: false }, NOTHING),
      store: hook([m, n, peak, sum], (block) => {
        block.nest(`if (n < ${module.dim(n.extent)})`, () => storeRun(block, stores, n, acc, results), true);
      }),
    },
  });
  for (const feature of ["f16", "subgroups", "chromium_experimental_subgroup_matrix"]) module.features.add(feature);
  module.add(text.replace(/^(?:enable|diagnostic).*\n/gm, ""));
  return { steps: [module.step([ceilDiv(m.extent, rows), batches, 1])], scratch: [], packed: [] };
}
