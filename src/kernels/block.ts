// Blocks of convolutions in one kernel: pointwise, depthwise and pointwise, as MobileNetV2 has them (Sandler et al., 2018,
// https://arxiv.org/abs/1801.04381), or depthwise and pointwise. Expanded channels never leave the workgroup.

import blockShader from "../../shaders/block.wgsl";
import { ceilDiv, type Dim, isStatic, mul as mulDims } from "../ir/dims.ts";
import { type Expr, type Slot, slot, type Var, variable } from "../ir/expr.ts";
import { type BlockTask, between, type ConvTask, type Store } from "../ir/task.ts";
import type { Value } from "../ir/value.ts";
import type { Caps } from "../util/caps.ts";
import { type BlockConfig, blockConfigs, blockGain, type Roles } from "./block-shapes.ts";
import { fitsBuffers, inTurn } from "./chain.ts";
import { convDirect } from "./direct.ts";
import { storesElements } from "./product.ts";
import { reduceThread } from "./reduce.ts";
import { specialize } from "./specialize.ts";
import { partialSums } from "./split-k.ts";
import { type Kernel, tactic } from "./tactic.ts";
import { fourOf, readFour } from "./vector.ts";
import { Block, Module } from "./writer.ts";

/** The parts by the plainest kernel of each: what fused blocks are checked against, and never chosen. */
export const blockApart = tactic("block", {
  name: "block.apart",
  applicable: () => true,
  likelihood: () => 0,
  candidates: ({ parts }, caps) => convDirect.candidates(parts[0]!, caps),
  emit: (task, config, caps) =>
    inTurn(
      task.parts.map((part) => convDirect.emit(part, config, caps)),
      between(task),
    ),
});

export const blockTiled = tactic("block", {
  name: "block.tiled",
  applicable: (task, caps) => rolesOf(task) !== undefined && storesElements(task, caps),
  // Small devices gain no launches, and software ones compile it for long.
  likelihood: (task, caps) =>
    Math.min(caps.tier === "core" ? 0.4 : 0.95, 0.5 * blockGain(rolesOf(task)!, itemBytes(task, caps), caps)),
  *candidates(task, caps) {
    const roles = rolesOf(task)!;
    const configs = blockConfigs(roles, itemBytes(task, caps), caps);
    // What is read both as vectors and as elements is bound twice.
    const bindings = configs[0] ? emitTiled(task, configs[0], caps).steps[0]!.bindings.length : 0;
    if (bindings > caps.limits.maxStorageBuffersPerShaderStage) return;
    for (const config of configs)
      if (config.splits === 1 || fitsBuffers([sumsOf(roles, config).partial], caps)) yield { ...config };
  },
  emit: (task, config, caps) => emitTiled(task, config as unknown as BlockConfig, caps),
});

/** Undefined for a block of another form, or whose channels are not vectors. */
function rolesOf({ parts }: BlockTask): Roles | undefined {
  const [project, depthwise, expand] = [...parts].reverse();
  if (!project || !depthwise || parts.length > 3) return undefined;
  const isVectors = ({ oc, acc }: ConvTask): boolean => isStatic(oc.extent) && oc.extent % 4 === 0 && acc.type === "f32";
  const isSized = [...depthwise.kernel, ...(expand ? [expand.ic] : [])].every(({ extent }) => isStatic(extent));
  if (!parts.every(isVectors) || !isSized || (expand && (expand.ic.extent as number) % 4 !== 0)) return undefined;
  return { expand, depthwise, project };
}

/** f16 in workgroup memory where the values between would be f16 in memory. */
const isHalf = (task: BlockTask, caps: Caps): boolean => caps.f16 && between(task).every(({ dtype }) => dtype === "f16");
const itemBytes = (task: BlockTask, caps: Caps): number => (isHalf(task, caps) ? 2 : 4);

/** The second kernel of a block whose channels are shared out over the grid. */
const sumsOf = ({ project }: Roles, { splits }: BlockConfig): ReturnType<typeof partialSums> =>
  partialSums(project, [project.batch, ...project.out, project.oc], splits);

function emitTiled(task: BlockTask, config: BlockConfig, caps: Caps): Kernel {
  const roles = rolesOf(task)!;
  const { expand, depthwise, project } = roles;
  const { tileH, tileW, splits, chunk, part, rows, columns, size } = config;
  const module = new Module(caps);
  const sums = splits > 1 ? sumsOf(roles, config) : undefined;
  const split = variable("part", splits);
  const hook = (names: readonly (readonly [Var | undefined, string])[], write: (block: Block) => void): string => {
    const block = new Block(module);
    for (const [v, name] of names) if (v) block.bind(v, name);
    write(block);
    return block.text();
  };
  const sized = (dim: Dim): string => `  return ${module.dim(dim)};`;
  const four = (e: Expr, v: Var, ...names: readonly (readonly [Var | undefined, string])[]): string =>
    hook(names, (block) => block.line(`return ${readFour(block, e, v)};`));
  const places = ({ batch, out: [y, x], oc }: ConvTask, channel: string) =>
    [
      [batch, "batch"],
      [y, "y"],
      [x, "x"],
      [oc, channel],
    ] as const;
  /** What a part stores, four channels at a time; `put` gets each with its number. */
  const finish = (conv: ConvTask, channel: string, put: (block: Block, store: Store, lane: number) => void): string =>
    hook([...places(conv, channel), [split, "part"]], (block) => {
      const accs = Array.from({ length: 4 }, (_, lane): Slot => {
        const acc = slot("acc", "f32");
        block.bind(acc, `sums[${lane}]`);
        return acc;
      });
      const stores = sums && conv === project ? [partialStore(sums.partial, conv, split)] : conv.stores;
      fourOf(block, stores, conv.oc, conv.acc, accs).forEach((lanes) =>
        lanes.forEach((store, lane) => {
          put(block, store, lane);
        }),
      );
    });
  const passOn = (conv: ConvTask | undefined, channel: string): string =>
    conv
      ? `  var result: vec4<f32>;\n${finish(conv, channel, (block, { expr }, lane) => block.line(`result[${lane}] = ${block.value(expr)};`))}\n  return result;`
      : "  return sums;";
  const source = expand ?? depthwise;
  const [batch, c, y, x] = source.xVars as [Var, Var, Var, Var];
  const tap = (conv: ConvTask, names: readonly string[]) => conv.kernel.map((v, i) => [v, names[i] ?? "0"] as const);
  const stepOf = (list: readonly number[]): readonly [number, number] => [list[0]!, list[1]!];
  const [[strideH, strideW], [dilationH, dilationW]] = [stepOf(depthwise.strides), stepOf(depthwise.dilations)];
  const [kernelH, kernelW] = stepOf(depthwise.kernel.map(({ extent }) => extent as number));
  module.add(
    specialize("block", blockShader, {
      specs: {
        T: isHalf(task, caps) ? "f16" : "f32",
        TILE_H: tileH,
        TILE_W: tileW,
        REACH_H: config.reachH,
        REACH_W: config.reachW,
        KERNEL_H: kernelH,
        KERNEL_W: kernelW,
        STRIDE_H: strideH,
        STRIDE_W: strideW,
        DILATION_H: dilationH,
        DILATION_W: dilationW,
        EXPANDS: expand !== undefined,
        INPUTS: expand ? (expand.ic.extent as number) : 4,
        EXPANDED: depthwise.oc.extent as number,
        PROJECTED: project.oc.extent as number,
        CHUNK: chunk,
        SPLITS: splits,
        PART: part,
        ROWS: rows,
        COLUMNS: columns,
        SIZE: size,
      },
      hooks: {
        size_h: sized(depthwise.size[0]!),
        size_w: sized(depthwise.size[1]!),
        out_h: sized(depthwise.out[0]!.extent),
        out_w: sized(depthwise.out[1]!.extent),
        pad_h: sized(depthwise.pads[0]!),
        pad_w: sized(depthwise.pads[1]!),
        load_input: four(source.x, c, [batch, "batch"], [c, "c"], [y, "y"], [x, "x"]),
        load_expand: expand
          ? four(expand.w, expand.oc, [expand.oc, "e"], [expand.ic, "c"], ...tap(expand, []))
          : "  return vec4<f32>();",
        finish_expand: passOn(expand, "e"),
        load_depthwise: four(
          depthwise.w,
          depthwise.oc,
          [depthwise.oc, "e"],
          [depthwise.ic, "0"],
          ...tap(depthwise, ["v", "u"]),
        ),
        finish_depthwise: passOn(depthwise, "e"),
        load_project: four(project.w, project.oc, [project.oc, "p"], [project.ic, "e"], ...tap(project, [])),
        store: finish(project, "p", (block, store) => block.store(store)),
      },
    }),
  );
  if (isHalf(task, caps)) module.features.add("f16");
  const [outH, outW] = depthwise.out.map(({ extent }) => extent) as [Dim, Dim];
  const tiled: Kernel = {
    steps: [module.step([ceilDiv(outW, tileW), ceilDiv(outH, tileH), mulDims(depthwise.batch.extent, splits)])],
    scratch: [],
    packed: [],
  };
  return sums ? inTurn([tiled, reduceThread.emit(sums.sum, { size: 64 }, caps)], [sums.partial]) : tiled;
}

const partialStore = (value: Value, { batch, out, oc, acc }: ConvTask, split: Var): Store => ({
  value,
  index: [split, batch, ...out, oc],
  expr: acc,
  mode: "set",
});
