// A graph as text that reads back exactly: what dumps hold and golden tests compare. One line a value or node; small
// constants stand inline, large ones as the digest of bytes that go into a table beside the text.
//
//   graph "main" {
//     input x: f32[N, 3, 8, 8]
//     const w: f32[4, 3, 3, 3] = #8d0e…            (or inline: [0.5, 1, …])
//     y: f32[N, 4, 6, 6] = Conv.13(x, w, _) { strides: [1, 1] } as /conv/Conv from (/conv/Conv, /bn)
//     n: i64[1] == [N] = Shape.13(y) as Shape_0    (== gives elements that are known)
//     output y
//   }

export { parseGraph } from "./text-parse.ts";
export { type PrintOptions, printGraph } from "./text-print.ts";
export type { TensorTable } from "./text-words.ts";
