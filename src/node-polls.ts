// Rest for Dawn's polling. Dawn looks for finished work in a busy loop of setImmediate; where the device is software, that
// keeps a core from the threads which compute.

/** Between two looks, in milliseconds: short beside what a software device takes for anything. */
const REST = 0.25;

const cell = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));
let rests = false;

/** From now on the loop sleeps between two looks. Callbacks that are not native code are called as ever. */
export function restBetweenPolls(): void {
  if (rests) return;
  rests = true;
  const { setImmediate: plain } = globalThis;
  const isNative = (callback: unknown): boolean => String(callback).endsWith("{ [native code] }");
  const resting = (callback: (...values: unknown[]) => void, ...values: unknown[]): NodeJS.Immediate =>
    plain(() => {
      if (isNative(callback)) Atomics.wait(cell, 0, 0, REST);
      callback(...values);
    });
  globalThis.setImmediate = Object.assign(resting, plain) as typeof setImmediate;
}
