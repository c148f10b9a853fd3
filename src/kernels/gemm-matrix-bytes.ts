// GEMM and implicit-GEMM convolution of bytes on subgroup matrices; the right operand's zero is 0.

import { isStatic } from "../ir/dims.ts";
import type { Var } from "../ir/expr.ts";
import type { ConvTask, GemmTask } from "../ir/task.ts";
import type { Caps } from "../util/caps.ts";
import { type Frame, known } from "./frame.ts";
import { applicable as isOfWords } from "./gemm-dot4.ts";
import { emitMatrix, type MatrixOperands, matrixOf, matrixTiles } from "./matrix.ts";
import { asGemm } from "./product.ts";
import { type Config, type Kernel, tactic } from "./tactic.ts";
import { returnVector } from "./vector.ts";
import { type Bytes, byteOperands, byteRun, isSymmetric, returnWord, signed, zeroWord } from "./words.ts";

const shapeOf = (caps: Caps) => matrixOf(caps, "i8", "i32", 32);

function applicable(task: GemmTask | ConvTask, caps: Caps): boolean {
  if (!shapeOf(caps) || !isOfWords(task, caps)) return false;
  const { a, b, n } = asGemm(task);
  return known(n.extent) >= 8 && isSymmetric(byteOperands(a, b)![1]);
}

const operandsOf = ({ a, b }: GemmTask): MatrixOperands => {
  return { bytes: 1, hasZero: !isSymmetric(byteOperands(a, b)![0]), alongM: false, alongN: false };
};

function candidates(task: GemmTask | ConvTask, caps: Caps): Iterable<Config> {
  const gemm = asGemm(task);
  return matrixTiles(gemm, operandsOf(gemm), caps);
}

const likelihood = (task: GemmTask | ConvTask): number => {
  const { m, n, k } = asGemm(task);
  if (known(n.extent) < 16 || known(k.extent) < 32) return 0.1;
  // One row of sixteen is still faster than a product of words.
  return known(m.extent) >= 16 ? 0.9 : 0.6;
};

const definition = { applicable, likelihood, candidates, emit };
export const gemmMatrixBytes = tactic("gemm", { name: "gemm.matrix-bytes", ...definition });
export const convMatrixBytes = tactic("conv", { name: "conv.matrix-bytes", ...definition });

function emit(task: GemmTask | ConvTask, config: Config, caps: Caps): Kernel {
  return emitMatrix(task, config, caps, shapeOf(caps)!, (frame) => {
    const [left, right] = byteOperands(frame.gemm.a, frame.gemm.b)!;
    const { m, n, k } = frame.gemm;
    const isWhole = isStatic(k.extent) && k.extent % (config.tileK as number) === 0;
    return {
      ...operandsOf(frame.gemm),
      hooks: {
        zero_a: frame.value(left.zero),
        missing_a: missingOf(frame, left),
        missing_b: missingOf(frame, right),
        load_a: loadSixteen(frame, left, m, "m", isWhole),
        load_b: loadSixteen(frame, right, n, "n", isWhole),
      },
    };
  });
}

/** The hook that gives what stands for sixteen bytes that are not there. */
const missingOf = ({ hook }: Frame, bytes: Bytes): string =>
  hook([], (block) => block.line(`return vec4<u32>(${zeroWord(block, bytes)});`));

/** The hook that fetches sixteen bytes along k: one vector where they are one in memory, otherwise four words. */
function loadSixteen(
  { module, gemm: { k }, hook }: Frame,
  bytes: Bytes,
  along: Var,
  name: "m" | "n",
  isWhole: boolean,
): string {
  const inside = `${name} < ${module.dim(along.extent)} && k < ${module.dim(k.extent)}`;
  const run = byteRun(bytes, k, 16, module.caps);
  if (!run) {
    const parameters = name === "m" ? "batch: i32, m: i32, k: i32" : "batch: i32, k: i32, n: i32";
    const text = hook([along, k], (block) => returnWord(block, bytes, k, inside));
    module.add(`fn word_${name}(${parameters}) -> u32 {\n${text}\n}`);
    const words = [0, 4, 8, 12].map((i) => `word_${name}(batch, ${name === "m" ? `m, k + ${i}` : `k + ${i}, n`})`);
    return `  return Fetched(vec4<u32>(${words.join(", ")}), true);`;
  }
  return hook([along, k], (block) => {
    // What comes of rows that are not there is not stored.
    block.line(`let inside = min(${name}, ${module.dim(along.extent)} - 1);`);
    block.bind(along, "inside");
    const tests = [...(isWhole ? [] : [`k < ${module.dim(k.extent)}`]), ...(bytes.guard ? [block.value(bytes.guard)] : [])];
    const read = (at: string): string => signed(run.load, `${module.vectorBuffer(run.load.value)}[${at} >> 4u]`, "vec4<u32>");
    returnVector(block, read, block.value(run.offset), tests);
  });
}
