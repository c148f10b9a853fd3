// The Mersenne Twister as NumPy seeds and draws it (Matsumoto & Nishimura, 1998, MT19937, seeded by init_genrand): what
// ONNX's reference implementation of Dropout uses, so that a seed gives the mask that ONNX publishes.

const N = 624;
const M = 397;

/** `count` uniform numbers in [0, 1) with 53 random bits each. */
export function uniforms(seed: number, count: number): Float64Array {
  const state = new Uint32Array(N);
  state[0] = seed;
  for (let i = 1; i < N; i++) state[i] = Math.imul(1812433253, state[i - 1]! ^ (state[i - 1]! >>> 30)) + i;
  let at = N;
  const next = (): number => {
    if (at === N) {
      for (let i = 0; i < N; i++) {
        const y = (state[i]! & 0x80000000) | (state[(i + 1) % N]! & 0x7fffffff);
        state[i] = state[(i + M) % N]! ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
      }
      at = 0;
    }
    let y = state[at++]!;
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  };
  return Float64Array.from({ length: count }, () => {
    const high = next() >>> 5;
    return (high * 2 ** 26 + (next() >>> 6)) / 2 ** 53;
  });
}
