// Shapes of the kernel that runs a block: how large a tile, how many channels at a time, who makes what. A model of the work
// puts them in order and says whether one kernel is likely to beat one a convolution.

import { type Dim, isStatic } from "../ir/dims.ts";
import type { ConvTask } from "../ir/task.ts";
import type { Caps } from "../util/caps.ts";

/** What the convolutions of a block are to each other. */
export interface Roles {
  readonly expand: ConvTask | undefined;
  readonly depthwise: ConvTask;
  readonly project: ConvTask;
}

/** Constants of shaders/block.wgsl. */
export interface BlockConfig {
  readonly tileH: number;
  readonly tileW: number;
  readonly reachH: number;
  readonly reachW: number;
  readonly chunk: number;
  readonly splits: number;
  readonly part: number;
  readonly rows: number;
  readonly columns: number;
  readonly size: number;
}

const TILES = [
  [8, 8],
  [4, 8],
  [4, 4],
  [2, 8],
  [2, 4],
  [2, 2],
  [7, 7],
  [4, 7],
  [2, 7],
  [1, 7],
  [1, 4],
  [1, 2],
  [1, 1],
] as const;
const CHUNKS = [64, 48, 32, 24, 16, 8, 4];
const SPLITS = [1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 24, 30, 40, 60];
const SIZES = [256, 128, 64];
/** Vectors of sums that an invocation may hold. */
const MOST_SUMS = 16;
/** Positions that are expanded at a time. */
const PARTS = [8, 4, 2];
/** Configurations worth trying. */
const MOST = 64;

/** What a large GPU is taken to have; a small one is busy with any grid. */
const PROCESSORS = 100;
const LANES = 128;
/** Cycles from one dependent dispatch to the next: launch, first loads, the last workgroup. */
const DISPATCH = 6000;
/** Cycles that a stage between barriers waits for memory when nothing else runs. */
const STAGE = 400;

const sizeOr = (dim: Dim): number => (isStatic(dim) ? dim : 16);
const count = (vars: readonly { readonly extent: Dim }[]): number =>
  vars.reduce((total, { extent }) => total * sizeOr(extent), 1);

/** Those that fit the device, the one that is likely best first; some of one dispatch among them. */
export function blockConfigs(roles: Roles, bytes: number, caps: Caps): BlockConfig[] {
  const all = rated(roles, bytes, caps);
  const single = new Set(all.filter(({ config }) => config.splits === 1).slice(0, MOST / 4));
  return all.filter((one, i) => i < MOST || single.has(one)).map(({ config }) => config);
}

/** Modelled time of a kernel a convolution over that of the best shape. */
export function blockGain(roles: Roles, bytes: number, caps: Caps): number {
  const best = rated(roles, bytes, caps).find(({ config }) => config.splits === 1);
  if (!best) return 0;
  const lanes = processorsOf(caps) * LANES;
  const apart = partsOf(roles).reduce((sum, part) => sum + DISPATCH + (2 * productsOf(part)) / lanes, 0);
  return apart / best.cycles;
}

const processorsOf = ({ tier }: Caps): number => (tier === "core" ? 1 : PROCESSORS);
const partsOf = ({ expand, depthwise, project }: Roles): ConvTask[] => [...(expand ? [expand] : []), depthwise, project];
const productsOf = ({ batch, out, oc, ic, kernel }: ConvTask): number => count([batch, ...out, oc, ic, ...kernel]);

interface Rated {
  readonly config: BlockConfig;
  readonly cycles: number;
}

function rated(roles: Roles, bytes: number, caps: Caps): Rated[] {
  const { expand, depthwise, project } = roles;
  const [inputs, expanded, projected] = [
    expand ? sizeOr(expand.ic.extent) : 0,
    depthwise.oc.extent as number,
    project.oc.extent as number,
  ];
  const { maxComputeWorkgroupStorageSize: memory, maxComputeInvocationsPerWorkgroup: most } = caps.limits;
  const found: Rated[] = [];
  const seen = new Set<string>();
  for (const tile of TILES) {
    // No larger than the image.
    const [tileH, tileW] = tile.map((side, axis) => Math.min(side, extentOr(depthwise.out[axis]!.extent, side))) as [
      number,
      number,
    ];
    if (seen.has(`${tileH}x${tileW}`)) continue;
    seen.add(`${tileH}x${tileW}`);
    const [reachH, reachW] = [tileH, tileW].map((side, axis) => {
      const taps = (sizeOr(depthwise.kernel[axis]!.extent) - 1) * depthwise.dilations[axis]!;
      const reach = (side - 1) * depthwise.strides[axis]! + taps + 1;
      return Math.min(reach, extentOr(depthwise.size[axis]!, reach));
    }) as [number, number];
    for (const splits of SPLITS) {
      if (expanded % (4 * splits) !== 0) continue;
      for (const chunk of CHUNKS) {
        if ((expanded / splits) % chunk !== 0) continue;
        const vectors = (inputs + chunk) * (reachH * reachW + 1) + chunk * (tileH * tileW + 1);
        if (vectors * bytes > memory) continue;
        for (const size of SIZES) {
          const sums = size > most ? undefined : sumsOf(tileH * tileW, projected / 4, size);
          if (!sums) continue;
          for (const part of expand ? PARTS : [1]) {
            const config = { tileH, tileW, reachH, reachW, chunk, splits, part, ...sums, size };
            found.push({ config, cycles: cyclesOf(config, roles, processorsOf(caps)) });
          }
        }
      }
    }
  }
  return found.sort((a, b) => a.cycles - b.cycles);
}

const extentOr = (dim: Dim, unknown: number): number => (isStatic(dim) ? dim : unknown);

/** Rows and columns of vectors that an invocation holds so that all of a tile's are held, as square as can be. */
function sumsOf(tile: number, vectors: number, size: number): { rows: number; columns: number } | undefined {
  let best: { rows: number; columns: number; loads: number } | undefined;
  for (let columns = 1; columns <= Math.min(vectors, MOST_SUMS); columns++) {
    const lanes = Math.floor(size / Math.ceil(vectors / columns));
    if (lanes === 0) continue;
    const rows = Math.ceil(tile / lanes);
    // Vectors read for the products of four channels: a row's one and a column's four.
    const loads = rows * columns * 16 + rows * 4 + columns * 16;
    if (rows * columns <= MOST_SUMS && loads < (best?.loads ?? Number.POSITIVE_INFINITY)) best = { rows, columns, loads };
  }
  return best && { rows: best.rows, columns: best.columns };
}

/** Cycles that the block takes by a rough count of multiplications and loads, of which an invocation does one at a time. */
function cyclesOf(
  { tileH, tileW, reachH, reachW, chunk, splits, part, rows, columns, size }: BlockConfig,
  { expand, depthwise, project }: Roles,
  processors: number,
): number {
  const vectors = chunk / 4;
  const turns = (items: number): number => Math.ceil(items / size);
  const reach = reachH * reachW;
  const expanding = expand
    ? turns(Math.ceil(reach / part) * vectors) * (sizeOr(expand.ic.extent) / 4) * (part * (16 + 4) + 16)
    : turns(reach * vectors) * 8;
  const convolving = turns(tileH * tileW * vectors) * count(depthwise.kernel) * 12;
  const projecting = vectors * (rows * columns * 16 + rows * 4 + columns * 16);
  const groups =
    Math.ceil(sizeOr(depthwise.out[0]!.extent) / tileH) *
    Math.ceil(sizeOr(depthwise.out[1]!.extent) / tileW) *
    sizeOr(depthwise.batch.extent) *
    splits;
  const stages = (depthwise.oc.extent as number) / splits / chunk;
  const work = (stages * (expanding + convolving + projecting) * size) / LANES;
  const load = Math.max(1, groups / processors);
  // Waiting is hidden where several workgroups share a processor.
  const waiting = processors === 1 ? 0 : (stages * 3 * STAGE) / Math.min(4, load);
  const adding =
    splits > 1 ? DISPATCH + (count([project.batch, ...project.out, project.oc]) * splits * 8) / (processors * LANES) : 0;
  return DISPATCH + load * work + Math.ceil(load) * waiting + adding;
}
