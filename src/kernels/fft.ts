// Convolution by Fourier transforms with overlap-save: tiles of T x T inputs give (T - k + 1) valid results along each axis. A
// workgroup transforms one tile of some channels, rows in registers, then columns; each frequency is then a matrix product of
// complex channels, as a real one of twice the depth and width; the spectra of the weights are made with the engine. All in f32:
// sums over a tile would leave the range of f16.

import { type Dim, isStatic, product } from "../ir/dims.ts";
import { add, type Expr, float, int, load, mul, type Slot, slot, unflatten, type Var, variable } from "../ir/expr.ts";
import type { ConvTask, GemmTask } from "../ir/task.ts";
import { makeValue, type Value } from "../ir/value.ts";
import type { Caps } from "../util/caps.ts";
import { emitProduct, fitsBuffers, inTurn, productConfigs, type Variant, variantCost } from "./chain.ts";
import { type Complex, transform } from "./fft-terms.ts";
import { ENTRY_PARAMETERS, gridOf, WORKGROUP_NUMBER } from "./grid.ts";
import { channelTaps, constantWeights, type Packed, packed } from "./packing.ts";
import { storesElements } from "./product.ts";
import { remembering } from "./remember.ts";
import { type Kernel, tactic } from "./tactic.ts";
import { inputAt, storesAt, tilesOf } from "./tiles.ts";
import { Block, Module } from "./writer.ts";

const TILES = [16, 32] as const;
const PRODUCTS = 3;
const sizeOr = (dim: Dim): number => (isStatic(dim) ? dim : 64);

/** Bytes of spectra beyond which an engine would be nothing else. */
const MOST_SPECTRA = 128 << 20;

/** True where at least a quarter of a tile's rows and columns are results, and spectra have a size to be kept. */
const fits = ({ kernel, ic, oc }: ConvTask, tile: number): boolean =>
  kernel.every(({ extent }) => tile - (extent as number) + 1 >= tile / 4) &&
  8 * tile * (tile + 2) * (ic.extent as number) * (oc.extent as number) <= MOST_SPECTRA;

/** Channels a workgroup takes: as many as its memory holds, neighbours in memory. */
function lanesOf(tile: number, caps: Caps): number {
  const bytes = tile * (tile / 2 + 1) * 8;
  return [8, 4, 2, 1].find(
    (count) =>
      count * bytes <= caps.limits.maxComputeWorkgroupStorageSize &&
      count * tile <= caps.limits.maxComputeInvocationsPerWorkgroup,
  )!;
}

/** Multiplications a result by this tile, relative to direct convolution. */
function savings(task: ConvTask, tile: number): number {
  const results = task.kernel.reduce((count, { extent }) => count * (tile - (extent as number) + 1), 1);
  const taps = task.kernel.reduce((count, { extent }) => count * (extent as number), 1);
  return (4 * tile * (tile / 2 + 1)) / (results * taps);
}

export const convFft = tactic("conv", {
  name: "conv.fft",
  applicable: (task, caps) =>
    task.acc.type === "f32" &&
    storesElements(task, caps) &&
    task.groups === 1 &&
    task.kernel.length === 2 &&
    [...task.strides, ...task.dilations].every((step) => step === 1) &&
    constantWeights(task) !== undefined &&
    task.kernel.some(({ extent }) => (extent as number) > 2) &&
    TILES.some((tile) => fits(task, tile) && fitsBuffers(stepsOf(task, tile, caps).values, caps)),
  likelihood: (task, caps) => {
    const channels = Math.min(sizeOr(task.ic.extent), sizeOr(task.oc.extent));
    const best = Math.min(...TILES.filter((tile) => fits(task, tile)).map((tile) => savings(task, tile)));
    return channels < 16 ? 0.05 : best < 0.15 ? (caps.tier === "core" ? 0.5 : 0.83) : best < 0.3 ? 0.4 : 0.05;
  },
  candidates: (task, caps, all) => productConfigs(variantsOf(task, caps), caps, PRODUCTS, all),
  cost: (task, config, caps) => variantCost(variantsOf(task, caps), config, caps),
  emit: (task, { tile, ...config }, caps) => {
    const steps = stepsOf(task, tile as number, caps);
    const [forward, inverse] = steps.transforms();
    return inTurn([forward, emitProduct(steps.gemm, config, caps), inverse], [steps.spectrum, steps.products], [steps.weights]);
  },
});

/** Spectra of the input and of results go through the cache twice, those of the weights once. */
function variantsOf(task: ConvTask, caps: Caps): readonly Variant[] {
  const tiles = TILES.filter((size) => fits(task, size)).sort((a, b) => savings(task, a) - savings(task, b));
  return tiles.flatMap((tile): Variant[] => {
    const { gemm, values, spectrum, products, weights } = stepsOf(task, tile, caps);
    const bytes = (...some: readonly Value[]): number => some.reduce((sum, { shape }) => sum + 4 * sizeOr(product(shape)), 0);
    const beside = 6000 + (2 * bytes(spectrum, products)) / 1500 + bytes(weights.value) / 5000;
    return fitsBuffers(values, caps) ? [{ gemm, config: { tile }, part: 0.6, beside }] : [];
  });
}

interface Parts {
  readonly tile: number;
  /** Frequencies along x: the others follow from them, since tiles are real. */
  readonly half: number;
  /** Results of a tile along each axis. */
  readonly outputs: readonly number[];
  /** [frequencies, tiles, real then imaginary parts of channels]. */
  readonly spectrum: Value;
  readonly gemm: GemmTask;
  readonly products: Value;
  readonly weights: Packed;
  readonly values: readonly Value[];
}
interface Steps extends Parts {
  /** The kernels before and after the product. */
  readonly transforms: () => readonly [Kernel, Kernel];
}

const remembered = remembering<Steps>();
const stepsOf = (task: ConvTask, tile: number, caps: Caps): Steps =>
  remembered(task, caps, String(tile), () => takenApart(task, tile, caps));

function takenApart(task: ConvTask, tile: number, caps: Caps): Steps {
  const half = tile / 2 + 1;
  const outputs = task.kernel.map(({ extent }) => tile - (extent as number) + 1);
  const { count } = tilesOf(task, outputs);
  const [ic, oc] = [task.ic.extent as number, task.oc.extent as number];
  const spectrum = makeValue(`${task.name}.spectrum`, "f32", [tile * half, count, 2 * ic]);
  const products = makeValue(`${task.name}.products`, "f32", [tile * half, count, 2 * oc]);
  const weights = spectra(task, tile);
  const [f, m, n, k] = [
    variable("f", tile * half),
    variable("m", count),
    variable("n", 2 * oc),
    variable("k", 2 * ic),
  ] as const;
  const acc = slot("acc", "f32");
  const gemm: GemmTask = {
    kind: "gemm",
    name: task.name,
    origins: task.origins,
    batch: [f],
    m,
    n,
    k,
    a: load(spectrum, [f, m, k]),
    b: load(weights.value, [f, k, n]),
    acc,
    stores: [{ value: products, index: [f, m, n], expr: acc, mode: "set" }],
  };
  const parts = { tile, half, outputs, spectrum, gemm, products, weights, values: [spectrum, products, weights.value] };
  let made: readonly [Kernel, Kernel] | undefined;
  return { ...parts, transforms: () => (made ??= [emitForward(task, parts, caps), emitInverse(task, parts, caps)]) };
}

/** A workgroup's tile and channels: workgroups number channel blocks fastest. Binds and returns the variables. */
function place(
  block: Block,
  task: ConvTask,
  outputs: readonly number[],
  channels: number,
  lanes: number,
): { b: Expr; t: readonly Expr[]; tile: Var; channel: Var; groups: Dim } {
  const { shape, count } = tilesOf(task, outputs);
  const blocks = Math.ceil(channels / lanes);
  const groups = product([count, blocks]);
  const [tile, channel] = [variable("tile", count), variable("channel", channels)];
  block.line(`let group = ${WORKGROUP_NUMBER};`);
  block.line(`if (group >= ${block.module.dim(groups)}) { return; }`);
  block.line(`let tile = group / ${blocks};`);
  block.line(`let place = lane % ${lanes}u;`);
  block.line(`let channel = (group % ${blocks}) * ${lanes} + i32(place);`);
  block.bind(tile, "tile");
  block.bind(channel, "channel");
  const [b, ...t] = unflatten(tile, shape) as [Expr, ...Expr[]];
  return { b, t, tile, channel, groups };
}

/** Slots that name the parts of complex numbers read from workgroup memory. */
function readComplex(block: Block, count: number, at: (i: number) => string): Complex[] {
  return Array.from({ length: count }, (_, i) => {
    const [re, im]: Slot[] = [slot(`re${i}`, "f32"), slot(`im${i}`, "f32")];
    const name = block.fresh();
    block.line(`let ${name} = shared_tile[${at(i)}];`);
    block.bind(re!, `${name}.x`);
    block.bind(im!, `${name}.y`);
    return { re: re!, im: im! };
  });
}

const zero = float(0);

function emitForward(task: ConvTask, { tile, half, outputs, spectrum }: Parts, caps: Caps): Kernel {
  const module = new Module(caps);
  const block = new Block(module);
  const lanes = lanesOf(tile, caps);
  const ic = task.ic.extent as number;
  module.add(`var<workgroup> shared_tile: array<vec2<f32>, ${lanes * tile * half}>;`);
  const { b, t, tile: number, channel, groups } = place(block, task, outputs, ic, lanes);
  const row = variable("row", tile);
  block.line(`let row = i32(lane / ${lanes}u);`);
  block.bind(row, "row");
  block.nest(
    `if (channel < ${ic})`,
    () => {
      const values = Array.from({ length: tile }, (_, i) => inputAt(task, outputs, b, t, channel, [row, int(i)]));
      transform(values.map((re) => ({ re })))
        .slice(0, half)
        .forEach(({ re, im = zero }, f) =>
          block.line(
            `shared_tile[(u32(row) * ${half}u + ${f}u) * ${lanes}u + place] = vec2<f32>(${block.value(re)}, ${block.value(im)});`,
          ),
        );
    },
    true,
  );
  block.line("workgroupBarrier();");
  block.line(`if (channel >= ${ic}) { return; }`);
  const column = variable("column", half);
  block.nest(`for (var column = row; column < ${half}; column += ${tile})`, () => {
    block.bind(column, "column");
    const values = readComplex(block, tile, (i) => `(${i}u * ${half}u + u32(column)) * ${lanes}u + place`);
    transform(values).forEach(({ re, im = zero }, f) => {
      const frequency = add(int(f * half), column);
      for (const [part, expr] of [re, im].entries())
        block.store({ value: spectrum, index: [frequency, number, add(int(part * ic), channel)], expr, mode: "set" });
    });
  });
  module.add(`@compute @workgroup_size(${lanes * tile})\nfn main(${ENTRY_PARAMETERS}) {\n${block.text()}\n}`);
  return { steps: [module.step(gridOf(groups))], scratch: [], packed: [] };
}

function emitInverse(task: ConvTask, { tile, half, outputs, products }: Parts, caps: Caps): Kernel {
  const module = new Module(caps);
  const block = new Block(module);
  const lanes = lanesOf(tile, caps);
  const oc = task.oc.extent as number;
  const [rows, columns] = outputs as [number, number];
  module.add(`var<workgroup> shared_tile: array<vec2<f32>, ${lanes * tile * half}>;`);
  const { b, t, tile: number, channel, groups } = place(block, task, outputs, oc, lanes);
  const row = variable("row", tile);
  block.line(`let row = i32(lane / ${lanes}u);`);
  block.bind(row, "row");
  block.nest(
    `if (channel < ${oc})`,
    () => {
      const column = variable("column", half);
      block.nest(`for (var column = row; column < ${half}; column += ${tile})`, () => {
        block.bind(column, "column");
        const part = (f: number, of: number): Expr =>
          load(products, [add(int(f * half), column), number, add(int(of * oc), channel)]);
        const values = Array.from({ length: tile }, (_, f) => ({ re: part(f, 0), im: part(f, 1) }));
        transform(values, true)
          .slice(0, rows)
          .forEach(({ re, im = zero }, y) =>
            block.line(
              `shared_tile[(${y}u * ${half}u + u32(column)) * ${lanes}u + place] = vec2<f32>(${block.value(re)}, ${block.value(im)});`,
            ),
          );
      });
    },
    true,
  );
  block.line("workgroupBarrier();");
  block.line(`if (channel >= ${oc} || row >= ${rows}) { return; }`);
  const values = readComplex(block, half, (f) => `(u32(row) * ${half}u + ${f}u) * ${lanes}u + place`);
  // The upper half mirrors the lower one; of results only the real parts are evaluated.
  const whole = Array.from({ length: tile }, (_, f): Complex => {
    if (f < half) return values[f]!;
    const { re, im } = values[tile - f]!;
    return { re, im: mul(float(-1), im!) };
  });
  const results = transform(whole, true)
    .slice(0, columns)
    .map(({ re }) => {
      const result = slot("y", "f32");
      const name = block.fresh();
      block.line(`let ${name} = ${block.value(re)};`);
      block.bind(result, name);
      return result;
    });
  results.forEach((result, x) => {
    for (const store of storesAt(task, outputs, b, t, channel, [row, int(x)], result)) block.store(store);
  });
  module.add(`@compute @workgroup_size(${lanes * tile})\nfn main(${ENTRY_PARAMETERS}) {\n${block.text()}\n}`);
  return { steps: [module.step(gridOf(groups))], scratch: [], packed: [] };
}

/**
 * Conjugate spectra of the weights (a network's convolution is a correlation) over T², so that the inverse transform need not
 * scale, as real matrices [[re, im], [-im, re]]: [frequencies, 2·input channels, 2·output channels].
 */
function spectra(task: ConvTask, tile: number): Packed {
  const { value } = constantWeights(task)!;
  const [oc, ic] = [task.oc.extent as number, task.ic.extent as number];
  const [height, width] = task.kernel.map(({ extent }) => extent as number) as [number, number];
  const half = tile / 2 + 1;
  const cos = Array.from({ length: tile }, (_, i) => Math.cos((2 * Math.PI * i) / tile));
  const sin = Array.from({ length: tile }, (_, i) => Math.sin((2 * Math.PI * i) / tile));
  return packed(value, `fft${tile}`, "f32", [tile * half, 2 * ic, 2 * oc], (read, target) => {
    const taps = height * width;
    const kernels = new Float64Array(taps * oc);
    // Rows transformed: real and imaginary parts at every row of the kernel and frequency along x.
    const [rowsRe, rowsIm] = [new Float64Array(height * half * oc), new Float64Array(height * half * oc)];
    const [re, im] = [new Float64Array(oc), new Float64Array(oc)];
    for (let c = 0; c < ic; c++) {
      channelTaps(read, c, { ic, oc, taps }, kernels);
      rowsRe.fill(0);
      rowsIm.fill(0);
      for (let y = 0; y < height; y++) {
        for (let f = 0; f < half; f++) {
          const at = (y * half + f) * oc;
          for (let x = 0; x < width; x++) {
            const from = (y * width + x) * oc;
            const p = cos[(f * x) % tile]! / tile ** 2;
            const q = sin[(f * x) % tile]! / tile ** 2;
            for (let o = 0; o < oc; o++) {
              const w = kernels[from + o]!;
              rowsRe[at + o]! += w * p;
              rowsIm[at + o]! += w * q;
            }
          }
        }
      }
      for (let fy = 0; fy < tile; fy++) {
        for (let f = 0; f < half; f++) {
          re.fill(0);
          im.fill(0);
          for (let y = 0; y < height; y++) {
            const from = (y * half + f) * oc;
            const p = cos[(fy * y) % tile]!;
            const q = sin[(fy * y) % tile]!;
            for (let o = 0; o < oc; o++) {
              const a = rowsRe[from + o]!;
              const b = rowsIm[from + o]!;
              re[o]! += a * p - b * q;
              im[o]! += a * q + b * p;
            }
          }
          const at = (fy * half + f) * 4 * ic * oc + c * 2 * oc;
          const below = at + ic * 2 * oc;
          for (let o = 0; o < oc; o++) {
            target[at + o] = re[o]!;
            target[at + oc + o] = im[o]!;
            target[below + o] = -im[o]!;
            target[below + oc + o] = re[o]!;
          }
        }
      }
    }
  });
}
