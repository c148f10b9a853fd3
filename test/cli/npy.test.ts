import { describe, expect, it } from "vitest";
import { readNpy, writeNpy } from "../../src/cli/npy.ts";
import { numbersOf, type Tensor, tensor } from "../../src/ir/tensor.ts";
import { DTYPES } from "../../src/ir/types.ts";

/** A file with the header that Python wrote, and these bytes. */
function fileOf(header: string, bytes: Uint8Array, version = 1): Uint8Array {
  const text = new TextEncoder().encode(`${header}\n`);
  const size = version === 1 ? [text.length & 255, text.length >> 8] : [text.length & 255, text.length >> 8, 0, 0];
  return Uint8Array.of(0x93, ...new TextEncoder().encode("NUMPY"), version, 0, ...size, ...text, ...bytes);
}

describe("npy files", () => {
  it.each(DTYPES.filter((dtype) => dtype !== "bf16"))("keep %s", (dtype) => {
    for (const array of [
      tensor(dtype, [2, 3], [0, 1, 1, 0, 1, 1]),
      tensor(dtype, [], [1]),
      tensor(dtype, [0, 4], []),
      tensor(dtype, [3], [1, 0, 1]),
    ]) {
      expect(readNpy(writeNpy(array), "a.npy")).toEqual(array);
    }
  });

  it("keep NaN bits, infinities and 64-bit integers", () => {
    const big: Tensor = { dtype: "i64", shape: [2], data: BigInt64Array.of(-(2n ** 63n), 2n ** 63n - 1n) };
    expect(readNpy(writeNpy(big), "a.npy")).toEqual(big);
    expect(numbersOf(readNpy(writeNpy(tensor("f16", [3], [Number.NaN, Number.POSITIVE_INFINITY, 0.5])), "a.npy"))).toEqual([
      Number.NaN,
      Number.POSITIVE_INFINITY,
      0.5,
    ]);
  });

  it("hold bfloat16 as float32", () =>
    expect(readNpy(writeNpy(tensor("bf16", [2], [1.5, -2])), "a.npy")).toEqual(tensor("f32", [2], [1.5, -2])));

  it("start their data at a multiple of 64", () => {
    const bytes = writeNpy(tensor("u8", [3], [1, 2, 3]));
    expect(bytes.length % 64).toBe(3);
    expect(String.fromCharCode(bytes[bytes.length - 4]!)).toBe("\n");
  });

  it("may be of version 2, Fortran order or big-endian", () => {
    expect(
      readNpy(
        fileOf("{'descr': '|u1', 'fortran_order': True, 'shape': (2, 3), }", Uint8Array.of(1, 4, 2, 5, 3, 6), 2),
        "f.npy",
      ),
    ).toEqual(tensor("u8", [2, 3], [1, 2, 3, 4, 5, 6]));
    expect(
      readNpy(fileOf("{'descr': '>i2', 'fortran_order': False, 'shape': (2,), }", Uint8Array.of(1, 0, 255, 254)), "b.npy"),
    ).toEqual(tensor("i16", [2], [256, -2]));
  });

  it.each([
    ["text", new TextEncoder().encode("hello"), "it is not a .npy file"],
    [
      "objects",
      fileOf("{'descr': '|O', 'fortran_order': False, 'shape': (2,), }", new Uint8Array(16)),
      "its element type is not supported: '|O'",
    ],
    [
      "complex numbers",
      fileOf("{'descr': '<c8', 'fortran_order': False, 'shape': (2,), }", new Uint8Array(16)),
      "its element type is not supported: '<c8'",
    ],
    [
      "too few bytes",
      fileOf("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }", new Uint8Array(7)),
      "it is truncated: shape (2) needs 8 bytes, it holds 7",
    ],
  ])("are refused: %s", (_, bytes, message) =>
    expect(() => readNpy(bytes, "x.npy")).toThrow(`K005 bad-npy  x.npy: ${message}`),
  );
});
