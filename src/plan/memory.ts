// Activation memory: values whose lifetimes do not overlap share a slot. Greedy by size, largest first, into the slot that
// wastes least; sizes that depend on symbols share only with equal ones, so that a slot is never too small.

import { type Dim, dimText, isStatic } from "../ir/dims.ts";
import type { Value } from "../ir/value.ts";
import { type Life, lifetimes } from "../engine/lifetimes.ts";
import type { Step } from "../engine/plan.ts";

export interface Tenant {
  readonly value: Value;
  /** False for inputs, outputs and weights, which have memory of their own. */
  readonly shared: boolean;
  readonly bytes: Dim;
}

export function assignSlots(steps: readonly Step[], tenants: readonly Tenant[]): { readonly slotOf: ReadonlyMap<number, number>; readonly bytes: readonly (readonly Dim[])[] } {
  const lives = lifetimes(steps);
  const order = tenants
    .map((tenant, buffer) => ({ ...tenant, buffer, life: lives.get(buffer) ?? { first: 0, last: -1 } }))
    .filter(({ shared }) => shared)
    .sort((a, b) => (isStatic(b.bytes) ? b.bytes : 0) - (isStatic(a.bytes) ? a.bytes : 0) || a.life.first - b.life.first);
  const slots: { bytes: Dim; lives: Life[] }[] = [];
  const slotOf = new Map<number, number>();
  for (const { buffer, bytes, life } of order) {
    const free = (slot: { lives: readonly Life[] }): boolean => slot.lives.every(({ first, last }) => life.last < first || life.first > last);
    const fits = (slot: { bytes: Dim }): boolean => (isStatic(bytes) ? isStatic(slot.bytes) && slot.bytes >= bytes : dimText(slot.bytes) === dimText(bytes));
    let best = -1;
    slots.forEach((slot, i) => {
      if (fits(slot) && free(slot) && (best < 0 || (slot.bytes as number) < (slots[best]!.bytes as number))) best = i;
    });
    if (best < 0) best = slots.push({ bytes, lives: [] }) - 1;
    slots[best]!.lives.push(life);
    slotOf.set(buffer, best);
  }
  return { slotOf, bytes: slots.map(({ bytes }) => [bytes]) };
}
