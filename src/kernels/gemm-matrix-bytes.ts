// GEMM and implicit-GEMM convolution of bytes on subgroup matrices; the right operand's zero is 0.

import gemmMatrixBytesShader from "../../shaders/gemm_matrix_bytes.wgsl";
import type { Var } from "../ir/expr.ts";
import type { ConvTask, GemmTask } from "../ir/task.ts";
import type { Caps } from "../util/caps.ts";
import { frameOf, known } from "./frame.ts";
import { applicable as isOfWords } from "./gemm-dot4.ts";
import { addMatrixShader, type MatrixTile, matrixOf, matrixSpecs, matrixTiles } from "./matrix.ts";
import { asGemm } from "./product.ts";
import { specialize } from "./specialize.ts";
import { type Config, type Kernel, tactic } from "./tactic.ts";
import { type Bytes, byteOperands, byteRun, isSymmetric, returnWord, signed, storeFour, zeroWord } from "./words.ts";

const TILES: readonly MatrixTile[] = [
  [128, 128, 128, 64, 64, 1],
  [128, 128, 64, 64, 64, 1],
  [128, 64, 64, 64, 32, 1],
  [64, 128, 64, 32, 64, 1],
  [64, 64, 64, 32, 32, 1],
  [64, 64, 128, 32, 32, 1],
  [64, 64, 256, 32, 32, 2],
  [64, 32, 256, 32, 16, 2],
  [32, 64, 256, 16, 32, 2],
  [32, 32, 128, 16, 16, 1],
  [32, 32, 256, 16, 16, 2],
  [32, 32, 512, 16, 16, 4],
  [16, 32, 512, 16, 16, 4],
  [32, 16, 512, 16, 16, 4],
  [128, 32, 128, 32, 32, 1],
  [32, 128, 128, 32, 32, 1],
];

const shapeOf = (caps: Caps) => matrixOf(caps, "i8", "i32", 32);

function applicable(task: GemmTask | ConvTask, caps: Caps): boolean {
  if (!shapeOf(caps) || !isOfWords(task, caps)) return false;
  const { a, b, n } = asGemm(task);
  return known(n.extent) >= 8 && isSymmetric(byteOperands(a, b)![1]);
}

/** Rows of both tiles are padded by 16 bytes; a zero takes a matrix of ones, and strips for the sums of columns. */
function candidates(task: GemmTask | ConvTask, caps: Caps): Iterable<Config> {
  const gemm = asGemm(task);
  return matrixTiles(TILES, gemm, caps, {
    bytes: ([tileM, tileN, tileK]) => (tileM + tileN) * (tileK + 16) + 16 * 32,
    strips: isSymmetric(byteOperands(gemm.a, gemm.b)![0]) ? 1 : 2,
    lane: 16,
  });
}

/** Just below `gemm.dot4`: these have run on no device yet, so that one takes them only where it has checked and timed them. */
const likelihood = (task: GemmTask | ConvTask): number => {
  const { m, n, k } = asGemm(task);
  return known(m.extent) >= 16 && known(n.extent) >= 16 && known(k.extent) >= 32 ? 0.84 : 0.1;
};

const definition = { applicable, likelihood, candidates, emit: emitMatrix };
export const gemmMatrixBytes = tactic("gemm", { name: "gemm.matrix-bytes", ...definition });
export const convMatrixBytes = tactic("conv", { name: "conv.matrix-bytes", ...definition });

function emitMatrix(task: GemmTask | ConvTask, config: Config, caps: Caps): Kernel {
  const frame = frameOf(task, caps);
  const { module, gemm, hook, value } = frame;
  const { m, n, k } = gemm;
  const [left, right] = byteOperands(gemm.a, gemm.b)!;
  /** Sixteen bytes along k: one vector where they are one in memory, otherwise four words. */
  const operand = (bytes: Bytes, along: Var, name: "m" | "n"): string => {
    const inside = `${name} < ${module.dim(along.extent)} && k < ${module.dim(k.extent)}`;
    const run = byteRun(bytes, k, 16, caps);
    if (!run) {
      const parameters = name === "m" ? "batch: i32, m: i32, k: i32" : "batch: i32, k: i32, n: i32";
      const text = hook([along, k], (block) => returnWord(block, bytes, k, inside));
      module.add(`fn word_${name}(${parameters}) -> u32 {\n${text}\n}`);
      const words = [0, 4, 8, 12].map((i) => `word_${name}(batch, ${name === "m" ? `m, k + ${i}` : `k + ${i}, n`})`);
      return `  return vec4<u32>(${words.join(", ")});`;
    }
    return hook([along, k], (block) => {
      block.nest(
        `if (${inside})`,
        () => {
          const vector = (): void =>
            block.line(
              `return ${signed(run.load, `${module.vectorBuffer(run.load.value)}[${block.value(run.offset)} >> 4u]`, "vec4<u32>")};`,
            );
          block.under(bytes.guard, vector);
        },
        true,
      );
      block.line(`return vec4<u32>(${zeroWord(block, bytes)});`);
    });
  };
  const specs = matrixSpecs(config, shapeOf(caps)!, caps);
  const text = specialize("gemm_matrix_bytes", gemmMatrixBytesShader, {
    specs: { ...specs, SHIFTED_A: !isSymmetric(left) },
    hooks: {
      ...frame.sizes,
      zero_a: value(left.zero),
      load_a: operand(left, m, "m"),
      load_b: operand(right, n, "n"),
      store: storeFour(frame),
    },
  });
  addMatrixShader(frame, text);
  return frame.tiles(specs.TILE_M, specs.TILE_N);
}
