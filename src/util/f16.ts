// IEEE 754 binary16 and bfloat16 to and from numbers. Rounds to nearest, ties to even.

const f32 = new Float32Array(1);
const bits = new Uint32Array(f32.buffer);

/** Bits of the nearest binary16. Overflow gives infinity. */
export function toHalf(value: number): number {
  f32[0] = value;
  const x = bits[0]!;
  const sign = (x >>> 16) & 0x8000;
  const magnitude = x & 0x7fffffff;
  if (magnitude >= 0x47800000) return sign | (magnitude > 0x7f800000 ? 0x7e00 : 0x7c00);
  if (magnitude < 0x38800000) {
    // Subnormal: value / 2^-24, rounded to even by the addition of a magic number.
    f32[0] = Math.abs(value) + 0.5;
    return sign | (bits[0]! - 0x3f000000);
  }
  const odd = (magnitude >>> 13) & 1;
  return sign | ((magnitude + 0xc8000fff + odd) >>> 13);
}

const HALVES = new Float32Array(65536);
for (let half = 0; half < 65536; half++) {
  const exponent = (half >> 10) & 31;
  const fraction = half & 1023;
  const size =
    exponent === 0
      ? fraction * 2 ** -24
      : exponent === 31
        ? fraction
          ? Number.NaN
          : Number.POSITIVE_INFINITY
        : (1 + fraction / 1024) * 2 ** (exponent - 15);
  HALVES[half] = half & 0x8000 ? -size : size;
}

/** The number that binary16 bits stand for. */
export const fromHalf = (half: number): number => HALVES[half]!;

/** Bits of the nearest bfloat16. */
export function toBfloat(value: number): number {
  f32[0] = value;
  const x = bits[0]!;
  if ((x & 0x7fffffff) > 0x7f800000) return (x >>> 16) | 0x40;
  return ((x + 0x7fff + ((x >>> 16) & 1)) >>> 16) & 0xffff;
}

/** The number that bfloat16 bits stand for. */
export function fromBfloat(half: number): number {
  bits[0] = half << 16;
  return f32[0]!;
}
